"""The leaderboard's page: plots, tables, one team's history, upload and download."""

from __future__ import annotations

from datetime import date
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from competition.leaderboard.api import Board, Senders, add_endpoints
from competition.leaderboard.checks import DOCUMENT_LIMIT
from competition.leaderboard.desk import Desk
from competition.leaderboard.entry import ENGINES, UNKNOWN, team_key
from competition.leaderboard.figures import e2e_figure, history_figure, interactivity_figure
from competition.leaderboard.store import Stored
from competition.leaderboard.tables import board_html, history_html
from competition.payload import ACCURACIES
from competition.profile import Lengths, Profile
from core.errors import ConfigError

ALL = "All"
KEEP_UPLOADS_S = 3600
DOWNLOADS = (
    '<p class="downloads">All results: <a href="/results.json" download>JSON</a> '
    '<a href="/results.csv" download>CSV</a></p>'
)


def build_page(desk: Desk, senders: Senders, fixed: Lengths | None) -> gr.Blocks:
    """fixed: the one pair that the page shows; without, a choice of the profile's pairs."""
    page = Page(desk, senders, fixed)
    with Board(
        analytics_enabled=False,
        title=f"{desk.profile.title}: leaderboard",
        fill_width=True,
        delete_cache=(KEEP_UPLOADS_S, KEEP_UPLOADS_S),
    ) as blocks:
        page.lay_out(blocks)
        add_endpoints(desk, senders, fixed)
    return blocks


class Page:
    """Its components' functions; what they show comes from the store at each call."""

    def __init__(self, desk: Desk, senders: Senders, fixed: Lengths | None) -> None:
        self._desk = desk
        self._profile = desk.profile
        self._senders = senders
        self._fixed = fixed

    def lay_out(self, blocks: gr.Blocks) -> None:
        gr.HTML(_heading(self._profile, self._fixed))
        filters = self._filters()
        with gr.Row():
            plots = [gr.Plot(show_label=False, elem_id=name) for name in ("tput", "e2e")]
        boards = gr.HTML(elem_id="boards")
        gr.HTML(_notes(self._profile) + DOWNLOADS)
        with gr.Accordion("One team's history", open=False):
            team = gr.Dropdown(label="Team", allow_custom_value=True, elem_id="team")
            history = [gr.Plot(show_label=False, elem_id="history"), gr.HTML()]
        sent = self._upload()
        shown: dict[str, Any] = {"outputs": [*plots, boards, team], "api_visibility": "private"}
        pair = filters[0]
        events = [blocks.load, sent.then, *(part.change for part in filters[:-1])]
        for event in (*events, filters[-1].click):
            event(self._show, filters[:-1], **shown)
        team.change(self._history, [pair, team], history, api_visibility="private")

    def _filters(self) -> list[Any]:
        """Pair, concurrency, engine, first and last day; at the end the button."""
        pairs = [str(lengths) for lengths in self._profile.rules]
        found = {value for rule in self._profile.rules.values() for value in rule.concurrencies}
        choices = [ALL, *(str(value) for value in sorted(found))]
        first = str(self._fixed) if self._fixed else pairs[0]
        with gr.Row():
            pair = gr.Radio(pairs, value=first, label="ISL/OSL", visible=not self._fixed)
            concurrency = gr.Radio(choices, value=ALL, label="CONC of the tables", elem_id="conc")
        with gr.Row():
            engines = [ALL, *ENGINES, UNKNOWN]
            engine = gr.Dropdown(engines, value=ALL, label="Engine", elem_id="engine")
            days = [
                gr.DateTime(label=label, include_time=False, type="string", elem_id=name)
                for label, name in (("From day", "first"), ("To day", "last"))
            ]
            button = gr.Button("Refresh", size="sm", min_width=90, scale=0)
        return [pair, concurrency, engine, *days, button]

    def _upload(self) -> Any:
        with gr.Accordion("Submit a result file", open=False):
            with gr.Row():
                file = gr.File(
                    label="Result file", file_types=[".json"], height=120, elem_id="upload-file"
                )
                with gr.Column():
                    team = gr.Textbox(label="Team name", max_length=100, elem_id="upload-team")
                    token = gr.Textbox(label="Token, if the team has one", type="password")
            send = gr.Button("Submit", variant="primary", elem_id="upload-send")
            outcome = gr.HTML(elem_id="outcome")
        return send.click(self._take, [file, team, token], outcome, api_visibility="private")

    def _show(
        self, pair: str, concurrency: str, engine: str, first: str | None, last: str | None
    ) -> tuple[Any, ...]:
        lengths = self._fixed or Lengths.parse(pair)
        rows = self._desk.store.board(self._profile.name, lengths)
        teams = {row.entry.key: row.entry.team for row in rows}
        try:
            kept = [row for row in rows if _kept(row, engine, _day(first), _day(last))]
        except ConfigError as error:
            raise gr.Error(str(error), print_exception=False) from None
        only = None if concurrency == ALL else int(concurrency)
        return (
            interactivity_figure(kept, self._profile, lengths),
            e2e_figure(kept, self._profile, lengths),
            board_html(kept, self._profile, lengths, only),
            gr.Dropdown(choices=sorted(teams.values())),
        )

    def _history(self, pair: str, team: str | None) -> tuple[Any, str]:
        lengths = self._fixed or Lengths.parse(pair)
        rows = self._desk.store.board(self._profile.name, lengths)
        own = [row for row in rows if team and row.entry.key == team_key(team)]
        return history_figure(own, team or ""), history_html(own)

    def _take(self, path: str | None, team: str, token: str, request: gr.Request) -> str:
        """Not a gr.Error: that shows its text as HTML."""
        try:
            text = _read(path)
            sender = self._senders.of(request, token.strip() or None)
            answer = self._desk.take_document(team, text, sender, self._fixed)
        except ConfigError as error:
            return f'<p class="refused">Refused: {escape(str(error))}</p>'
        return f'<p class="accepted">Accepted: {escape(answer["message"])}</p>'


