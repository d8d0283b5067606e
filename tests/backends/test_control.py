"""Prefix caches are emptied through each engine's own endpoint, or it is said that they are not."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from backends import control
from backends.control import CacheReset, reset_cache, unreset
from backends.engines import probe
from backends.info import EngineInfo
from telemetry.look import look
from tests.harness import emulator

ON = EngineInfo("", "vllm", None, None, None, prefix_caching=True)


@contextmanager
def answering(statuses: Sequence[int]) -> Iterator[tuple[str, list[str]]]:
    """A server that answers POSTs with these statuses, the last one for ever; and what was asked."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(self.path)
            self.send_response(statuses[min(len(asked), len(statuses)) - 1])
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()
        thread.join(5)


def reset(kind: str, *statuses: int) -> tuple[CacheReset, list[str]]:
    with answering(statuses) as (url, asked):
        return reset_cache(replace(ON, kind=kind, url=url)), asked


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "BUSY_LIMIT_S", 0.15)
    monkeypatch.setattr(control, "BUSY_STEP_S", 0.02)


def test_sglang_is_asked_again_while_it_is_busy() -> None:
    done, asked = reset("sglang", 400, 400, 200)
    assert done.done and done.said == "reset"
    assert asked == ["/flush_cache"] * 3


def test_sglang_that_stays_busy_is_left_alone_in_the_end() -> None:
    done, asked = reset("sglang", 400)
    assert not done.done and done.said == "cannot be reset: still busy after 0.15 s"
    assert 3 <= len(asked) <= 9


def test_vllm_has_the_endpoint_in_development_mode_only() -> None:
    done, asked = reset("vllm", 200)
    assert done.done and asked == ["/reset_prefix_cache"]
    done, asked = reset("vllm", 404)
    assert not done.done and "VLLM_SERVER_DEV_MODE=1" in done.said and len(asked) == 1


@pytest.mark.parametrize("kind", ["vllm", "sglang"])
def test_another_answer_is_told_and_not_repeated(kind: str) -> None:
    done, asked = reset(kind, 503)
    assert not done.done and "HTTP 503" in done.said and len(asked) == 1


@pytest.mark.parametrize("kind", ["vllm", "sglang"])
def test_where_there_is_no_cache_nobody_is_asked(kind: str) -> None:
    with answering([200]) as (url, asked):
        done = reset_cache(replace(ON, kind=kind, url=url, prefix_caching=False))
        assert done.done and asked == []
        assert reset_cache(replace(ON, kind=kind, url=url, prefix_caching=None)).done
        assert len(asked) == 1  # unknown is not off


def test_an_engine_that_is_gone_was_not_reset() -> None:
    with answering([200]) as (url, _):
        pass
    left = reset_cache(replace(ON, url=url))
    assert (
        not left.done and left.said.startswith("cannot be reset: no answer (") and left.url == url
    )


def test_the_warning_names_the_first_and_counts_the_others() -> None:
    left = [CacheReset(f"http://{name}:1", False, "cannot be reset: x") for name in "ab"]
    fine = CacheReset("http://c:1", True, "reset")
    assert unreset((fine,)) is None
    one, two = unreset((fine, left[0])), unreset((*left, fine))
    assert one is not None and "cache of http://a:1 may hold" in one and "x;" in one
    assert two is not None and "cache of http://a:1 and 1 more may hold" in two


@pytest.mark.parametrize("flags", [("--dialect", "vllm", "--dev-mode"), ("--dialect", "both")])
def test_what_was_cached_is_computed_again(flags: tuple[str, ...]) -> None:
    with emulator("--prefix-cache", *flags) as engine:
        engines = probe([engine.url], "auto")
        hits = []
        for again in (False, True, False):
            if not again:
                assert reset_cache(engines.infos[0]).done
            ask(engine.url)
            hits.append(look([engine.url])[0].prefix_hits)
    assert hits == [0, 32, 32]


def ask(url: str) -> None:
    import json

    body = {"prompt": list(range(33)), "max_tokens": 2}
    status, _ = control.fetch(f"{url}/v1/completions", 5, "POST", json.dumps(body).encode())
    assert status == 200
