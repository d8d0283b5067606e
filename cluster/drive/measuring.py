"""One measurement after another, each a process of its own on this node, over all replicas."""

from __future__ import annotations

import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from cluster.chain import Measurement
from cluster.drive.stop import Stop, say
from cluster.plan import Plan
from cluster.records import Measured, now, read_json, stamps

LOOK_S = 0.5
SAVE_SHARE = 0.6  # of the warning time: the rest is for the servers' end


def measure(
    plan: Plan,
    one: Measurement,
    urls: Sequence[str],
    wanted: int,
    job: str,
    stop: Stop,
    watch: Callable[[], None],
) -> Measured:
    """Run its command to the end, or until the job is to end; never raises for a run gone wrong."""
    folder = Path(plan.folder)
    log, results = folder / "logs" / f"{one.name}.log", folder / one.folder
    words = one.again if one.again and results.exists() else one.words
    say(f"{one.name}: begins on {len(urls)} replicas, log {log}")
    began, read, before = now(), stamps(plan, one), _stamp(results / one.summary)
    command = [plan.python, *words, "--server-url", ",".join(urls)]
    code = _run(command, log, stop, SAVE_SHARE * plan.warn_s, watch)
    told = _stamp(results / one.summary) != before  # else what is there is an earlier run's
    verdict = _verdict(results / one.summary if told else None, code)
    say(f"{one.name}: {verdict} (exit code {code}), {results}")
    return Measured(
        name=one.name,
        words=one.words,
        exit_code=code,
        verdict=verdict,
        folder=one.folder if told else "",
        replicas=tuple(urls),
        wanted=wanted,
        system=plan.system,
        files=read,
        began=began,
        ended=now(),
        job=job,
    )


def _run(
    words: Sequence[str], log: Path, stop: Stop, save_s: float, watch: Callable[[], None]
) -> int:
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        output.write(f"# {now()} {shlex.join(words)}\n".encode())
        output.flush()
        child = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        while child.poll() is None:
            if stop.wait(LOOK_S):
                return _end(child, stop, save_s)
            watch()
        return child.returncode
    finally:
        if child.poll() is None:  # whatever went wrong here, it must not outlive its servers
            child.kill()
            child.wait()


def _end(child: subprocess.Popen[bytes], stop: Stop, save_s: float) -> int:
    """TERM makes it save what there is; gives its exit code."""
    say(f"{stop.reason}: the run is told to end and to save what there is")
    child.send_signal(signal.SIGTERM)
    limit = time.monotonic() + save_s
    while (code := child.poll()) is None:
        if stop.left_s(limit - time.monotonic()) <= 0:
            say("WARNING: it did not end in time and is killed")
            child.kill()
            return child.wait()
        time.sleep(LOOK_S / 5)
    return code


def _stamp(file: Path) -> tuple[int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def _verdict(summary: Path | None, code: int) -> str:
    """A run's own; of a sweep, and of what has written none, what the exit code says."""
    content = read_json(summary) if summary is not None else None
    if isinstance(content, dict) and isinstance(content.get("verdict"), str):
        return str(content["verdict"])
    return {0: "PASSED", 130: "INTERRUPTED"}.get(code, "FAILED")
