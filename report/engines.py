"""The card's rows about what the engines said of themselves."""

from __future__ import annotations

from collections.abc import Iterator

from report.layout import flow, percent
from results.engines import EngineLoad
from results.summary import Summary

NOT_SHOWN = "expose no metrics (SGLang shows them with --enable-metrics)"


def engines_row(summary: Summary) -> Iterator[str]:
    loads = summary.engines
    if not loads.exposed:
        if summary.engine_said.kind == "sglang":
            yield from flow("engines", NOT_SHOWN)
        else:
            yield from flow("engines", "expose no metrics")
        return
    parts = list(_parts(loads.all, summary.engine_said.prefix_caching))
    if loads.exposed < len(loads.replicas):
        parts.append(f"{len(loads.replicas) - loads.exposed} of them show nothing")
    yield from flow("engines", "; ".join(parts))


def _parts(load: EngineLoad, caching: bool | None) -> Iterator[str]:
    if load.running_mean is None:
        yield "not looked at during the run: it was too short"
    else:
        yield f"running mean {load.running_mean:,.0f}, max {load.running_max:,}"
    if load.waiting_mean is not None:
        yield f"waiting mean {load.waiting_mean:,.0f}, max {load.waiting_max:,}"
    if load.kv_usage_max is not None:
        yield f"KV use at most {percent(load.kv_usage_max)}"
    if load.prefix_hit_rate is not None:
        yield f"prefix hits {100 * load.prefix_hit_rate:.1f} %"
    elif caching is not None:
        yield f"prefix cache {'on' if caching else 'off'}"
    if load.preemptions is not None:
        yield f"preemptions {load.preemptions:,}"
