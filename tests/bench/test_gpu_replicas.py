"""Offline over several replicas: a real run, when it was, and its table."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from bench.gpu import embedded
from bench.gpu.ours import Ask
from bench.gpu.replicas import offline_over_all, table
from core.errors import SetupError
from tests.harness import emulator


def test_offline_over_two_replicas(tmp_path: Path) -> None:
    flags = ("--dialect", "vllm", "--ttft-ms", "5", "--itl-ms", "1")
    before_s = time.time()
    with emulator(*flags) as first, emulator(*flags) as second:
        urls = first.url, second.url
        found = offline_over_all(urls, Ask(16, 4, (1, 900)), 20, tmp_path)
        answered = [len(engine.truth()) for engine in (first, second)]
    assert before_s <= found["began_s"] <= found["ended_s"] - found["seconds"]
    assert found["ended_s"] <= time.time()
    assert (found["queries"], found["isl"], found["osl"]) == (20, 16, 4)
    assert json.loads(json.dumps(found))["command"] == found["command"]
    *replicas, whole = table(found | {"compiles": 3}).splitlines()[2:]
    for line, url, queries in zip(replicas, urls, answered, strict=True):
        assert line.startswith(f"| {url} | {queries} | {queries * 4} | ") and line.endswith(" |  |")
    assert whole.startswith("| all | 20 | 80 | ") and whole.endswith(" | 3 |")
    assert table(found).endswith(" | ? |\n")  # nobody watched


def test_a_device_that_gives_nothing_costs_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def on(device: str, folder: Path) -> dict[str, Any]:
        if device == "cuda":
            raise SetupError("it has none")
        return {"ready_s": 1.0}

    monkeypatch.setattr(embedded, "_on", on)
    found = embedded.on_devices(("cpu", "cuda"), tmp_path)
    assert found["devices"] == {"cpu": {"ready_s": 1.0}} and found["error"] == "cuda: it has none"


def test_the_table_of_devices() -> None:
    device = {"ready_s": 1.25, "queries": 1024, "tokens_per_s": 2000.4}
    lines = embedded.table({"devices": {"cpu": device, "cuda": device}}).splitlines()
    assert lines[2:] == ["| cpu | 1.2 | 1,024 | 2,000 |", "| cuda | 1.2 | 1,024 | 2,000 |"]
