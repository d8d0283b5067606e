"""How many queries Offline issues is LoadGen's business; the client has to know it beforehand."""

from __future__ import annotations

from pathlib import Path

import pytest

from measure import prepare
from options import parse_options
from tests.harness import emulator, run_mlperf, write_conf, write_dataset


@pytest.mark.parametrize(
    ("samples", "qps", "milliseconds", "least"),
    [(32, 50, 2000, 1), (100, 33, 3000, 250), (64, 1, 0, 100)],
)
def test_what_is_foreseen_is_issued(
    samples: int, qps: float, milliseconds: int, least: int, tmp_path: Path
) -> None:
    conf = write_conf(
        tmp_path / "user.conf",
        f"*.Offline.target_qps = {qps}",
        f"*.Offline.min_duration = {milliseconds}",
        f"*.Offline.min_query_count = {least}",
    )
    dataset = write_dataset(tmp_path / "data.parquet", n=samples)
    flags = ("--input-file", str(dataset), "--user-conf", str(conf))
    with emulator("--osl", "4") as engine:
        run = run_mlperf("offline", tmp_path, *flags, "--server-url", engine.url)
    config, _ = parse_options(["--mode", "offline", *flags])
    assert prepare(config).settings.offline_queries(samples) == run.summary["issued"]
