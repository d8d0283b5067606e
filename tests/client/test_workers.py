"""The number of workers and the split of CPUs, as functions of a machine's facts."""

from __future__ import annotations

import pytest

from client.workers import (
    CpuSets,
    Rate,
    choose_workers,
    cpu_sets,
    expected_rate,
    own_cpus,
    parse_cpu_list,
    spare_cores,
    split_cpus,
)
from core.config import RunConfig
from options import parse_options


def config(*flags: str, mode: str = "server") -> RunConfig:
    return parse_options(["--mode", mode, "--input-file", "x.parquet", *flags])[0]


@pytest.mark.parametrize(
    ("n_replicas", "spare", "rate", "workers"),
    [
        (1, 15, None, 1),
        (8, 1, Rate(5, 6_400), 1),
        (8, 15, Rate(80_000), 2),
        (8, 15, Rate(80_001), 3),
        (8, 15, Rate(39, 50_000), 2),  # both count
        (8, 15, Rate(61, 6_300), 1),
        (8, 15, Rate(800, 1_040_000), 15),
        (8, 63, Rate(800, 1_040_000), 21),
        (32, 15, None, 1),
        (33, 15, None, 2),
        (72, 15, Rate(800, 52_000), 3),
        (72, 2, None, 2),
        (1, 0, None, 1),
    ],
)
def test_auto(n_replicas: int, spare: int, rate: Rate | None, workers: int) -> None:
    assert choose_workers(config(), n_replicas, spare, rate) == workers


def test_a_number_is_a_number() -> None:
    assert choose_workers(config("--num-workers", "7"), 1, 2, Rate(1e9)) == 7


def test_the_rate_of_a_run() -> None:
    server = config()
    assert expected_rate(server, 100.0) == Rate(100.0, 127_800.0)
    assert expected_rate(server, 100.0, tokens_per_event=20) == Rate(100.0, 6_390.0)
    assert expected_rate(config("--max-tokens", "10"), 100.0) == Rate(100.0, 1000.0)
    assert expected_rate(config(mode="offline"), 100.0) == Rate(100.0)


def threads(n: int, cores: int) -> dict[int, list[int]]:
    """CPU i and CPU i + cores are threads of one core, as on two-threaded machines."""
    return {cpu: [cpu % cores, cpu % cores + cores] for cpu in range(n)}


def test_loadgen_keeps_a_core_of_two_threads() -> None:
    found = split_cpus(range(16), threads(16, 8), 14)
    assert found == CpuSets(frozenset({7, 15}), frozenset({*range(7), *range(8, 15)}))


@pytest.mark.parametrize(("n_workers", "fits"), [(1, True), (2, True), (3, False)])
def test_nothing_to_spare(n_workers: int, fits: bool) -> None:
    found = split_cpus(range(4), {}, n_workers)
    assert found == (CpuSets(frozenset({2, 3}), frozenset({0, 1})) if fits else None)
    assert split_cpus([0, 1], threads(2, 1), 1) is None


def test_only_cpus_that_are_ours_are_given_away() -> None:
    """Slurm gave us one thread of most cores, both threads of core 3."""
    found = split_cpus([2, 3, 4, 11, 5], threads(16, 8), 3)
    assert found == CpuSets(frozenset({3, 11}), frozenset({2, 4, 5}))


def test_cores_with_four_threads() -> None:
    siblings = {cpu: list(range(cpu // 4 * 4, cpu // 4 * 4 + 4)) for cpu in range(8)}
    assert split_cpus(range(8), siblings, 6) == CpuSets(frozenset({6, 7}), frozenset(range(6)))


@pytest.mark.parametrize(
    ("text", "cpus"), [("0,64\n", [0, 64]), ("0-1", [0, 1]), ("0-2,8", [0, 1, 2, 8]), ("5", [5])]
)
def test_the_kernels_lists(text: str, cpus: list[int]) -> None:
    assert parse_cpu_list(text) == cpus


def test_this_machine_can_be_asked() -> None:
    own = set(own_cpus())
    found = cpu_sets(1)
    assert found is None or (found.loadgen | found.workers) == own
    assert spare_cores() == max(1, len(own) - 1)
