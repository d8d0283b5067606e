"""Garbage collection during a test."""

from __future__ import annotations

import gc

import pytest

from sut.run import _undisturbed


def test_collection_rests_during_a_test_and_comes_back() -> None:
    assert gc.isenabled()
    with pytest.raises(RuntimeError), _undisturbed():
        assert not gc.isenabled()
        assert gc.get_freeze_count() > 0
        raise RuntimeError
    assert gc.isenabled()
    gc.unfreeze()
