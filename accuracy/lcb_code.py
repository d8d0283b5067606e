"""LiveCodeBench's way with a candidate's text: how it becomes something that can be called.

The rules are facts/mlperf.md, section 4, odd ones included: a stdin program becomes the body of a
function (so that text with "class Solution" fails there), under a preamble of star imports.
"""

from __future__ import annotations

import ast
import builtins
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any

_NAMES = (
    *("string", "re", "datetime", "collections", "heapq", "bisect", "copy", "math", "random"),
    *("statistics", "itertools", "functools", "operator", "io", "sys", "json"),
)
_STARS = (f"from {name} import *\n" for name in (*_NAMES, "builtins", "typing"))
_IMPORTS = (f"import {name}\n" for name in _NAMES)
PREAMBLE = "".join([*_STARS, *_IMPORTS, "sys.setrecursionlimit(50000)\n"])
NULLED = {
    os: "kill system putenv remove removedirs rmdir fchdir setuid fork forkpty killpg rename renames "
    "truncate replace unlink fchmod fchown chmod chown chroot lchflags lchmod lchown getcwd chdir",
    shutil: "rmtree move chown",
    subprocess: "Popen",
    builtins: "quit help",
}
ABSENT = ("ipdb", "joblib", "resource", "psutil", "tkinter")
Method = Callable[..., Any]


def compile_code(code: str, func_name: str | None) -> Method:
    """What is to be called; raises whatever the candidate's own top level raises."""
    source = f"{PREAMBLE}\n\n{code}" if func_name else _as_function(_without_guard(code))
    module = ModuleType("tmp_sol", "")
    exec(source, module.__dict__)
    holder = module.Solution() if "class Solution" in source else module
    method: Method = getattr(holder, func_name or "wrapped_function")
    return method


def _without_guard(code: str) -> str:
    """The code with a last `if __name__ == '__main__'` replaced by that block's body."""
    try:
        body = ast.parse(code).body
        match body[-1]:
            case ast.If(test=test, body=guarded) if ast.unparse(test) == "__name__ == '__main__'":
                return _text(body[:-1]) + "\n" + _text(guarded)
    except (SyntaxError, ValueError, IndexError, RecursionError, MemoryError):
        pass
    return code


def _as_function(code: str) -> str:
    """Imports at the top, all else in one function; code that cannot be parsed stays as it is."""
    try:
        body = ast.parse(code).body
        imports = [node for node in body if isinstance(node, ast.Import | ast.ImportFrom)]
        others = [node for node in body if not isinstance(node, ast.Import | ast.ImportFrom)]
        function = ast.parse("def wrapped_function(): pass").body[0]
        assert isinstance(function, ast.FunctionDef)
        function.body = others
        return f"{PREAMBLE}\n{_text(imports)}\n{_text([function])}"
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return code


def _text(body: Iterable[ast.stmt]) -> str:
    return ast.unparse(ast.Module(list(body), []))


def disarm() -> None:
    """Set to None what LiveCodeBench does: programs that use it fail there, so they fail here."""
    for module, names in NULLED.items():
        for name in names.split():
            setattr(module, name, None)
    sys.modules.update(dict.fromkeys(ABSENT))  # type: ignore[arg-type]
