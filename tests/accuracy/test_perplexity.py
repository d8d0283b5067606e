"""Perplexity: its pieces and windows, its value against transformers, and servers that lie."""

from __future__ import annotations

import json
import math
import random
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accuracy.perplexity import Perplexity, conclude, cut, main, measure_perplexity, table
from accuracy.perplexity_pieces import Piece, pieces_by_bytes, read_text, rolling_windows
from accuracy.perplexity_tokens import Served, load_served
from backends.info import EngineInfo
from core.errors import HarnessError, RunError, SetupError
from tests.harness import emulator

pytest.importorskip("transformers")
tokenizers: Any = pytest.importorskip("tokenizers")

BOS = 256
PIECE = 2500  # bytes, and tokens: one window and a part
WORDS = ["the", "theatre", "@-@", "naïve", "1 990", "played", ",", "<unk>", "日本", "of"]
SERVED = Served(lambda text: list(text.encode()), BOS)
DIALECTS = pytest.mark.parametrize("kind", ["vllm", "sglang"])


def info(url: str, kind: str) -> EngineInfo:
    return EngineInfo(url, kind, None, None, None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model of random weights, with a tokenizer of which each byte is a token."""
    from engine.weights import tiny_model

    found = tiny_model(tmp_path_factory.mktemp("cache"))
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    vocabulary = {letter: i for i, letter in enumerate(sorted(alphabet))}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(vocabulary, []))
    byte_level = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = byte_level
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    tokenizer.enable_truncation(7)  # as some models' files have it: not to be obeyed
    tokenizer.save(str(found / "tokenizer.json"))
    return found


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    choose = random.Random(5)
    lines = [" ".join(choose.choices(WORDS, k=60)) for _ in range(8)]
    path = tmp_path_factory.mktemp("text") / "wiki.test.raw"
    path.write_text(" \n".join(["", " = Title = ", " ", *lines, ""]), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[str]:
    with emulator("--model", str(folder), kind="model") as started:
        yield started.url


@pytest.fixture(scope="module")
def direct(folder: Path, text: Path) -> float:
    """The pieces' log-likelihood by transformers, by lm-eval's rules written down plainly."""
    import torch
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    total = 0.0
    for piece in pieces_by_bytes(read_text(text), PIECE):
        tokens, done = load_served(folder).encode(piece.text), 0
        while done < len(tokens):
            end = min(done + 2046, len(tokens))
            seen = [BOS, *tokens[:end]] if done == 0 else tokens[end - 2047 : end]
            with torch.no_grad():
                logits = model(torch.tensor([seen])).logits[0, :-1].double()
            logprobs = torch.log_softmax(logits, -1)[range(len(seen) - 1), seen[1:]]
            total += float(logprobs[done - end :].sum())
            done = end
    return total


@DIALECTS
def test_it_is_that_of_transformers(
    server: str, folder: Path, text: Path, direct: float, kind: str
) -> None:
    """Windows roll: a piece has two, the last one with a longer context."""
    pieces = pieces_by_bytes(read_text(text), PIECE)
    assert len(pieces) == 2
    found = measure_perplexity(info(server, kind), pieces, load_served(folder), in_flight=3)
    assert found.total_logprob == pytest.approx(direct, rel=1e-5)
    assert found.n_tokens == found.n_bytes == len(read_text(text).encode())
    assert found.byte_perplexity == pytest.approx(math.exp(-direct / found.n_bytes), rel=1e-3)
    assert found.byte_perplexity == pytest.approx(2**found.bits_per_byte)
    assert found.derived
    assert found.word_perplexity == pytest.approx(found.byte_perplexity**3.794)


def test_generation_goes_on_meanwhile(server: str, folder: Path, text: Path) -> None:
    """Batching's paged attention and the plain one of the scores do not meet."""
    pieces, served = pieces_by_bytes(read_text(text), 300), load_served(folder)
    body = {"prompt": list(range(60)), "max_tokens": 40, "temperature": 0, "return_token_ids": True}

    def generate(_: int) -> Any:
        request = urllib.request.Request(f"{server}/v1/completions", json.dumps(body).encode())
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read())["choices"][0]["token_ids"]

    alone = generate(0), measure_perplexity(info(server, "vllm"), pieces, served)
    with ThreadPoolExecutor() as pool:
        crowd = pool.map(generate, range(4))
        assert measure_perplexity(info(server, "vllm"), pieces, served) == alone[1]
        assert all(ids == alone[0] for ids in crowd)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/completions", {"prompt": [1], "prompt_logprobs": 5}),
        ("/generate", {"input_ids": [1], "return_logprob": True}),
        ("/generate", {"input_ids": [1], "sampling_params": {"max_new_tokens": 0}}),
    ],
)
def test_what_the_embedded_engine_refuses(server: str, path: str, body: dict[str, Any]) -> None:
    with pytest.raises(urllib.error.HTTPError, match="400") as caught:
        urllib.request.urlopen(server + path, json.dumps(body).encode(), timeout=10)
    caught.value.close()


