"""Pictures of the steps: throughput in turn, three clocks, and latency against rate."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "#555555"
DPI = 130
Steps = Mapping[str, dict[str, Any]]


def draw(steps: Steps, folder: Path) -> None:
    """STEP.png for each step that has a picture. Raises ImportError without matplotlib."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    for name, picture in PICTURES.items():
        if "result" in steps.get(name, {}):
            figure = pyplot.figure(figsize=(9, 4), layout="constrained")
            picture(figure, steps[name]["result"])
            figure.savefig(folder / f"{name}.png", dpi=DPI)
            pyplot.close(figure)


def _turns(figure: Figure, result: dict[str, Any]) -> None:
    axes = figure.subplots()
    rounds = result["rounds"]
    for offset, side, colour, label in (
        (-0.2, "own", GREY, "the engine's own benchmark, in process"),
        (0.2, "ours", BLUE, "ours: LoadGen over HTTP"),
    ):
        values = [each[side]["tokens_per_s"] for each in rounds]
        bars = axes.bar([n + offset for n in range(len(rounds))], values, 0.38, color=colour)
        axes.bar_label(bars, fmt="{:,.0f}", fontsize=8)
        bars.set_label(label)
    names = [f"round {n}\n{each['ratio']:.3f}" for n, each in enumerate(rounds, 1)]
    axes.set_xticks(range(len(rounds)), names)
    axes.set_ylabel("output tokens/s")
    axes.set_ylim(top=axes.get_ylim()[1] * 1.2)
    axes.set_title(f"Offline, {result['requests']:,} prompts of {result['isl']:.0f} tokens")
    axes.legend(loc="upper right", fontsize=8)


def _rates(figure: Figure, result: dict[str, Any]) -> None:
    runs = [trial for trial in result["trials"] if not trial.get("failure")]
    trials = sorted(runs, key=lambda trial: float(trial["qps"]))
    for axes, name in zip(figure.subplots(1, 2), ("ttft", "tpot"), strict=True):
        rates = [trial["qps"] for trial in trials]
        axes.plot(rates, [trial[f"{name}_p99_ms"] for trial in trials], "o-", color=BLUE)
        disturbed = [trial for trial in trials if trial.get("compiles")]
        if disturbed:
            places = zip(
                *((each["qps"], each[f"{name}_p99_ms"]) for each in disturbed), strict=True
            )
            axes.plot(*places, "o", color=BLUE, markerfacecolor="white", label="compiled meanwhile")
        for limit in {trial[f"{name}_limit_ms"] for trial in trials}:
            axes.axhline(limit, color=ORANGE, linestyle="--", label=f"limit {limit:,.0f} ms")
        axes.set_xlabel("target QPS")
        axes.set_ylabel(f"{name.upper()} p99 (ms)")
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    figure.suptitle(f"{result['mode'].capitalize()}, ISL {result['isl']}, OSL {result['osl']}")


PICTURES: dict[str, Callable[[Figure, dict[str, Any]], None]] = {
    "turns": _turns,
    "server": _rates,
    "interactive": _rates,
}
