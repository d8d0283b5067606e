"""The cluster that all tests of this folder share."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from contextlib import ExitStack

import pytest

from tests.slurm.host import QUEUE_S, why_not
from tests.slurm.mini import MiniSlurm, mini_slurm

LAST = pytest.StashKey[pytest.Item]()
UP = pytest.StashKey[ExitStack]()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The cluster's first test may have to wait for another test run's; the last one takes it down."""
    if users := [item for item in items if "slurm" in getattr(item, "fixturenames", ())]:
        users[0].add_marker(pytest.mark.timeout(QUEUE_S + 120), append=False)
        config.stash[LAST] = users[-1]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, None, None]:
    """At once and not when all tests of the session are through: other test runs wait for it."""
    try:
        yield
    finally:
        stash = item.config.stash
        if item is stash.get(LAST, None) and UP in stash:
            stash[UP].close()


@pytest.fixture(scope="session")
def slurm_is_possible() -> None:
    """Also for tests that make a cluster of their own by mini_slurm."""
    if reason := why_not():
        assert "CI" not in os.environ, reason
        pytest.skip(reason)


@pytest.fixture(scope="session")
def slurm(
    slurm_is_possible: None,
    pytestconfig: pytest.Config,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[MiniSlurm]:
    """Four nodes of 8 fake MI355X, with pyxis' options."""
    folder = tmp_path_factory.mktemp("slurm")
    with pytestconfig.stash.setdefault(UP, ExitStack()) as up:
        yield up.enter_context(mini_slurm(folder, nodes=4, container_stub=True, instance=0))
