"""Runs inside Pyodide: the repository's own tests, by pytest, against the built wheel.

``asyncio.run`` has no meaning on the browser's loop, where blocking would stop the loop itself: Pyodide's own returns
at once without stack switching, and a test that it leaves would pass unrun. So the tests get a loop that blocks. It
has timers and callbacks; there is nothing else here that could become ready.
"""

import asyncio
import contextlib
import fnmatch
import io
import json
import os
import sys
import time
from asyncio import runners

import pytest

import alkaline_edge
import alkaline_hosts

# Imported from the wheel before the repository's sources come into reach, which some tests read.
assert all("site-packages" in package.__file__ for package in (alkaline_edge, alkaline_hosts))
os.chdir("/repository")
sys.path.insert(0, "/repository")


class Selector:
    """What is left of a selector where no file descriptor can become ready: the wait for the next timer."""

    def select(self, timeout):
        """Sleep. Without a timer nothing will ever happen."""
        if timeout is None:
            raise RuntimeError("the event loop has nothing left to wait for: a deadlock")
        if timeout > 0:
            time.sleep(timeout)
        return []


class BlockingLoop(asyncio.BaseEventLoop):
    """An event loop that runs to the end of what it is given."""

    def __init__(self):
        super().__init__()
        self._selector = Selector()

    def _process_events(self, events):
        assert not events

    def _write_to_self(self):
        """Nobody else could be waiting: there are no threads."""


def run(main, *, debug=None, loop_factory=None):
    """``asyncio.run`` as it is everywhere else."""
    return runners.run(main, debug=debug, loop_factory=loop_factory or BlockingLoop)


@contextlib.contextmanager
def blocking():
    """As if no event loop ran, which in Pyodide one always does."""
    outer, had = asyncio.events._get_running_loop(), asyncio.run
    asyncio.events._set_running_loop(None)
    asyncio.run = run
    try:
        yield
    finally:
        asyncio.run = had
        asyncio.events._set_running_loop(outer)


class Report:
    """A pytest plugin: leaves tests out by pattern, expects known defects, keeps what became of each test."""

    def __init__(self, leave_out, defects):
        self.leave_out = leave_out
        self.defects = defects
        self.matched = set()
        self.outcomes = {}

    def pytest_collection_modifyitems(self, config, items):
        """Apply the patterns, and note which of them matched anything."""
        kept = []
        for item in items:
            if self._matches(item, self.defects):
                item.add_marker(pytest.mark.xfail(strict=True, reason="a known defect"))
            if not self._matches(item, self.leave_out):
                kept.append(item)
        items[:] = kept

    def _matches(self, item, patterns):
        found = {pattern for pattern in patterns if fnmatch.fnmatchcase(item.nodeid, pattern)}
        self.matched |= found
        return bool(found)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item, call):
        """A test that starts a process is skipped: WebAssembly has none. That error and no other."""
        report = yield
        if call.excinfo is not None and call.excinfo.errisinstance(OSError) and "processes" in str(call.excinfo.value):
            report.outcome, report.longrepr = "skipped", ("", 0, "starts a process")
        return report

    def pytest_runtest_logreport(self, report):
        """A failure in any phase is the test's failure."""
        if report.failed:
            self.outcomes[report.nodeid] = ["failed", str(report.longrepr)]
        elif report.skipped:
            self.outcomes[report.nodeid] = ["skipped", str(report.longrepr)]
        elif report.when == "call":
            self.outcomes.setdefault(report.nodeid, ["passed", ""])


def run_tests(modules, leave_out, defects):
    """Run the test modules but for tests that match a pattern of ``leave_out``; gives JSON of what happened.

    Tests that match a pattern of ``defects`` must fail.
    """
    report, words = Report(leave_out, defects), io.StringIO()
    options = ["-q", "-p", "no:cacheprovider", "--import-mode=importlib", "-c", "pytest.ini", "--tb=short"]
    with blocking(), contextlib.redirect_stdout(words):
        code = pytest.main([*options, *modules], plugins=[report])
    unmatched = sorted({*leave_out, *defects} - report.matched)
    found = {
        "code": int(code),
        "outcomes": report.outcomes,
        "unmatched": unmatched,
        "words": words.getvalue()[-20_000:],
    }
    return json.dumps(found)
