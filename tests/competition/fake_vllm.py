"""tests/server/fake_engine.py for the competition: of any version, and it shows its settings."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from tests.server import fake_engine


def main() -> None:
    if sys.argv[1] == "-c":
        version = os.environ.get("FAKE_VERSION", "0.32.0")
        engines = ("vllm", "sglang")
        found = {name: [version, f"/nowhere/{name}/__init__.py"] for name in engines}
        sys.stdout.write(json.dumps(found))
        return
    if "--config" in sys.argv:
        config = Path(sys.argv[sys.argv.index("--config") + 1])
        sys.stdout.write(f"config {oct(config.parent.stat().st_mode)} {config.read_text()}")
    fake_engine.main()


if __name__ == "__main__":
    main()
