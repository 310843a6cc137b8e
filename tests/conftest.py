"""What all tests share: they are run among ten thousand others, and that must not make each of them slow."""

from __future__ import annotations

import gc

import pytest


def pytest_collection_finish() -> None:
    """Whatever was imported for the tests stays: no collection of garbage looks at it again.

    Tests of how a run is let go of collect garbage hundreds of times, and with the modules of all the others in memory
    each time cost four times as much.
    """
    _settle()


def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """The same for what a module of tests has left, before the next one begins."""
    if nextitem is not None and nextitem.path != item.path:
        _settle()


def _settle() -> None:
    gc.collect()
    gc.freeze()
