"""What a run of the competition is told by its environment variables, checked once.

The variables, their defaults and the warnings about missing ones are the original's. Two of its slips
are mended: a batch obeys MAX_MODEL_LEN and RANDOM_RANGE_RATIO, too, and a RESULT_FILENAME or
NUM_PROMPTS that still belongs to another CONC is noticed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from competition.profile import Lengths, Profile
from core.errors import ConfigError

RESULT = "result"
MAX_PORT, MAX_SEED = 65_535, 2**32 - 1
DERIVED = re.compile(r"result_isl\d+_osl\d+_conc\d+")


@dataclass(frozen=True, slots=True)
class Settings:
    """One point of the competition, and the server that it is measured on."""

    profile: Profile
    model: str
    urls: tuple[str, ...]
    tp: int
    lengths: Lengths
    concurrency: int
    max_model_len: int
    range_ratio: float
    n_prompts: int
    seed: int
    result: Path  # of the result file, without .json; the folder of the same name has the details
    warnings: tuple[str, ...] = ()
    power_gpus: tuple[int, ...] = ()  # of this machine, whose energy is measured

    @property
    def gpus_used(self) -> int:
        return self.tp * len(self.urls)

    def at(self, lengths: Lengths, concurrency: int, folder: Path) -> Settings:
        """The same for one point of a batch."""
        return replace(
            self,
            lengths=lengths,
            concurrency=concurrency,
            n_prompts=self.profile.prompts(lengths, concurrency),
            result=folder / result_name(lengths, concurrency),
        )


def result_name(lengths: Lengths, concurrency: int) -> str:
    return f"result_isl{lengths.isl}_osl{lengths.osl}_conc{concurrency}"


def read_settings(
    profile: Profile, environ: Mapping[str, str], urls: tuple[str, ...] = (), *, batch: bool
) -> Settings:
    """Take the variables. Raises ConfigError naming the one that cannot be used.

    urls: of the servers; without any, the one at PORT. batch: ISL, OSL and CONC come from elsewhere.
    """
    variables = _Variables(environ, profile.defaults)
    model = environ.get("MODEL", "").strip()
    if not model:
        raise ConfigError(
            f"MODEL is not set: source {profile.folder}/"
            + ("all_conc_var.sh" if batch else "specific_conc_var.sh")
            + " in this shell first, or export MODEL"
        )
    port = variables.natural("PORT", most=MAX_PORT, quiet=bool(urls))
    tp = variables.natural("TP")
    lengths = Lengths(variables.natural("ISL", quiet=batch), variables.natural("OSL", quiet=batch))
    concurrency = variables.natural("CONC", quiet=batch)
    made = Settings(
        profile=profile,
        model=model,
        urls=urls or (f"http://127.0.0.1:{port}",),
        tp=tp,
        lengths=lengths,
        concurrency=concurrency,
        max_model_len=variables.natural("MAX_MODEL_LEN"),
        range_ratio=variables.ratio("RANDOM_RANGE_RATIO"),
        n_prompts=profile.prompts(lengths, concurrency),
        seed=variables.natural("SEED", default="0", least=0, most=MAX_SEED, quiet=True),
        result=Path(RESULT),
    )
    if not batch:
        made = _single(made, variables)
    return replace(made, warnings=tuple(variables.warnings))


def _single(made: Settings, variables: _Variables) -> Settings:
    """What only a single run reads: NUM_PROMPTS and RESULT_FILENAME."""
    wanted = made.n_prompts
    n_prompts = variables.natural("NUM_PROMPTS", default=str(wanted))
    if n_prompts < made.concurrency:
        raise ConfigError(
            f"NUM_PROMPTS {n_prompts}: fewer than CONC {made.concurrency}, which is never reached; the "
            f"rules have {wanted}"
        )
    if n_prompts != wanted:
        variables.warnings.append(
            f"NUM_PROMPTS {n_prompts} is not the {wanted} that the rules have for CONC "
            f"{made.concurrency}; if that is not meant: export NUM_PROMPTS={wanted}"
        )
    return replace(made, n_prompts=n_prompts, result=_result(made, variables))


def _result(made: Settings, variables: _Variables) -> Path:
    text = variables.text("RESULT_FILENAME", RESULT)
    path = Path(text.removesuffix(".json"))
    if path.name in ("", ".."):
        raise ConfigError(f"RESULT_FILENAME {text}: must be the name of a file")
    derived = result_name(made.lengths, made.concurrency)
    if DERIVED.fullmatch(path.name) and path.name != derived:
        variables.warnings.append(
            f"RESULT_FILENAME {path.name} names another point than the one that is measured: "
            f"writing {derived}"
        )
        return path.with_name(derived)
    return path


class _Variables:
    """The environment, with a note of every default that is taken."""

    def __init__(self, environ: Mapping[str, str], defaults: Mapping[str, str]) -> None:
        self._environ, self._defaults = environ, defaults
        self.warnings: list[str] = []

    def text(self, name: str, default: str | None = None, *, quiet: bool = False) -> str:
        found = self._environ.get(name, "").strip()
        if found:
            return found
        value = self._defaults[name] if default is None else default
        if not quiet:
            self.warnings.append(f"{name} is not set, using {value}")
        return value

    def natural(
        self,
        name: str,
        default: str | None = None,
        *,
        least: int = 1,
        most: int = 10**9,
        quiet: bool = False,
    ) -> int:
        text = self.text(name, default, quiet=quiet)
        if not (text.isascii() and text.isdecimal()) or not least <= int(text) <= most:
            raise ConfigError(f"{name} {text}: must be a whole number from {least} to {most}")
        return int(text)

    def ratio(self, name: str) -> float:
        text = self.text(name)
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if not 0 < value <= 1:
            raise ConfigError(
                f"{name} {text}: must be above 0 and at most 1: the shortest length as a part of "
                "the longest, 1.0 for fixed lengths"
            )
        return value
