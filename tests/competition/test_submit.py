"""The client: against the real leaderboard, and against servers that fail in every way."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

from competition.leaderboard.tokens import make_token
from competition.profile import DEFAULT, Lengths, load_profile
from competition.submit import (
    Submission,
    Unconfirmed,
    dry_run_text,
    leaderboard_url,
    load,
    make_submission,
    send,
    store,
)
from competition.web import Unreachable, Web
from core.errors import ConfigError, RunError, SetupError
from tests.competition.board import LENGTHS, board, document, fetch

PROFILE = load_profile(DEFAULT)
TEAM = 'O\'Brien & "東京"; $(reboot)'


def submission(url: str, team: str = TEAM, tput: float = 500.0) -> Submission:
    return make_submission(team, url, document(tput), PROFILE)


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Our leaderboard's address, and the token of Team A."""
    folder = tmp_path_factory.mktemp("board")
    token = make_token(folder / "tokens.json", "Team A")
    tokens = ("--tokens", str(folder / "tokens.json"))
    with board(folder, *tokens, "--rate", "1000") as url:
        yield url, token


def test_our_leaderboard_gets_the_document_and_answers_with_the_rank(
    ours: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, _ = ours
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # loopback goes past it
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    first = send(submission(f"{url}/isl1024osl1024/"), None, 30)
    assert (first.accepted, first.duplicate, first.rank, first.of) == (True, False, 1, 1)
    assert first.board == f"{url}/isl1024osl1024"
    second = send(submission(url, "Other", 499.0), None, 30)
    assert (second.rank, second.of) == (2, 2)
    assert send(submission(url), None, 30).duplicate
    rows = json.loads(fetch(f"{url}/results.json")[1])
    assert [(row["team"], row["engine"]) for row in rows] == [(TEAM, "vllm"), ("Other", "vllm")]


def test_a_refusal_is_the_leaderboards_sentence(ours: tuple[str, str]) -> None:
    url, token = ours
    refused = send(submission(url, "Team A"), "wrong", 30)
    assert (refused.accepted, "token" in refused.message) == (False, True)
    assert send(submission(url, "Team A"), token, 30).accepted


@dataclass
class Stub:
    """A leaderboard of another make: what it answers, and what it got."""

    post: tuple[int, str] = (200, '{"event_id": "e1"}')
    promised: int | None = None  # bytes of the answer to a POST, more than come
    events: str = 'event: complete\ndata: ["Thank you"]\n\n'
    info: tuple[int, str] = (404, "")
    hang: str = ""  # the method that never answers
    stall: bool = False  # the rest of them is never sent, but the connection stays
    beats: bool = False  # the stream then sends heartbeats for ever
    url: str = ""
    got: list[tuple[str, str, str | None]] = field(default_factory=list)
    end: threading.Event = field(default_factory=threading.Event)

    def posts(self) -> list[tuple[str, str, str | None]]:
        return [one for one in self.got if one[1]]


@contextmanager
def served(stub: Stub, port: int = 0) -> Iterator[Stub]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            stub.got.append((self.path, "", self.headers["Authorization"]))
            if self.path == "/gradio_api/info":
                return self.answer(*stub.info)
            if stub.hang == "GET":
                stub.end.wait(60)
            self.answer(200, stub.events)
            while stub.beats and not stub.end.wait(0.05):
                self.wfile.write(b"event: heartbeat\ndata: null\n\n")

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            stub.got.append((self.path, body, self.headers["Authorization"]))
            if stub.hang == "POST":
                stub.end.wait(60)
            if stub.post[0]:
                self.answer(*stub.post, stub.promised)

        def answer(self, status: int, text: str, promised: int | None = None) -> None:
            self.send_response(status)
            if promised is not None:
                self.send_header("Content-Length", str(promised))
            self.send_header("Location", "/elsewhere")
            self.end_headers()
            self.wfile.write(text.encode())
            if promised is not None and stub.stall:
                self.wfile.flush()
                stub.end.wait(60)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        stub.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield stub
        finally:
            stub.end.set()
            server.shutdown()
            thread.join()


def test_the_originals_get_their_list_and_never_the_token() -> None:
    with served(Stub()) as stub:
        receipt = send(submission(stub.url), "secret", 10)
    assert (receipt.accepted, receipt.message, receipt.rank) == (True, "Thank you", None)
    ((path, body, authorization),) = stub.posts()
    assert path == "/gradio_api/call/submit_results"
    assert json.loads(body) == {"data": list(submission(stub.url).values)}
    assert authorization is None
    assert stub.got[-1][0] == "/gradio_api/call/submit_results/e1"


def test_a_board_that_takes_documents_gets_one_and_the_token() -> None:
    info = (200, '{"named_endpoints": {"/submit_document": {}}}')
    with served(Stub(info=info)) as stub:
        send(submission(stub.url), "secret", 10)
    ((path, body, authorization),) = stub.posts()
    assert (path, authorization) == ("/gradio_api/call/submit_document", "Bearer secret")
    team, text = json.loads(body)["data"]
    assert (team, json.loads(text)) == (TEAM, document())


@pytest.mark.parametrize(
    ("events", "message"),
    [
        ('event: error\ndata: {"error": "too\\u001b[31m slow"}\n\n', "too [31m slow"),
        ("event: error\ndata: null\n\n", "refused without a reason"),
        ('event: heartbeat\ndata: null\n\nevent: error\ndata: "no"\n\n', "no"),
    ],
)
def test_an_error_event_is_a_refusal(events: str, message: str) -> None:
    with served(Stub(events=events)) as stub:
        receipt = send(submission(stub.url), None, 10)
    assert (receipt.accepted, receipt.message) == (False, message)


@pytest.mark.parametrize(
    ("stub", "said"),
    [
        (Stub(post=(200, "{}")), "without an event id"),
        (Stub(post=(200, '{"event_id": "../x"}')), "without an event id"),
        (Stub(post=(200, "<html>")), "without an event id"),
        (Stub(post=(500, '{"event_id": "e1"}')), "HTTP 500"),
        (Stub(post=(302, "")), "HTTP 302"),
        (Stub(post=(408, "")), "HTTP 408"),
        (Stub(post=(200, "[" * 100_000)), "without an event id"),
        (Stub(post=(0, "")), "no answer: Remote end closed"),
        (Stub(post=(500, "x"), promised=9), "HTTP 500"),
        (Stub(post=(500, "x"), promised=9, stall=True), "no answer within 0.5 s"),
        (Stub(events=""), "ended before"),
        (Stub(events="event: generating\ndata: 1\n\n"), "ended before"),
        (Stub(hang="POST"), "no answer within 0.5 s"),
        (Stub(hang="GET"), "no answer within 0.5 s"),
        (Stub(events="", beats=True), "no answer within 0.5 s"),
    ],
)
def test_what_is_not_confirmed_is_an_error_and_sent_once(stub: Stub, said: str) -> None:
    with served(stub), pytest.raises(Unconfirmed, match=f"(?s){said}.*look at the leaderboard"):
        send(submission(stub.url), None, 0.5)
    assert len(stub.posts()) == 1
    assert not [path for path, *_ in stub.got if path == "/elsewhere"]


@pytest.mark.parametrize("status", [400, 403, 404, 413, 422, 429])
def test_a_clear_refusal_is_no_open_question(status: int) -> None:
    with served(Stub(post=(status, "too\x1blarge"))) as stub, pytest.raises(RunError) as caught:
        send(submission(stub.url), None, 10)
    assert type(caught.value) is RunError
    assert f"HTTP {status}, not taken: too large" in str(caught.value)
    assert len(stub.posts()) == 1


@pytest.mark.parametrize("token", ["se\ncret", "se\x00cret", "sécret", "secret\u2028x", "\udcffx"])
def test_a_token_that_cannot_be_one_is_neither_sent_nor_shown(token: str) -> None:
    with served(Stub()) as stub, pytest.raises(ConfigError, match="LB_TOKEN: ") as caught:
        send(submission(stub.url), token, 10)
    assert (stub.got, "cret" in str(caught.value)) == ([], False)


@pytest.mark.parametrize(("token", "sent"), [(" secret\r\n", "Bearer secret"), (" \n", None)])
def test_space_around_a_token_is_none_of_it(token: str, sent: str | None) -> None:
    info = (200, '{"named_endpoints": {"/submit_document": {}}}')
    with served(Stub(info=info)) as stub:
        send(submission(stub.url), token, 10)
    assert [authorization for *_, authorization in stub.posts()] == [sent]


def test_a_refused_connection_is_tried_again_and_then_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(RunError, match=f"{port}.*no answer") as caught:
        send(submission(f"http://127.0.0.1:{port}"), None, 5, retry_waits_s=(0, 0))
    assert not isinstance(caught.value, Unconfirmed)


def test_a_board_that_goes_before_the_submission_has_not_got_it() -> None:
    with served(Stub()) as stub:
        web = Web(stub.url, 5, ())
        assert web.get("gradio_api/info")[0] == 404
    with pytest.raises(Unreachable, match="no answer"):
        web.post("gradio_api/call/submit_results", {}, None)


def test_a_board_that_comes_up_late_is_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    stub, waited = Stub(), []
    with ExitStack() as late:

        def sleep(wait_s: float) -> None:
            waited.append(wait_s)
            late.enter_context(served(stub, port))

        monkeypatch.setattr("competition.web.time", SimpleNamespace(sleep=sleep))
        assert send(submission(f"http://127.0.0.1:{port}"), None, 10).accepted
    assert (waited, len(stub.posts())) == ([1.0], 1)


def test_a_stored_submission_is_the_same_when_loaded(tmp_path: Path) -> None:
    made = submission("https://board.example/")
    path = tmp_path / "new" / "submission.json"
    store(made, path)
    assert load(path) == made
    assert [child.name for child in path.parent.iterdir()] == ["submission.json"]
    stored = json.loads(path.read_text())
    for wrong in ({}, stored | {"url": 7}, stored | {"url": None}, stored | {"url": ["http://a"]}):
        path.write_text(json.dumps(wrong))
        with pytest.raises(ConfigError, match=r"submission\.json"):
            load(path)
    with pytest.raises(SetupError, match="cannot be written"):
        store(made, path / "below a file")


def test_the_dry_run_shows_address_and_payload() -> None:
    text = dry_run_text(submission("https://board.example"))
    assert "https://board.example/gradio_api/call/submit_results" in text
    assert json.dumps(TEAM, ensure_ascii=False) in text


@pytest.mark.parametrize(
    ("lengths", "override", "url"),
    [
        (LENGTHS, None, "https://daniehua-gptoss-fp4-vllm-isl1024osl1024.hf.space"),
        (Lengths(8192, 1024), "", "https://daniehua-gptoss-fp4-vllm-isl8192osl1024.hf.space"),
        (LENGTHS, "http://localhost:7860/isl1024osl1024/", "http://localhost:7860/isl1024osl1024"),
        (Lengths(5, 5), "https://board.example", "https://board.example"),
    ],
)
def test_results_go_where_their_lengths_say(
    lengths: Lengths, override: str | None, url: str
) -> None:
    assert leaderboard_url(PROFILE, lengths, override) == url


@pytest.mark.parametrize(
    "url",
    [
        *("ftp://a", "a.example", "http://", "http://a b", "http://a/?q=1", "http://a/#x"),
        *("file:///etc/passwd", "http://user:pass@a", "http://a:99999", "http://a\n.b", "http://é"),
    ],
)
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="http"):
        leaderboard_url(PROFILE, LENGTHS, url)


def test_a_pair_without_a_leaderboard_says_so() -> None:
    with pytest.raises(ConfigError, match="5/5"):
        leaderboard_url(PROFILE, Lengths(5, 5), None)
    rule = replace(PROFILE.rules[LENGTHS], leaderboard=None)
    with pytest.raises(ConfigError, match="LB_URL_OVERRIDE"):
        leaderboard_url(replace(PROFILE, rules={LENGTHS: rule}), LENGTHS, None)
