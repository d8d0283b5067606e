#!/usr/bin/env python3
"""Measure: run one MLPerf scenario against an engine, print the card, exit with the verdict.

python run_mlperf.py --mode offline                  a demonstration that needs nothing
python run_mlperf.py --mode server --input-file perf_eval_ref.parquet --server-url http://HOST:30000
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from backends.engines import Engines, open_engines
from calibrate import Calibration, Shape, calibrate, shape_of, shape_of_config
from client.signals import interrupt_once
from core.check import Check
from core.config import RunConfig
from core.errors import ConfigError, HarnessError
from measure import Plan, describe_dataset, measure, prepare, say
from options import accuracy_config, parse_options
from report.card import render_card
from results.manifest import plain
from results.summary import Summary


def main(argv: Sequence[str] | None = None) -> int:
    interrupt_once(signal.SIGTERM)
    try:
        config, dry_run = parse_options(argv)
        return show_settings(config) if dry_run else run(config)
    except HarnessError as error:
        say(f"error: {error}")
        return error.exit_code
    except KeyboardInterrupt:
        say("interrupted before the run began")
        return 130


def show_settings(config: RunConfig) -> int:
    """--dry-run: everything that would be in force, as JSON."""
    plan = prepare(config)
    shown = {
        "config": plain(asdict(config)),
        "run_dir": str(config.run_dir),
        "dataset": describe_dataset(plan.dataset),
        "loadgen": plan.settings.as_dict(),
        "not_by_the_rules": list(plan.settings.deviations),
    }
    if config.calibrate:
        shown["calibration"] = find_ceiling(plan, shape_of_config(config)).to_json()
    sys.stdout.write(json.dumps(shown, indent=2) + "\n")
    return 0


def run(config: RunConfig) -> int:
    """From the dataset to the exit code; with --gate, accuracy first."""
    refuse_audit_config()
    # A wrong file should be found before engines are started and a gate is run.
    plan = prepare(config)
    gate_plan = prepare(accuracy_config(config)) if config.gate else None
    with open_engines(config, say) as engines:
        ceiling = find_ceiling(plan, shape_of(engines)) if config.calibrate else None
        gate = None
        if gate_plan is not None:
            scored, code = pass_gate(gate_plan, engines)
            if code != 0 or scored is None:
                say("the gate did not pass: the performance run was not started")
                return code or 1
            gate = scored
        summary, folder = measure(plan, engines, gate)
    if ceiling is not None:
        with suppress(OSError):  # a full disk; the sentence has been said
            (folder / "calibration.json").write_text(json.dumps(ceiling.to_json(), indent=2) + "\n")
    show(summary, engines, folder)
    return summary.exit_code


def find_ceiling(plan: Plan, shape: Shape) -> Calibration:
    """--calibrate: what this client could drive, said on stderr."""
    found = calibrate(plan.config, plan.settings, plan.dataset, shape, say)
    say(found.sentence if found.enough else f"warning: {found.sentence}")
    return found


def pass_gate(plan: Plan, engines: Engines) -> tuple[Check | None, int]:
    """Run and score accuracy; the check and the exit code of that run."""
    summary, folder = measure(plan, engines)
    show(summary, engines, folder)
    return summary.check, summary.exit_code


def show(summary: Summary, engines: Engines, folder: Path) -> None:
    sys.stdout.write(render_card(summary, engines.title, str(folder)) + "\n")
    sys.stdout.write(json.dumps({"run_dir": str(folder), **summary.to_json()}) + "\n")
    sys.stdout.flush()


def refuse_audit_config() -> None:
    """LoadGen's default is to obey such a file silently; ours is that there is none."""
    if Path("audit.config").exists():
        raise ConfigError(
            f"audit.config lies in {Path.cwd()}, left over from a compliance run: "
            "remove it, LoadGen-based tools would turn a normal run into an audit"
        )


if __name__ == "__main__":
    exit_code = main()
    sys.stdout.flush()
    # After an interrupt LoadGen's thread still runs; an interpreter that unwinds under it crashes.
    os._exit(exit_code)
