"""Passing: what the handler asks for and the history answers next is answered at once.

Most of a replay is that. Nothing else is ready then, so suspending, applying the event and waking up again would come
to the same, in the same order. Steps, of which there are the most, do it for themselves: see ``Calls.begin_step``.
"""

from __future__ import annotations

from typing import Any

from .. import events as ev
from ..activations import timed
from ..budget import Purse
from .loop.loop import DeterministicLoop
from .script import Script
from .undoing import Undoing


class Passing:
    """Takes from the script of one run what answers a command of its handler."""

    __slots__ = ("_ahead", "_loop", "_purse", "_ready", "_script", "_undoing")

    def __init__(self, script: Script, loop: DeterministicLoop, purse: Purse, undoing: Undoing) -> None:
        self._script, self._ahead, self._purse, self._undoing = script, script.events, purse, undoing
        self._loop, self._ready = loop, loop.ready

    def event(self, kind: int, id: str) -> Any:
        """The event of that kind, not a step's completion, which answers the command ``id`` and comes next; or None.

        It is taken then.
        """
        entry = self._next()
        if entry is None or type(entry) is list or entry[1][0] != kind or entry[1][1] != id:
            return None
        self._take(entry)
        return entry[1]

    def child(self, id: str, workflow: str, digest: int | None, child: str) -> ev.ChildFinished | None:
        """That the child of the command ``id`` completed, where its start comes next and its end right behind it."""
        entry = self._next()
        if entry is None or len(self._ahead) < 2 or entry[1] != (ev.CHILD_STARTED, id, workflow, digest, child):
            return None
        behind = self._ahead[1]
        finished: ev.ChildFinished = timed(behind)[1]
        if finished[:3] != (ev.CHILD_FINISHED, id, "completed"):
            return None
        self._take(entry)
        self._purse.shared = self._purse.shared or bool(self._purse.accounts)
        self._take(behind)
        return finished

    def _next(self) -> Any:
        """What stands at the head of the script; None where something else goes before it."""
        if not self._ahead or self._ready or self._loop.must_suspend:
            return None
        if self._script.next_totals is not None or self._undoing.waiter is not None:
            return None
        return self._ahead[0]

    def _take(self, entry: Any) -> None:
        script, loop, time_ms = self._script, self._loop, entry[0]
        self._ahead.popleft()
        script.position += 1
        script.time_ms = time_ms
        if time_ms > loop.now_ms:
            loop.now_ms = time_ms
