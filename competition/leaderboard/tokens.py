"""Teams' tokens: a team that has one can only be submitted for with it.

The file holds sha256 sums alone. A token is 256 random bits, so its sum needs no salt, and the file
may stand in a public Space.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections.abc import Mapping
from pathlib import Path

from competition.files import write_json
from competition.leaderboard.entry import team_key
from competition.payload import team_name
from core.errors import ConfigError, SetupError


def make_token(path: Path, team: str) -> str:
    """A new token of the team, which replaces an earlier one."""
    token = secrets.token_urlsafe(32)
    sums = read_tokens(path) if path.exists() else {}
    write_json(path, sums | {team_key(team_name(team)): _sum(token)})
    return token


def read_tokens(path: Path | None) -> dict[str, str]:
    """sha256 of each team's token, by the team's key; none without a file. Raises SetupError."""
    if path is None:
        return {}
    try:
        sums = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SetupError(f"--tokens {path}: {error}; make it with the command token") from None
    if not isinstance(sums, dict) or not all(isinstance(value, str) for value in sums.values()):
        raise SetupError(f"--tokens {path}: not a tokens file; make it with the command token")
    return sums


def check_token(sums: Mapping[str, str], team: str, token: str | None) -> None:
    """Raises ConfigError where the team has a token and this is not it."""
    expected = sums.get(team_key(team))
    if expected is not None and not hmac.compare_digest(expected, _sum(token or "")):
        raise ConfigError("this team has a token; send it as Authorization: Bearer TOKEN")


def _sum(token: str) -> str:
    return hashlib.sha256(token.encode(errors="replace")).hexdigest()
