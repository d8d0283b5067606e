"""The compliance tests of gpt-oss-120b, TEST07 and TEST09, round v6.1.

Source: mlcommons/inference, compliance/TEST07 and TEST09, gpt-oss-120b/audit.config.
"""

from __future__ import annotations

from dataclasses import dataclass

LOG_SEED = 720381539243781796


@dataclass(frozen=True, slots=True)
class Audit:
    """One compliance test: what it wants as input, what LoadGen is told, where its limits are."""

    name: str
    samples: int  # rows of its dataset, each of them issued and logged exactly once
    logged: int  # LoadGen's sampling target
    minimum: float  # TEST07: exact match in percent; TEST09: mean output tokens
    maximum: float | None
    report: str  # the file that a submission wants

    @property
    def config(self) -> str:
        """LoadGen's audit.config for this test."""
        values = {
            "mode": 2,  # performance, with the answers logged
            "accuracy_log_rng_seed": LOG_SEED,
            "accuracy_log_sampling_target": self.logged,
            "min_query_count": self.samples,
            "min_duration": 0,
            "performance_issue_unique": 1,
            "sample_concatenate_permutation": 0,
        }
        return "".join(f"*.*.{key} = {value}\n" for key, value in values.items())


AUDITS = {
    "TEST07": Audit("TEST07", 990, 990, 60.698, None, "verify_accuracy.txt"),
    "TEST09": Audit("TEST09", 6396, 10_000, 1150.38, 1406.02, "verify_output_len.txt"),
}
