"""The results that `compare` is given: one file, one result's folder, or a batch's or sweep's."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from competition.bootstrap import FEWEST
from competition.document import PASSED
from competition.files import read_json
from competition.profile import Lengths
from competition.settings import RESULT
from core.errors import ConfigError
from results.latency import succeeded
from results.records import Records, read_parquet

FIELDS = ("verdict", "isl", "osl", "conc", "tput_per_gpu")  # that make a JSON object a result
OTHERS = (".accuracy.json", ".receipt.json", ".submission.json")
RECORDS = "queries.parquet"
PROMPTS = ("seed", "num_prompts", "range_ratio")  # by these alone prompts differ at one point


class Place(NamedTuple):
    """What two results must share to be compared."""

    lengths: Lengths
    concurrency: int

    def __str__(self) -> str:
        return f"{self.lengths} CONC {self.concurrency}"


@dataclass(frozen=True, slots=True)
class Result:
    """One result file and what lies beside it."""

    file: Path
    document: Mapping[str, Any]
    records: Records | None  # of the requests that succeeded, by their index
    lack: str  # why there are none
    prompts: Mapping[str, Any] | None  # by which they were made; None: unknown

    @property
    def place(self) -> Place:
        found = self.document
        return Place(Lengths(found["isl"], found["osl"]), found["conc"])

    @property
    def passed(self) -> bool:
        return bool(self.document["verdict"] == PASSED)

    @property
    def settings(self) -> dict[str, Any]:
        """What should be alike on both sides."""
        found, args = self.document, self.document.get("benchmark_args") or {}
        engine = found.get("engine") or {}
        ratios = (name.partition("_ratio_vs_")[2] for name in found)
        return {
            "profile": found.get("profile"),
            "baseline": next(filter(None, ratios), None),
            "model": args.get("model"),
            "engine": f"{engine.get('kind')} {engine.get('version')}",
            "tp": found.get("tp"),
            "GPUs used": found.get("gpus_used"),
            "range ratio": args.get("random_range_ratio"),
            "num_prompts": args.get("num_prompts"),
            "warm-ups": args.get("num_warmups"),
            "seed": args.get("seed"),
        }


def read_side(path: Path) -> dict[Place, Result]:
    """All results there, by place. Raises ConfigError."""
    files = sorted(_files(path)) if path.is_dir() else [path]
    found: dict[Place, Result] = {}
    for file in files:
        result = _read(file)
        if (other := found.get(result.place)) is not None:
            raise ConfigError(
                f"{path}: has {result.place} twice, {other.file} and {file}: name the folder of one"
            )
        found[result.place] = result
    if not found:
        raise ConfigError(f"{path}: no results there; give a RESULT.json, or a folder of them")
    return found


def _files(folder: Path) -> Iterator[Path]:
    """A sweep of several TP has a folder for each; a result's own folder has one result."""
    if (own := folder / f"{RESULT}.json").exists() and (folder / "manifest.json").exists():
        yield own
        return
    for pattern in (f"{RESULT}_*.json", f"tp*/{RESULT}_*.json"):
        yield from (file for file in folder.glob(pattern) if not file.name.endswith(OTHERS))


def _read(file: Path) -> Result:
    document = read_json(file)
    if missing := [name for name in FIELDS if name not in document]:
        raise ConfigError(f"{file}: not a result file: it has no {', '.join(missing)}")
    folder = _details(file)
    records, lack = _records(folder / RECORDS), ""
    if records is None:
        lack = f"no records ({RECORDS})"
    elif len(records) != document.get("completed"):
        lack = f"the records in {folder} are those of another run"
    elif len(records) < FEWEST:
        lack = f"{len(records)} requests are too few, {FEWEST} are the least"
    known = None if lack else records
    return Result(file, document, known, lack, _prompts(folder / "manifest.json"))


def _details(file: Path) -> Path:
    """The folder of the result's records: that of its name, or the one that the file is in."""
    named = file.with_name(file.name.removesuffix(".json"))
    return named if named.is_dir() or file.stem != RESULT else file.parent


def _records(path: Path) -> Records | None:
    try:
        found = succeeded(read_parquet(path))
    except FileNotFoundError:
        return None
    except (OSError, KeyError, ValueError) as error:  # pyarrow's errors are ValueErrors
        raise ConfigError(f"{path}: not readable as records ({error})") from None
    ordered: Records = found[found["index"].argsort(kind="stable")]
    return ordered


def _prompts(manifest: Path) -> dict[str, Any] | None:
    try:
        config = json.loads(manifest.read_text(encoding="utf-8"))["config"]
        return {name: config[name] for name in PROMPTS}
    except (OSError, KeyError, TypeError, ValueError):
        return None
