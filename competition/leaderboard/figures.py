"""The leaderboard's plots. Plotly reads some HTML in any text, so every text is escaped here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

import plotly.graph_objects as go

from competition.leaderboard.entry import Entry
from competition.leaderboard.ranking import Point, best_of_teams
from competition.leaderboard.store import Stored
from competition.leaderboard.tables import engine_text
from competition.pareto import frontier
from competition.profile import Lengths, Profile

FONT = "system-ui, sans-serif"
TEXT, GRID, BASELINE, FRONTIER = "#374151", "#e5e7eb", "#6b7280", "#111827"
COLOURS = (
    *("#2563eb", "#d97706", "#059669", "#dc2626", "#7c3aed", "#0891b2"),
    *("#db2777", "#65a30d", "#92400e", "#475569"),
)


def interactivity_figure(rows: Sequence[Stored], profile: Profile, lengths: Lengths) -> go.Figure:
    """Better is up and to the right."""
    figure = _figure("Interactivity (tok/s/user)", "Throughput per GPU against interactivity")
    _draw(figure, rows, lambda entry: Point(entry.interactivity, entry.tput_per_gpu))
    points = [
        (concurrency, Point(base.interactivity, base.tput_per_gpu))
        for (pair, concurrency), base in profile.baselines.items()
        if pair == lengths
    ]
    _draw_frontier(figure, "vh", low_x_is_better=False)
    _draw_baseline(figure, points, profile)
    return figure


def e2e_figure(rows: Sequence[Stored], profile: Profile, lengths: Lengths) -> go.Figure:
    """Better is up and to the left."""
    figure = _figure("Median E2E latency (ms)", "Throughput per GPU against latency")
    _draw(figure, rows, lambda entry: Point(entry.median_e2e_ms, entry.tput_per_gpu))
    points = [
        (concurrency, Point(base.median_e2e_ms, base.tput_per_gpu))
        for (pair, concurrency), base in profile.baselines.items()
        if pair == lengths
    ]
    _draw_frontier(figure, "hv", low_x_is_better=True)
    _draw_baseline(figure, points, profile)
    return figure


def history_figure(rows: Sequence[Stored], team: str) -> go.Figure:
    """One team's throughput over time, a line for each concurrency."""
    figure = _figure("Date", f"Submissions of {_safe(team)}" if rows else "")
    for number, concurrency in enumerate(sorted({row.entry.concurrency for row in rows})):
        entries = sorted(
            (row.entry for row in rows if row.entry.concurrency == concurrency),
            key=lambda entry: entry.date,
        )
        figure.add_scatter(
            x=[entry.date for entry in entries],
            y=[entry.tput_per_gpu for entry in entries],
            name=f"CONC {concurrency}",
            mode="lines+markers",
            line={"color": COLOURS[number % len(COLOURS)], "width": 2},
            marker={"size": 8},
            hovertext=[_hover(entry) for entry in entries],
            hoverinfo="text",
        )
    return figure


def _figure(x: str, title: str) -> go.Figure:
    axis = {"gridcolor": GRID, "linecolor": GRID, "zeroline": False}
    return go.Figure(
        layout={
            "title": {"text": title, "font": {"size": 15}, "x": 0.01},
            "font": {"family": FONT, "color": TEXT, "size": 12},
            "xaxis": axis | {"title": {"text": x}},
            "yaxis": axis | {"title": {"text": "Throughput (tok/s/GPU)"}, "rangemode": "tozero"},
            "plot_bgcolor": "white",
            "paper_bgcolor": "white",
            "height": 430,
            "margin": {"l": 65, "r": 20, "t": 45, "b": 50},
            "legend": {"orientation": "h", "y": -0.2},
            "hoverlabel": {"align": "left"},
            "template": "none",
        }
    )


def _draw(figure: go.Figure, rows: Sequence[Stored], place: Callable[[Entry], Point]) -> None:
    """A trace for each team: its best result at each concurrency."""
    concurrencies = sorted({row.entry.concurrency for row in rows})
    best = [row.entry for at in concurrencies for row in best_of_teams(rows, at)]
    for number, key in enumerate(dict.fromkeys(sorted(entry.key for entry in best))):
        entries = [entry for entry in best if entry.key == key]
        points = [place(entry) for entry in entries]
        figure.add_scatter(
            x=[point.x for point in points],
            y=[point.y for point in points],
            name=_safe(entries[0].team),
            mode="markers+text",
            text=[str(entry.concurrency) for entry in entries],
            textposition="top center",
            textfont={"size": 10},
            marker={"color": COLOURS[number % len(COLOURS)], "size": 10},
            hovertext=[_hover(entry) for entry in entries],
            hoverinfo="text",
        )


def _draw_frontier(figure: go.Figure, shape: str, *, low_x_is_better: bool) -> None:
    """A staircase under the teams' best: what somebody has reached at that x."""
    points = [Point(*pair) for trace in figure.data for pair in zip(trace.x, trace.y, strict=True)]
    steps = frontier(
        points, lambda point: point.x, lambda point: point.y, low_x_is_better=low_x_is_better
    )
    figure.add_scatter(
        x=[point.x for point in steps],
        y=[point.y for point in steps],
        name="Pareto frontier",
        mode="lines",
        line={"color": FRONTIER, "width": 1.5, "shape": shape},
        hoverinfo="skip",
    )


def _draw_baseline(
    figure: go.Figure, points: Sequence[tuple[int, Point]], profile: Profile
) -> None:
    if not points:
        return
    name = _safe(profile.names.hardware)
    figure.add_scatter(
        x=[point.x for _, point in points],
        y=[point.y for _, point in points],
        name=name,
        mode="lines+markers",
        line={"color": BASELINE, "width": 2, "dash": "dash"},
        marker={"symbol": "diamond", "size": 9},
        hovertext=[
            f"{name}<br>CONC {concurrency}<br>{point.y:,.1f} tok/s/GPU"
            for concurrency, point in points
        ],
        hoverinfo="text",
    )


def _hover(entry: Entry) -> str:
    lines = (
        entry.team,
        f"CONC {entry.concurrency}",
        f"{entry.tput_per_gpu:,.1f} tok/s/GPU",
        f"{entry.interactivity:,.1f} tok/s/user",
        f"{entry.median_e2e_ms:,.0f} ms median E2E",
        engine_text(entry),
        f"{entry.date:%Y-%m-%d %H:%M} UTC",
    )
    return "<br>".join(map(_safe, lines))


def _safe(text: str) -> str:
    """Plotly knows &amp;, &lt; and &gt;, and no entity of a quote."""
    return escape(text, quote=False)
