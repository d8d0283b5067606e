"""How many files a process may have open: every stream of a client or of an engine is one.

The soft limit is often 1024 where the hard one is high, and only the soft one is in force.
"""

from __future__ import annotations

import resource


def most_files() -> int | None:
    """The hard limit, to which a process may raise its own. None: there is no limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if hard == resource.RLIM_INFINITY else hard  # infinity is -1


def raise_file_limit() -> int | None:
    """Let this process, and those that it starts, open as many files as it may; says how many."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return most_files()
