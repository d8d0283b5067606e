"""Where submissions are taken: who may send how much, what is valid, what is answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from competition.leaderboard.entry import Entry, from_document, from_values
from competition.leaderboard.ranking import standing
from competition.leaderboard.rate import RateLimit
from competition.leaderboard.store import Store
from competition.leaderboard.tokens import check_token
from competition.profile import Lengths, Profile
from core.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Sender:
    """Who submits: the address that the limit counts, the token, the address of this site."""

    address: str
    token: str | None
    site: str


@dataclass(frozen=True, slots=True)
class Desk:
    """One profile's. All methods raise ConfigError with a sentence for the one who submits."""

    profile: Profile
    store: Store
    tokens: Mapping[str, str]
    rate: RateLimit

    def take_values(
        self, values: Sequence[object], lengths: Lengths | None, sender: Sender
    ) -> dict[str, Any]:
        """The list that the competition's program sends, to the address of that pair's board."""
        self.rate.count(f"address {sender.address}")
        if lengths is None:
            boards = ", ".join(sender.site + path_of(pair) for pair in self.profile.rules)
            raise ConfigError(f"the values name no lengths; send them to one of {boards}")
        return self._take(from_values(values, self.profile, lengths, datetime.now(UTC)), sender)

    def take_document(
        self, team: object, text: object, sender: Sender, only: Lengths | None = None
    ) -> dict[str, Any]:
        """A result file's text. only: the pair of lengths that it must be of."""
        self.rate.count(f"address {sender.address}")
        entry = from_document(team, text, self.profile, datetime.now(UTC), only)
        return self._take(entry, sender)

    def _take(self, entry: Entry, sender: Sender) -> dict[str, Any]:
        check_token(self.tokens, entry.team, sender.token)
        # After the token: nobody uses up another team's share.
        self.rate.count(f"team {entry.key}")
        new = self.store.add(entry, datetime.now(UTC))
        rows = self.store.board(self.profile.name, entry.lengths)
        rank, of = standing(rows, entry.team, entry.concurrency)
        place = f"{entry.team} has rank {rank} of {of} at {entry.lengths}, CONC {entry.concurrency}"
        return {
            "accepted": True,
            "duplicate": not new,
            "rank": rank,
            "of": of,
            "board": sender.site + path_of(entry.lengths),
            "message": place if new else f"{place}; this result was there already",
        }


def path_of(lengths: Lengths) -> str:
    return f"/isl{lengths.isl}osl{lengths.osl}"