def test_the_command(
    server: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, saved = tmp_path / "text", tmp_path / "perplexity.json"
    text.write_text("the theatre, \n" * 40)
    flags = [f"--server-url={server}", f"--text={text}", f"--tokenizer={folder}"]
    assert main([*flags, f"--json={saved}"]) == 0
    *card, line = capsys.readouterr().out.splitlines()
    found = json.loads(line)
    assert json.loads(saved.read_text()) == found
    assert found["n_tokens"] == found["n_bytes"] == 40 * 14 + 39 * 2
    assert (found["n_pieces"], found["derived"], found["whole_text"]) == (1, True, True)
    assert "derived" in card[2]
    assert found["server"]["kind"] == "sglang"
    assert main([*flags[:2], f"--tokenizer={tmp_path}"]) == 3
    assert "tokenizer.json" in capsys.readouterr().err


def test_infinitely_bad_answers_are_null_in_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, saved = tmp_path / "text", tmp_path / "perplexity.json"
    text.write_text("the theatre, \n" * 40)
    with emulator("--logprob=-1500") as clock:
        assert main([f"--server-url={clock.url}", f"--text={text}", f"--json={saved}"]) == 0
    *card, line = capsys.readouterr().out.splitlines()
    for document in (line, saved.read_text()):
        found = json.loads(document, parse_constant=pytest.fail)
        assert (found["word_perplexity"], found["bits_per_byte"] > 100) == (None, True)
    assert card[2].split()[:2] == ["word_perplexity", "inf"]


def test_a_part_is_marked() -> None:
    found = conclude(-1000.0, [Piece("abc" * 100, 200)], 9)
    assert "1 pieces of 2: not comparable" in table(found, 2)


def test_the_competitions_figures() -> None:
    """gpt-oss-120b's baseline: 2.0558, 4.1577 and 222.7893 are one number."""
    pieces = [Piece("a" * 3794, None)]
    found = conclude(-2.0558 * math.log(2) * 3794, pieces, 900)
    assert (round(found.byte_perplexity, 3), found.derived) == (4.158, True)
    assert found.word_perplexity == pytest.approx(222.7893, rel=1e-3)
    assert conclude(-1e6, pieces, 900).word_perplexity == math.inf  # exp overflows
    own = conclude(-1000.0, [Piece("é" * 100, 50), Piece("e", 50)], 9)
    expected = (math.exp(1000 / 201), math.exp(10), False, 2, 201)
    got = (own.byte_perplexity, own.word_perplexity, own.derived, own.n_pieces, own.n_bytes)
    assert got == pytest.approx(expected)


def test_rows_and_pieces(tmp_path: Path, folder: Path) -> None:
    path = tmp_path / "text"
    path.write_text(" \n = A = \n \n b \u2028c \n", encoding="utf-8")
    assert read_text(path) == "\n\n = A = \n\n\n\n\n b \u2028c \n"
    found = [piece.text for piece in pieces_by_bytes("one two three fourfivesix ééé", 8)]
    assert found == ["one two", " three", " fourfiv", "esix", " ééé"]
    assert [piece.text for piece in pieces_by_bytes("ééé", 3)] == ["é", "é", "é"]
    by_tokens = cut("x" * 2050, folder)
    assert by_tokens == [Piece("x" * 2047, 2048), Piece("xxx", 4)]


@given(st.text(alphabet=" aé日\n", max_size=60), st.integers(4, 20))
def test_pieces_are_the_text(text: str, limit: int) -> None:
    pieces = pieces_by_bytes(text, limit)
    assert "".join(piece.text for piece in pieces) == text
    assert all(0 < piece.n_bytes <= limit for piece in pieces)


@given(st.integers(0, 40), st.integers(1, 9))
def test_windows_are_those_of_lm_eval(n: int, size: int) -> None:
    """Against its own two steps: windows of input and prediction, then made disjoint."""
    ids, pairs = list(range(n)), []
    if n:
        pairs.append(([-1, *ids[: min(size, n) - 1]], ids[:size]))
    for start in range(size, n, size):
        end = min(start + size, n)
        pairs.append((ids[end - size - 1 : end - 1], ids[start:end]))
    expected = [(given[: len(given) - len(wanted) + 1], wanted) for given, wanted in pairs]
    found = list(rolling_windows(ids, -1, size))
    assert [(window.context, window.predicted) for window in found] == expected


Answer = Callable[[list[int], dict[str, Any]], Any]


@contextmanager
def stub(answer: Answer) -> Iterator[str]:
    """A server of either dialect; `answer` may spoil what it would say, or give a status."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            ids = body.get("prompt") or body["input_ids"]
            said = answer(ids, body)
            status, said = (said, {"error": "on purpose"}) if isinstance(said, int) else (200, said)
            data = b"" if said is None else json.dumps(said).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(data) + (said is None)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{running.server_port}"
        finally:  # a thread that goes on looking takes time from every test that follows
            running.shutdown()


def vllm(ids: list[int], _: dict[str, Any]) -> dict[str, Any]:
    entries = [None, *({str(token): {"logprob": -1.0, "rank": 1}} for token in ids[1:])]
    return {"choices": [{"prompt_logprobs": entries}], "usage": {"prompt_tokens": len(ids)}}


def sglang(ids: list[int], _: dict[str, Any]) -> dict[str, Any]:
    entries = [[-1.0 if i else None, token, None] for i, token in enumerate(ids)]
    return {"meta_info": {"input_token_logprobs": entries, "prompt_tokens": len(ids)}}


def ask(url: str, kind: str) -> Perplexity:
    return measure_perplexity(info(url, kind), [Piece("abcd", None), Piece("ef", None)], SERVED)


def spoil(kind: str, fault: str) -> Answer:
    """An answer that is right for short prompts only, so that the first request succeeds."""

    def answer(ids: list[int], body: dict[str, Any]) -> Any:
        said = (vllm if kind == "vllm" else sglang)(ids, body)
        where = said["choices"][0] if kind == "vllm" else said["meta_info"]
        key = "prompt_logprobs" if kind == "vllm" else "input_token_logprobs"
        if len(ids) < 5:
            return said
        if fault == "short":
            where[key].pop()
        elif fault == "count":
            (said["usage"] if kind == "vllm" else where)["prompt_tokens"] += 1
        elif fault == "ids":
            where[key][2] = {"7": {"logprob": -1.0}} if kind == "vllm" else [-1.0, 7, None]
        elif fault == "null":
            where[key][2] = {"98": {"logprob": None}} if kind == "vllm" else [None, 98, None]
        elif fault == "infinite":
            worst = -math.inf
            where[key][2] = {"98": {"logprob": worst}} if kind == "vllm" else [worst, 98, None]
        return {"dropped": where.pop(key), **said} if fault == "dropped" else said

    return answer


FAULTS = {
    "short": "log-probabilities: 4 instead of 5",
    "count": "prompt_tokens: 6 instead of 5",
    "ids": "98",
    "null": "numbers: 3 instead of 4",
    "infinite": "numbers: 3 instead of 4",
    "dropped": "lacks prompt log-probabilities",
}


@DIALECTS
@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_answer_is_no_result(kind: str, fault: str) -> None:
    with stub(spoil(kind, fault)) as url, pytest.raises(RunError) as caught:
        ask(url, kind)
    assert FAULTS[fault] in str(caught.value)
    assert "piece 0, window 1 of 1: http://127" in str(caught.value)


@DIALECTS
@pytest.mark.parametrize(("said", "shown"), [(500, "HTTP 500: {"), (None, "IncompleteRead")])
def test_a_server_that_breaks(kind: str, said: int | None, shown: str) -> None:
    right = vllm if kind == "vllm" else sglang
    broken = stub(lambda ids, body: right(ids, body) if len(ids) < 5 else said)
    with broken as url, pytest.raises(RunError, match=shown):
        ask(url, kind)


def test_a_server_that_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("accuracy.perplexity_client.TIMEOUT_S", 0.1)
    with stub(lambda *_: time.sleep(0.5)) as url, pytest.raises(RunError, match="timed out"):
        ask(url, "vllm")


def test_sglang_may_have_to_generate() -> None:
    def answer(ids: list[int], body: dict[str, Any]) -> Any:
        return sglang(ids, body) if body["sampling_params"]["max_new_tokens"] else 400

    with stub(answer) as url:
        assert ask(url, "sglang").total_logprob == -6


@DIALECTS
def test_the_clock_has_no_probabilities_and_the_dead_no_answer(kind: str) -> None:
    with emulator() as clock, pytest.raises(RunError, match=r"HTTP 400.*the clock keeps time"):
        ask(clock.url, kind)
    with pytest.raises(RunError, match="Connection refused"):
        ask(clock.url, kind)


def test_a_folder_without_bos(folder: Path, tmp_path: Path) -> None:
    shutil.copy(folder / "tokenizer.json", tmp_path)
    with pytest.raises(SetupError, match="BOS"):
        load_served(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": {"content": "!"}}')
    exclamation = load_served(tmp_path).encode("!")
    assert [load_served(tmp_path).prefix] == exclamation
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(HarnessError, match=r"not a tokenizer\.json"):
        load_served(tmp_path)
