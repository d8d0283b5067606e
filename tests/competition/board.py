"""The real leaderboard as a process, what is submitted to it, and the original's raw calls."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

from competition.payload import payload_values
from competition.profile import DEFAULT, Lengths, Profile, load_profile

ROOT = Path(__file__).resolve().parents[2]
SECOND_STAGE = "gptoss-fp4-vllm-mi355x-2026-03"
LENGTHS = Lengths(1024, 1024)
LIMIT_S = 60.0
DIRECT = build_opener(ProxyHandler({}))


@contextmanager
def board(
    folder: Path,
    *flags: str,
    command: Sequence[str] = ("-m", "competition.leaderboard", "serve", "--port", "0"),
    **how: Any,
) -> Iterator[str]:
    """Its address. how: for the process, as cwd and env."""
    place = () if "app.py" in command else ("--database", str(folder / "board.sqlite3"))
    environ = how.pop("env", os.environ) | {"GRADIO_TEMP_DIR": str(folder / "gradio")}
    with subprocess.Popen(
        [sys.executable, *command, *place, *flags],
        **{"cwd": ROOT, "env": environ, "stdout": subprocess.PIPE, "text": True} | how,
    ) as process:
        try:
            assert process.stdout
            yield json.loads(process.stdout.readline())["ready"]
        finally:
            process.terminate()
            process.wait(20)


def document(
    team_tput: float = 500.0,
    concurrency: int = 8,
    lengths: Lengths = LENGTHS,
    profile: str = DEFAULT,
    **changes: Any,
) -> dict[str, Any]:
    """A result file's content, as a performance run writes it."""
    rules = load_profile(profile)
    figures = {
        "median_e2el_ms": 3000.0,
        "tput_per_gpu": team_tput,
        "interactivity": 350.0,
    }
    return {
        "date": "2026-01-05T10:00:00+00:00",
        "profile": profile,
        "isl": lengths.isl,
        "osl": lengths.osl,
        "conc": concurrency,
        "tp": 8,
        "gpus_used": 8,
        "engine": {"kind": "vllm", "version": "0.11.0", "model": rules.model},
        "verdict": "PASSED",
        "reasons": [],
        **figures,
        **_compared(rules, figures, lengths, concurrency),
        "accuracy": accuracy(rules),
        "failed_requests": 0,
        "accuracy_validation": {
            "status": "PASSED",
            "details": {"whole": True, "comparable": True},
        },
        "benchmark_args": {
            "num_prompts": rules.prompts(lengths, concurrency),
            "random_range_ratio": 1.0,
        },
        **changes,
    }


def accuracy(profile: Profile) -> dict[str, float]:
    return dict(profile.accuracy.baselines) or {"gsm8k_metric": 0.9}


def _compared(
    profile: Profile, figures: dict[str, float], lengths: Lengths, concurrency: int
) -> dict[str, Any]:
    names, base = profile.names, profile.baselines.get((lengths, concurrency))
    if base is None:
        return dict.fromkeys(
            (names.block, names.e2e_ratio, names.tput_ratio, names.interactivity_ratio)
        )
    return {
        names.block: {
            names.median_e2e: base.median_e2e_ms,
            names.tput_per_gpu: base.tput_per_gpu,
            names.interactivity: base.interactivity,
        },
        names.e2e_ratio: figures["median_e2el_ms"] / base.median_e2e_ms,
        names.tput_ratio: figures["tput_per_gpu"] / base.tput_per_gpu,
        names.interactivity_ratio: figures["interactivity"] / base.interactivity,
    }


def values(team: str = "Team", profile: str = DEFAULT, **how: Any) -> list[Any]:
    return list(payload_values(team, document(profile=profile, **how), load_profile(profile)))


def call(
    url: str, name: str, data: Sequence[Any], headers: dict[str, str] | None = None
) -> tuple[str, Any]:
    """The last event's name and data, as curl would see them."""
    body = json.dumps({"data": data}).encode()
    event_id = json.loads(fetch(f"{url}/gradio_api/call/{name}", body, headers)[1])["event_id"]
    text = fetch(f"{url}/gradio_api/call/{name}/{event_id}")[1]
    event, told = text.strip().split("\n")[-2:]
    return event.removeprefix("event: "), json.loads(told.removeprefix("data: "))


def fetch(
    url: str, body: bytes | None = None, headers: dict[str, str] | None = None
) -> tuple[int, str]:
    """Status and text."""
    request = Request(url, body, {"Content-Type": "application/json", **(headers or {})})
    try:
        with DIRECT.open(request, timeout=LIMIT_S) as answer:
            return answer.status, answer.read().decode()
    except HTTPError as error:
        with error:
            return error.code, error.read().decode()
