"""Reading LoadGen's configuration files strictly.

LoadGen drops a whole file for one bad line, ignores keys that it does not know, and says neither
(seen with 6.0.17: a trailing comment is enough). So every file is checked here before LoadGen sees it.
"""

from __future__ import annotations

import re
from pathlib import Path

from core.errors import ConfigError

LINE = re.compile(
    r"^(?P<model>[^.\s=]+)\.(?P<scenario>[^.\s=]+)\.(?P<key>\w+)\s*=\s*(?P<value>\S+)$"
)
SCENARIOS = ("*", "Offline", "Server", "SingleStream", "MultiStream")
KEYS = frozenset(
    (
        "mode",
        "min_duration",
        "max_duration",
        "min_query_count",
        "max_query_count",
        "target_qps",
        "target_latency",
        "target_latency_percentile",
        "samples_per_query",
        "max_async_queries",
        "coalesce_queries",
        "performance_sample_count_override",
        "accuracy_sample_count_override",
        "sample_concatenate_permutation",
        "performance_issue_unique",
        "performance_issue_same",
        "performance_issue_same_index",
        "use_token_latencies",
        "ttft_latency",
        "tpot_latency",
        "infer_token_latencies",
        "token_latency_scaling_factor",
        "qsl_rng_seed",
        "sample_index_rng_seed",
        "schedule_rng_seed",
        "print_timestamps",
        "accuracy_log_rng_seed",
        "accuracy_log_probability",
        "accuracy_log_sampling_target",
        "test05",
        "test05_qsl_rng_seed",
        "test05_sample_index_rng_seed",
        "test05_schedule_rng_seed",
    )
)


def read_conf(path: Path) -> dict[tuple[str, str, str], str]:
    """The file's values by (model, scenario, key). Raises ConfigError, naming the line, unless
    LoadGen will understand the whole file.
    """
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"configuration file {path}: cannot be read: {error}") from None
    values = {}
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        problem = _problem(stripped)
        match = LINE.match(stripped)
        if problem or match is None:
            raise ConfigError(
                f"{path}, line {number}: {stripped!r}: {problem}. "
                "LoadGen would silently drop the file or the line; correct it"
            )
        values[match["model"], match["scenario"], match["key"]] = match["value"]
    return values


def _problem(line: str) -> str | None:
    if "#" in line:
        return "a comment must stand on a line of its own"
    match = LINE.match(line)
    if match is None:
        return "expected MODEL.SCENARIO.KEY = VALUE"
    if match["scenario"] not in SCENARIOS:
        return f"unknown scenario {match['scenario']!r}, use one of {', '.join(SCENARIOS)}"
    if match["key"] not in KEYS:
        return f"LoadGen has no key {match['key']!r}"
    try:
        float(match["value"])
    except ValueError:
        return f"{match['value']!r} is not a number"
    return None