def _read(path: str | None) -> str:
    if path is None:
        raise ConfigError("choose a result file first")
    with Path(path).open("rb") as file:
        return file.read(DOCUMENT_LIMIT + 1).decode(errors="replace")


def _kept(row: Stored, engine: str, first: date | None, last: date | None) -> bool:
    day = row.entry.date.date()
    in_time = (first is None or first <= day) and (last is None or day <= last)
    return in_time and engine in (ALL, row.entry.engine)


def _day(text: str | None) -> date | None:
    try:
        return date.fromisoformat(text.strip()[:10]) if text and text.strip() else None
    except ValueError:
        raise ConfigError("give a day as YYYY-MM-DD") from None


def _heading(profile: Profile, fixed: Lengths | None) -> str:
    pair = f", ISL/OSL {fixed}" if fixed else ""
    return (
        f"<h1>{escape(profile.title)}{pair}</h1>"
        f"<p>Leaderboard by the rules of {escape(profile.date)}, {profile.gpus_per_node} GPUs a node</p>"
    )


def _notes(profile: Profile) -> str:
    names = profile.names
    bias = (
        f" It was measured at range ratio {names.range_ratio:g}, so with shorter prompts and answers "
        "than the competition's: beside it, latencies here look worse than they are."
        if names.range_ratio < 1
        else ""
    )
    return (
        '<p class="notes">Ranked by throughput per GPU (input and output tokens a second), then '
        "interactivity (output tokens a second and user), then median latency; of each team its best "
        f"result. Accuracy: {' / '.join(ACCURACIES[profile.accuracy.kind]).replace('_', ' ')}. "
        f"Baseline, {escape(names.hardware)} of {escape(names.date)}: {escape(names.source)}.{bias}"
        "</p>"
    )
