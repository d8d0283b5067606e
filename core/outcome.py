"""What became of one query. A failure is data: it is counted, it is shown, and it fails the run."""

from __future__ import annotations

from enum import IntEnum


class Outcome(IntEnum):
    """The end of one query; everything but OK makes the run's verdict FAILED."""

    OK = 0
    CONNECT_TIMEOUT = 1  # no connection within the connect time-out
    FIRST_TOKEN_TIMEOUT = 2  # no token within the first-token time-out
    BETWEEN_TOKENS_TIMEOUT = 3  # the stream went silent after its first token
    TOTAL_TIMEOUT = 4  # the whole request took too long
    REFUSED = 5  # the replica does not accept connections
    DISCONNECTED = 6  # the connection ended before the answer did
    HTTP_ERROR = 7  # a status other than 200
    ENGINE_ERROR = 8  # an error or an abort reported inside HTTP 200
    BAD_STREAM = 9  # not the dialect's format
    COUNT_MISMATCH = 10  # the engine's own token counts differ from the ids it sent
    EMPTY = 11  # an answer without tokens
    TOO_SHORT = 12  # one token: LoadGen cannot express its TPOT
    TRUNCATED = 13  # stopped for length before the length that was asked for
    NO_REPLICA = 14  # every replica has been taken out
    CANCELLED = 15  # the run was interrupted
    WORKER_LOST = 16  # the client process that held the query died

    @property
    def label(self) -> str:
        return self.name.lower()


class Finish(IntEnum):
    """Why the engine stopped generating."""

    UNKNOWN = 0
    STOP = 1
    LENGTH = 2
