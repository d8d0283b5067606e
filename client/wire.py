"""What main process and workers say to each other, as fixed-size little-endian structs over pipes.

main -> worker   COMMAND: one query to send; as its index, SET_LIMIT (a replica's number as the id, its
                 new limit as the value) or CANCEL_ALL
worker -> main   HEADER, then for
                   FIRST  the ids known at the first token
                   DONE   the query's RECORD, then its ids, or the reason of its failure as text
                   STATS  the worker's own account of its run (core.account) as JSON, when it ends
                   READY  nothing: the worker can take commands
"""

from __future__ import annotations

import struct

from core.record import RECORD_STRUCT

COMMAND = struct.Struct("<QqII")  # query id, due_ns, index, value
CANCEL_ALL = 0xFFFF_FFFF
SET_LIMIT = 0xFFFF_FFFE

HEADER = struct.Struct("<BBxxIQQ")  # kind, outcome, payload bytes, query id, n_tokens
FIRST, DONE, STATS, READY = 1, 2, 3, 4
RECORD_SIZE = RECORD_STRUCT.size
PIPE_BYTES = 1 << 20


def first_message(query_id: int, ids: bytes) -> bytes:
    return HEADER.pack(FIRST, 0, len(ids), query_id, len(ids) // 4) + ids


def done_message(
    query_id: int, outcome: int, n_tokens: int, record: bytes, data: bytes = b""
) -> bytes:
    size = RECORD_SIZE + len(data)
    return HEADER.pack(DONE, outcome, size, query_id, n_tokens) + record + data


def stats_message(text: bytes) -> bytes:
    return HEADER.pack(STATS, 0, len(text), 0, 0) + text


def ready_message() -> bytes:
    return HEADER.pack(READY, 0, 0, 0, 0)
