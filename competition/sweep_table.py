"""A sweep's figures in InferenceX's columns, as text and as Markdown. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from competition.power import JOULES_PER_OUTPUT, POWER

Document = Mapping[str, Any]
NONE = "n/a"


def per_used_gpu(document: Document, name: str) -> float | None:
    """A throughput divided by the GPUs that were used, whatever the node has."""
    value = document[name]
    return None if value is None else float(value) / int(document["gpus_used"])


def _plain(name: str) -> Callable[[Document], str]:
    return lambda document: str(document[name])


def _scaled(name: str, digits: int, scale: float = 1.0) -> Callable[[Document], str]:
    return lambda document: _number(document[name], digits, scale)


def _number(value: float | None, digits: int, scale: float = 1.0) -> str:
    return NONE if value is None else f"{value * scale:,.{digits}f}"


COLUMNS: Mapping[str, Callable[[Document], str]] = {
    "ISL": _plain("isl"),
    "OSL": _plain("osl"),
    "TP": _plain("tp"),
    "CONC": _plain("conc"),
    "TTFT (ms)": _scaled("median_ttft_ms", 1),
    "TPOT (ms)": _scaled("median_tpot_ms", 2),
    "Interactivity (tok/s/user)": _scaled("interactivity", 1),
    "E2EL (s)": _scaled("median_e2el_ms", 3, 1e-3),
    "Tput per GPU": lambda found: _number(per_used_gpu(found, "total_token_throughput"), 1),
    "Output tput per GPU": lambda found: _number(per_used_gpu(found, "output_throughput"), 1),
}
POWER_COLUMNS: Mapping[str, Callable[[Document], str]] = {
    "W per GPU": lambda found: _number(found.get(POWER), 1),
    "J per output token": lambda found: _number(found.get(JOULES_PER_OUTPUT), 3),
}
FOOT = "Medians; throughput in tokens per second and GPU that was used. Accuracy was not measured."
POWER_FOOT = " W and J are of the GPUs that --power names, without their host."


def has_power(documents: Iterable[Document]) -> bool:
    return any(found.get(POWER) is not None for found in documents)


def foot(documents: Iterable[Document]) -> str:
    """What the figures are."""
    return FOOT + (POWER_FOOT if has_power(documents) else "")


def ordered(documents: Iterable[Document]) -> list[Document]:
    return sorted(
        documents, key=lambda found: tuple(found[key] for key in ("isl", "osl", "tp", "conc"))
    )


def as_text(documents: Iterable[Document]) -> str:
    """Aligned columns."""
    lines = _cells(documents)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(map(str.rjust, line, widths)) for line in lines)


def as_markdown(title: str, documents: Sequence[Document], failures: Sequence[str]) -> str:
    head, *rows = _cells(documents)
    rows = [head, ["--:"] * len(head), *rows]
    lines = [f"# {title}", "", *(f"| {' | '.join(row)} |" for row in rows), "", foot(documents)]
    if failures:
        lines += ["", "Failed:", "", *(f"* {failure}" for failure in failures)]
    return "\n".join([*lines, ""])


def _cells(documents: Iterable[Document]) -> list[list[str]]:
    """The head and a line for each; with power where it was measured."""
    lines = ordered(documents)
    columns = {**COLUMNS, **(POWER_COLUMNS if has_power(lines) else {})}
    return [list(columns), *([cell(found) for cell in columns.values()] for found in lines)]
