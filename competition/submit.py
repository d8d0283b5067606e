"""Sending a result to a leaderboard: the competition's own Spaces, or ours.

A submission is on disk before anything is sent. What a leaderboard may have got is never sent again
by itself: only a connection that could not be made at all is tried anew. Acceptance is what the
leaderboard says of the event, not the answer to the POST.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from competition.events import Event, read_outcome
from competition.files import write_json
from competition.payload import Value, payload_values, team_name
from competition.profile import Lengths, Profile
from competition.web import Unreachable, Web
from core.errors import ConfigError, RunError

API = "gradio_api"
RETRY_WAITS_S = (1.0, 2.0, 4.0)
MESSAGE_LIMIT = 300  # characters
EVENT_ID = re.compile(r"[A-Za-z0-9_-]{1,100}")
REQUEST_TIMEOUT = 408
LOOK = "look at the leaderboard before you send it again"


class Unconfirmed(RunError):
    """The leaderboard may have got the submission, and did not say what became of it."""


@dataclass(frozen=True, slots=True)
class Submission:
    """One result of one team, and where it goes."""

    team: str
    url: str
    values: tuple[Value, ...]
    document: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Receipt:
    """What the leaderboard said. Rank and the rest: only of our own leaderboard."""

    accepted: bool
    message: str
    duplicate: bool = False
    rank: int | None = None
    of: int | None = None
    board: str | None = None


def leaderboard_url(profile: Profile, lengths: Lengths, override: str | None) -> str:
    """Where results of that pair go, without a slash at the end. override: LB_URL_OVERRIDE.

    Raises ConfigError for an address that is none, or a pair without a leaderboard.
    """
    url = override or profile.rule(lengths).leaderboard
    if url is None:
        raise ConfigError(
            f"ISL/OSL {lengths}: {profile.name} has no leaderboard for it; set LB_URL_OVERRIDE"
        )
    return checked_url(url)


def make_submission(
    team: str, url: str, document: Mapping[str, Any], profile: Profile
) -> Submission:
    """Raises ConfigError for a team name or a result that cannot be submitted."""
    values = tuple(payload_values(team, document, profile))
    return Submission(team_name(team), checked_url(url), values, document)


def store(submission: Submission, path: Path) -> None:
    """Raises SetupError where it cannot be written."""
    write_json(path, asdict(submission))


def load(path: Path) -> Submission:
    """Raises ConfigError for a file that is none of `store`."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        values, document = tuple(data["values"]), dict(data["document"])
        url = data["url"]
        if not isinstance(url, str):
            raise TypeError(f"url {url!r} is no text")
        return Submission(team_name(data["team"]), checked_url(url), values, document)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path}: not a stored submission: {error}") from None


def dry_run_text(submission: Submission) -> str:
    """What would be sent, and where."""
    return (
        f"POST {submission.url}/{API}/call/submit_results\n"
        f"{json.dumps({'data': submission.values}, ensure_ascii=False)}\n"
        "(a leaderboard that has submit_document gets the whole result file instead)\n"
    )


def send(
    submission: Submission,
    token: str | None,
    timeout_s: float,
    retry_waits_s: Sequence[float] = RETRY_WAITS_S,
) -> Receipt:
    """Sends it once.

    Raises Unconfirmed where it may have arrived, any other RunError where the leaderboard does not
    have it, ConfigError for a token that cannot be one.
    timeout_s: for each of the three requests. token: of the team, for our own leaderboard.
    """
    token = checked_token(token)
    web = Web(submission.url, timeout_s, retry_waits_s)
    ours = _takes_documents(web)
    path = f"{API}/call/{'submit_document' if ours else 'submit_results'}"
    event_id = _post(web, path, submission, token if ours else None, ours)
    try:
        with web.open(f"{path}/{event_id}") as answer:
            outcome = read_outcome(answer, timeout_s)
    except RunError as error:
        raise Unconfirmed(
            f"{submission.url}: took the submission, but did not confirm it: {error}; {LOOK}"
        ) from None
    return _receipt(outcome)


def checked_token(token: str | None) -> str | None:
    """Without space around it; None for nothing. Raises ConfigError, which never shows it."""
    stripped = (token or "").strip()
    if not (stripped.isascii() and stripped.isprintable()):
        raise ConfigError(
            "LB_TOKEN: holds characters that no token has (not printable ASCII): export it again "
            "as the leaderboard gave it"
        )
    return stripped or None


def checked_url(url: str) -> str:
    """Without a slash at the end. Raises ConfigError for what is no leaderboard's address."""
    try:
        parts = urlsplit(url)
        sound = parts.scheme in ("http", "https") and parts.hostname and (parts.port or 1)
    except ValueError:
        sound = False
    clean = url.isascii() and url.isprintable() and not set(url) & set(" ?#@\\")
    if not (sound and clean):
        raise ConfigError(f"leaderboard {url!a}: expected http://HOST or https://HOST, PATH")
    return url.rstrip("/")


def _takes_documents(web: Web) -> bool:
    """Whether it is one of ours. A leaderboard that does not describe itself is not."""
    status, body = web.get(f"{API}/info")
    try:
        return status == 200 and "/submit_document" in json.loads(body)["named_endpoints"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return False


def _post(web: Web, path: str, submission: Submission, token: str | None, ours: bool) -> str:
    document = json.dumps(submission.document, ensure_ascii=False)
    data = [submission.team, document] if ours else list(submission.values)
    try:
        status, body = web.post(path, {"data": data}, token)
    except Unreachable:
        raise
    except RunError as error:
        raise Unconfirmed(f"{error}; it may have got the submission: {LOOK}") from None
    if 400 <= status < 500 and status != REQUEST_TIMEOUT:
        raise RunError(f"{submission.url}: HTTP {status}, not taken: {_plain(body)}")
    if status != 200 or (event_id := _event_id(body)) is None:
        raise Unconfirmed(
            f"{submission.url}: HTTP {status} without an event id: {_plain(body)}; {LOOK}"
        )
    return event_id


def _event_id(body: str) -> str | None:
    try:
        found = json.loads(body)["event_id"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return found if isinstance(found, str) and EVENT_ID.fullmatch(found) else None


def _receipt(outcome: Event) -> Receipt:
    if outcome.name == "error":
        error = outcome.data.get("error") if isinstance(outcome.data, dict) else outcome.data
        return Receipt(accepted=False, message=_plain(error or "refused without a reason"))
    values = outcome.data if isinstance(outcome.data, list) else [outcome.data]
    answer = values[0] if values else ""
    if not isinstance(answer, dict):
        return Receipt(accepted=True, message=_plain(answer))
    rank, of, board = (answer.get(name) for name in ("rank", "of", "board"))
    return Receipt(
        accepted=answer.get("accepted") is True,
        message=_plain(answer.get("message", "")),
        duplicate=answer.get("duplicate") is True,
        rank=rank if isinstance(rank, int) else None,
        of=of if isinstance(of, int) else None,
        board=_plain(board) if isinstance(board, str) else None,
    )


def _plain(value: object) -> str:
    """Foreign text for a terminal: one short line without control characters."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    line = "".join(mark if mark.isprintable() else " " for mark in text)
    return " ".join(line.split())[:MESSAGE_LIMIT]
