"""A YAML file of the user's, read field by field: each is taken once, what is left over is refused.

Every scalar is read as the text that stands there and converted by who wants it: YAML 1.1 itself
takes 02:00:00 for 7200, `no` for false and 010 for 8.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import yaml

from core.errors import ConfigError

TRUTH = {"true": True, "yes": True, "false": False, "no": False}
NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"
CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class _Loader(yaml.BaseLoader):  # type: ignore[misc]
    """Text, lists and mappings alone; a name that stands twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [getattr(key, "value", None) for key, _ in node.value]
        for key, _ in node.value:
            if names.count(getattr(key, "value", None)) > 1:
                raise yaml.constructor.ConstructorError(
                    None, None, f"{key.value!r} stands there twice", key.start_mark
                )
        found: dict[Any, Any] = super().construct_mapping(node, deep)
        return found


def read_file(path: Path) -> Fields:
    """Raises ConfigError."""
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: is no YAML: {error}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: expected fields such as `name: value`")
    return Fields(str(path), content, path.parent)


class Fields:
    """Some named values. `where` begins each message; relative paths are taken from `folder`."""

    def __init__(self, where: str, values: Mapping[str, object], folder: Path) -> None:
        self.where, self._folder = where, folder
        self._values, self._known = dict(values), set[str]()

    def text(self, name: str, default: str | None = None, pattern: str = "") -> str:
        """The text of a field. `pattern`: what all of it must match. Raises ConfigError."""
        value = self._take(name, default)
        if not isinstance(value, str):
            raise self.error(name, value, "be one text")
        if CONTROL.search(value):
            raise self.error(name, value, "be one line without control characters")
        if pattern and not re.fullmatch(pattern, value):
            raise self.error(name, value, f"match {pattern}")
        return value

    def maybe(self, name: str, pattern: str = "") -> str | None:
        """The text of a field that may be missing."""
        return self.text(name, "", f"(?:{pattern})?" if pattern else "") or None

    def choice(self, name: str, choices: Collection[str], default: str | None = None) -> str:
        value = self.text(name, default)
        if value not in choices:
            raise self.error(name, value, f"be one of {', '.join(choices)}")
        return value

    def number(self, name: str, default: int | None = None, least: int = 1) -> int:
        value = self.text(name, None if default is None else str(default))
        if not re.fullmatch(r"\d{1,9}", value) or int(value) < least:
            raise self.error(name, value, f"be a whole number of at least {least}")
        return int(value)

    def truth(self, name: str, default: bool) -> bool:
        value = self.text(name, str(default).lower())
        if value not in TRUTH:
            raise self.error(name, value, "be true or false")
        return TRUTH[value]

    def path(self, name: str) -> Path | None:
        """An absolute path, None where the field is missing."""
        value = self.maybe(name)
        return None if value is None else self.absolute(value)

    def absolute(self, value: str) -> Path:
        return Path(self._folder, Path(value).expanduser()).resolve()

    def words(self, name: str) -> tuple[str, ...]:
        """A list of texts; none where the field is missing."""
        value = self._take(name, [])
        if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
            raise self.error(name, value, "be a list: [a, b]")
        if bad := [word for word in value if CONTROL.search(word)]:
            raise self.error(name, bad[0], "have no control characters")
        return tuple(value)

    def items(self, name: str) -> tuple[object, ...]:
        """A list of anything."""
        value = self._take(name, [])
        if not isinstance(value, list):
            raise self.error(name, value, "be a list")
        return tuple(value)

    def pairs(self, name: str, pattern: str) -> dict[str, str]:
        """Names that match `pattern`, each with a text."""
        inner = self.section(name)
        for key in inner._values:
            if not re.fullmatch(pattern, key):
                raise inner.error(key, inner._values[key], f"have a name like {pattern}")
        return {key: inner.text(key) for key in list(inner._values)}

    def section(self, name: str) -> Fields:
        """A nested mapping; empty where it is missing."""
        value = self._take(name, {})
        return self.nested(name, value)

    def nested(self, name: str, value: object) -> Fields:
        if not isinstance(value, dict):
            raise self.error(name, value, "be fields such as `name: value`")
        return Fields(f"{self.where}, {name}", value, self._folder)

    def end(self) -> None:
        """Raises ConfigError for a field that nobody has asked for."""
        for name in self._values:
            if name not in self._known:
                near = difflib.get_close_matches(name, self._known, 1)
                hint = (
                    f"did you mean {near[0]}?"
                    if near
                    else f"known: {', '.join(sorted(self._known))}"
                )
                raise ConfigError(f"{self.where}: {name}: no such field; {hint}")

    def error(self, name: str, value: object, want: str) -> ConfigError:
        return ConfigError(f"{self.where}: {name}: {value!r} must {want}")

    def _take(self, name: str, default: object) -> object:
        self._known.add(name)
        value = self._values.get(name, default)
        if value is None:
            raise ConfigError(f"{self.where}: {name}: is missing")
        return default if value == "" and default is not None else value
