"""The findings as a text of 80 columns, and as JSON."""

from __future__ import annotations

import json
import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import get_args

from cluster.doctor.facts import Facts
from cluster.doctor.finding import Finding, Level

WIDTH = 80
MARKS: dict[Level, str] = {"OK": "OK", "NOTE": "-", "WARN": "WARN", "FAIL": "FAIL", "UNKNOWN": "?"}
NAMES: dict[Level, str] = {"NOTE": "-", "UNKNOWN": "? (not checked)"}
INDENT = " " * 21

Groups = Mapping[str, Sequence[Finding]]


def render(groups: Groups) -> str:
    lines: list[str] = []
    for name, findings in groups.items():
        lines += [
            f"── {name} ".ljust(WIDTH, "─"),
            *(line for one in findings for line in _lines(one)),
        ]
    return "\n".join([*lines, "─" * WIDTH, _total(groups)])


def _lines(finding: Finding) -> Iterator[str]:
    head = f"{MARKS[finding.level]:<5}{finding.what:<15} "
    yield from _wrapped(finding.value, head, INDENT)
    if finding.remedy:
        yield from _wrapped(finding.remedy, INDENT + "-> ", INDENT + "   ")


def _wrapped(text: str, first: str, others: str) -> list[str]:
    """Long words are paths and values: they are cut rather than spill over."""
    return textwrap.wrap(
        text, WIDTH, initial_indent=first, subsequent_indent=others, break_on_hyphens=False
    ) or [first.rstrip()]


def counts(groups: Groups) -> dict[Level, int]:
    found = Counter(finding.level for findings in groups.values() for finding in findings)
    return {level: found[level] for level in get_args(Level)}


def _total(groups: Groups) -> str:
    shown: tuple[Level, ...] = ("FAIL", "WARN", "OK", "UNKNOWN")
    found = counts(groups)
    return ", ".join(f"{found[level]} {NAMES.get(level, level)}" for level in shown)


def exit_code(groups: Groups) -> int:
    return 1 if counts(groups)["FAIL"] else 0


def document(groups: Groups, facts: Facts) -> str:
    """Everything, for a bug report or another program; secrets are not in the facts."""
    findings = [
        {"group": name, **asdict(finding)} for name, found in groups.items() for finding in found
    ]
    whole = {"exit_code": exit_code(groups), "counts": counts(groups), "findings": findings}
    return json.dumps({**whole, "facts": asdict(facts)}, indent=2, default=sorted)
