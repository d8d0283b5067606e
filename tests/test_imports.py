"""Imports flow downwards only: every room's files are parsed, and a back edge fails the build.

A room is a folder, or a script, at the root. The table is the architecture; who wants a new edge
changes it here, in the open. Rooms that do not exist yet are in it too.
"""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

MAY_IMPORT: dict[str, set[str]] = {
    "core": set(),
    "dataset": {"core"},
    "engine": {"core", "dataset"},  # training reads the demonstration's tasks
    "backends": {"core"},
    "client": {"core", "backends", "telemetry"},
    "sut": {"core", "dataset", "client"},
    "results": {"core", "telemetry"},
    "report": {"core", "results"},
    "accuracy": {"core", "dataset", "results", "backends"},
    "telemetry": {"core", "backends"},
    "cluster": {"core", "server"},
    "server": {"core"},
    "submission": {"results", "accuracy", "core"},
    "options": {"core", "backends"},
    "judge": {"core", "results", "accuracy"},
}
for top in (
    "calibrate",
    "measure",
    "run_mlperf",
    "competition",
    "bench",
):  # each may import all that stands above it
    MAY_IMPORT[top] = set(MAY_IMPORT)

# LoadGen behind one door; the engine's libraries only where the engine is, so that all else runs
# on a machine without them.
LIBRARIES = {
    "gradio": {"competition"},
    "plotly": {"competition"},
    "pynvml": {"telemetry"},
    "mlperf_loadgen": {"sut"},
    "torch": {"engine", "accuracy"},
    "transformers": {"engine", "accuracy"},
    "yaml": {"cluster"},
}

# Scripts run from the root, so a module of such a name would hide a library from everybody.
SHADOWS = {
    *("types", "queue", "token", "profile"),
    *("datasets", "requests", "evaluate", "vllm", "sglang"),
}

NOT_ROOMS = {"tests", "output", "build"}


def rooms(root: Path) -> dict[str, list[Path]]:
    """Name of each room under root, with its Python files."""
    found: dict[str, list[Path]] = {}
    for path in sorted(root.iterdir()):
        if path.name.startswith(".") or path.name in NOT_ROOMS:
            continue
        files = sorted(path.rglob("*.py")) if path.is_dir() else [path]
        if files and all(file.suffix == ".py" for file in files):
            found[path.stem] = files
    return found


def imported(tree: ast.AST, package: tuple[str, ...]) -> Iterator[tuple[int, str]]:
    """(line, first name) of each module that the code imports, wherever the import stands.

    package: the folders that the code's file lies in, to which relative imports refer.
    """
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from ((node.lineno, name.name.split(".")[0]) for name in names)
            case ast.ImportFrom(module=str(module), level=0):
                yield node.lineno, module.split(".")[0]
            case ast.ImportFrom(module=module, names=names, level=level):
                above = package[: len(package) - level + 1]
                ends = [module] if module else [name.name for name in names]
                yield from ((node.lineno, (*above, *end.split("."))[0]) for end in ends)
            case ast.Call(
                func=ast.Attribute(attr="import_module")
                | ast.Name(id="import_module" | "__import__"),
                args=[ast.Constant(value=str(name)), *_],
            ):
                yield node.lineno, name.split(".")[0]


def faults(root: Path) -> list[str]:
    """Every breach of the rules above in the tree under root, one line each."""
    found = []
    for room, files in rooms(root).items():
        if room in SHADOWS:
            found.append(f"{room}: hides a library of that name")
        elif room not in MAY_IMPORT:
            found.append(f"{room}: a room that is not in MAY_IMPORT")
        else:
            found += [fault for file in files for fault in faults_of(room, file, root)]
    return found


def faults_of(room: str, file: Path, root: Path) -> Iterator[str]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    place = file.relative_to(root)
    for line, name in imported(tree, place.parts[:-1]):
        back_edge = name in MAY_IMPORT and name not in MAY_IMPORT[room] | {room}
        foreign = name in LIBRARIES and room not in LIBRARIES[name]
        if back_edge or foreign or name == "tests":
            yield f"{place}:{line}: {room} may not import {name}"


def test_imports_flow_downwards() -> None:
    assert faults(ROOT) == []


def test_the_table_has_no_cycle() -> None:
    left = dict(MAY_IMPORT)
    while left:
        leaves = [room for room, below in left.items() if not (below - {room}) & set(left)]
        assert leaves, f"each of these may import another: {sorted(left)}"
        for room in leaves:
            del left[room]


def test_mypy_reads_every_room() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        checked = tomllib.load(file)["tool"]["mypy"]["files"]
    assert set(rooms(ROOT)) <= {Path(name).stem for name in checked}


def write(root: Path, path: str, code: str = "") -> None:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(code, encoding="utf-8")


@pytest.mark.parametrize(
    ("path", "code", "fault"),
    [
        ("core/a.py", "import sut", "core/a.py:1: core may not import sut"),
        ("core/a.py", "import json, sut.run", "core/a.py:1: core may not import sut"),
        (
            "dataset/a.py",
            "from results.x import y",
            "dataset/a.py:1: dataset may not import results",
        ),
        ("client/a.py", "def f():\n    import sut", "client/a.py:2: client may not import sut"),
        ("core/b/a.py", "from ...sut import x", "core/b/a.py:1: core may not import sut"),
        ("core/a.py", "from .. import sut", "core/a.py:1: core may not import sut"),
        ("core/a.py", "import_module('sut.run')", "core/a.py:1: core may not import sut"),
        ("core/a.py", "importlib.import_module('sut')", "core/a.py:1: core may not import sut"),
        ("bench/a.py", "import run_mlperf, torch", "bench/a.py:1: bench may not import torch"),
        (
            "client/a.py",
            "import mlperf_loadgen",
            "client/a.py:1: client may not import mlperf_loadgen",
        ),
        ("sut/a.py", "from tests import harness", "sut/a.py:1: sut may not import tests"),
        ("attic/a.py", "", "attic: a room that is not in MAY_IMPORT"),
        ("queue.py", "", "queue: hides a library of that name"),
        ("vllm/a.py", "", "vllm: hides a library of that name"),
    ],
)
def test_a_fault_is_found(tmp_path: Path, path: str, code: str, fault: str) -> None:
    write(tmp_path, path, code)
    assert faults(tmp_path)[:1] == [fault]


def test_a_sound_tree_has_no_fault(tmp_path: Path) -> None:
    write(tmp_path, "core/a.py", "import json\nfrom . import b\nfrom .b import c\nimport core.b")
    write(tmp_path, "core/sub/a.py", "from ..b import c\nfrom .. import b")
    write(tmp_path, "sut/a.py", "import mlperf_loadgen\nfrom client.pool import start\nimport core")
    write(tmp_path, "engine/a.py", "import torch\nfrom transformers import pipeline")
    write(tmp_path, "run_mlperf.py", "import sut, options, report.card")
    write(tmp_path, "tests/test_a.py", "import torch, sut")
    write(tmp_path, ".venv/lib/a.py", "import sut")
    write(tmp_path, "recipes/serve.sh")
    assert faults(tmp_path) == []
