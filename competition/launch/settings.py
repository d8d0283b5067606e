"""What the competition's variable scripts export, read for a server."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from competition.profile import Profile
from core.errors import ConfigError

LOGS = Path("/tmp")  # where the quick start guide looks for them, whatever TMPDIR says


class NotSourced(ConfigError):
    """No variable script was sourced in this shell. 1, as the competition's own launch script."""

    exit_code = 1


@dataclass(frozen=True, slots=True)
class Settings:
    """None: not set, so the recipe decides."""

    model: str
    tp: int
    host: str
    port: int
    max_model_len: int
    gpu_memory_util: float | None
    block_size: int | None
    log: Path
    compile_sizes: str | None
    capture_sizes: str | None
    cudagraph_mode: str | None
    lengths: str  # "ISL/OSL"
    concurrency: int


def read(profile: Profile, environ: Mapping[str, str]) -> Settings:
    """Raises ConfigError. A variable that is set to nothing counts as not set."""
    given = {name: value for name, value in environ.items() if value}
    missing = [name for name in ("MODEL", "TP") if name not in given]
    if missing:
        raise NotSourced(
            f"{' and '.join(missing)} not set in this shell; "
            f"first: source {profile.folder}/specific_conc_var.sh (or all_conc_var.sh there)"
        )
    known = {**profile.defaults, **given}
    return Settings(
        model=known["MODEL"],
        tp=_number(known, "TP"),
        host=known.get("HOST", "0.0.0.0"),
        port=_port(known),
        max_model_len=_number(known, "MAX_MODEL_LEN"),
        gpu_memory_util=_share(known, "GPU_MEMORY_UTIL"),
        block_size=_number(known, "BLOCK_SIZE") if "BLOCK_SIZE" in known else None,
        log=_log(profile.engine, known.get("SERVER_LOG")),
        compile_sizes=known.get("COMPILE_SIZES"),
        capture_sizes=known.get("CUDAGRAPH_CAPTURE_SIZES"),
        cudagraph_mode=known.get("CUDAGRAPH_MODE"),
        lengths=f"{_number(known, 'ISL')}/{_number(known, 'OSL')}",
        concurrency=_number(known, "CONC"),
    )


def _number(known: Mapping[str, str], name: str) -> int:
    text = known[name]
    if not (text.isascii() and text.isdecimal() and int(text)):
        raise ConfigError(f"{name}={text}: not a positive whole number; export {name}=N")
    return int(text)


def _port(known: Mapping[str, str]) -> int:
    if (port := _number(known, "PORT")) > 65535:
        raise ConfigError(f"PORT={port}: above 65535; export PORT=N")
    return port


def _share(known: Mapping[str, str], name: str) -> float | None:
    if (text := known.get(name)) is None:
        return None
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1:
        raise ConfigError(f"{name}={text}: not a share above 0 and up to 1; export {name}=0.9")
    return value


def _log(engine: str, wanted: str | None) -> Path:
    if wanted is None:
        return LOGS / f"{engine}-server-{secrets.token_hex(3)}.log"
    log = Path(wanted)
    if log.exists() and not log.is_file():  # an earlier log is renamed: never so a device
        raise ConfigError(f"SERVER_LOG={log}: not a plain file; unset SERVER_LOG, or name another")
    return log.absolute()
