"""The servers of all nodes: started, waited for, asked whether they live, ended.

A node or a replica that does not come up is left out with a warning, as long as enough are left.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from urllib.parse import urlsplit

from cluster.drive.health import answering, faults
from cluster.drive.steps import Step, end
from cluster.drive.stop import Stop, say
from cluster.plan import Plan, fill
from core.errors import RunError

LOOK_S = 0.2
PROGRESS_S = 30.0
CHECK_LIMIT_S = 90.0
PREPARING_NODES = 2  # of which one must be able to
MARGIN_S = 60.0  # that a node may take beside its engines: a container, a slow file system


class Servers:
    """Use with `with`: at its end no step of ours is left."""

    def __init__(self, plan: Plan, nodes: Sequence[str], job: str, stop: Stop) -> None:
        self._plan, self._job, self._stop = plan, job, stop
        self._nodes = list(nodes)
        self.wanted = sum(map(plan.replicas_on, nodes))
        self._steps: dict[str, Step] = {}  # the servers of each node
        self._preparing: list[Step] = []
        self._urls: dict[str, list[str]] = {}  # of the nodes that are ready
        self.left_out: dict[str, str] = {}  # node or URL -> why

    def __enter__(self) -> Servers:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end([*self._preparing, *self._steps.values()])
        if self._plan.clean and self._steps:
            self._on_each(self._plan.clean, "clean", list(self._steps))

    def check(self) -> None:
        """What each machine says of itself, kept; one that cannot say it is left out."""
        if self._plan.check:
            for step in self._on_each(self._plan.check, "doctor", self._nodes):
                self._stop.pause(0)
                if not step.lines:
                    self._leave_out(step.node, f"no command can be run there:{step.tail()}")
                    continue
                path = step.log.with_name("doctor.json")
                path.write_text("\n".join(step.lines) + "\n", encoding="utf-8")
                for fault in faults("\n".join(step.lines)):
                    say(f"WARNING: {step.node}: {fault}")
            self._nodes = [node for node in self._nodes if node not in self.left_out]

    def prepare(self) -> None:
        """What is done once, such as importing an image. Raises RunError, Stopped."""
        if not self._plan.prepare or not self._nodes:
            return
        say("preparing: importing the image, if it is not there")
        for node in self._nodes[:PREPARING_NODES]:
            if not (problem := self._prepare_on(node)):
                return
            say(f"WARNING: {problem}")
        raise RunError("the image could not be imported: see the warnings above")

    def _prepare_on(self, node: str) -> str:
        """What went wrong; empty: nothing. Raises Stopped."""
        limit = time.monotonic() + self._plan.ready_timeout_s
        step = self._start(self._plan.prepare, "prepare", node)
        self._preparing = [step]
        while (code := step.code()) is None:
            self._stop.pause(LOOK_S)
            if time.monotonic() > limit:
                self._end([step])
                return f"preparing on {node} took over {self._plan.ready_timeout_s} s:{step.tail()}"
        return "" if code == 0 else f"preparing on {node} ended with exit code {code}:{step.tail()}"

    def start(self, again: bool) -> None:
        """again: the job was requeued, and what it left on a lost node may still be there."""
        if again and self._plan.clean:
            self._on_each(self._plan.clean, "clean", self._nodes)
        for node in self._nodes:
            self._stop.pause(0)
            words = self._plan.serve_on(node, self._job)
            self._steps[node] = Step(f"serve-{node}", node, words, self._log(node, "serve"))
        say(f"servers are starting on {len(self._steps)} nodes: {' '.join(self._steps)}")

    def wait_until_ready(self) -> None:
        """Raises RunError where there will not be enough replicas, Stopped."""
        began = shown = time.monotonic()
        deadline = began + self._plan.ready_timeout_s + MARGIN_S
        patience: float | None = None  # until when the last ones are waited for
        while pending := [node for node in self._steps if self._pending(node)]:
            self._stop.pause(LOOK_S)
            self.watch()
            now = time.monotonic()
            if self.count >= self._plan.min_replicas and patience is None:
                patience = now + self._plan.patience_s
            if now > min(deadline, patience or deadline):
                self._give_up(pending, now - began)
            self._check_enough()
            if now - shown > PROGRESS_S:
                shown = now
                say(f"{now - began:.0f} s: {self.count} replicas are ready; waiting for {pending}")
        self._check_enough()
        say(f"{self.count} of {self.wanted} replicas are ready, {time.monotonic() - began:.0f} s")

    @property
    def count(self) -> int:
        return sum(map(len, self._urls.values()))

    def living(self) -> list[str]:
        """The replicas that answer now. Raises RunError where too few do."""
        self.watch()
        urls = [url for found in self._urls.values() for url in found]
        for url, reason in answering(self._plan.system["engine"], urls).items():
            say(f"WARNING: {url} is left out: {reason}")
            self.left_out[url] = reason
            for found in self._urls.values():
                if url in found:
                    found.remove(url)
        self._check_enough()
        return [url for node in self._nodes for url in self._urls.get(node, [])]

    def watch(self) -> None:
        """Say whose servers have ended, once."""
        for node in [node for node, step in self._steps.items() if step.code() is not None]:
            if node in self._urls:
                del self._urls[node]
                code = self._steps[node].code()
                self._leave_out(node, f"its servers ended ({code}):{self._steps[node].tail()}")

    def _pending(self, node: str) -> bool:
        """Whether it is still to say something; what it says is noted."""
        step = self._steps[node]
        if node in self._urls or node in self.left_out:
            return False
        if urls := [line for line in step.lines if line.startswith("http")]:
            self._ready(node, urls[0])
        elif (code := step.code()) is not None:
            self._leave_out(node, f"its servers ended with exit code {code}:{step.tail()}")
        else:
            return True
        return False

    def _ready(self, node: str, line: str) -> None:
        """run_server.sh has named its replicas; others find the node by Slurm's name."""
        ports = [urlsplit(url).port for url in line.split(",")]
        self._urls[node] = [f"http://{node}{self._plan.domain}:{port}" for port in ports]
        missing = self._plan.replicas_on(node) - len(ports)
        if missing:
            log = self._log(node, "serve")
            say(f"WARNING: {node}: {missing} of its replicas did not come up; see {log}")
            self.left_out[f"{missing} of {node}"] = f"did not come up, see {log}"

    def _give_up(self, nodes: Sequence[str], after_s: float) -> None:
        for node in nodes:
            self._leave_out(node, f"not ready after {after_s:.0f} s:{self._steps[node].tail()}")
        self._end([self._steps[node] for node in nodes])

    def _leave_out(self, node: str, reason: str) -> None:
        self.left_out[node] = reason
        say(f"WARNING: {node} is left out: {reason}")

    def _check_enough(self) -> None:
        """Raises RunError as soon as there cannot be enough."""
        possible = self.count + sum(
            self._plan.replicas_on(node)
            for node in self._nodes
            if node not in self._urls and node not in self.left_out
        )
        if possible < self._plan.min_replicas:
            raise RunError(
                f"{possible} replicas are left, min_replicas is {self._plan.min_replicas}: see the "
                f"warnings above and the logs in {Path(self._plan.folder) / 'nodes'}"
            )

    def _end(self, steps: list[Step]) -> None:
        grace_s = self._stop.left_s(self._plan.grace_s + LOOK_S)
        for step in end(steps, self._job, grace_s):
            say(f"WARNING: {step.name} did not end within {grace_s:.0f} s and was killed")

    def _on_each(self, words: Sequence[str], name: str, nodes: Sequence[str]) -> list[Step]:
        """The same on several nodes at once; done when all have ended, or the limit is over."""
        limit = time.monotonic() + CHECK_LIMIT_S
        steps = [self._start(words, name, node) for node in nodes]
        while any(step.code() is None for step in steps):
            if self._stop.left_s(limit - time.monotonic()) <= 0:
                break
            time.sleep(LOOK_S)
        end(steps, self._job, 0)
        return steps

    def _start(self, words: Sequence[str], name: str, node: str) -> Step:
        filled = fill(tuple(words), node=node, job=self._job)
        return Step(f"{name}-{node}", node, filled, self._log(node, name))

    def _log(self, node: str, name: str) -> Path:
        return Path(self._plan.folder) / "nodes" / node / f"{name}.log"
