"""The figures of one point, from its records and nothing else. No I/O.

Names and definitions are those of InferenceMAX's client: a request's clock starts when it is sent,
percentiles are interpolated linearly (numpy's), the duration is from the first request to the last
answer, ramp-up and tail included. ITL is the gap between stream events, whatever number of tokens
an event has; its mean is exact, its other figures come from a histogram that is exact to 0.24 %.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from core.histogram import EDGES_NS, histogram_percentile
from results.latency import succeeded
from results.records import Records

PERCENTILES = (90.0, 95.0, 99.0, 99.9)
MS = 1e6  # nanoseconds
Values = npt.NDArray[np.float64]
Figures = dict[str, float | int | None]


@dataclass(frozen=True, slots=True)
class Gpus:
    """By what throughput is divided."""

    node: int  # of the whole machine: the competition divides by them, also if fewer are used
    used: int  # tensor parallel size times replicas

    @property
    def counted(self) -> int:
        """By what `tput_per_gpu` divides: more than one machine counts with all it has."""
        return max(self.node, self.used)


def point_figures(records: Records, gaps: npt.NDArray[np.int64], gpus: Gpus) -> Figures:
    """All figures of the requests that succeeded; None where there is nothing to tell.

    gaps: core.histogram's counts of the time between the events of all streams.
    """
    good = succeeded(records)
    return {
        **_counts(records, good),
        **_throughput(records, good, gpus),
        **_latencies(good, gaps),
        "tokens_per_event": _ratio(int(good["n_tokens"].sum()), int(good["n_events"].sum())),
    }


def _counts(records: Records, good: Records) -> Figures:
    # The original's post-processing looks for the second name of each, which its client does not
    # write, so that its files lack them: both are given.
    duration = duration_s(records)
    outputs = int(good["n_tokens"].sum())
    return {
        "completed": len(good),
        "successful_requests": len(good),
        "failed_requests": len(records) - len(good),
        "duration": duration,
        "benchmark_duration": duration,
        "total_input_tokens": int(good["prompt_tokens"].sum()),
        "total_output_tokens": outputs,
        "total_generated_tokens": outputs,
    }


def duration_s(records: Records) -> float:
    """From the first request that was sent to the last end."""
    sent = records["sent_ns"][records["sent_ns"] > 0]
    return float(records["done_ns"].max() - sent.min()) / 1e9 if len(sent) else 0.0


def _throughput(records: Records, good: Records, gpus: Gpus) -> Figures:
    seconds = duration_s(records)
    inputs, outputs = int(good["prompt_tokens"].sum()), int(good["n_tokens"].sum())
    total = _ratio(inputs + outputs, seconds)
    per_gpu = _ratio(inputs + outputs, seconds * gpus.counted)
    return {
        "request_throughput": _ratio(len(good), seconds),
        "output_throughput": _ratio(outputs, seconds),
        "total_token_throughput": total,
        "tput_per_gpu": per_gpu,
        "output_tput_per_gpu": _ratio(outputs, seconds * gpus.counted),
        "input_tput_per_gpu": _ratio(inputs, seconds * gpus.counted),
        "tput_per_used_gpu": _ratio(inputs + outputs, seconds * gpus.used),
    }


def _latencies(good: Records, gaps: npt.NDArray[np.int64]) -> Figures:
    sent, first, done = (good[name].astype(np.int64) for name in _INSTANTS)
    tokens, events = good["n_tokens"].astype(np.int64), good["n_events"].astype(np.int64)
    tpot = ((done - first) / np.maximum(tokens - 1, 1) / MS)[tokens > 1]
    found: Figures = {
        **_figures("ttft", (first - sent) / MS),
        **_figures("tpot", tpot),
        **_itl(gaps, _ratio(float((done - first).sum()) / MS, int((events - 1).sum()))),
        **_figures("e2el", (done - sent) / MS),
    }
    median = found["median_tpot_ms"]
    found["interactivity"] = 1000 / median if median else None  # tokens per second and user
    return found


_INSTANTS = ("sent_ns", "first_token_ns", "done_ns")


def _figures(name: str, values: Values) -> Figures:
    """Mean, median, standard deviation (of the population) and percentiles, in milliseconds."""
    if not len(values):
        return dict.fromkeys(_names(name))
    ranks = [float(value) for value in np.percentile(values, PERCENTILES)]
    figures = (float(values.mean()), float(np.median(values)), float(values.std()), *ranks)
    return dict(zip(_names(name), figures, strict=True))


def _itl(gaps: npt.NDArray[np.int64], mean: float | None) -> Figures:
    if mean is None or not gaps.sum():
        return dict.fromkeys(_names("itl"))
    middles = np.sqrt(np.concatenate((EDGES_NS[:1], EDGES_NS)) * np.append(EDGES_NS, EDGES_NS[-1]))
    average = np.average(middles, weights=gaps)
    std = float(np.sqrt(np.average((middles - average) ** 2, weights=gaps))) / MS
    ranks = [(histogram_percentile(gaps, percent) or 0.0) / MS for percent in (50.0, *PERCENTILES)]
    return dict(zip(_names("itl"), (mean, ranks[0], std, *ranks[1:]), strict=True))


def _names(name: str) -> list[str]:
    ranks = [f"p{percent:g}" for percent in PERCENTILES]
    return [f"{what}_{name}_ms" for what in ("mean", "median", "std", *ranks)]


def _ratio(number: float, by: float) -> float | None:
    return number / by if by else None
