"""Pictures of the steps: throughput in turn, three clocks, and latency against rate."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "#555555"
DPI = 130
Steps = Mapping[str, dict[str, Any]]
Results = Sequence[dict[str, Any]]


def draw(steps: Steps, folder: Path) -> None:
    """NAME.png for each picture whose steps were measured. Raises ImportError without matplotlib."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    for name, (picture, shown) in PICTURES.items():
        results = [steps[step]["result"] for step in shown if "result" in steps.get(step, {})]
        results = [result for result in results if good_runs(result)]
        if results:
            figure = pyplot.figure(figsize=(9, 4), layout="constrained")
            picture(figure, results)
            figure.savefig(folder / f"{name}.png", dpi=DPI)
            pyplot.close(figure)


def good_runs(result: Mapping[str, Any]) -> Results:
    """Its rounds or trials, less those that failed."""
    runs = result["rounds"] if "rounds" in result else result["trials"]
    return [run for run in runs if not run.get("failure")]


def _turns(figure: Figure, results: Results) -> None:
    axes = figure.subplots()
    rounds = [(result, each) for result in results for each in result["rounds"]]
    for offset, side, colour, label in (
        (-0.2, "own", GREY, "the engine's own benchmark, in process"),
        (0.2, "ours", BLUE, "ours: LoadGen over HTTP"),
    ):
        values = [each[side]["tokens_per_s"] for _, each in rounds]
        bars = axes.bar([n + offset for n in range(len(rounds))], values, 0.38, color=colour)
        axes.bar_label(bars, fmt="{:,.0f}", fontsize=8)
        bars.set_label(label)
    names = [
        f"{each['ratio']:.3f}\nours on GPU {result['gpus'][0]}, own on GPU {result['gpus'][-1]}"
        for result, each in rounds
    ]
    axes.set_xticks(range(len(rounds)), names, fontsize=8)
    axes.set_ylabel("output tokens/s")
    axes.set_ylim(top=axes.get_ylim()[1] * 1.2)
    first = results[0]
    axes.set_title(
        f"Offline, {first['requests']:,} prompts of {first['isl']:.0f} tokens: ours / own"
    )
    axes.legend(loc="upper right", fontsize=8)


def _rates(figure: Figure, results: Results) -> None:
    (result,) = results
    trials = sorted(good_runs(result), key=lambda trial: float(trial["qps"]))
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


# By the name of the file: what draws it, and the steps whose results it gets.
PICTURES: dict[str, tuple[Callable[[Figure, Results], None], tuple[str, ...]]] = {
    "turns": (_turns, ("turns", "exchanged")),
    "server": (_rates, ("server",)),
    "interactive": (_rates, ("interactive",)),
}
