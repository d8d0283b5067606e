"""The few numbers of an engine's `/metrics` that a run wants, found without parsing the rest.

A page of vLLM's is 50 to 100 KB, nearly all of it histograms; one search for the wanted names takes
a quarter of a millisecond. Names: vLLM 0.9 to 0.33 and SGLang
0.5; both write the prefix with a colon, some versions of SGLang with an underscore.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from math import isfinite

from telemetry.sample import FIELDS, ReplicaSample

# Field of a ReplicaSample -> series that tell it; the first that is there counts.
VLLM = {
    "running": ("num_requests_running",),
    "waiting": ("num_requests_waiting",),
    "kv_usage": ("kv_cache_usage_perc", "gpu_cache_usage_perc"),
    "prefix_queries": ("prefix_cache_queries_total", "gpu_prefix_cache_queries_total"),
    "prefix_hits": ("prefix_cache_hits_total", "gpu_prefix_cache_hits_total"),
    "preemptions": ("num_preemptions_total",),
    "generation_tokens": ("generation_tokens_total",),
}
SGLANG = {
    "running": ("num_running_reqs",),
    "waiting": ("num_queue_reqs",),
    "kv_usage": ("token_usage",),
    # Its gauge cache_hit_rate is the last batch's; these two count tokens, as vLLM's do.
    "prefix_queries": ("prompt_tokens_total",),
    "prefix_hits": ("cached_tokens_total",),
    "preemptions": ("num_retracted_requests_total",),  # num_retracted_reqs is a gauge
    "generation_tokens": ("generation_tokens_total",),
}
DIALECTS: Mapping[str, Mapping[str, Sequence[str]]] = {"vllm": VLLM, "sglang": SGLANG}

NAMES = sorted({name for table in DIALECTS.values() for names in table.values() for name in names})
# A line of its own begins with a line feed: a literal start lets the search run at memory speed.
SERIES = re.compile(
    r"\n(vllm|sglang)[:_]({})(?:\{{(.*)\}})? (\S+)".format("|".join(NAMES)).encode()
)
PART = re.compile(rb'priority="[^"]')  # SGLang adds shares by priority to the total


def read_metrics(page: bytes, replica: int, t_ns: int) -> ReplicaSample:
    """The sample that a Prometheus page holds; what it does not show is None.

    Several engines behind one address (labels engine, dp_rank) are added up, but for `kv_usage`,
    which is the fullest one's: that is where the engine preempts.
    """
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for dialect, name, labels, text in SERIES.findall(b"\n" + page):
        value = _number(text)
        if value is not None and not PART.search(labels):
            found[dialect.decode()][name.decode()].append(value)
    values: dict[str, float] = {}
    for dialect, series in found.items():
        for field, names in DIALECTS[dialect].items():
            shown = next((series[name] for name in names if name in series), None)
            if shown is not None:
                values[field] = max(shown) if field == "kv_usage" else sum(shown)
    return ReplicaSample.of(replica, t_ns, [values.get(field) for field in FIELDS])


def _number(text: bytes) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if isfinite(value) else None
