"""`sweep`: performance at many points, of any lengths, on any engine; a table and a plot of them.

A point that fails does not stop the others. Everything is written as it comes, so that a sweep that
was ended can be gone on with. Answers are not judged: every result says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from competition.console import Console
from competition.files import write_json, write_text
from competition.profile import Profile
from competition.settings import Settings
from competition.single import FAILED_CODE, INTERRUPTED_CODE, open_server
from competition.sweep_options import ABOUT, parse_options
from competition.sweep_plot import draw
from competition.sweep_points import Sweep, kept, run_points, title
from competition.sweep_table import as_markdown, as_text, foot
from core.errors import SetupError
from telemetry.power import open_meter

TABLE, PLOT, LOG = "table.md", "pareto.png", "sweep.log"
NO_PLOT = f"no {PLOT}: matplotlib is not installed; ./setup.sh --competition installs it"


def main(profile: Profile, argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """0 when every point passed, else 1, after Ctrl-C 130. Raises HarnessError before any point."""
    sweep = Sweep(profile, parse_options(argv, profile, environ), environ, Console())
    sweep.out.warn(sweep.options.warnings)
    if gpus := sweep.options.orders.power_gpus:
        open_meter(gpus)  # what cannot be measured is said before any server is asked or started
    model, folder = _model(sweep), sweep.options.folder
    missing = [_missing(sweep, sweep.points(tp, model)) for tp in sweep.options.orders.tps]
    _open_folder(sweep)
    with sweep.out.logged(folder / LOG):
        sweep.out.show(f"Results directory: {folder}")
        try:
            code = _run(sweep, missing)
        except KeyboardInterrupt:
            sweep.out.say(f"interrupted; to go on: sweep --resume {folder}")
            code = INTERRUPTED_CODE
        _finish(sweep)
    return code


def _model(sweep: Sweep) -> str:
    """As the server calls it; of a server that is yet to be started, what it is to be given."""
    options, profile = sweep.options, sweep.profile
    wanted = options.model or sweep.environ.get("MODEL", "").strip() or profile.model
    if options.launch is not None:
        return wanted
    served = open_server(sweep.settings(options.orders.tps[0], wanted)).model
    return options.model or served or wanted


def _missing(sweep: Sweep, points: Sequence[Settings]) -> list[Settings]:
    """Those that an earlier run has not measured. Raises ConfigError."""
    missing = []
    for point in points:
        if sweep.options.resumed and (document := kept(point)) is not None:
            sweep.documents.append(document)
            sweep.out.say(f"{title(point)}: has passed before")
        else:
            missing.append(point)
    return missing


def _open_folder(sweep: Sweep) -> None:
    """Raises SetupError."""
    folder = sweep.options.folder
    if not sweep.options.resumed:
        try:
            folder.mkdir(parents=True)
        except OSError as error:
            raise SetupError(
                f"--output {folder}: cannot be made ({error.strerror}): name a new folder, or go "
                "on with --resume"
            ) from None
    _save(sweep, "RUNNING")


def _run(sweep: Sweep, missing: Sequence[Sequence[Settings]]) -> int:
    for points in filter(None, missing):
        run_points(sweep, points, lambda: _save(sweep, "RUNNING"))
    return FAILED_CODE if sweep.failures else 0


def _save(sweep: Sweep, state: str) -> None:
    """Raises SetupError."""
    about = {
        "profile": sweep.profile.name,
        "orders": sweep.options.orders.plain(),
        "state": state,
        "failures": sweep.failures,
        "results": sweep.documents,
    }
    write_json(sweep.options.folder / ABOUT, about)


def _finish(sweep: Sweep) -> None:
    """The table and the plot of what was measured."""
    folder, out, name = sweep.options.folder, sweep.out, sweep.options.orders.title
    _save(sweep, "ENDED")
    write_text(folder / TABLE, as_markdown(name, sweep.passed, sweep.failures))
    if sweep.passed:
        out.show(f"\n{name}\n{as_text(sweep.passed)}\n{foot(sweep.passed)}")
        try:
            draw(sweep.passed, sweep.profile, name, folder / PLOT)
        except ImportError:
            out.say(NO_PLOT)
    if sweep.failures:
        out.show("\n".join(["Failed:", *sweep.failures]))
    out.show(f"Results saved in: {folder}")
