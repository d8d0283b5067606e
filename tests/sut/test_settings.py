"""LoadGen's effective settings, conf files, and the schedule, against the real library."""

from __future__ import annotations

from pathlib import Path

import mlperf_loadgen as lg
import pytest

from core.errors import ConfigError
from core.scenario import Scenario
from options import parse_options
from sut.conf import read_conf
from sut.schedule import Schedule
from sut.settings import load_settings

ROOT = Path(__file__).resolve().parents[2]
# Settings of other scenarios and of a compliance test that gpt-oss does not have.
UNUSED = ("test05", "multi_stream", "single_stream", "FromConfig", "_")
NAMES = [name for name in dir(lg.TestSettings()) if not name.startswith(UNUSED)]


@pytest.mark.parametrize("scenario", list(Scenario))
def test_mlperf_conf_restates_what_the_wheel_has_built_in(scenario: Scenario) -> None:
    built_in, restated = lg.TestSettings(), lg.TestSettings()
    model, name = scenario.loadgen_model, scenario.loadgen_scenario
    assert built_in.FromConfig("", model, name, 0) == 0
    path = ROOT / "mlperf.conf"
    assert restated.FromConfig(str(path), model, name, 2) == 0
    seeds = {key: value for (_, _, key), value in read_conf(path).items() if "seed" in key}
    assert (
        len(seeds) == 3
    )  # LoadGen reads seeds from the wheel only, so the file is compared itself
    assert all(str(getattr(built_in, key)) == value for key, value in seeds.items())
    different = {n for n in NAMES if getattr(built_in, n) != getattr(restated, n)}
    assert different - set(seeds) == set()


@pytest.mark.parametrize("path", ["mlperf.conf", "user.conf", "dataset/demonstration.conf"])
def test_shipped_files_are_understood(path: str) -> None:
    assert read_conf(ROOT / path)


def settings_for(tmp_path: Path, *lines: str, flags: tuple[str, ...] = ()) -> tuple[str, ...]:
    conf = tmp_path / "u.conf"
    conf.write_text("\n".join(lines) + "\n")
    config, _ = parse_options(["--mode", "server", "--user-conf", str(conf), *flags])
    return load_settings(config, 6396).deviations


def test_no_deviation_with_targets_only(tmp_path: Path) -> None:
    assert settings_for(tmp_path, "*.Server.target_qps = 7") == ()


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("*.Server.ttft_latency = 9000", "ttft_latency is 9000000000, the rules say 3000000000"),
        ("*.Server.min_duration = 1000", "min_duration is 1000 ms, under 600000"),
        ("*.*.use_token_latencies = 0", "use_token_latencies is False"),
        ("*.*.performance_sample_count_override = 64", "performance_sample_count_override is 64"),
    ],
)
def test_deviations_from_the_rules_are_named(tmp_path: Path, line: str, says: str) -> None:
    found = settings_for(tmp_path, "*.Server.target_qps = 7", line)
    assert any(text.startswith(says) for text in found), found


def test_accuracy_ignores_performance_counts(tmp_path: Path) -> None:
    conf = tmp_path / "u.conf"
    conf.write_text("*.Server.target_qps = 7\n")
    config, _ = parse_options(["--mode", "server", "--user-conf", str(conf), "--accuracy"])
    assert load_settings(config, 4395).deviations == ()


def test_offline_without_enough_samples_is_named(tmp_path: Path) -> None:
    conf = tmp_path / "u.conf"
    conf.write_text("*.Offline.target_qps = 1\n")
    config, _ = parse_options(["--mode", "offline", "--user-conf", str(conf)])
    assert "min_query_count" in "".join(load_settings(config, 6396).deviations)


def test_missing_conf(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_conf(tmp_path / "none.conf")


def test_seeds_in_a_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="LoadGen ignores seeds"):
        settings_for(tmp_path, "*.*.schedule_rng_seed = 1")


def test_schedule_ends_where_loadgen_says() -> None:
    # generated_query_duration of a real run of 6.0.17: 200 queries at 50 QPS, round v6.1's seed.
    assert Schedule(50.0, 16159082839903944936).due_ns(200) == 4_140_386_563


def test_schedule_is_the_same_in_any_order() -> None:
    forward, backward = Schedule(100.0, 5), Schedule(100.0, 5)
    places = [0, 1, 16383, 16384, 16385, 50000]
    assert [forward.due_ns(i) for i in places] == [backward.due_ns(i) for i in reversed(places)][
        ::-1
    ]


def test_schedule_counts_whole_passes() -> None:
    schedule = Schedule(50.0, 16159082839903944936)
    assert schedule.count(4_000_000_000, 100, 100) == 200
