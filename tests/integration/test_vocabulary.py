"""An id that no gpt-oss knows is found before anything is sent: it kills an SGLang server."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.rules import VOCABULARY
from tests.harness import emulator, run_mlperf, write_dataset
from tests.real_engine import spoil


@pytest.mark.parametrize("mode", ["offline", "server"])
@pytest.mark.parametrize("dialect", ["vllm", "sglang"])
def test_an_id_outside_the_vocabulary_is_never_sent(
    tmp_path: Path, dialect: str, mode: str
) -> None:
    data = write_dataset(tmp_path / "d.parquet", n=8)
    spoil(data, VOCABULARY)
    flags = ("--input-file", str(data), "--max-tokens", "4", "--warmup", "2")
    with emulator("--dialect", dialect) as engine:
        run = run_mlperf(mode, tmp_path, *flags, "--server-url", engine.url)
        assert engine.truth() == []
    assert run.code == 2, run.stdout + run.stderr
    assert f"id {VOCABULARY} is outside the engine's vocabulary of {VOCABULARY}" in run.stderr
    assert "row 7" in run.stderr
