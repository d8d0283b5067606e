"""The error tree.

HarnessError
  ConfigError  exit 2   what the user asked for cannot be done as written
  SetupError   exit 3   something that the run needs is missing or broken
  RunError     exit 4   the run itself went wrong

A message says what happened, the value that caused it, and the remedy. A failed *query* is not an
error but data: see `core.outcome`.
"""

from __future__ import annotations

from typing import ClassVar


class HarnessError(Exception):
    """Base of all errors that end the program with a message instead of a traceback."""

    exit_code: ClassVar[int] = 4


class ConfigError(HarnessError):
    """A flag, file or setting that cannot be used as it is."""

    exit_code = 2


class SetupError(HarnessError):
    """An engine, library or folder that the run needs is not there."""

    exit_code = 3


class RunError(HarnessError):
    """The run started and could not be completed."""

    exit_code = 4
