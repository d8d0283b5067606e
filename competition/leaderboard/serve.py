"""One web server: the board of all pairs at the root, one for each pair, and the downloads.

A pair has a path of its own because the competition's own program sends no lengths: it has a
leaderboard's address for each pair.
"""

from __future__ import annotations

import json
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

import gradio as gr
import uvicorn
from fastapi import FastAPI, Response
from fastapi.responses import RedirectResponse

from competition.leaderboard.api import Senders
from competition.leaderboard.checks import DOCUMENT_LIMIT
from competition.leaderboard.desk import Desk, path_of
from competition.leaderboard.export import as_csv, as_json
from competition.leaderboard.guard import Guard
from competition.leaderboard.pages import build_page
from competition.leaderboard.rate import RateLimit
from competition.leaderboard.store import Store
from competition.leaderboard.tokens import read_tokens
from competition.profile import Lengths, load_profile
from core.errors import SetupError

STYLE = Path(__file__).with_name("style.css")
# A result document of its full size, with every character escaped.
BODY_LIMIT = 8 * DOCUMENT_LIMIT
FONTS = ["system-ui", "sans-serif"]
MONOSPACE = ["ui-monospace", "monospace"]


@dataclass(frozen=True, slots=True)
class Options:
    """The command line's."""

    host: str
    port: int  # 0: any that is free
    database: Path
    tokens: Path | None
    rate: int  # submissions in a minute
    behind_proxy: bool
    profile: str


def serve(options: Options) -> None:
    """Until interrupted. Prints {"ready": URL} once requests are answered."""
    app = build_app(options)
    with _listen(options.host, options.port) as listener:
        host = f"[{options.host}]" if ":" in options.host else options.host
        url = f"http://{host}:{listener.getsockname()[1]}"
        # The proxy's headers are read here alone, and only with --behind-proxy.
        config = uvicorn.Config(app, log_level="warning", proxy_headers=False)
        _Server(config, url).run(sockets=[listener])


def build_app(options: Options) -> FastAPI:
    """Raises ConfigError or SetupError for options that cannot be used."""
    profile = load_profile(options.profile)
    tokens = read_tokens(options.tokens)
    desk = Desk(profile, Store(options.database), tokens, RateLimit(options.rate))
    app = FastAPI(openapi_url=None, max_body_size=BODY_LIMIT)
    _add_downloads(app, desk.store)
    senders = Senders(options.behind_proxy)
    for lengths in profile.rules:
        _add_slash(app, path_of(lengths))
        _mount(app, desk, senders, lengths)
    _mount(app, desk, senders, None)  # the root is last: it would take the others' requests
    app.add_middleware(Guard)
    return app


def _mount(app: FastAPI, desk: Desk, senders: Senders, lengths: Lengths | None) -> None:
    gr.mount_gradio_app(
        app,
        build_page(desk, senders, lengths),
        path=path_of(lengths) if lengths else "/",
        theme=gr.themes.Default(font=FONTS, font_mono=MONOSPACE),
        css_paths=[STYLE],
        footer_links=[],
        run_history=False,
        enable_monitoring=False,
        mcp_server=False,
        max_file_size=DOCUMENT_LIMIT,
        show_error=False,
        ssr_mode=False,
    )


def _add_slash(app: FastAPI, path: str) -> None:
    """The root's application would answer for a pair's address that has none at its end."""

    def redirect() -> Response:
        return RedirectResponse(f"{path}/")

    app.add_api_route(path, redirect)


def _add_downloads(app: FastAPI, store: Store) -> None:
    def results_json() -> Response:
        return _file(as_json(store.all()), "results.json", "application/json")

    def results_csv() -> Response:
        return _file(as_csv(store.all()), "results.csv", "text/csv; charset=utf-8")

    app.add_api_route("/results.json", results_json)
    app.add_api_route("/results.csv", results_csv)


def _file(text: str, name: str, media_type: str) -> Response:
    disposition = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(text, media_type=media_type, headers=disposition)


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, url: str) -> None:
        super().__init__(config)
        self._url = url

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            sys.stdout.write(json.dumps({"ready": self._url}) + "\n")
            sys.stdout.flush()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise SetupError(
            f"--host {host} --port {port}: {error.strerror}; choose another port, 0 for any"
        ) from None
