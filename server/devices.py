"""Which GPUs this job may use, and the variables that show one of them to a replica.

ROCm filters twice: ROCR_VISIBLE_DEVICES first, then HIP_ (or CUDA_) VISIBLE_DEVICES among what is
left. So a job's ROCR list stays as it is and the others count from 0 within it. A job's ids may be
global, local to a cgroup, or UUIDs: they are counted and passed on, never interpreted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from core.errors import ConfigError

# Each may hold another numbering of the same GPUs; vLLM on ROCm refuses HIP_ and CUDA_ that differ.
ROCM_VARIABLES = ("CUDA_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL", "HIP_VISIBLE_DEVICES")
SHOWS = {"rocm": "HIP_VISIBLE_DEVICES", "cuda": "CUDA_VISIBLE_DEVICES"}


@dataclass(frozen=True, slots=True)
class Pool:
    """The GPUs of this job, in order, as their variable names them."""

    tokens: tuple[str, ...]
    origin: str  # where the list comes from, for messages


def pool(platform: str, environ: Mapping[str, str], count: int) -> Pool:
    """count: GPUs that the machine has, used where the job sets no list."""
    if platform == "cpu":
        return Pool((), "no GPU")
    if platform == "rocm" and "ROCR_VISIBLE_DEVICES" in environ:
        n = len(_tokens(environ["ROCR_VISIBLE_DEVICES"]))
        return Pool(_numbered(n), "ROCR_VISIBLE_DEVICES")
    names = ("HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES")
    for name in names if platform == "rocm" else names[1:]:
        if name in environ:
            return Pool(_tokens(environ[name]), name)
    return Pool(_numbered(count), "the machine")


def choose(
    among: Pool, dp: int | None, wanted: Sequence[str] | None, excluded: Sequence[str]
) -> tuple[str, ...]:
    """The tokens of the GPUs to use, one per replica. Raises ConfigError."""
    left_out = {_find(among, name, "--exclude-gpus") for name in excluded}
    listed = among.tokens if wanted is None else [_find(among, name, "--gpus") for name in wanted]
    free = [token for token in listed if token not in left_out]
    n = dp or (len(free) if wanted or excluded else 1)
    if not free or n > len(free):
        raise ConfigError(
            f"{n} replicas wanted, {len(free)} GPUs to use ({among.origin} gives "
            f"{len(among.tokens)}): lower --dp, or widen --gpus, --exclude-gpus or {among.origin}"
        )
    return tuple(free[:n])


def variables(platform: str, tokens: Sequence[str]) -> tuple[dict[str, str], tuple[str, ...]]:
    """(variables to set, variables to remove) so that an engine sees these GPUs and no others."""
    if platform == "cpu":
        return {}, ()
    shown = SHOWS[platform]
    removed = [name for name in ROCM_VARIABLES if name != shown] if platform == "rocm" else []
    return {shown: ",".join(tokens)}, tuple(removed)


def _find(among: Pool, name: str, flag: str) -> str:
    """A position, or a token itself (a UUID)."""
    if name in among.tokens and not name.isdigit():
        return name
    if name.isdigit() and int(name) < len(among.tokens):
        return among.tokens[int(name)]
    last = len(among.tokens) - 1
    raise ConfigError(
        f"{flag} {name}: {among.origin} gives {last + 1} GPUs"
        + (f", counted from 0 to {last}" if last >= 0 else "")
    )


def _tokens(text: str) -> tuple[str, ...]:
    found = tuple(part.strip() for part in text.split(",") if part.strip())
    return () if found[:1] in (("NoDevFiles",), ("-1",)) else found


def _numbered(n: int) -> tuple[str, ...]:
    return tuple(map(str, range(n)))
