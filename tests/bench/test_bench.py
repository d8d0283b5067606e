"""The instruments: truth matched with records, repetitions made a table, streams that are counted."""

from __future__ import annotations

import os

import numpy as np
import pytest

from bench.processes import process_tree, pss_bytes
from bench.table import as_json, gather, markdown, rows
from bench.timing import compare
from client.busy import cpu_s_of
from core.record import RECORD
from results.records import Records

MS = 1_000_000
PROMPTS = np.array([[1, 2], [5, 6]], np.int32)


def queries(*rows_: tuple[int, int, int, int, int]) -> Records:
    """(index, due, sent, first token, done), in milliseconds."""
    records = np.zeros(len(rows_), RECORD)
    names = ("index", "due_ns", "sent_ns", "first_token_ns", "done_ns")
    for record, values in zip(records, rows_, strict=True):
        for name, value in zip(names, values, strict=True):
            record[name] = value * (1 if name == "index" else MS)
    return records


def entry(total: int, arrived: int, first: int, done: int) -> dict[str, int]:
    instants = {"arrived_ns": arrived, "first_ns": first, "done_ns": done}
    return {"prompt_sum": total} | {name: value * MS for name, value in instants.items()}


def test_errors_are_of_the_query_that_they_belong_to() -> None:
    records = queries((1, 10, 13, 120, 330), (0, 0, 0, 101, 301), (0, 20, 20, 120, 320))
    truth = [entry(3, 21, 121, 321), entry(11, 14, 114, 314), entry(3, 1, 101, 301)]
    found = compare(records, PROMPTS, truth)
    assert found.ttft_error_ms.tolist() == [1, 10, 0]  # in the order in which they were sent
    assert found.tpot_error_percent.tolist() == pytest.approx([0, 5, 0])
    assert found.lateness_ms.tolist() == [0, 3, 0]
    assert found.figures("D")["D late p99"] == pytest.approx(2.94)


@pytest.mark.parametrize(
    "truth",
    [
        [entry(3, 1, 101, 301)],
        [entry(3, 1, 101, 301), entry(3, 1, 101, 301)],
        [entry(3, 1, 101, 301), entry(11, 12, 114, 314)],
        [entry(3, 1, 101, 301), entry(11, 14, 114, 314), entry(11, 19, 114, 314)],
    ],
)
def test_entries_of_other_queries_are_no_figures(truth: list[dict[str, int]]) -> None:
    records = queries((0, 0, 0, 101, 301), (1, 10, 13, 120, 330))
    with pytest.raises(ValueError, match="entr"):
        compare(records, PROMPTS, truth)


def test_prompts_that_cannot_be_told_apart() -> None:
    with pytest.raises(ValueError, match="same sum"):
        compare(queries(), np.array([[1, 2], [2, 1]], np.int32), [])


def test_the_table() -> None:
    values = gather(
        [{"C": (90.0, 30.0)}, {"A": (20.0, 8.0)}, {"A": (30.0, 10.0)}, {"A": (26.0, 9.0)}]
    )
    assert list(values) == ["A", "C"]
    (key, _, unit, *cells), other = rows(values)
    assert (key, unit) == ("A", "us/query")
    assert cells == ["26", "20 to 30", "9", "2.9", "25", "over"]
    assert other[-1] == "ok"
    assert len({len(line) for line in markdown(rows(values)).splitlines()}) == 1
    assert '"ours": [' in as_json(values)


def test_a_tree_of_processes() -> None:
    assert os.getpid() in process_tree(os.getppid())
    assert pss_bytes(os.getpid()) > 1_000_000
    assert list(process_tree(2**22 + 1)) == []
    assert pss_bytes(2**22 + 1) == cpu_s_of(2**22 + 1) == 0
    assert cpu_s_of(os.getpid()) > 0
