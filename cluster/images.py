"""Which image has an engine for a platform: a line of images.txt, which setup_enroot.sh reads, too."""

from __future__ import annotations

import re
from pathlib import Path

from core.errors import ConfigError

TABLE = Path(__file__).with_name("images.txt")


def image_of(engine: str, platform: str) -> str:
    """The first one of the table. Raises ConfigError."""
    for line in TABLE.read_text(encoding="utf-8").splitlines():
        columns = line.partition("#")[0].split()
        if columns[:2] == [engine, platform]:
            return columns[3]
    raise ConfigError(f"no image is known for {engine} on {platform}: set image in the site's file")


def squash_name(image: str) -> str:
    """The file that an image is imported to, as enroot's users name it."""
    return re.sub(r"[/:@#]", "_", image.removeprefix("docker://")) + ".sqsh"
