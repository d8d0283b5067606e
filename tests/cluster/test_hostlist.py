"""Slurm's short form of node names, against what scontrol itself makes of it."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cluster.hostlist import MOST, expand, hostnames
from core.errors import SetupError

TABLE = {
    "login1": "login1",
    "n[1-4]": "n1 n2 n3 n4",
    "gpu[001-003,010],login1": "gpu001 gpu002 gpu003 gpu010 login1",
    "rack[1-2]-node[01-02]": "rack1-node01 rack1-node02 rack2-node01 rack2-node02",
    "n[1,3-4],m[09-11]": "n1 n3 n4 m09 m10 m11",
    "n[9-10],n[09-10]": "n9 n10 n09 n10",
    "m2,m1,m2": "m2 m1 m2",
    "n[1-1],n[0-0]": "n1 n0",
    "n[1][2]": "n12",
    "[7-8]": "7 8",
    "a,,b,": "a b",
    "gpu-1.site,gpu_2": "gpu-1.site gpu_2",
    "n[009-010],n[98-101]": "n009 n010 n98 n99 n100 n101",
}
SUFFIX = {"a[1-2]b": "a1b a2b", "a[1-2]-ib,c": "a1-ib a2-ib c"}  # scontrol says nothing
WRONG = {
    "n[1-": "no list of nodes",
    "n]1": "no list of nodes",
    "n[1-2]]": "no list of nodes",
    "n[[1-2]": "no list of nodes",
    "n 1": "no list of nodes",
    "": "no list of nodes",
    ",": "no list of nodes",
    "n[4-2]": "[4-2] runs backwards",
    "n[]": "[] is no range such as 1-4",
    "n[1,]": "[] is no range",
    "n[a-b]": "[a-b] is no range",
    "n[1-2-3]": "[1-2-3] is no range",
    f"n[1-{MOST + 1}]": "too far",
    "n[1-400]x[1-400]": "no list of nodes",  # 160 000 of them
}


@pytest.mark.parametrize(("text", "names"), (TABLE | SUFFIX).items())
def test_expanded(text: str, names: str) -> None:
    assert expand(text) == tuple(names.split())


@pytest.mark.parametrize(("text", "said"), WRONG.items())
def test_what_is_no_list(text: str, said: str) -> None:
    with pytest.raises(SetupError) as raised:
        expand(text)
    assert repr(text) in str(raised.value) and said in str(raised.value)


@pytest.fixture(scope="module")
def slurm_conf(tmp_path_factory: pytest.TempPathFactory) -> str:
    """All that scontrol needs for this question."""
    if shutil.which("scontrol") is None:
        assert "CI" not in os.environ, "no scontrol: apt-get install slurm-client"
        pytest.skip("no scontrol to compare with")
    path = tmp_path_factory.mktemp("slurm") / "slurm.conf"
    path.write_text("ClusterName=x\nSlurmctldHost=localhost\n")
    return str(path)


def scontrol(text: str, slurm_conf: str) -> tuple[str, ...]:
    done = subprocess.run(
        ["scontrol", "show", "hostnames", text],
        env={**os.environ, "SLURM_CONF": slurm_conf},
        capture_output=True,
        text=True,
        timeout=30,
    )
    return tuple(done.stdout.split())


@pytest.mark.parametrize("text", TABLE)
def test_as_scontrol_has_it(slurm_conf: str, text: str) -> None:
    assert expand(text) == scontrol(text, slurm_conf)


@st.composite
def numbers(draw: st.DrawFn) -> str:
    """7, 007, 3-11, 09-11: width as Slurm writes it, of the lower end."""
    width, low = draw(st.integers(1, 4)), draw(st.integers(0, 1200))
    high = low + draw(st.integers(0, 30))
    single = draw(st.booleans())
    return f"{low:0{width}d}" if single else f"{low:0{width}d}-{high:0{width}d}"


RANGES = st.lists(numbers(), min_size=1, max_size=4).map(lambda found: f"[{','.join(found)}]")
# No digit before a bracket and none at a name's end: those are the table's.
PREFIX = st.from_regex(r"[a-z][a-z0-9-]{0,6}[a-z_-]", fullmatch=True)
NODES = st.tuples(PREFIX, RANGES).map("".join)
RACKS = st.tuples(PREFIX, RANGES, PREFIX, RANGES).map("".join)
PLAIN = st.from_regex(r"[a-z][a-z0-9-]{0,10}", fullmatch=True)
LISTS = st.lists(st.one_of(NODES, RACKS, PLAIN), min_size=1, max_size=5).map(",".join)


@settings(max_examples=150, deadline=None)
@given(text=LISTS)
def test_as_scontrol_has_whatever_is_asked(slurm_conf: str, text: str) -> None:
    assert expand(text) == scontrol(text, slurm_conf)


@settings(max_examples=30, deadline=None)
@given(texts=st.tuples(PREFIX, RANGES, PREFIX, RANGES, PREFIX, RANGES))
def test_the_same_nodes_of_three_ranges(slurm_conf: str, texts: tuple[str, ...]) -> None:
    """scontrol's order is odd there: a[1-2]b[1-2]c[1-2] is a1b1c1 a1b1c2 a2b1c1 ..."""
    # More than expand takes from anybody would be its refusal, which has a test of its own.
    assume(math.prod(len(expand(f"n{ranges}")) for ranges in texts[1::2]) <= 20_000)
    text = "".join(texts)
    assert sorted(expand(text)) == sorted(scontrol(text, slurm_conf))


def stub(folder: Path, text: str) -> str:
    """A folder for PATH with that scontrol."""
    path = folder / "scontrol"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(folder)


@pytest.mark.parametrize(
    ("answer", "names"),
    [
        ('printf "%s\\n" "$1" "$2" "$3"', ("show", "hostnames", "n[1-2]")),  # its word counts
        ("echo broken; exit 1", ("n1", "n2")),
        (":", ("n1", "n2")),
    ],
)
def test_slurm_is_asked_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str, names: tuple[str, ...]
) -> None:
    monkeypatch.setenv("PATH", stub(tmp_path, answer))
    assert hostnames("n[1-2]") == names


def test_without_scontrol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert hostnames("n[1-2],m") == ("n1", "n2", "m")
