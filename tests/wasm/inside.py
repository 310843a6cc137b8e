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


class Report:
    """A pytest plugin: leaves tests out by pattern, and keeps what became of each test."""

    def __init__(self, leave_out):
        self.leave_out = leave_out
        self.matched = set()
        self.outcomes = {}

    def pytest_collection_modifyitems(self, config, items):
        """Take out what matches a pattern, and note which patterns matched anything."""
        kept = []
        for item in items:
            matching = {pattern for pattern in self.leave_out if fnmatch.fnmatchcase(item.nodeid, pattern)}
            self.matched |= matching
            if not matching:
                kept.append(item)
        items[:] = kept

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


def run_tests(repository, modules, leave_out):
    """Run the test modules but for tests that match a pattern of ``leave_out``; gives JSON of what happened."""
    # Imported from the wheel before the repository's sources come into reach, which some tests read.
    assert all("site-packages" in package.__file__ for package in (alkaline_edge, alkaline_hosts))
    os.chdir(repository)
    sys.path.insert(0, repository)
    report, words = Report(leave_out), io.StringIO()
    options = ["-q", "-p", "no:cacheprovider", "--import-mode=importlib", "-c", "pytest.ini", "--tb=short"]
    outer, had = asyncio.events._get_running_loop(), asyncio.run
    asyncio.events._set_running_loop(None)
    asyncio.run = run
    try:
        with contextlib.redirect_stdout(words):
            code = pytest.main([*options, *modules], plugins=[report])
    finally:
        asyncio.run = had
        asyncio.events._set_running_loop(outer)
    unmatched = sorted(set(leave_out) - report.matched)
    found = {
        "code": int(code),
        "outcomes": report.outcomes,
        "unmatched": unmatched,
        "words": words.getvalue()[-20_000:],
    }
    return json.dumps(found)
