"""InferenceX's results as points to compare with: its aggregate files and its dashboard's API.

Both tell the same figures: `median_e2el` in seconds (`..._ms` in milliseconds), `median_intvty` in
tokens per second and user, `tput_per_gpu` per GPU that was used. The API has them under `metrics`,
calls the hardware `hardware` instead of `hw`, and has a date.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from competition.profile import Lengths
from core.errors import ConfigError

LISTS = ("data", "results", "benchmarks")  # where an object may hold its rows

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ImportedPoint:
    """One configuration's figures at one pair of lengths and one concurrency."""

    lengths: Lengths
    concurrency: int
    hardware: str  # as b200, or of older files b200-trt
    framework: str
    precision: str
    model: str
    speculation: str  # "none", or how tokens were drafted
    tp: int
    ep: int | None
    image: str
    date: str
    median_e2e_ms: float
    interactivity: float
    tput_per_gpu: float
    output_tput_per_gpu: float | None
    avg_power_w: float | None


def import_inferencex(
    path: Path,
    say: Callable[[str], None],
    *,
    hardware: str | None = None,
    precision: str | None = None,
    model: str | None = None,
    tp: int | None = None,
) -> list[ImportedPoint]:
    """The best configuration of each point, by tput_per_gpu, of one hardware, precision and model.

    hardware: as "b200", or with the framework "b200-trt". Raises ConfigError.
    """
    rows = read_rows(path)
    single = [(i, row) for i, row in enumerate(rows) if _is_single_node(row)]
    single = _only(path, single, "hardware", hardware, lambda entry: _hardware_names(entry[1]))
    points = [_point(_Row(f"{path}, entry {i}", row)) for i, row in single]
    points = _only(path, points, "precision", precision, lambda point: (point.precision,))
    points = _only(path, points, "model", model, lambda point: (point.model,))
    points = [point for point in points if tp in (None, point.tp)]
    if not points:
        raise ConfigError(f"{path}: no such result on one node, of fixed lengths; other filters?")
    best: dict[tuple[Lengths, int], ImportedPoint] = {}
    for point in points:
        key = (point.lengths, point.concurrency)
        if key not in best or point.tput_per_gpu > best[key].tput_per_gpu:
            best[key] = point
    chosen = [best[key] for key in sorted(best)]
    say(f"{path}: {len(rows)} results, {len(chosen)} points")
    say(f"passed over: {len(rows) - len(points)} of other kinds, {len(points) - len(best)} slower")
    counts = sorted(Counter(point.tp for point in chosen).items())
    shown = ", ".join(f"{count} on {tp}" for tp, count in counts)
    say(f"GPUs used: {shown}; tput_per_gpu is per GPU used, a profile's per GPU of the node")
    return chosen


def read_rows(path: Path) -> list[dict[str, Any]]:
    """One object, an array, or an object with an array, with the API's metrics beside the rest."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: not readable as JSON ({error})") from None
    if isinstance(found, dict):
        found = next((found[key] for key in LISTS if isinstance(found.get(key), list)), [found])
    if not isinstance(found, list) or not all(isinstance(row, dict) for row in found) or not found:
        raise ConfigError(f"{path}: holds no results; give an agg_*.json, or /api/v1/benchmarks")
    return [row | row["metrics"] if isinstance(row.get("metrics"), dict) else row for row in found]


def _is_single_node(row: Mapping[str, Any]) -> bool:
    """Not the agentic scenario, which has no fixed lengths, and not several nodes."""
    agentic = "isl" in row and row["isl"] is None
    return not (agentic or row.get("is_multinode") or row.get("disagg"))


class _Row:
    """A result, read with the words of a user: which entry lacks what."""

    def __init__(self, where: str, fields: Mapping[str, Any]) -> None:
        self.where, self._fields = where, fields

    def text(self, *keys: str, default: str | None = None) -> str:
        return str(self._first(keys, default))

    def count(self, *keys: str) -> int:
        value = self.number(*keys)
        if value != int(value):
            raise ConfigError(f"{self.where}: {keys[0]} {value} is not a whole number")
        return int(value)

    def number(self, *keys: str) -> float:
        """The first that is there. Positive, as they all are divided by."""
        value = self._first(keys, None)
        try:
            number = float(value)
        except (TypeError, ValueError):
            raise ConfigError(f"{self.where}: {keys[0]} {value!r} is not a number") from None
        if not 0 < number < math.inf:
            raise ConfigError(f"{self.where}: {keys[0]} {value} is not above 0")
        return number

    def maybe(self, key: str) -> float | None:
        return self.number(key) if self._fields.get(key) is not None else None

    def has(self, key: str) -> bool:
        return self._fields.get(key) is not None

    def _first(self, keys: Sequence[str], default: str | None) -> Any:
        for key in keys:
            if self.has(key):
                return self._fields[key]
        if default is None:
            raise ConfigError(f"{self.where}: has no {' or '.join(keys)}")
        return default


def _point(row: _Row) -> ImportedPoint:
    return ImportedPoint(
        lengths=Lengths(row.count("isl"), row.count("osl")),
        concurrency=row.count("conc"),
        hardware=row.text("hw", "hardware").lower(),
        framework=row.text("framework").lower(),
        precision=row.text("precision").lower(),
        model=row.text("infmax_model_prefix", "model"),
        speculation=row.text("spec_decoding", "spec_method", "mtp", default="none"),
        tp=row.count("tp", "decode_tp"),
        ep=next((row.count(key) for key in ("ep", "decode_ep") if row.maybe(key)), None),
        image=row.text("image", default=""),
        date=row.text("date", default="")[:10],
        median_e2e_ms=_milliseconds(row, "median_e2el"),
        interactivity=_interactivity(row),
        tput_per_gpu=row.number("tput_per_gpu"),
        output_tput_per_gpu=row.maybe("output_tput_per_gpu"),
        avg_power_w=row.maybe("avg_power_w"),
    )


def _milliseconds(row: _Row, key: str) -> float:
    in_ms = f"{key}_ms"
    return row.number(in_ms) if row.has(in_ms) else row.number(key) * 1000


def _interactivity(row: _Row) -> float:
    if row.has("median_intvty"):
        return row.number("median_intvty")
    return 1000 / _milliseconds(row, "median_tpot")


def _hardware_names(row: Mapping[str, Any]) -> tuple[str, ...]:
    name = str(row.get("hw") or row.get("hardware") or "unnamed")
    return name, f"{name}-{row.get('framework')}"


def _only(
    path: Path,
    items: Sequence[T],
    what: str,
    wanted: str | None,
    names: Callable[[T], tuple[str, ...]],
) -> list[T]:
    """Those of the name that is wanted, or of the only name there is."""
    known = sorted({names(item)[0] for item in items})
    if wanted is None:
        if len(known) > 1:
            raise ConfigError(f"{path}: has results of several; choose --{what} {'|'.join(known)}")
        return list(items)
    found = [item for item in items if wanted.lower() in map(str.lower, names(item))]
    if not found:
        shown = ", ".join(known) or "none"
        raise ConfigError(f"--{what} {wanted}: {path} has no result of it; it has {shown}")
    return found
