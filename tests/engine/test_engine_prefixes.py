"""What a prefix cache would have had, and the pages that exist in vLLM's development mode only."""

from __future__ import annotations

from engine.emulator import compiler
from engine.prefixes import BLOCK, PrefixCounter
from tests.engine.client import clock, engine


def test_whole_blocks_of_the_same_beginning_are_hits() -> None:
    counter = PrefixCounter()
    for prompt, hits in (
        (range(40), 0),
        (range(40), 32),
        (range(32), 16),  # the last token is always computed
        (range(33), 32),
        ([*range(20), 0, *range(21, 40)], 16),
        ([7, *range(1, 40)], 0),
        (range(BLOCK), 0),
    ):
        before = counter.hits
        counter.take(list(prompt))
        assert counter.hits - before == hits, prompt
    assert counter.queries == 40 + 40 + 32 + 33 + 40 + 40 + 16
    counter.forget()
    counter.take(list(range(40)))
    assert counter.hits == 16 + 32 + 32 + 16


def test_the_counters_and_their_reset_are_pages() -> None:
    with clock("--dialect", "vllm", "--prefix-cache", "--dev-mode") as started:
        for hits in (0, 32, 64):
            started.ask("vllm", range(40), 2)
            assert started.metric("prefix_cache_hits_total") == hits
        assert b'enable_prefix_caching="True"' in started.send("GET", "/metrics").body
        assert started.send("POST", "/reset_prefix_cache").status == 200
        started.ask("vllm", range(40), 2)
        assert started.metric("prefix_cache_hits_total") == 64
        assert started.metric("prefix_cache_queries_total") == 160
        config = started.send("GET", "/server_info?config_format=json").json["vllm_config"]
        assert config["cache_config"]["enable_prefix_caching"] is True


def test_sglang_flushes_what_it_counted() -> None:
    with clock("--prefix-cache") as started:
        for hits in (0, 32):
            started.ask("sglang", range(40), 2)
            assert started.metric("prefix_cache_hits_total") == hits
        assert started.send("POST", "/flush_cache").status == 200
        started.ask("sglang", range(40), 2)
        assert started.metric("prefix_cache_hits_total") == 32
        assert started.send("GET", "/server_info").json["disable_radix_cache"] is False


def test_without_the_flags_there_is_neither() -> None:
    with clock("--dialect", "vllm") as started:
        for _ in range(2):
            started.ask("vllm", range(40), 2)
        assert started.metric("prefix_cache_hits_total") == 0
        assert started.send("POST", "/reset_prefix_cache").status == 404
        assert started.send("GET", "/server_info").status == 404
    if compiler() is not None:
        for flag in ("--prefix-cache", "--dev-mode"):
            try:
                with engine("fast", flag) as refused:
                    raise AssertionError(refused.ready)
            except ValueError:  # no line of JSON
                pass
