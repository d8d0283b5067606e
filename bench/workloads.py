"""The workloads A to G: what is asked of the engine, how the answers come back, what is aimed at.

Figures that are slopes come from two sizes of one workload: what a run costs at its start and at
its end is in both, and drops out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

AT_ONCE = 1_000_000.0  # queries/s: everything is offered at the start


@dataclass(frozen=True, slots=True)
class Workload:
    """One kind of traffic."""

    mode: str
    prompt_tokens: int
    max_tokens: int
    rows: int  # of the dataset
    sizes: tuple[int, int]  # queries, multiples of rows: LoadGen issues whole passes
    engine: tuple[str, ...] = ()  # flags of the emulator
    qps: float = AT_ONCE
    in_flight: int | None = None  # the harness's --max-concurrency
    connections: int = 64  # of the C client
    replicas: int = 1
    flags: tuple[str, ...] = ("--num-workers", "1")  # of the harness
    drain_ms: int = 0  # of the C client

    @property
    def stream(self) -> bool:
        return self.mode != "offline"


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table."""

    key: str  # its first letter is the workload's
    title: str
    unit: str
    target: float | None = None  # at most


A = Workload(
    mode="offline",
    prompt_tokens=1024,
    max_tokens=128,
    rows=500,
    sizes=(2_000, 42_000),
    in_flight=64,
)
B = Workload(
    mode="server",
    prompt_tokens=128,
    max_tokens=512,
    rows=64,
    sizes=(64, 256),
    engine=("--itl-ms", "10"),
    in_flight=64,
    flags=("--num-workers", "1", "--drain", "off"),
)
B_DRAINED = replace(B, flags=("--num-workers", "1", "--drain", "auto"), drain_ms=20)
C = Workload(
    mode="server",
    prompt_tokens=128,
    max_tokens=1024,
    rows=500,
    sizes=(500, 10_500),
    engine=("--chunk", "100"),
    in_flight=64,
)
D_SECONDS = 10
# The C client does not reopen what an idle engine has closed.
KEPT = ("--keep-alive", "60")
D_ENGINE = ("--ttft-ms", "200", "--itl-ms", "10", "--chunk", "10", *KEPT)
F_STREAMS, F_FEW = 20_000, 200
F_ENGINE = ("--ttft-ms", "2000", "--itl-ms", "1500")  # open for longer than opening all takes
G = Workload(
    mode="server",
    prompt_tokens=1000,
    max_tokens=1300,
    rows=500,
    sizes=(2_500, 8_000),
    engine=("--ttft-ms", "200", "--itl-ms", "10", "--chunk", "20", *KEPT),
    qps=800.0,
    connections=12_000,  # an answer takes 13.2 s
    replicas=72,
    flags=(),
)


def at_rate(qps: float, seconds: tuple[float, float] = (1.0, 11.0)) -> Workload:
    """Server queries of about ten events each."""
    return Workload(
        mode="server",
        prompt_tokens=128,
        max_tokens=100,
        rows=50,
        sizes=(round(qps * seconds[0]), round(qps * seconds[1])),
        engine=D_ENGINE,
        qps=qps,
        connections=max(64, round(qps * 2)),  # an answer takes 1.2 s
        flags=(),
    )


def with_prompts(tokens: int) -> Workload:
    """Prompts of so many ids, short answers."""
    rows = 20
    passes = max(20, min(1_000, 40_000_000 // (tokens * rows)))
    return Workload(
        mode="offline",
        prompt_tokens=tokens,
        max_tokens=16,
        rows=rows,
        sizes=(rows, rows * (1 + passes)),
        in_flight=16,
        connections=16,
    )


def open_at_once(streams: int, workers: int, replicas: int) -> Workload:
    return Workload(
        mode="server",
        prompt_tokens=128,
        max_tokens=16,
        rows=100,
        sizes=(streams, streams),
        engine=F_ENGINE,
        in_flight=streams,
        replicas=replicas,
        flags=("--num-workers", str(workers)),
    )


D_RATES = (200, 1000)
E_PROMPTS = (8_192, 100_000)
PLOT_RATES = (50, 200, 500, 1000, 2000)
PLOT_PROMPTS = (128, 1_024, 8_192, 32_768, 100_000)

FIGURES = (
    Figure("A", "1,024 ids in, 128 tokens back, not streamed, 64 in flight", "us/query", 25),
    Figure("B", "512 events a query, 10 ms apart, 64 streams, --drain off", "us/event", 11),
    Figure("B drained", "the same, --drain auto", "us/event", 5),
    Figure("C", "1,024 tokens in 12 events, back to back, 64 streams", "us/query", 100),
    Figure("D200 ttft p50", "200 QPS: TTFT, client less engine", "ms"),
    Figure("D200 ttft p99", "200 QPS: TTFT, client less engine", "ms"),
    Figure("D200 tpot p99", "200 QPS: TPOT, off the engine's", "%"),
    Figure("D200 late p99", "200 QPS: sent after it was due", "ms"),
    Figure("D1000 ttft p50", "1,000 QPS: TTFT, client less engine", "ms", 0.5),
    Figure("D1000 ttft p99", "1,000 QPS: TTFT, client less engine", "ms", 3),
    Figure("D1000 tpot p99", "1,000 QPS: TPOT, off the engine's", "%", 1),
    Figure("D1000 late p99", "1,000 QPS: sent after it was due", "ms", 2),
    Figure("E8192", "prompts of 8,192 ids, 16 tokens back", "us/query"),
    Figure("E8192 MB", "the same, by size of the request", "us/MB"),
    Figure("E100000", "prompts of 100,000 ids, 16 tokens back", "us/query"),
    Figure("E100000 MB", "the same, by size of the request", "us/MB"),
    Figure("F open", "streams open at once, as many as were asked for", "streams"),
    Figure("F memory", "memory of the harness for each of them", "KB/stream", 60),
    Figure("G cores", "72 replicas, 800 QPS, 1,040,000 tokens/s in chunks of 20", "cores", 1),
    Figure("G late p99", "the same: sent after it was due", "ms", 2),
)
