"""What all tests share: they are run among ten thousand others, and that must not make each of them slow."""

from __future__ import annotations

import faulthandler
import gc
import sys

import pytest

TO_END = 60.0
"""Seconds that the process may take to end when its tests have: a thread that never ends would keep it for ever."""


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


@pytest.hookimpl(trylast=True)
def pytest_unconfigure() -> None:
    """A process that does not end says where its threads are, and ends."""
    if sys.platform == "emscripten":  # it has neither threads nor an end
        return
    assert sys.__stderr__ is not None
    faulthandler.dump_traceback_later(TO_END, exit=True, file=sys.__stderr__)


def _settle() -> None:
    gc.collect()
    gc.freeze()
