"""A sweep under way: its points measured one after another, and what has become of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from competition.console import Console
from competition.document import PASSED
from competition.files import read_json
from competition.profile import Profile
from competition.settings import Settings, read_settings
from competition.single import measure_and_store, open_server, result_file
from competition.sweep_options import HEADROOM, Options
from competition.sweep_server import launched
from competition.sweep_table import as_text
from core.errors import ConfigError, HarnessError, RunError


@dataclass(slots=True)
class Sweep:
    """Orders, and what has been measured of them."""

    profile: Profile
    options: Options
    environ: Mapping[str, str]
    out: Console
    documents: list[dict[str, Any]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    told: set[str] = field(default_factory=set)  # warnings; most are the same at every point

    @property
    def passed(self) -> list[dict[str, Any]]:
        return [document for document in self.documents if document["verdict"] == PASSED]

    def variables(self, tp: int, model: str) -> dict[str, str]:
        """The environment of a measurement, or of a server that all points of one TP fit."""
        orders, longest = self.options.orders, self.options.orders.longest
        return {
            "PORT": self.profile.defaults["PORT"],
            "MAX_MODEL_LEN": str(sum(longest) + HEADROOM),
            **{name: text for name, text in self.environ.items() if text.strip()},
            "MODEL": model,
            "TP": str(tp),
            "ISL": str(longest.isl),
            "OSL": str(longest.osl),
            "CONC": str(max(orders.concurrencies)),
            "RANDOM_RANGE_RATIO": orders.range_ratio,
        }

    def settings(self, tp: int, model: str) -> Settings:
        """Raises ConfigError."""
        urls = self.options.urls
        return read_settings(self.profile, self.variables(tp, model), urls, batch=True)

    def points(self, tp: int, model: str) -> list[Settings]:
        """All of one TP, in the order of the command line. Raises ConfigError."""
        orders, folder = self.options.orders, self.options.folder
        base = replace(self.settings(tp, model), power_gpus=orders.power_gpus)
        place = folder / f"tp{tp}" if len(orders.tps) > 1 else folder
        made = [base.at(pair, n, place) for pair in orders.pairs for n in orders.concurrencies]
        if (per := orders.prompts_per_concurrency) is None:
            return made
        return [replace(point, n_prompts=point.concurrency * per) for point in made]

    def fail(self, point: Settings, reason: str) -> None:
        self.failures.append(f"{title(point)}: {reason}")
        self.out.say(f"FAILED {self.failures[-1]}")


def title(point: Settings) -> str:
    return f"{point.lengths} TP {point.tp} CONC {point.concurrency}"


def kept(point: Settings) -> dict[str, Any] | None:
    """The point's result of an earlier run, where it passed. Raises ConfigError if of other rules."""
    file = result_file(point)
    document = read_json(file) if file.exists() else {}
    if document.get("verdict") != PASSED:
        return None
    also = {"tp": document["tp"], "power_gpus": document.get("power_gpus", [])}
    found = document["benchmark_args"] | also
    for name, value in (
        ("model", point.model),
        ("tp", point.tp),
        ("random_range_ratio", point.range_ratio),
        ("num_prompts", point.n_prompts),
        ("seed", point.seed),
        ("power_gpus", list(point.power_gpus)),
    ):
        if found[name] != value:
            raise ConfigError(
                f"--resume: {file} was measured with {name} {found[name]}, now it is {value}: set it "
                "as it was, or begin a new sweep"
            )
    return document


def run_points(sweep: Sweep, points: Sequence[Settings], save: Callable[[], None]) -> None:
    """Measure all points of one TP, and save after each one. What fails is noted."""
    with ExitStack() as stack:
        try:
            urls = stack.enter_context(_server(sweep, points[0]))
        except HarnessError as error:
            for point in points:
                sweep.fail(point, str(error))
            return
        for point in points:
            sweep.out.say(f"\n{title(point)}")
            try:
                _measure(sweep, replace(point, urls=urls))
            except HarnessError as error:
                sweep.fail(point, str(error))
            save()


@contextmanager
def _server(sweep: Sweep, point: Settings) -> Iterator[tuple[str, ...]]:
    """The URLs to measure at. Raises HarnessError."""
    if (flags := sweep.options.launch) is None:
        yield point.urls
        return
    log = (sweep.options.folder / f"server_tp{point.tp}.log").absolute()
    sweep.out.say(f"\nstarting a server for TP {point.tp}; log: {log}")
    variables = sweep.variables(point.tp, point.model)
    with launched(sweep.profile, variables, flags, log) as url:
        yield (url,)


def _measure(sweep: Sweep, point: Settings) -> None:
    """Measure one point and write its result file. Raises HarnessError where it does not count."""
    measured, document = measure_and_store(point, open_server(point), None, sweep.out)
    sweep.documents.append(document)
    fresh = [text for text in measured.warnings if text not in sweep.told]
    sweep.told.update(fresh)
    sweep.out.warn(fresh)
    if measured.interrupted:
        raise KeyboardInterrupt
    if document["verdict"] != PASSED:
        raise RunError("; ".join(document["reasons"]))
    sweep.out.say(as_text([document]))
