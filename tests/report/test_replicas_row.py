"""How the load was spread: the card's row, and the table of all replicas."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from core.scenario import Scenario
from report.__main__ import main
from report.card import render_card
from report.layout import WIDTH
from results.balance import balance
from results.replicas import ReplicaShare
from results.summary import Summary
from tests.report.test_card import card, row
from tests.results.test_balance import share
from tests.results.test_summary import CONFIG, summary_of

OFFLINE = replace(CONFIG, scenario=Scenario.OFFLINE)
SCREEN = 40  # lines


def with_shares(summary: Summary, shares: Sequence[ReplicaShare]) -> Summary:
    return replace(summary, replicas=tuple(shares), balance=balance(shares))


def cluster(n: int, n_slow: int = 0) -> list[ReplicaShare]:
    """Replicas eight to a node; the last ones are slow."""
    return [
        share(i, 1000, tpot_ms=6.9 if i >= n - n_slow else 5.0, node=f"node{i // 8}")
        for i in range(n)
    ]


def test_a_row_when_there_are_several() -> None:
    shares = [replace(share(i), idle_tail_s=0.5) for i in range(8)]
    shares[5] = replace(shares[5], idle_tail_s=2.3)
    shares[6] = replace(shares[6], tokens=1084, idle_tail_s=0.0)
    shares[7] = replace(shares[7], tokens=916, idle_tail_s=0.6)
    offline = summary_of(OFFLINE)
    assert row(with_shares(offline, shares), "replicas") == (
        "8, tokens +8.4 / -8.4 % about the mean; idle at the end: mean 0.7 s, max 2.3 s (replica 5)"
    )
    assert "replicas" not in card(with_shares(offline, shares[:1]))
    # With a schedule, the last answer's replica is chance.
    assert "idle" not in row(with_shares(summary_of(), shares), "replicas")
    lost = [share(i, tokens=0, rate=None, ok=0) for i in range(2)]
    assert row(with_shares(offline, lost), "replicas").startswith("2; idle at the end")


def test_stragglers_and_nodes() -> None:
    assert row(with_shares(summary_of(), cluster(64, 1)), "replicas") == (
        "64 on 8 nodes, tokens +0.0 / -0.0 % about the mean; "
        "stragglers: http://node7:63 (TPOT +38 %)"
    )
    offline = [replace(one, tpot_ns=None) for one in cluster(64)]
    offline[3] = replace(offline[3], tokens_per_s=50.0)
    assert "stragglers: http://node0:3 (tokens/s -50 %)" in row(
        with_shares(summary_of(OFFLINE), offline), "replicas"
    )


@pytest.mark.parametrize("n", [64, 94])
def test_the_card_stays_one_screen(n: int) -> None:
    shares = [replace(one, url=f"http://{'x' * 40}:{one.number}") for one in cluster(n, 16)]
    text = render_card(with_shares(summary_of(), shares), "vllm 1.0 x 94", "output")
    assert len(text.splitlines()) <= SCREEN and max(map(len, text.splitlines())) <= WIDTH
    assert "13 more (python -m report replicas)" in " ".join(text.split())


def table(summary: Summary, folder: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    (folder / "summary.json").write_text(json.dumps(summary.to_json()))
    assert main(["replicas", str(folder)]) == 0
    return capsys.readouterr().out.splitlines()


def test_the_table_has_all_by_node(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shares = [*cluster(16, 1), share(16, 2700, node="node0"), share(17, 0, None, None, "node2")]
    lines = table(with_shares(summary_of(), shares), tmp_path, capsys)
    nodes = [line.split(":")[0] for line in lines[1:] if line.startswith("node")]
    assert nodes == ["node0", "node1", "node2"]
    assert lines[1] == "node0: 9 replicas, 180 ok, 0 failed, 10,700 tokens, 900 tokens/s"
    numbers = [int(line.split()[0]) for line in lines[1:] if line.startswith(" ")]
    assert numbers == [*range(8), 16, *range(8, 16), 17]
    (marked,) = (line for line in lines if "straggler" in line)
    assert marked.split()[:2] == ["15", "http://node1:15"]
    assert marked.endswith("straggler: TPOT +38 %")
    heavy = next(line for line in lines if "http://node0:16" in line).split()
    assert heavy[4:7] == ["2,700", "+159.9", "%"]  # of a mean of 18,700 / 18
    assert len({len(line) for line in lines[1:] if line.startswith(" ") and line != marked}) == 1


def test_the_table_of_offline(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    head, *_ = table(summary_of(OFFLINE), tmp_path, capsys)
    assert "TTFT" in head  # these records were streamed
    shares = [replace(one, tpot_ns=None) for one in cluster(2)]
    head, *_ = table(with_shares(summary_of(OFFLINE), shares), tmp_path, capsys)
    assert "ms/token" in head and "TTFT" not in head


def test_folders_without_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replicas", str(tmp_path)]) == 2
    assert "No such file" in capsys.readouterr().err
    (tmp_path / "summary.json").write_text('{"replicas": []}')
    assert main(["replicas", str(tmp_path)]) == 2
    assert "older version" in capsys.readouterr().err
