"""The leaderboard's tables as HTML. Every cell is escaped here: a team's name is a stranger's text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from competition.leaderboard.entry import UNKNOWN, Entry
from competition.leaderboard.ranking import best_of_teams
from competition.leaderboard.store import Stored
from competition.profile import Baseline, Lengths, Profile

NONE = "\N{EN DASH}"


def board_html(rows: Sequence[Stored], profile: Profile, lengths: Lengths, only: int | None) -> str:
    """One table for each concurrency that has a result; only: for that one alone."""
    found = {row.entry.concurrency for row in rows}
    shown = sorted(found if only is None else found & {only})
    if not shown:
        return '<p class="empty">No results yet for this choice.</p>'
    return "".join(_table(rows, profile, lengths, concurrency) for concurrency in shown)


def history_html(rows: Sequence[Stored]) -> str:
    """All of one team's submissions, the latest first."""
    head = ("Date", "CONC", "Tok/s/GPU", "Interactivity", "Median E2E", "Engine")
    latest = sorted(rows, key=lambda row: (row.entry.date, row.id), reverse=True)
    return _html(head, (_history_row(row.entry) for row in latest)) if rows else ""


def engine_text(entry: Entry) -> str:
    """As "vllm 0.11.0, TP 8"."""
    engine = f"{entry.engine} {entry.engine_version}".strip()
    text = "" if entry.engine == UNKNOWN else engine
    return ", ".join(filter(None, (text, f"TP {entry.tp}" if entry.tp else ""))) or NONE


def accuracy_text(entry: Entry) -> str:
    return " / ".join(f"{value:.4g}" for value in entry.accuracy.values())


def _table(rows: Sequence[Stored], profile: Profile, lengths: Lengths, concurrency: int) -> str:
    hardware = f"vs {short_name(profile)}"
    head = (
        *("#", "Team", "Tok/s/GPU", hardware, "Median E2E", hardware, "Interactivity", hardware),
        *("Accuracy", "Engine", "Date"),
    )
    ranked = enumerate(best_of_teams(rows, concurrency), start=1)
    body = (_row(rank, row.entry, profile) for rank, row in ranked)
    title = (
        f"<h3>{lengths} at CONC {concurrency}{_baseline_note(profile, lengths, concurrency)}</h3>"
    )
    return title + _html(head, body)


def _baseline_note(profile: Profile, lengths: Lengths, concurrency: int) -> str:
    base = profile.baselines.get((lengths, concurrency))
    if base is None:
        return f"<small>no {escape(profile.names.hardware)} figures</small>"
    return (
        f"<small>{escape(profile.names.hardware)}: {base.tput_per_gpu:,.1f} tok/s/GPU, "
        f"{base.median_e2e_ms:,.0f} ms, {base.interactivity:,.1f} tok/s/user</small>"
    )


def _row(rank: int, entry: Entry, profile: Profile) -> tuple[str, ...]:
    ratios = _ratios(entry, entry.baseline(profile))
    return (
        str(rank),
        entry.team,
        f"{entry.tput_per_gpu:,.1f}",
        ratios[0],
        f"{entry.median_e2e_ms:,.0f} ms",
        ratios[1],
        f"{entry.interactivity:,.1f}",
        ratios[2],
        accuracy_text(entry),
        engine_text(entry),
        f"{entry.date:%Y-%m-%d}",
    )


def _history_row(entry: Entry) -> tuple[str, ...]:
    return (
        f"{entry.date:%Y-%m-%d %H:%M}",
        str(entry.concurrency),
        f"{entry.tput_per_gpu:,.1f}",
        f"{entry.interactivity:,.1f}",
        f"{entry.median_e2e_ms:,.0f} ms",
        engine_text(entry),
    )


def _ratios(entry: Entry, base: Baseline | None) -> tuple[str, str, str]:
    """Of throughput, latency and interactivity."""
    if base is None:
        return NONE, NONE, NONE
    return (
        _times(entry.tput_per_gpu / base.tput_per_gpu),
        _times(entry.median_e2e_ms / base.median_e2e_ms),
        _times(entry.interactivity / base.interactivity),
    )


def _times(ratio: float) -> str:
    return f"{ratio:.2f}\N{MULTIPLICATION SIGN}"


def _html(head: Iterable[str], body: Iterable[Iterable[str]]) -> str:
    rows = "".join(f"<tr>{_cells('td', row)}</tr>" for row in body)
    table = f"<table><thead><tr>{_cells('th', head)}</tr></thead><tbody>{rows}</tbody></table>"
    return f'<div class="scroll">{table}</div>'


def _cells(tag: str, texts: Iterable[str]) -> str:
    # dir: a name in a script from right to left turns its own cell only.
    return "".join(f'<{tag} dir="auto">{escape(text)}</{tag}>' for text in texts)


def short_name(profile: Profile) -> str:
    """The baseline's, for a column's head: "B200" of "NVIDIA B200"."""
    name = profile.names.hardware
    return name.rpartition(" ")[2] if name.startswith("NVIDIA") else "target"
