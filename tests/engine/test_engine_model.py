"""The model, end to end: real weights, real sampling, many requests at once, and its death.

One process serves the whole module, for it takes seconds to start. Its folder is the tiny model
with a tenth of the vocabulary as end-of-sequence, and its forward pass fails on a poisoned prompt.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.engine.client import (
    PATHS,
    Answered,
    Engine,
    encode,
    engine,
    read,
    understand,
    wait_until,
)

pytest.importorskip("transformers")

EOS = range(40, 80)
POISON = [319] * 50
LAUNCH = f"""
import functools, json, sys
from pathlib import Path
from typing import Any
import transformers
from engine.weights import tiny_model
forward = transformers.GptOssForCausalLM.forward
@functools.wraps(forward)
def poisoned(self, input_ids=None, **rest):
    if (input_ids == 319).sum() >= {len(POISON)}:
        raise RuntimeError("poisoned")
    return forward(self, input_ids=input_ids, **rest)
transformers.GptOssForCausalLM.forward = poisoned
folder = tiny_model(Path(sys.argv[1]))
(folder / "generation_config.json").write_text(json.dumps({{"eos_token_id": list({EOS})}}))
from engine.__main__ import main
main(["model", "--model", str(folder), *sys.argv[2:]])
"""
PROMPTS = [[(7 * i + j) % 256 for j in range(5 + 3 * i)] for i in range(16)]
N = 24


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    cache = tmp_path_factory.mktemp("cache")
    script = ("-c", LAUNCH, str(cache))
    with engine("--context", "2048", "--max-running", "12", script=script) as started:
        yield started


def answer(
    model: Engine, prompt: list[int], dialect: str = "vllm", n: int = N, **more: Any
) -> Answered:
    more = {"temperature": 0.0, "ignore_eos": True, **more}
    return understand(dialect, model.ask(dialect, prompt, n, **more))


@pytest.fixture(scope="module")
def greedy(model: Engine) -> list[list[int]]:
    """Each prompt's greedy answer, one request at a time."""
    return [answer(model, prompt, stream=False).ids for prompt in PROMPTS]


def test_it_answers_in_the_vocabulary(model: Engine, greedy: list[list[int]]) -> None:
    assert model.ready["card"]["vocab"] == 320
    assert all(len(ids) == N and all(0 <= i < 320 for i in ids) for ids in greedy)
    assert len({tuple(ids) for ids in greedy}) == len(PROMPTS)


def test_greedy_is_the_same_alone_and_in_a_crowd(model: Engine, greedy: list[list[int]]) -> None:
    """Sixteen at once, half of them sampled, over both dialects, more than may run."""

    def ask(i: int) -> Answered:
        dialect = "sglang" if i % 4 < 2 else "vllm"
        return answer(model, PROMPTS[i // 2], dialect, temperature=float(i % 2), stream=i % 3 > 0)

    model.send("POST", "/truth/reset")
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(ask, range(16)))
    assert [found.ids for found in answers[::2]] == greedy[:8]
    assert all(found.ids != greedy[i] for i, found in enumerate(answers[1::2]))
    assert all((found.finish, found.counted) == ("length", N) for found in answers)
    first_done = min(entry["done_ns"] for entry in model.truth())
    assert sum(entry["arrived_ns"] < first_done for entry in model.truth()) > 4  # at once, indeed


def test_sampling_settings_are_each_request_s_own(model: Engine, greedy: list[list[int]]) -> None:
    prompt, best = PROMPTS[3], greedy[3]
    settings: tuple[dict[str, Any], ...] = ({"top_k": 1}, {"top_p": 1e-6}, {"temperature": 1e-4})
    for greedily in settings:
        assert answer(model, prompt, **{"temperature": 1.0, **greedily}).ids == best
    with ThreadPoolExecutor(8) as pool:

        def first(**sampling: Any) -> list[int]:
            tries = [pool.submit(answer, model, prompt, n=1, **sampling) for _ in range(40)]
            return [found.result().ids[0] for found in tries]

        two = set(first(temperature=5.0, top_k=2))
        assert len(two) == 2 and best[0] in two
        assert len(set(first(temperature=5.0))) > 10
        assert first(temperature=0.3).count(best[0]) > first(temperature=3.0).count(best[0])


def test_it_stops_at_end_of_sequence(model: Engine, greedy: list[list[int]]) -> None:
    for dialect in PATHS:
        ends = [next((k for k, i in enumerate(ids) if i in EOS), None) for ids in greedy]
        which = next(i for i, end in enumerate(ends) if end)
        end = ends[which]
        assert end is not None
        found = answer(model, PROMPTS[which], dialect, ignore_eos=False)
        assert (found.ids, found.finish) == (greedy[which][: end + 1], "stop")


def test_what_does_not_fit(model: Engine) -> None:
    assert model.ask("vllm", [320], 4).status == 400
    assert model.ask("vllm", [1] * 2048, 4).status == 400
    assert len(answer(model, [1] * 2040, n=100).ids) == 8  # clamped, as vLLM does
    assert model.ask("sglang", [1] * 2040, 9, stream=False).status == 400
    assert model.send("GET", "/health").status == 200


def test_a_client_that_leaves_stops_the_generation(model: Engine) -> None:
    with model.start_asking("vllm", PROMPTS[5], 2000, ignore_eos=True) as connection:
        connection.recv(65536)
        connection.recv(65536)
    wait_until(lambda: model.truth()[-1]["finish"] == "disconnected")
    assert model.metric("num_requests_running") == 0
    time.sleep(0.1)  # the step that was under way
    before = cpu_seconds(model.process.pid)
    time.sleep(0.4)
    assert cpu_seconds(model.process.pid) - before < 0.2


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_its_death_is_told_and_shown(model: Engine) -> None:
    """The last test: the generation thread dies of a prompt."""
    with ExitStack() as stack:
        kinds = [("vllm", True), ("sglang", True), ("vllm", False)]
        victims = [
            stack.enter_context(
                model.start_asking(dialect, PROMPTS[0], 2000, stream=stream, ignore_eos=True)
            )
            for dialect, stream in kinds
        ]
        wait_until(lambda: model.metric("num_requests_running") == 3)
        assert "error" in model.ask("sglang", POISON, 5).events[-1]
        vllm, sglang, whole = (read(victim) for victim in victims)
        for reply in (vllm, sglang):
            assert (reply.status, reply.events[-1]["error"]["code"]) == (200, 500)
        assert (whole.status, whole.json["error"]["type"]) == (500, "InternalServerError")
        watch = stack.enter_context(model.connect())
        wait_until(lambda: health(watch) == 503)
    assert model.process.wait(10) == 1


def health(connection: socket.socket) -> int:
    connection.sendall(encode("GET", "/health"))
    return read(connection).status
