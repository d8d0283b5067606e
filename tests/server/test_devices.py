"""The variables by which a replica sees its GPU and no other."""

from __future__ import annotations

import pytest

from core.errors import ConfigError
from server.devices import Pool, choose, pool, variables

ROCM_GONE = ("CUDA_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL")


@pytest.mark.parametrize(
    ("platform", "environ", "count", "tokens"),
    [
        ("rocm", {}, 4, "0 1 2 3"),
        ("rocm", {"ROCR_VISIBLE_DEVICES": "4,5,6,7"}, 8, "0 1 2 3"),
        ("rocm", {"ROCR_VISIBLE_DEVICES": "GPU-1f,GPU-2e"}, 8, "0 1"),
        # Slurm without amd_gpu_env sets all of them alike; the second filter would leave nothing.
        (
            "rocm",
            {
                "ROCR_VISIBLE_DEVICES": "4,5",
                "CUDA_VISIBLE_DEVICES": "4,5",
                "GPU_DEVICE_ORDINAL": "4,5",
            },
            8,
            "0 1",
        ),
        ("rocm", {"ROCR_VISIBLE_DEVICES": "4,5", "HIP_VISIBLE_DEVICES": "4,5"}, 8, "0 1"),
        ("rocm", {"HIP_VISIBLE_DEVICES": "2,6"}, 8, "2 6"),
        ("rocm", {"CUDA_VISIBLE_DEVICES": "2, 6"}, 8, "2 6"),
        ("rocm", {"ROCR_VISIBLE_DEVICES": ""}, 8, ""),
        ("cuda", {}, 2, "0 1"),
        ("cuda", {"CUDA_VISIBLE_DEVICES": "3,1"}, 8, "3 1"),
        ("cuda", {"CUDA_VISIBLE_DEVICES": "GPU-aa,MIG-bb"}, 8, "GPU-aa MIG-bb"),
        ("cuda", {"CUDA_VISIBLE_DEVICES": "NoDevFiles"}, 8, ""),
        ("cuda", {"ROCR_VISIBLE_DEVICES": "0", "HIP_VISIBLE_DEVICES": "0"}, 2, "0 1"),
        ("cpu", {"CUDA_VISIBLE_DEVICES": "0"}, 0, ""),
    ],
)
def test_the_gpus_of_a_job(platform: str, environ: dict[str, str], count: int, tokens: str) -> None:
    assert pool(platform, environ, count).tokens == tuple(tokens.split())


@pytest.mark.parametrize(
    ("tokens", "dp", "wanted", "excluded", "chosen"),
    [
        ("0 1 2 3 4 5 6 7", None, None, (), "0"),
        ("0 1 2 3 4 5 6 7", 3, None, (), "0 1 2"),
        ("0 1 2 3 4 5 6 7", None, None, ("3",), "0 1 2 4 5 6 7"),
        ("0 1 2 3 4 5 6 7", 5, None, ("0", "3"), "1 2 4 5 6"),
        ("0 1 2 3 4 5 6 7", None, ("6", "0", "3"), (), "6 0 3"),
        ("0 1 2 3 4 5 6 7", None, ("6", "0", "3"), ("0",), "6 3"),
        ("4 5 6 7", None, ("0", "3"), (), "4 7"),  # positions, never ids
        ("GPU-a GPU-b", None, ("GPU-b",), (), "GPU-b"),
        ("GPU-a GPU-b", None, None, ("0",), "GPU-b"),
    ],
)
def test_the_choice_among_them(
    tokens: str,
    dp: int | None,
    wanted: tuple[str, ...] | None,
    excluded: tuple[str, ...],
    chosen: str,
) -> None:
    among = Pool(tuple(tokens.split()), "here")
    assert choose(among, dp, wanted, excluded) == tuple(chosen.split())


@pytest.mark.parametrize("name", ["4", "-1", "GPU-z", "x"])
def test_a_gpu_that_is_not_there(name: str) -> None:
    with pytest.raises(ConfigError, match="gives 4 GPUs, counted from 0 to 3"):
        choose(Pool(("4", "5", "6", "7"), "here"), None, (name,), ())


@pytest.mark.parametrize(
    ("platform", "tokens", "shown", "removed"),
    [
        ("rocm", ("5",), {"HIP_VISIBLE_DEVICES": "5"}, ROCM_GONE),
        ("rocm", ("0", "1"), {"HIP_VISIBLE_DEVICES": "0,1"}, ROCM_GONE),
        ("cuda", ("GPU-aa",), {"CUDA_VISIBLE_DEVICES": "GPU-aa"}, ()),
        ("cpu", (), {}, ()),
    ],
)
def test_what_a_replica_is_shown(
    platform: str, tokens: tuple[str, ...], shown: dict[str, str], removed: tuple[str, ...]
) -> None:
    assert variables(platform, tokens) == (shown, removed)
