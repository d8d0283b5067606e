"""A user's YAML, read as the text that stands there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cluster.fields import Fields, read_file
from core.errors import ConfigError


def read(folder: Path, text: str) -> Fields:
    path = folder / "file.yaml"
    path.write_text(text)
    return read_file(path)


@pytest.mark.parametrize(
    "text",
    ["02:00:00", "no", "yes", "on", "010", "1e3", "0x10", "null", "~", "1_000", "2026-01-01"],
)
def test_text_stays_as_it_stands(tmp_path: Path, text: str) -> None:
    fields = read(tmp_path, f"a: {text}\nb: [{text}]\nc: {{{text}: x}}\n")
    assert fields.text("a") == text and fields.words("b") == (text,)
    assert fields.pairs("c", ".*") == {text: "x"}
    fields.end()


def test_conversions(tmp_path: Path) -> None:
    fields = read(tmp_path, "n: 010\nyes: yes\nno: no\nt: true\nf: false\nempty:\n")
    assert fields.number("n") == 10  # not 8, as YAML 1.1 would have it
    assert fields.truth("yes", False) and fields.truth("t", False)
    assert not fields.truth("no", True) and not fields.truth("f", True)
    assert fields.text("empty", "default") == "default" and fields.maybe("empty") is None
    assert fields.truth("missing", True) and fields.number("missing", 3) == 3
    assert fields.words("missing") == () and fields.items("missing") == ()
    assert fields.section("empty").maybe("x") is None


def test_paths_are_taken_from_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    (tmp_path / "below").mkdir()
    fields = read(tmp_path / "below", "a: x/y\nb: ../z\nc: /abs\nd: ~/w\n")
    found = [fields.path(name) for name in "abcde"]
    below = tmp_path.resolve() / "below"
    assert found == [
        below / "x/y",
        tmp_path.resolve() / "z",
        Path("/abs"),
        Path("/home/me/w"),
        None,
    ]


ASKED: dict[str, Callable[[Fields], object]] = {
    "text": lambda fields: fields.text("a"),
    "pattern": lambda fields: fields.text("a", None, "[a-z]+"),
    "choice": lambda fields: fields.choice("a", ("red", "green")),
    "number": lambda fields: fields.number("a"),
    "least": lambda fields: fields.number("a", 5, least=2),
    "truth": lambda fields: fields.truth("a", True),
    "path": lambda fields: fields.path("a"),
    "words": lambda fields: fields.words("a"),
    "items": lambda fields: fields.items("a"),
    "section": lambda fields: fields.section("a"),
    "pairs": lambda fields: fields.pairs("a", "[a-z]+"),
}


@pytest.mark.parametrize(
    ("ask", "text", "said"),
    [
        ("text", "b: c", "a: is missing"),
        ("text", "a: [x]", "a: ['x'] must be one text"),
        ("text", "a: {x: y}", "must be one text"),
        ("text", 'a: "x\\ny"', r"a: 'x\ny' must be one line without control characters"),
        ("text", "a: |\n  x\n", "must be one line"),
        ("text", 'a: "x\\ty"', "must be one line"),
        ("text", 'a: "x\\0y"', "must be one line"),
        ("text", 'a: "x\\x7fy"', "must be one line"),
        ("path", 'a: "x\\ny"', "must be one line"),
        ("pattern", "a: ab1", "a: 'ab1' must match [a-z]+"),
        ("choice", "a: blue", "a: 'blue' must be one of red, green"),
        ("choice", "b: blue", "a: is missing"),
        ("number", "a: 1.5", "a: '1.5' must be a whole number of at least 1"),
        ("number", "a: -1", "must be a whole number"),
        ("number", "a: 0", "must be a whole number of at least 1"),
        ("number", "a: 12345678901", "must be a whole number"),
        ("number", "a: [3]", "must be one text"),
        ("least", "a: 1", "must be a whole number of at least 2"),
        ("truth", "a: on", "a: 'on' must be true or false"),
        ("truth", "a: 1", "must be true or false"),
        ("words", "a: x y", "a: 'x y' must be a list: [a, b]"),
        ("words", "a: [x, [y]]", "must be a list"),
        ("words", "a: [x, {y: z}]", "must be a list"),
        ("words", 'a: [x, "y\\nz"]', r"a: 'y\nz' must have no control characters"),
        ("items", "a: x", "must be a list"),
        ("section", "a: x", "a: 'x' must be fields such as `name: value`"),
        ("section", "a: [x]", "must be fields"),
        ("pairs", "a: {B: x}", "a: B: 'x' must have a name like [a-z]+"),
        ("pairs", "a: {b: [x]}", "a: b: ['x'] must be one text"),
        ("pairs", 'a: {b: "x\\ny"}', "must be one line"),
        ("pairs", 'a: {"b\\nc": x}', "must have a name like"),
    ],
)
def test_wrong_values(tmp_path: Path, ask: str, text: str, said: str) -> None:
    fields = read(tmp_path, text + "\n")
    with pytest.raises(ConfigError) as raised:
        ASKED[ask](fields)
    assert str(raised.value).startswith(str(tmp_path / "file.yaml")) and said in str(raised.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [", "is no YAML"),
        ("a: 1\n---\nb: 2\n", "is no YAML"),
        ("a: b: c\n", "is no YAML"),
        ("\tb: c\n", "is no YAML"),
        ("a: *nobody\n", "is no YAML"),
        ("a: &x [*x]\n", "is no YAML"),
        ("? [a, b]\n: c\n", "is no YAML"),
        ("a: 1\nb: 2\na: 1\n", "'a' stands there twice"),
        ("x: {b: 2, b: 3}\n", "'b' stands there twice"),
        ("x: [{b: 2, b: 3}]\n", "'b' stands there twice"),
        ("", "expected fields such as `name: value`"),
        ("- a\n- b\n", "expected fields"),
        ("word\n", "expected fields"),
    ],
)
def test_what_is_no_file_of_fields(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError) as raised:
        read(tmp_path, text)
    assert str(raised.value).startswith(str(tmp_path / "file.yaml")) and said in str(raised.value)


def test_what_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes(b"name: \xe4\n")
    for name in ("latin.yaml", "missing.yaml", "."):
        with pytest.raises(ConfigError, match="cannot be read"):
            read_file(tmp_path / name)


def test_a_field_that_nobody_knows(tmp_path: Path) -> None:
    fields = read(tmp_path, "nodes: 4\ntime: x\nnoodes: 5\n")
    fields.number("nodes")
    fields.maybe("time")
    with pytest.raises(ConfigError, match=r"file\.yaml: noodes: no such field; did you mean nodes"):
        fields.end()
    fields = read(tmp_path, "outer: {a: 1, zzz: 2}\n")
    inner = fields.section("outer")
    inner.text("a")
    inner.maybe("b")
    with pytest.raises(ConfigError, match=r"file\.yaml, outer: zzz: no such field; known: a, b"):
        inner.end()
    fields.end()


def test_anchors_stand_for_their_text_and_merge_keys_are_refused(tmp_path: Path) -> None:
    fields = read(tmp_path, "a: &x {k: v}\nb: *x\nc: &y word\nd: [*y]\n")
    assert fields.section("b").text("k") == "v" and fields.words("d") == ("word",)
    fields = read(tmp_path, "a: &x {k: v}\n<<: *x\n")
    fields.section("a")
    with pytest.raises(ConfigError, match="<<: no such field"):
        fields.end()


def test_no_object_is_ever_built(tmp_path: Path) -> None:
    """Tags mean nothing: what stands behind them is text and lists, which are refused as such."""
    made = tmp_path / "made"
    fields = read(
        tmp_path,
        f"a: !!python/object/apply:os.system ['touch {made}']\n"
        "b: !!python/name:os.system ''\n"
        f"c: !!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path ['{made}']]\n"
        "d: !!int 7\n",
    )
    assert fields.words("a") == (f"touch {made}",)
    assert fields.maybe("b") is None
    with pytest.raises(ConfigError, match="must be one text"):
        fields.text("c")
    assert fields.text("d") == "7"
    assert not made.exists()
