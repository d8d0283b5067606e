"""Labels beside the points of a plot: each where it hides the least."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.text import Annotation

# Around the point, the nearest first; to the right and left before above and below.
DIRECTIONS = ((1, 0), (0, 1), (1, 1), (1, -1), (-1, 1), (-1, -1), (0, -1), (-1, 0))
DISTANCES = (7, 13, 20, 28)  # points
SIDES = {-1: ("right", "top"), 0: ("center", "center"), 1: ("left", "bottom")}
MARKER, LINE = 6.0, 1.5  # half the width of what is not to be hidden, in pixels
STEP = 4.0  # pixels of a line that count as one

Boxes = npt.NDArray[np.float64]  # x0, y0, x1, y1, in pixels


class Point(NamedTuple):
    """A labelled place on a plot."""

    x: float
    y: float
    label: str
    colour: str


def place_labels(axes: Axes, points: Sequence[Point]) -> None:
    """After everything else has been drawn and the layout is fixed."""
    taken = _obstacles(axes)
    for point in points:
        best: tuple[float, Annotation, Boxes] | None = None
        for note in _candidates(axes, point):
            box = np.array(note.get_window_extent().padded(1.0).extents)
            cost = _hidden(box, taken) + _outside(box, np.array(axes.bbox.extents))
            if best is not None and cost >= best[0]:
                note.remove()
                continue
            if best is not None:
                best[1].remove()
            best = cost, note, box
            if cost == 0:
                break
        if best is not None:
            taken = np.vstack((taken, best[2]))


def _candidates(axes: Axes, point: Point) -> Iterator[Annotation]:
    for distance in DISTANCES:
        for right, up in DIRECTIONS:
            diagonal = 0.7 if right and up else 1.0
            yield axes.annotate(
                point.label,
                (point.x, point.y),
                (right * distance * diagonal, up * distance * diagonal),
                textcoords="offset points",
                ha=SIDES[right][0],
                va=SIDES[up][1],
                color=point.colour,
                fontsize=9,
                zorder=5,
            )


def _obstacles(axes: Axes) -> Boxes:
    """Every marker and line, and the legend."""
    found = []
    for line in axes.get_lines():
        data = np.column_stack(line.get_data()).astype(np.float64)
        corners = axes.transData.transform(data)
        if line.get_marker() not in (None, "None"):
            found.append(_boxes(corners, MARKER))
            found += [_boxes(_along(a, b), LINE) for a, b in pairwise(corners)]
    if (legend := axes.get_legend()) is not None:
        found.append(np.array([legend.get_window_extent().extents]))
    return np.vstack(found)


def _along(begin: Boxes, end: Boxes) -> Boxes:
    steps = max(2, int(np.hypot(*(end - begin)) / STEP))
    return np.linspace(begin, end, steps)


def _boxes(middles: Boxes, half: float) -> Boxes:
    return np.hstack((middles - half, middles + half))


def _hidden(box: Boxes, taken: Boxes) -> float:
    """The area that a label at `box` shares with what is there."""
    width = np.minimum(box[2], taken[:, 2]) - np.maximum(box[0], taken[:, 0])
    height = np.minimum(box[3], taken[:, 3]) - np.maximum(box[1], taken[:, 1])
    return float((width.clip(0) * height.clip(0)).sum())


def _outside(box: Boxes, bounds: Boxes) -> float:
    """The area of a label beyond the axes; more than any that hides something."""
    over = np.concatenate((bounds[:2] - box[:2], box[2:] - bounds[2:])).clip(0).sum()
    return float(over) * 1000
