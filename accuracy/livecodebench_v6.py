"""LiveCodeBench release 6: a Python program that passes all tests of a problem.

Rules (facts/mlperf.md, section 4): in the final section the last ```python block, else the last plain
block; where there is neither, or no final section, the same two steps in the whole text. An unclosed
fence is no block, and ```python3 gives code that starts with "3". The ground truth is the problem's
id. Running the code is `accuracy.lcb_run`'s.
"""

from __future__ import annotations

import re

from accuracy.contract import Answer, Resources, Scored, nothing
from accuracy.lcb_run import run_problem

_PYTHON = re.compile(r"```python(.*?)```", re.DOTALL)
_PLAIN = re.compile(r"```(.*?)```", re.DOTALL)
_TAG = re.compile(r"(?:python|py)\s*\n", re.IGNORECASE)


def score(answer: Answer, truth: object, resources: Resources) -> Scored:
    """Run the code against every test; a problem that is not in the file is a fault, not a miss."""
    code = extract(answer)
    if not code or not truth:
        return nothing("code block") if code is None else Scored(False, code, "no code, or no id")
    if truth not in resources.lcb_problems:
        return Scored(False, code, f"LiveCodeBench has no problem {truth!r}", fault=True)
    result = run_problem(code, resources.lcb_problems[str(truth)])
    return Scored(result.passed, code, result.reason)


def extract(answer: Answer) -> str | None:
    """The code that counts, or None."""
    if answer.final is not None:
        code = _last_block(answer.final)
        if code is not None:
            return code
    return _last_block(answer.text)


def _last_block(text: str) -> str | None:
    blocks: list[str] = _PYTHON.findall(text)
    if blocks:
        return blocks[-1].strip()
    blocks = _PLAIN.findall(text)
    return _without_tag(blocks[-1].strip()) if blocks else None


def _without_tag(code: str) -> str:
    tag = _TAG.match(code)
    return code[tag.end() :] if tag else code
