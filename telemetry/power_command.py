"""`python -m telemetry power`: what GPUs of this machine use, to see whether it can be measured."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

from core.errors import ConfigError, HarnessError
from telemetry.power import Energy, open_meter, parse_gpus

MOST_S = 86_400.0


def main(argv: Sequence[str]) -> int:
    """Measure, print, return the exit code: 0, that of the error shown, or 130 after Ctrl-C."""
    args = _parser().parse_args(argv)
    try:
        gpus = parse_gpus("--gpus", args.gpus)
        if not 0 < args.seconds < MOST_S:
            raise ConfigError(f"--seconds {args.seconds}: must be above 0 and below {MOST_S:g}")
        with open_meter(gpus) as meter:
            time.sleep(args.seconds)
        sys.stdout.write(_table(gpus, meter.energy()))
    except HarnessError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m telemetry power", description=__doc__)
    parser.add_argument("--gpus", default="0", metavar="0,2|0-7", help="default: 0")
    parser.add_argument("--seconds", type=float, default=5.0, metavar="S", help="default: 5")
    return parser


def _table(gpus: Sequence[int], energy: Energy) -> str:
    rows = [(f"GPU {gpu}", joules) for gpu, joules in zip(gpus, energy.joules, strict=True)]
    rows += [("together", energy.total_j)] if len(rows) > 1 else []
    lines = [f"{name:8} {joules / energy.seconds:9.1f} W {joules:11.1f} J" for name, joules in rows]
    return "\n".join([*lines, f"in {energy.seconds:.3f} s, by {energy.source}", ""])
