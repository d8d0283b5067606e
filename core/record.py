"""One query's record: 64 bytes, written by a client process and stored as it is.

Instants are CLOCK_MONOTONIC nanoseconds, the clock that LoadGen uses too; 0 means "did not happen".
Derived numbers (TTFT, TPOT) are never stored; `results.latency` computes them from these instants.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

from core.outcome import Finish, Outcome

RECORD = np.dtype(
    [
        ("query_id", "<u8"),  # LoadGen's id of the query
        ("due_ns", "<i8"),  # when the schedule wanted it sent
        ("sent_ns", "<i8"),  # when its bytes were handed to the socket
        ("first_token_ns", "<i8"),  # when the read that held the first token arrived
        ("done_ns", "<i8"),  # when the read that ended the answer arrived
        ("index", "<u4"),  # row of the dataset
        ("prompt_tokens", "<u4"),
        ("n_tokens", "<u4"),  # all generated tokens, the first one included
        ("n_events", "<u4"),  # stream events that carried them
        ("replica", "<u2"),  # NO_REPLICA when it never had one
        ("status", "<u2"),  # HTTP status, 0 without an answer
        ("outcome", "u1"),  # core.outcome.Outcome
        ("finish", "u1"),  # core.outcome.Finish
        ("attempts", "u1"),  # 2: a kept-alive connection had been closed, the bytes were sent again
        ("worker", "u1"),
    ]
)
RECORD_STRUCT = struct.Struct("<QqqqqIIIIHHBBBB")
assert RECORD_STRUCT.size == RECORD.itemsize == 64
UNASSIGNED_REPLICA = 0xFFFF


@dataclass(eq=False)
class Completion:
    """The record of one query while it is being made.

    Without slots, so that the defaults are class attributes: client.exchange builds on that.
    """

    query_id: int
    index: int
    due_ns: int
    prompt_tokens: int = 0
    sent_ns: int = 0
    first_token_ns: int = 0
    done_ns: int = 0
    n_tokens: int = 0
    n_events: int = 0
    replica: int = UNASSIGNED_REPLICA
    status: int = 0
    outcome: Outcome = Outcome.OK
    finish_reason: Finish = Finish.UNKNOWN
    attempts: int = 0
    worker: int = 0

    def pack(self) -> bytes:
        return RECORD_STRUCT.pack(
            self.query_id,
            self.due_ns,
            self.sent_ns,
            self.first_token_ns,
            self.done_ns,
            self.index,
            self.prompt_tokens,
            self.n_tokens,
            self.n_events,
            self.replica,
            self.status,
            self.outcome,
            self.finish_reason,
            self.attempts,
            self.worker,
        )
