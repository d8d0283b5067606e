"""64 replicas on four nodes behind one LoadGen: the load is spread evenly, and who is slow is named.

Nodes are loopback addresses, each with sixteen replicas of the compiled emulator in one process.
Every prompt and answer is as long as the others and takes the same time whatever else runs, so that
an uneven spread is the client's doing. (It balances open tokens: with prompts of 16 to 20 tokens and
answers of 40, 100 queries a replica were spread by up to 6 %, by a simulation with the router itself.)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest

from engine.emulator import compiler, run_emulator
from report.__main__ import main
from results.latency import Durations
from tests.harness import Run, run_mlperf, write_conf, write_dataset

pytestmark = [
    pytest.mark.skipif(compiler() is None, reason="needs the compiled emulator"),
    pytest.mark.timeout(300),
]
NODES = ("127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4")
PER_NODE, TOKENS = 16, 40
QUERIES, QPS = 6396, 500  # LoadGen rounds up to whole passes over so many samples
PACE = ("--ttft-ms", "400", "--itl-ms", "15", "--chunk", "20", "--osl", str(TOKENS))  # 1 s
SLOW = ("--ttft-ms", "400", "--itl-ms", "30", "--chunk", "20", "--osl", str(TOKENS))  # 1.6 s
IMBALANCE = 0.05


@contextmanager
def cluster(last: Sequence[str] = ()) -> Iterator[list[str]]:
    """The URLs of 64 replicas; the last one may have another pace."""
    with ExitStack() as stack:

        def start(host: str, n: int, pace: Sequence[str]) -> tuple[str, ...]:
            flags = ("--dialect", "vllm", "--host", host, *pace)
            return stack.enter_context(run_emulator(*flags, replicas=n, native=True)).urls

        urls = [url for host in NODES[:-1] for url in start(host, PER_NODE, PACE)]
        urls += start(NODES[-1], PER_NODE - 1, PACE)
        yield [*urls, *start(NODES[-1], 1, last or PACE)]


def drive(mode: str, folder: Path, urls: Sequence[str], workers: int, *more: str) -> Run:
    data = write_dataset(folder / "d.parquet", n=QUERIES, lengths=1)
    conf = write_conf(
        folder / "u.conf",
        "*.*.min_duration = 0",
        f"*.*.min_query_count = {QUERIES}",
        f"*.Server.target_qps = {QPS}",
    )
    run = run_mlperf(
        mode, folder, "--input-file", str(data), "--server-url", ",".join(urls),
        "--user-conf", str(conf), "--max-tokens", str(TOKENS), "--num-workers", str(workers), *more,
    )  # fmt: skip
    # Short runs are no official ones; this machine may be too busy for the headroom's rules.
    assert run.summary["verdict"].partition(",")[0] == "UNOFFICIAL", run.stdout + run.stderr
    assert run.code == 0 and not run.summary["failures"]
    check(run, urls)
    return run


def check(run: Run, urls: Sequence[str]) -> None:
    """The statistics, computed once more, in plain words, from what is stored of the queries."""
    rows, mean = run.records, len(run.records) * TOKENS / len(urls)
    shares, balance = run.summary["replicas"], run.summary["balance"]
    assert [share["url"] for share in shares] == list(urls)
    for number, share in enumerate(shares):
        mine = [row for row in rows if row["replica"] == number]
        assert share["ok"] == len(mine) > 0 == share["failed"]
        assert share["tokens"] == TOKENS * len(mine)
        assert share["prompt_tokens"] == sum(int(row["prompt_tokens"]) for row in mine)
        end, last = (int(max(row["done_ns"] for row in part)) for part in (mine, rows))
        assert share["idle_tail_s"] == pytest.approx((last - end) / 1e9)
        assert share["busy_s"] == pytest.approx(open_ms(mine) / 1e3, abs=0.01)
        assert share["tokens_per_s"] == pytest.approx(share["tokens"] / share["busy_s"])
        if share["tpot_ns"]:
            times = sorted(
                int(row["done_ns"] - row["first_token_ns"]) // (TOKENS - 1) for row in mine
            )
            assert share["tpot_ns"]["p50"] == times[len(mine) // 2]
            assert share["tpot_ns"]["p99"] == times[int(len(mine) * 0.99)]
    tokens = [share["tokens"] for share in shares]
    assert balance["tokens_above_mean"] == pytest.approx(max(tokens) / mean - 1)
    assert balance["tokens_below_mean"] == pytest.approx(1 - min(tokens) / mean)
    assert [node["node"] for node in balance["nodes"]] == list(NODES)
    assert [node["replicas"] for node in balance["nodes"]] == [PER_NODE] * len(NODES)
    assert sum(node["tokens"] for node in balance["nodes"]) == sum(tokens)


def open_ms(rows: Sequence[np.void]) -> int:
    """The milliseconds of a run in which at least one of these queries was open."""
    begin, end = min(row["sent_ns"] for row in rows), max(row["done_ns"] for row in rows)
    is_open: Durations = np.zeros(int(end - begin) // 10**6 + 1, np.int64)
    for row in rows:
        is_open[int(row["sent_ns"] - begin) // 10**6 : int(row["done_ns"] - begin) // 10**6] = 1
    return int(is_open.sum())


def assert_even(run: Run, n: int) -> None:
    """Among the first `n` replicas."""
    tokens = [share["tokens"] for share in run.summary["replicas"]][:n]
    mean = sum(tokens) / n
    assert (1 - IMBALANCE) * mean < min(tokens) <= max(tokens) < (1 + IMBALANCE) * mean, run.stdout
    assert "64 on 4 nodes, tokens +" in " ".join(run.stdout.split())


def assert_named(run: Run, url: str, measure: str, capsys: pytest.CaptureFixture[str]) -> None:
    """In the summary, on the card and in the table."""
    slowest = run.summary["balance"]["stragglers"][0]
    assert (slowest["url"], slowest["measure"]) == (url, measure), run.stdout
    assert slowest["slower"] > 0.3
    assert f"stragglers: {url} (" in " ".join(run.stdout.split())
    assert main(["replicas", str(run.folder)]) == 0
    (line,) = (line for line in capsys.readouterr().out.splitlines() if f"{url} " in line)
    assert " straggler: " in line


def test_server_is_even(tmp_path: Path) -> None:
    with cluster() as urls:
        run = drive("server", tmp_path, urls, 2)
    assert set(run.records["worker"].tolist()) == {0, 1}
    assert_even(run, len(urls))


def test_server_names_a_slow_replica(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with cluster(SLOW) as urls:
        run = drive("server", tmp_path, urls, 1)
    assert_named(run, urls[-1], "tpot", capsys)
    *others, slow = (share["ok"] for share in run.summary["replicas"])
    assert slow < min(others)  # its tokens are outstanding for longer


def test_offline_is_even_and_names_a_slow_replica(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each may hold half of its part, and gets the other half when that has ended; the slow one has
    to leave some of it to the others."""
    with cluster(SLOW) as urls:
        run = drive("offline", tmp_path, urls, 2, "--max-concurrency", str(QUERIES // 2))
    assert set(run.records["worker"].tolist()) == {0, 1}
    assert_even(run, len(urls) - 1)
    assert_named(run, urls[-1], "tokens_per_s", capsys)
