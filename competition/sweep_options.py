"""The command line of `sweep`, and its orders, which a sweep's folder keeps for --resume."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from backends.detect import parse_url
from competition.files import read_json
from competition.profile import Lengths, Profile
from core.errors import ConfigError
from telemetry.power import parse_gpus

ABOUT = "sweep.json"
HEADROOM = 256  # tokens of context beside input and output, as InferenceX serves
EPILOG = """environment: PORT TP RANDOM_RANGE_RATIO MAX_MODEL_LEN SEED, where no flag says otherwise;
with --launch also MODEL and what the launch script reads. Flags after -- are the launch script's;
after a second -- the engine's. Accuracy is not measured.
exit codes: 0 all points passed; 1 one has failed; 2 a setting cannot be used; 3 something is missing;
130 Ctrl-C"""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Orders:
    """What is measured."""

    title: str
    pairs: tuple[Lengths, ...]
    concurrencies: tuple[int, ...]
    tps: tuple[int, ...]
    range_ratio: str
    prompts_per_concurrency: int | None  # None: as many as the profile has
    power_gpus: tuple[int, ...]  # of this machine, whose energy is measured

    @property
    def longest(self) -> Lengths:
        return max(self.pairs, key=sum)

    def plain(self) -> dict[str, Any]:
        """For JSON; the same words as on the command line."""
        return {
            "title": self.title,
            "lengths": ",".join(map(str, self.pairs)),
            "conc": ",".join(map(str, self.concurrencies)),
            "tp": ",".join(map(str, self.tps)),
            "range_ratio": self.range_ratio,
            "num_prompts_per_conc": self.prompts_per_concurrency,
            "power": ",".join(map(str, self.power_gpus)) or None,
        }


@dataclass(frozen=True, slots=True)
class Options:
    """What was typed, and where it goes."""

    orders: Orders
    urls: tuple[str, ...]
    model: str | None
    folder: Path
    resumed: bool
    launch: tuple[str, ...] | None  # the launch script's flags; None: a server is running
    warnings: tuple[str, ...] = ()


def parse_options(argv: Sequence[str], profile: Profile, environ: Mapping[str, str]) -> Options:
    """Leaves with exit code 2 where a flag is wrong. Raises ConfigError."""
    at = argv.index("--") if "--" in argv else len(argv)
    args = _parser().parse_args(argv[:at])
    orders = _orders(args, profile, environ)
    if args.launch and args.server_url:
        raise ConfigError("--launch starts a server itself: leave out --server-url")
    if not args.launch and at < len(argv):
        raise ConfigError(f"{' '.join(argv[at:])}: flags after -- are for --launch")
    if not args.launch and len(orders.tps) > 1:
        raise ConfigError(
            f"--tp {','.join(map(str, orders.tps))}: a running server has one TP; give that one, "
            "or let --launch start a server for each"
        )
    assumed = not (args.tp or args.resume or environ.get("TP", "").strip())
    return Options(
        orders=orders,
        urls=_urls(args.server_url),
        model=args.model,
        folder=args.resume or args.output or _new_folder(),
        resumed=args.resume is not None,
        launch=tuple(argv[at + 1 :]) if args.launch else None,
        warnings=(f"no --tp, and TP is not set: using {orders.tps[0]}",) if assumed else (),
    )


def _orders(args: argparse.Namespace, profile: Profile, environ: Mapping[str, str]) -> Orders:
    """Typed, or else the resumed sweep's, or else of the environment or the profile."""
    stored = _stored(args.resume) if args.resume else {}
    known = {**profile.defaults, **{name: text for name, text in environ.items() if text.strip()}}

    def chosen(name: str, otherwise: str | None = None) -> str:
        found = getattr(args, name) or stored.get(name, otherwise)
        if found is None:
            raise ConfigError(f"--{name} is missing: say what is to be measured; see sweep --help")
        return str(found)

    per, gpus = chosen("num_prompts_per_conc", ""), chosen("power", "")
    orders = Orders(
        title=chosen("title", f"{profile.engine} sweep"),
        pairs=_listed("--lengths", chosen("lengths"), Lengths.parse),
        concurrencies=_listed("--conc", chosen("conc"), _natural("--conc")),
        tps=_listed("--tp", chosen("tp", known["TP"]), _natural("--tp")),
        range_ratio=chosen("range_ratio", known["RANDOM_RANGE_RATIO"]),
        prompts_per_concurrency=_natural("--num-prompts-per-conc")(per) if per else None,
        power_gpus=parse_gpus("--power", gpus) if gpus else (),
    )
    if stored and stored["tp"] != orders.plain()["tp"]:
        raise ConfigError(f"--resume {args.resume}: it was begun with --tp {stored['tp']}")
    return orders


def _stored(folder: Path) -> dict[str, Any]:
    """Raises ConfigError."""
    found = read_json(folder / ABOUT).get("orders")
    if not isinstance(found, dict) or "tp" not in found:
        raise ConfigError(f"--resume {folder}: its {ABOUT} is not a sweep's")
    return {name: value for name, value in found.items() if value is not None}


def _listed(flag: str, text: str, parse: Callable[[str], T]) -> tuple[T, ...]:
    """Comma-separated, each once."""
    found = dict.fromkeys(parse(word.strip()) for word in text.split(",") if word.strip())
    if not found:
        raise ConfigError(f"{flag} {text!r}: names nothing; give values, comma-separated")
    return tuple(found)


def _natural(flag: str) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not (text.isascii() and text.isdecimal()) or int(text) < 1:
            raise ConfigError(f"{flag} {text}: must be a whole number, at least 1")
        return int(text)

    return parse


def _urls(text: str | None) -> tuple[str, ...]:
    found = tuple(url.strip() for url in (text or "").split(",") if url.strip())
    for url in found:
        parse_url(url)
    return found


def _new_folder() -> Path:
    """sweep_<local time> in the working folder."""
    name = f"sweep_{time.strftime('%Y%m%d_%H%M%S')}"
    folder, number = Path(name), 1
    while folder.exists():
        number += 1
        folder = Path(f"{name}-{number}")
    return folder


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gptoss_benchmark sweep",
        description="Measure many points of a server, of any lengths, and draw them.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--lengths", metavar="ISL/OSL,..", help="such as 1024/1024,8192/1024")
    add("--conc", metavar="N,..", help="requests in flight, such as 1,2,4,8")
    add("--tp", metavar="N,..", help="of the running server; several only with --launch")
    add("--launch", action="store_true", help="start and end a server for each TP")
    replicas = "instead of the one at PORT; several, comma-separated, are replicas of TP GPUs each"
    add("--server-url", metavar="URL,..", help=replicas)
    add("--model", metavar="NAME", help="default: what the server says")
    add("--range-ratio", metavar="R", help="shortest length as a part of the longest")
    add("--num-prompts-per-conc", metavar="N", help="default: the profile's")
    energy = "measure the energy of these GPUs of this machine, such as 0 or 0,2 or 0-7"
    add("--power", metavar="GPUS", help=energy)
    add("--title", metavar="T", help="above the table and the plot")
    folder = parser.add_mutually_exclusive_group()
    folder.add_argument("--output", type=Path, metavar="FOLDER", help="default: sweep_<time>")
    what = "go on with a sweep: what has passed is kept, flags that are left out are as they were"
    folder.add_argument("--resume", type=Path, metavar="FOLDER", help=what)
    return parser
