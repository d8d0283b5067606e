"""Reading LoadGen's detail log, the only place where LoadGen states a result."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PREFIX = ":::MLLOG "


@dataclass(frozen=True, slots=True)
class LoadGenLog:
    """The last value of each key, and the lines that LoadGen marked as errors or warnings."""

    values: dict[str, Any]
    errors: tuple[str, ...]
    warnings: tuple[str, ...]

    def complete(self, *, accuracy: bool) -> bool:
        """Whether the last thing that LoadGen writes in that mode is there."""
        return ("power_end" if accuracy else "num_errors") in self.values

    @property
    def num_errors(self) -> int:
        return max(int(self.values.get("num_errors", 0)), len(self.errors))

    @property
    def valid(self) -> bool:
        return self.values.get("result_validity") == "VALID"

    def number(self, key: str) -> float | None:
        value = self.values.get(key)
        return float(value) if isinstance(value, int | float) else None

    def invalid_reasons(self) -> list[str]:
        """LoadGen's tests that were not met, in words."""
        tests = {
            "result_perf_constraints_met": "latency limits were not met",
            "result_min_duration_met": "the run was shorter than the minimum duration",
            "result_min_queries_met": "fewer queries than the minimum",
            "early_stopping_met": "early stopping was not satisfied (too few queries within limits)",
        }
        return [text for key, text in tests.items() if self.values.get(key) is False]


def read_detail_log(directory: Path) -> LoadGenLog:
    """Parse `mlperf_log_detail.txt`; a missing file gives an empty, incomplete log."""
    values: dict[str, Any] = {}
    errors, warnings = [], []
    path = directory / "mlperf_log_detail.txt"
    if not path.exists():
        return LoadGenLog({}, (), ())
    with path.open(errors="replace") as lines:
        for line in lines:
            if not line.startswith(PREFIX):
                continue
            try:
                entry = json.loads(line[len(PREFIX) :])
            except ValueError:
                continue  # cut short by a kill, or a text that LoadGen did not escape
            values[entry["key"]] = entry["value"]
            text = f"{entry['key']}: {entry['value']}"
            if entry["metadata"]["is_error"]:
                errors.append(text)
            if entry["metadata"]["is_warning"]:
                warnings.append(text)
    return LoadGenLog(values, tuple(errors), tuple(warnings))


def accuracy_log_complete(directory: Path) -> bool:
    """Whether `mlperf_log_accuracy.json` has its closing bracket; it may be gigabytes long."""
    try:
        with (directory / "mlperf_log_accuracy.json").open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - 16))
            return file.read().rstrip().endswith(b"]")
    except OSError:
        return False
