"""A sweep as InferenceX draws it: throughput per GPU against interactivity, and against latency; where
energy was measured, that of an output token against interactivity, too.

Figures of different lengths share no frontier, so that each pair of lengths has a row of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from competition.pareto import frontier
from competition.power import JOULES_PER_OUTPUT
from competition.profile import Lengths, Profile
from competition.sweep_labels import Point, place_labels
from competition.sweep_table import Document, has_power, ordered, per_used_gpu

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's, told apart by every eye; without the yellow, too light on white.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
MARKERS = ("o", "s", "^", "v", "P", "X")
WIDE = 8.0  # the largest by the smallest
GREY, WIDTH, HEIGHT, DPI = "#555555", 6.25, 5.0, 130  # inches of a panel


def _throughput(document: Document) -> float | None:
    return per_used_gpu(document, "total_token_throughput")


@dataclass(frozen=True, slots=True)
class Panel:
    """What is drawn: a figure of a result file against another."""

    x_label: str
    x: str  # a name in a result file
    scale: float = 1.0  # of x
    low_x_is_better: bool = False
    baseline: str | None = None  # x in a profile's baseline; None: it has no such y
    y_label: str = "Throughput (tokens/s per GPU used, in + out)"
    y: Callable[[Document], float | None] = _throughput
    has_frontier: bool = True


INTERACTIVITY, LATENCY = "Interactivity (tokens/s per user)", "Median end-to-end latency (s)"
PANELS = (
    Panel(INTERACTIVITY, "interactivity", baseline="interactivity"),
    Panel(LATENCY, "median_e2el_ms", 1e-3, low_x_is_better=True, baseline="median_e2e_ms"),
)
POWER_PANEL = Panel(
    INTERACTIVITY,
    "interactivity",
    y_label="Energy of the GPUs (J per output token)",
    y=lambda document: document.get(JOULES_PER_OUTPUT),
    has_frontier=False,
)


def draw(documents: Sequence[Document], profile: Profile, title: str, path: Path) -> None:
    """Raises ImportError without matplotlib."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    pairs = sorted({Lengths(found["isl"], found["osl"]) for found in documents})
    panels = (*PANELS, POWER_PANEL) if has_power(documents) else PANELS
    figure, grid = pyplot.subplots(
        len(pairs),
        len(panels),
        figsize=(WIDTH * len(panels), HEIGHT * len(pairs)),
        layout="constrained",
        squeeze=False,
    )
    figure.suptitle(title, fontsize=14, fontweight="bold")
    labels: list[tuple[Axes, list[Point]]] = []
    for row, lengths in zip(grid, pairs, strict=True):
        of_pair = [found for found in ordered(documents) if (found["isl"], found["osl"]) == lengths]
        for axes, panel in zip(row, panels, strict=True):
            labels.append((axes, _draw_panel(axes, panel, of_pair, profile, lengths)))
    figure.canvas.draw()  # fixes the layout, by which labels are placed
    figure.set_layout_engine("none")
    for axes, points in labels:
        place_labels(axes, points)
    figure.savefig(path, dpi=DPI)
    pyplot.close(figure)


def _draw_panel(
    axes: Axes, panel: Panel, documents: Sequence[Document], profile: Profile, lengths: Lengths
) -> list[Point]:
    """Returns what is to be labelled."""
    theirs = _baseline(panel, profile, lengths)
    ours: list[Point] = []
    for number, tp in enumerate(sorted({found["tp"] for found in documents})):
        colour, marker = (names[number % len(names)] for names in (COLOURS, MARKERS))
        line = _points(panel, [found for found in documents if found["tp"] == tp], colour)
        style: dict[str, Any] = {
            "color": colour,
            "marker": marker,
            "linewidth": 1.8,
            "markersize": 7,
        }
        axes.plot(*_xy(line), label=f"TP {tp}", zorder=3, **style)
        ours += line
    if theirs:
        style = {"color": GREY, "marker": "D", "linewidth": 1.2, "markersize": 6}
        name = f"{profile.names.hardware} (baseline)"
        axes.plot(*_xy(theirs), label=name, linestyle="--", markerfacecolor="white", **style)
    if panel.has_frontier:
        _draw_frontier(axes, panel, ours)
    axes.set_title(f"ISL/OSL {lengths}, points: TP/CONC", fontsize=11)
    axes.set_xlabel(panel.x_label)
    axes.set_ylabel(panel.y_label)
    axes.margins(x=0.12, y=0.12)
    _spread(axes, ours + theirs)
    axes.grid(alpha=0.3)
    axes.legend(loc="best", fontsize=9)
    return ours + theirs


def _draw_frontier(axes: Axes, panel: Panel, points: Sequence[Point]) -> None:
    best = frontier(points, lambda p: p.x, lambda p: p.y, low_x_is_better=panel.low_x_is_better)
    # As much as is reached at that x or a better one.
    steps = "steps-post" if panel.low_x_is_better else "steps-pre"
    axes.plot(
        *_xy(best), drawstyle=steps, color="black", linewidth=5, alpha=0.15, label="Pareto frontier"
    )


def _spread(axes: Axes, points: Sequence[Point]) -> None:
    """Logarithmic scales where small values would lie on top of each other; plain numbers."""
    from matplotlib import ticker

    if _is_wide([point.y for point in points]):
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    if _is_wide([point.x for point in points]):
        axes.set_xscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        if axis.get_scale() == "log":
            axis.set_major_locator(ticker.LogLocator(subs=(1.0, 2.0, 5.0)))
            axis.set_minor_locator(ticker.NullLocator())
        axis.set_major_formatter(ticker.StrMethodFormatter("{x:,g}"))


def _is_wide(values: Sequence[float]) -> bool:
    return max(values, default=1.0) > WIDE * min(values, default=1.0)


def _points(panel: Panel, documents: Sequence[Document], colour: str) -> list[Point]:
    """By concurrency; without those that have no such figure."""
    return [
        Point(x * panel.scale, y, f"{document['tp']}/{document['conc']}", colour)
        for document in documents
        if (x := document[panel.x]) and (y := panel.y(document))
    ]


def _baseline(panel: Panel, profile: Profile, lengths: Lengths) -> list[Point]:
    if panel.baseline is None:
        return []
    return [
        Point(getattr(found, panel.baseline) * panel.scale, found.tput_per_gpu, f"CONC {n}", GREY)
        for (pair, n), found in sorted(profile.baselines.items())
        if pair == lengths
    ]


def _xy(points: Sequence[Point]) -> tuple[list[float], list[float]]:
    return [point.x for point in points], [point.y for point in points]
