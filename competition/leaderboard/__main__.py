"""`python -m competition.leaderboard`: run the leaderboard, make tokens, take the results out."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from competition.files import write_text
from competition.leaderboard.export import as_json
from competition.leaderboard.space_folder import assemble
from competition.leaderboard.store import Store
from competition.leaderboard.tokens import make_token
from competition.profile import DEFAULT
from core.errors import ConfigError, HarnessError, SetupError


def main(argv: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    try:
        match args.command:
            case "serve":
                _serve(args)
            case "token":
                sys.stdout.write(f"{make_token(args.tokens, args.team)}\n")
            case "export":
                _export(args.database, args.file)
            case "space":
                assemble(args.folder)
    except HarnessError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


def _serve(args: argparse.Namespace) -> None:
    missing = [name for name in ("gradio", "plotly") if find_spec(name) is None]
    if missing:
        raise SetupError(f"not installed: {', '.join(missing)}; run ./setup.sh --competition")
    # Read when Gradio is imported, so set before.
    os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1"}
    from competition.leaderboard.serve import Options, serve

    names = ("host", "port", "database", "tokens", "rate", "behind_proxy", "profile")
    serve(Options(**{name: getattr(args, name) for name in names}))


def _export(database: Path, file: Path) -> None:
    if not database.exists():
        raise ConfigError(f"--database {database}: there is none; give the one that was served")
    write_text(file, as_json(Store(database).all()))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m competition.leaderboard", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve", help="run the web server")
    serve.add_argument("--host", default="127.0.0.1", help="address to listen at (%(default)s)")
    serve.add_argument("--port", type=_port, default=7860, help="0 for any free one (%(default)s)")
    serve.add_argument("--tokens", type=Path, help="file of the command token")
    serve.add_argument(
        "--rate", type=_positive, default=30, help="submissions in a minute (%(default)s)"
    )
    serve.add_argument(
        "--behind-proxy", action="store_true", help="believe the proxy's x-forwarded headers"
    )
    serve.add_argument("--profile", default=DEFAULT, help="the competition's rules (%(default)s)")
    token = commands.add_parser("token", help="make a team's token and print it, once")
    token.add_argument("team")
    token.add_argument("--tokens", type=Path, default=Path("tokens.json"), help="(%(default)s)")
    export = commands.add_parser("export", help="write all results as JSON")
    export.add_argument("file", type=Path)
    for command in (serve, export):
        command.add_argument(
            "--database", type=Path, default=Path("leaderboard.sqlite3"), help="(%(default)s)"
        )
    space = commands.add_parser("space", help="assemble a folder to push as a Hugging Face Space")
    space.add_argument("folder", type=Path)
    return parser


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text}: not a port, 0 to 65535")
    return int(text)


def _positive(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text}: expected a whole number from 1")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
