"""The accuracy texts: a named file, the cache, the hub."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from accuracy.perplexity_pieces import read_text
from competition.profile import load_profile
from competition.texts import find_gsm8k, find_gsm8k_train, find_wikitext, wikitext_sha256
from core.errors import ConfigError, SetupError
from tests.competition.stub import serve

WIKITEXT = (
    "/datasets/Salesforce/wikitext/resolve/b08601e04326c79dfdd32d625aee71d232d685c3/"
    "wikitext-2-raw-v1/test-00000-of-00001.parquet"
)
GSM8K = "/datasets/openai/gsm8k/resolve/e53f048856ff4f594e959d75785d2c2d37b678ee/main"
ROWS = ["", " = Tïtle = \n", "", " One row , it is . \n"]
RAW = " \n = Tïtle = \n \n One row , it is . \n"  # as WikiText's own file has these rows
PAIRS = [{"question": "1 + 1 ?", "answer": "It is 2.\n#### 2"}, {"question": "é", "answer": "3"}]


def parquet(table: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table(table), file)
    return file.getvalue()


def columns(pairs: list[dict[str, str]]) -> dict[str, list[str]]:
    return {key: [pair[key] for pair in pairs] for key in ("question", "answer")}


FILES = {
    WIKITEXT: parquet({"text": ROWS}),
    f"{GSM8K}/test-00000-of-00001.parquet": parquet(columns(PAIRS)),
    f"{GSM8K}/train-00000-of-00001.parquet": parquet(columns(PAIRS[1:])),
}


@contextmanager
def hub(files: dict[str, bytes]) -> Iterator[tuple[str, list[str]]]:
    """A hub of these files, and what it was asked for."""
    asked: list[str] = []

    def answer(path: str, _: bytes) -> tuple[int, bytes]:
        asked.append(path)
        return (200, files[path]) if path in files else (404, b"")

    with serve(answer) as url:
        yield url, asked


def test_wikitext_is_fetched_once_and_kept_as_its_own_file(tmp_path: Path) -> None:
    with hub(FILES) as (url, asked):
        environ = {"XDG_CACHE_HOME": str(tmp_path), "HF_ENDPOINT": url + "/"}
        found = [find_wikitext(environ) for _ in range(2)]
    assert found == [tmp_path / "gpt-oss-harness" / "wikitext-2-raw-v1-test.txt"] * 2
    assert asked == [WIKITEXT]
    assert found[0].read_text() == RAW
    assert list(found[0].parent.iterdir()) == found[:1]
    assert read_text(found[0]) == "\n\n".join(ROWS)  # what the task joins


def test_gsm8k_is_fetched_with_its_training_split(tmp_path: Path) -> None:
    with hub(FILES) as (url, asked):
        environ = {"XDG_CACHE_HOME": str(tmp_path), "HF_ENDPOINT": url}
        test, train = find_gsm8k(environ), find_gsm8k_train(environ)
    assert train is not None
    assert len(set(asked)) == len(asked) == 2
    assert [json.loads(line) for line in test.read_text().splitlines()] == PAIRS
    assert [json.loads(line) for line in train.read_text().splitlines()] == PAIRS[1:]


def test_a_named_file_is_taken_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "own"
    path.write_text("x")
    nowhere = {"HF_ENDPOINT": "http://127.0.0.1:9", "XDG_CACHE_HOME": str(tmp_path)}
    assert find_wikitext({**nowhere, "WIKITEXT": str(path)}) == path
    assert find_gsm8k({**nowhere, "GSM8K_TEST": str(path)}) == path
    assert find_gsm8k_train({**nowhere, "GSM8K_TRAIN": str(path)}) == path
    assert find_gsm8k_train({**nowhere, "GSM8K_TEST": str(path)}) is None
    assert list(tmp_path.iterdir()) == [path]


def test_a_named_parquet_becomes_text_in_the_cache(tmp_path: Path) -> None:
    path, cache = tmp_path / "test.parquet", tmp_path / "cache"
    environ = {"WIKITEXT": str(path), "XDG_CACHE_HOME": str(cache)}
    path.write_bytes(FILES[WIKITEXT])
    first = find_wikitext(environ)
    assert (first.read_text(), first.is_relative_to(cache)) == (RAW, True)
    path.write_bytes(parquet({"text": ["another\n"]}))
    assert find_wikitext(environ).read_text() == "another\n"
    assert first.read_text() == RAW


FIND = pytest.mark.parametrize(
    ("find", "variable"), [(find_wikitext, "WIKITEXT"), (find_gsm8k, "GSM8K_TEST")]
)
Find = Callable[[dict[str, str]], Path]


@FIND
@pytest.mark.parametrize("data", [None, b"PAR1 and no more", parquet({"other": [1]})])
def test_a_named_file_that_is_of_no_use(
    find: Find, variable: str, data: bytes | None, tmp_path: Path
) -> None:
    path = tmp_path / "given"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(ConfigError, match=f"{variable} {path}: not"):
        find({variable: str(path), "XDG_CACHE_HOME": str(tmp_path / "cache")})
    assert not (tmp_path / "cache").exists()


@FIND
@pytest.mark.parametrize(
    ("files", "what"), [({}, "HTTP 404"), (dict.fromkeys(FILES, b"<html>"), "not a parquet file")]
)
def test_a_download_that_fails_names_the_remedy(
    find: Find, variable: str, files: dict[str, bytes], what: str, tmp_path: Path
) -> None:
    with hub(files) as (url, _), pytest.raises(SetupError, match=what) as caught:
        find({"XDG_CACHE_HOME": str(tmp_path), "HF_ENDPOINT": url})
    assert f"name it in {variable}" in str(caught.value)
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:9", "no url"])
def test_no_hub_at_all(endpoint: str, tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="not downloaded") as caught:
        find_wikitext({"XDG_CACHE_HOME": str(tmp_path), "HF_ENDPOINT": endpoint})
    assert endpoint in str(caught.value)


def test_a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "gpt-oss-harness").write_text("a file, not a folder")
    with hub(FILES) as (url, _), pytest.raises(SetupError, match="XDG_CACHE_HOME"):
        find_wikitext({"XDG_CACHE_HOME": str(tmp_path), "HF_ENDPOINT": url})


def test_the_digest_is_of_the_text_however_blank_lines_are_written(tmp_path: Path) -> None:
    expected = hashlib.sha256(RAW.encode()).hexdigest()
    path = tmp_path / "text"
    for text in (RAW, RAW.replace(" \n \n", " \n\n"), RAW.replace(" \n = ", "\n = ")):
        path.write_text(text)
        assert wikitext_sha256(path) == expected
    path.write_text(RAW + "more\n")
    assert wikitext_sha256(path) != expected


def test_both_profiles_of_perplexity_name_the_text() -> None:
    """The digest that is published for wiki.test.raw in many places."""
    for name in ("gptoss-fp4-vllm-mi355x", "dsr1-fp4-sglang-mi355x"):
        digest = load_profile(name).accuracy.text_sha256
        assert digest == "173c87a53759e0201f33e0ccf978e510c2042d7f2cb78229d9a50d79b9e7dd08"
