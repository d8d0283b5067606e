"""Two pictures: CPU per query against the rate, and against the length of the prompt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import workloads as known
from bench.measure import run_twice, slope
from bench.native import measure_floor
from bench.suite import Found, against
from bench.workloads import Workload
from engine.emulator import Emulator


@dataclass(frozen=True, slots=True)
class Picture:
    file: str
    title: str
    x_label: str
    xs: Sequence[int]
    workload: Callable[[int], Workload]
    log: bool  # the ordinate


PICTURES = (
    Picture(
        "cpu_by_rate.png",
        "Server, 11 events a query, prompts of 128 ids",
        "queries per second",
        known.PLOT_RATES,
        known.at_rate,
        log=False,
    ),
    Picture(
        "cpu_by_prompt.png",
        "Offline, not streamed, 16 tokens back",
        "ids in the prompt",
        known.PLOT_PROMPTS,
        known.with_prompts,
        log=True,
    ),
)


def draw(folder: Path) -> None:
    """Measure and draw. Raises SetupError without a compiler, RuntimeError if a query fails."""
    folder.mkdir(parents=True, exist_ok=True)
    for picture in PICTURES:
        points = [_point(picture, x) for x in picture.xs]
        _draw(picture, points, folder / picture.file)


def _point(picture: Picture, x: int) -> tuple[float, float | None]:
    workload = picture.workload(x)

    def measure(emulator: Emulator, folder: Path) -> Found:
        ours = slope(*run_twice(workload, emulator.urls, folder)).query_us
        return {"": (ours, measure_floor(workload, emulator.urls, folder).query_us)}

    return against(workload, measure)[""]


def _draw(picture: Picture, points: Sequence[tuple[float, float | None]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot, ticker

    figure, axes = pyplot.subplots(figsize=(7, 4.2), layout="constrained")
    axes.plot(picture.xs, [ours for ours, _ in points], "o-", label="whole chain with LoadGen")
    floors = [floor for _, floor in points if floor is not None]
    axes.plot(picture.xs, floors, "s--", color="0.5", label="C client")
    axes.set_xscale("log")
    axes.set_yscale("log" if picture.log else "linear")
    axes.set_xticks(picture.xs, [f"{x:,}" for x in picture.xs])
    if picture.log:
        axes.yaxis.set_major_locator(ticker.LogLocator(subs=(1.0, 2.0, 5.0)))
    else:
        axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(ticker.StrMethodFormatter("{x:,.0f}"))
    axes.minorticks_off()
    axes.set_xlabel(picture.x_label)
    axes.set_ylabel("CPU per query, microseconds")
    axes.set_title(picture.title)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
