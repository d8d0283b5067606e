"""LoadGen's settings for one run, and where they leave MLPerf's rules.

The built-in rules of the pinned wheel are loaded first, then `mlperf.conf`, then the user's file, all
with explicit types: LoadGen's default type loads the rules only once in a process.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import mlperf_loadgen as lg

from core.config import RunConfig
from core.errors import ConfigError
from core.rules import PERFORMANCE_SAMPLES
from core.scenario import Scenario
from sut.conf import read_conf

BUILT_IN, FILE = 0, 2  # FromConfig's third argument
# Settings that a submission may not change (closed division).
FIXED = (
    "use_token_latencies",
    "ttft_latency",
    "tpot_latency",
    "performance_sample_count_override",
    "accuracy_sample_count_override",
    "sample_concatenate_permutation",
    "server_target_latency_percentile",
    "performance_issue_unique",
    "performance_issue_same",
    "max_duration_ms",
    "max_query_count",
    "server_coalesce_queries",
)


SEEDS = ("qsl_rng_seed", "sample_index_rng_seed", "schedule_rng_seed")
OFFLINE_SLACK = 1.1  # LoadGen's own: more queries than the expected rate gives


@dataclass(frozen=True, slots=True)
class LoadSettings:
    """LoadGen's effective settings, and each point in which they are not MLPerf's."""

    loadgen: lg.TestSettings
    deviations: tuple[str, ...]

    @property
    def ttft_limit_ns(self) -> int:
        return int(self.loadgen.ttft_latency)

    @property
    def tpot_limit_ns(self) -> int:
        return int(self.loadgen.tpot_latency)

    def as_dict(self) -> dict[str, object]:
        """Every setting by LoadGen's name, for the manifest."""
        names = [name for name in dir(self.loadgen) if not name.startswith("_")]
        values = {name: getattr(self.loadgen, name) for name in names if name != "FromConfig"}
        return {
            name: value.name if hasattr(value, "name") else value for name, value in values.items()
        }

    @property
    def target_qps(self) -> float:
        """Queries a second: Server's rate, or the one that Offline is expected to reach."""
        if self.loadgen.scenario == lg.TestScenario.Offline:
            return float(self.loadgen.offline_expected_qps)
        return float(self.loadgen.server_target_qps)

    def offline_queries(self, n_samples: int) -> int:
        """How many Offline issues at once.

        LoadGen's rule (test_settings_internal.cc): 1.1 times what the expected rate gives in the
        least duration, at least the least count, in whole sets of the samples where they are
        permuted set by set. An accuracy run issues each sample once.
        """
        told = self.loadgen
        if told.mode == lg.TestMode.AccuracyOnly or told.performance_issue_unique:
            return n_samples
        wanted = int(OFFLINE_SLACK * told.offline_expected_qps * told.min_duration_ms / 1000)
        least = max(wanted, int(told.min_query_count), 1)
        return -(-least // n_samples) * n_samples


def load_settings(config: RunConfig, n_samples: int) -> LoadSettings:
    """Settings for `config` over a dataset of `n_samples` rows. Raises ConfigError."""
    settings = _from_files(config.scenario, config.mlperf_conf, config.user_conf)
    rules = _from_files(config.scenario)
    settings.mode = lg.TestMode.AccuracyOnly if config.accuracy else lg.TestMode.PerformanceOnly
    # With fewer rows than the rules' count LoadGen would index past the dataset, or issue nothing.
    settings.performance_sample_count_override = min(
        settings.performance_sample_count_override or n_samples, n_samples
    )
    settings.accuracy_sample_count_override = min(
        settings.accuracy_sample_count_override or n_samples, n_samples
    )
    return LoadSettings(settings, _deviations(config, settings, rules))


def _from_files(scenario: Scenario, *files: Path) -> lg.TestSettings:
    settings = lg.TestSettings()
    model, name = scenario.loadgen_model, scenario.loadgen_scenario
    _check(settings.FromConfig("", model, name, BUILT_IN), "LoadGen's built-in rules")
    for path in files:
        _check_seeds(path, settings)
        _check(settings.FromConfig(str(path), model, name, FILE), str(path))
    settings.scenario = getattr(lg.TestScenario, name)
    return settings


def _check_seeds(path: Path, settings: lg.TestSettings) -> None:
    """LoadGen takes its seeds from the wheel only; a file that says otherwise would be ignored."""
    for (_, _, key), value in read_conf(path).items():
        if key in SEEDS and value != str(getattr(settings, key)):
            raise ConfigError(
                f"{path}: {key} = {value}: LoadGen ignores seeds in files and uses "
                f"{getattr(settings, key)}; remove the line, or install the wheel of that round"
            )


def _check(code: int, what: str) -> None:
    if code != 0:
        raise ConfigError(f"LoadGen cannot load {what} (code {code}): check the file")


def _deviations(
    config: RunConfig, settings: lg.TestSettings, rules: lg.TestSettings
) -> tuple[str, ...]:
    timed = not config.accuracy and config.audit is None  # an audit has counts of its own
    found = [
        f"{name} is {getattr(settings, name)}, the rules say {getattr(rules, name)}"
        for name in FIXED
        if getattr(settings, name) != getattr(rules, name) and _matters(name, config)
    ]
    if settings.min_duration_ms < rules.min_duration_ms and timed:
        found.append(
            f"min_duration is {settings.min_duration_ms} ms, under {rules.min_duration_ms}"
        )
    if config.scenario is Scenario.OFFLINE and timed:
        # LoadGen asks for 10 % more than the minimum duration takes at the target rate.
        planned = 1.1 * settings.min_duration_ms / 1e3 * settings.offline_expected_qps
        if max(settings.min_query_count, planned) < PERFORMANCE_SAMPLES:
            found.append(
                f"Offline min_query_count is {settings.min_query_count}, the checker wants "
                f"{PERFORMANCE_SAMPLES} samples"
            )
    return tuple(found)


def _matters(name: str, config: RunConfig) -> bool:
    """A sample count only counts in the mode that uses it."""
    if config.audit is not None and name.endswith("sample_count_override"):
        return False
    unused = (
        "performance_sample_count_override" if config.accuracy else "accuracy_sample_count_override"
    )
    return name != unused


def log_settings(directory: Path) -> lg.LogSettings:
    """Logs into `directory`, which must exist: LoadGen returns as if nothing were wrong otherwise."""
    output = lg.LogOutputSettings()
    output.outdir = str(directory)
    output.copy_summary_to_stdout = False
    settings = lg.LogSettings()
    settings.log_output = output
    settings.enable_trace = False
    return settings
