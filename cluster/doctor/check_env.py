"""Environment variables: what is set, and which GPUs they leave.

Rules: man gres.conf and vLLM's platform code. ROCm hides GPUs by ROCR_VISIBLE_DEVICES first; HIP_,
CUDA_VISIBLE_DEVICES and GPU_DEVICE_ORDINAL then count what is left, from 0. vLLM on ROCm refuses to
start if HIP_ and CUDA_VISIBLE_DEVICES are both set and differ.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from cluster.doctor.facts import Facts
from cluster.doctor.finding import Finding, counted
from cluster.doctor.read_env import HIDDEN

ROCR = "ROCR_VISIBLE_DEVICES"
HIP = "HIP_VISIBLE_DEVICES"
CUDA = "CUDA_VISIBLE_DEVICES"
SECOND = (HIP, CUDA, "GPU_DEVICE_ORDINAL")
SHOWN = 40  # letters of a value; --json has all
TOKENS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")


def variables(facts: Facts) -> Iterator[Finding]:
    shown = [
        f"{name}={value[:SHOWN]}" + ("..." if value[SHOWN:] else "")
        for name, value in facts.env.items()
        if value != HIDDEN
    ]
    yield Finding("NOTE", "variables", " ".join(shown) or "none that bears on an engine")


def token(facts: Facts) -> Iterator[Finding]:
    there = any(facts.env.get(name) for name in TOKENS)
    offline = facts.env.get("HF_HUB_OFFLINE", "0") not in ("", "0")
    value = ("set" if there else "not set") + (", HF_HUB_OFFLINE is on" if offline else "")
    yield Finding("NOTE", "HF_TOKEN", value)


def visible_gpus(facts: Facts) -> Iterator[Finding]:
    gpus = facts.gpus
    if not gpus.found:
        return
    names = (ROCR, *SECOND) if gpus.vendor == "amd" else (CUDA,)
    lists = {name: _ids(facts.env[name]) for name in names if name in facts.env}
    faults = list(_hidden(lists))
    if not faults and gpus.vendor == "amd":
        faults = list(_amd(lists, len(gpus.found) + gpus.withheld))
    elif not faults:
        faults = list(_beyond(lists, len(gpus.found), "the machine has"))
    yield from faults
    if not faults:
        left = min([len(gpus.found), *(len(ids) for ids in lists.values())])
        why = ", ".join(f"{name}={','.join(ids)}" for name, ids in lists.items())
        yield Finding("OK", "visible GPUs", f"{left}" + (f" ({why})" if why else ""))


def _ids(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _hidden(lists: Mapping[str, list[str]]) -> Iterator[Finding]:
    for name, ids in lists.items():
        if not ids or ids[0] in ("-1", "NoDevFiles"):
            value = f"{name}={','.join(ids)} hides every GPU"
            yield Finding(
                "FAIL", "visible GPUs", value, f"unset {name}; under Slurm ask for --gres=gpu:N"
            )


def _amd(lists: Mapping[str, list[str]], n_gpus: int) -> Iterator[Finding]:
    if HIP in lists and CUDA in lists and lists[HIP] != lists[CUDA]:
        value = f"{HIP} and {CUDA} differ: vLLM does not start"
        yield Finding("FAIL", "visible GPUs", value, f"unset {CUDA}")
    first = {name: ids for name, ids in lists.items() if name == ROCR}
    yield from _beyond(first, n_gpus, "the machine has")
    second = {name: ids for name, ids in lists.items() if name != ROCR}
    left = len(lists[ROCR]) if ROCR in lists else n_gpus
    yield from _beyond(second, left, f"{ROCR} leaves" if ROCR in lists else "the machine has")


def _beyond(lists: Mapping[str, list[str]], left: int, why: str) -> Iterator[Finding]:
    for name, ids in lists.items():
        if any(part.isdigit() and int(part) >= left for part in ids):
            value = f"{name}={','.join(ids)}: {why} {counted(left, 'GPU')}, counted from 0"
            remedy = f"export {name}={','.join(map(str, range(left)))}, or unset it"
            yield Finding("FAIL", "visible GPUs", value, remedy)
