"""What the rendered script tells the orchestrator: commands, word by word, and limits.

The plan stands in the script as JSON, so that a script is all that a job needs, can be read and
edited on the cluster, and is kept with its results. `{node}` and `{job}` in a word are filled in
when a step is started; the word `{replicas}` becomes the flags for their number on that node, how
many of them may be missing, and its GPUs to leave out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from cluster.chain import Measurement
from core.errors import ConfigError

Words = tuple[str, ...]
REPLICAS = "{replicas}"
WIDTH = 100


@dataclass(frozen=True, slots=True)
class Plan:
    """One job, ready to be driven on its first node."""

    name: str
    folder: str
    python: str
    system: dict[str, Any]  # what serves: a result holds for this and for nothing else
    files: Words  # that the measurements read
    nodes: int
    replicas_per_node: int
    min_replicas: int
    ready_timeout_s: int
    patience_s: int
    warn_s: int
    grace_s: int
    kill_wait_s: int
    domain: str
    excluded_gpus: dict[str, str]
    prepare: Words  # once, on the first node; empty: nothing
    check: Words  # on each node before anything starts there; empty: nothing
    serve: Words  # on each node
    clean: Words  # on each node at the end; empty: nothing
    here: Words  # names of the measurements that this job makes
    measurements: tuple[Measurement, ...]  # the whole chain

    @property
    def todo(self) -> tuple[Measurement, ...]:
        return tuple(one for one in self.measurements if one.name in self.here)

    def needed(self, one: Measurement) -> tuple[Measurement, ...]:
        """What must have passed before it."""
        return tuple(other for other in self.measurements if other.name in one.needs)

    def serve_on(self, node: str, job: str) -> Words:
        left_out = self.excluded_gpus.get(node)
        here = self.replicas_on(node)
        flags = ["--dp", str(here)]
        flags += ["--exclude-gpus", left_out] if left_out else []
        if missing := self.wanted - self.min_replicas:  # no node may be missing more
            flags += ["--min-replicas", str(max(1, here - missing))]
            flags += ["--patience", str(self.patience_s)]
        words: list[str] = []
        for word in self.serve:
            words += flags if word == REPLICAS else [word]
        return fill(words, node=node, job=job)

    @property
    def wanted(self) -> int:
        """Replicas of all nodes."""
        left_out = sum(len(gpus.split(",")) for gpus in self.excluded_gpus.values())
        return self.nodes * self.replicas_per_node - left_out

    def replicas_on(self, node: str) -> int:
        left_out = self.excluded_gpus.get(node)
        return self.replicas_per_node - (len(left_out.split(",")) if left_out else 0)

    def to_json(self) -> str:
        """To be read by people, too: a command's words fill lines."""
        return _laid_out(asdict(self), "")


def fill(words: Words | list[str], **values: str) -> Words:
    """Each `{name}` by its value."""
    filled = []
    for word in words:
        for name, value in values.items():
            word = word.replace(f"{{{name}}}", value)
        filled.append(word)
    return tuple(filled)


def _laid_out(value: object, indent: str) -> str:
    inner = indent + "  "
    if isinstance(value, dict) and value:
        lines = [f"{inner}{json.dumps(k)}: {_laid_out(v, inner)}" for k, v in value.items()]
    elif isinstance(value, tuple) and all(isinstance(word, str) for word in value):
        lines = _filled([json.dumps(word) for word in value], inner)
    elif isinstance(value, tuple):
        lines = [inner + _laid_out(item, inner) for item in value]
    else:
        return json.dumps(value)
    start, end = ("{", "}") if isinstance(value, dict) else ("[", "]")
    separator = (
        ",\n" if isinstance(value, dict) or not value or isinstance(value[0], dict) else "\n"
    )
    return f"{start}\n{separator.join(lines)}\n{indent}{end}" if lines else f"{start}{end}"


def _filled(words: list[str], indent: str) -> list[str]:
    """Lines of words with their commas, each as long as fits."""
    lines: list[str] = []
    for number, word in enumerate(words, 1):
        text = word + ("," if number < len(words) else "")
        if lines and len(lines[-1]) + 1 + len(text) <= WIDTH:
            lines[-1] += f" {text}"
        else:
            lines.append(indent + text)
    return lines


def read_plan(text: str) -> Plan:
    """Raises ConfigError for what was edited by hand and does not fit."""
    try:
        content = json.loads(text)
        chain = [_measurement(one) for one in content.pop("measurements")]
        _only(Plan, {*content, "measurements"})
        return Plan(**_tuples(content), measurements=tuple(chain))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ConfigError(f"the plan in the script cannot be used: {error}") from None


def _measurement(content: Mapping[str, Any]) -> Measurement:
    _only(Measurement, set(content))
    return Measurement(**_tuples(content))


def _only(kind: type[Plan] | type[Measurement], names: set[str]) -> None:
    wanted = {field.name for field in fields(kind)}
    if names != wanted:
        raise ValueError(f"missing or unknown: {', '.join(sorted(names ^ wanted))}")


def _tuples(content: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(v) if isinstance(v, list) else v for name, v in content.items()}
