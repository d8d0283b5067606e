"""A check of a run's answers: its accuracy against the target, or a compliance test's figure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Check:
    """One figure, its limits, and what else speaks against the run."""

    name: str  # "exact_match" in percent, or "mean output tokens"
    value: float
    minimum: float
    maximum: float | None = None
    problems: tuple[str, ...] = ()  # an incomplete log and the like; any of them fails the check

    @property
    def within_limits(self) -> bool:
        return self.minimum <= self.value and (self.maximum is None or self.value <= self.maximum)

    @property
    def passed(self) -> bool:
        return not self.problems and self.within_limits

    @property
    def sentence(self) -> str:
        """The figure and its limits in words."""
        upper = "" if self.maximum is None else f" and at most {self.maximum:g}"
        return f"{self.name} {self.value:.3f}, wanted: at least {self.minimum:.6g}{upper}"
