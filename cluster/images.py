"""Which image has an engine for a platform: a line of images.txt, which setup_enroot.sh reads, too."""

from __future__ import annotations

import re
from pathlib import Path

from core.errors import ConfigError

TABLE = Path(__file__).with_name("images.txt")


def image_of(engine: str, platform: str, gpu: str | None) -> str:
    """Of the GPU's own line, else of the one for all others (*). Raises ConfigError."""
    lines = [line.partition("#")[0].split() for line in TABLE.read_text("utf-8").splitlines()]
    known = {line[2].upper(): line[3] for line in lines if line[:2] == [engine, platform]}
    if not known:
        raise ConfigError(
            f"no image is known for {engine} on {platform}: set image in the site's file"
        )
    for name in ((gpu or "*").upper(), "*"):
        if name in known:
            return known[name]
    raise ConfigError(
        f"no image is known for {engine} on {platform} for the GPU {gpu or '(not named)'}, only for "
        f"{', '.join(known)}: set gpus: name, or image, in the site's file"
    )


def enroot_name(image: str) -> str:
    """As pyxis and enroot want it: REGISTRY#NAME where there is a registry.

    Every enroot takes that; only since 4.0 is the first part of nvcr.io/nvidia/x a registry, too.
    """
    image = image.removeprefix("docker://")
    first, slash, rest = image.partition("/")
    registry = slash and "#" not in image and ("." in first or ":" in first or first == "localhost")
    return f"{first}#{rest}" if registry else image


def squash_name(image: str) -> str:
    """The file that an image is imported to, as enroot's users name it."""
    return re.sub(r"[/:@#]", "_", image.removeprefix("docker://")) + ".sqsh"
