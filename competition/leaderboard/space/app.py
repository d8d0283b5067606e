"""The leaderboard as a Hugging Face Space, which is this file's command line: its variables."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from competition.leaderboard.__main__ import main
from competition.profile import DEFAULT

STORAGE = Path("/data")


def arguments() -> list[str]:
    """Of `python -m competition.leaderboard`. A Space is always behind Hugging Face's proxy."""
    own = STORAGE if STORAGE.is_dir() else Path(__file__).resolve().parent
    folder = Path(os.environ.get("LEADERBOARD_FOLDER", own))
    tokens = folder / "tokens.json"
    return [
        *("serve", "--behind-proxy"),
        *("--host", os.environ.get("GRADIO_SERVER_NAME", "0.0.0.0")),
        *("--port", os.environ.get("GRADIO_SERVER_PORT", "7860")),
        *("--profile", os.environ.get("LEADERBOARD_PROFILE", DEFAULT)),
        *("--rate", os.environ.get("LEADERBOARD_RATE", "30")),
        *("--database", str(folder / "leaderboard.sqlite3")),
        *(("--tokens", str(tokens)) if tokens.exists() else ()),
    ]


if __name__ == "__main__":
    sys.exit(main(arguments()))
