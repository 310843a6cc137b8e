"""Commits of several tasks that share one write and one sync.

Runs of one process take turns on its loop. A commit of a run that is alone is written and synced at once, as nobody
could share it. As soon as two tasks commit by turns, each commit waits for the end of the loop's turn, and so for those
of the others; what waits by then goes into the file together. They are checked, written and answered in the order in
which they came, so a check sees what the commits before it in the group put.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from alkaline_edge.errors import AlkalineError
from alkaline_edge.host import Batch, Committed, Conflict, Entry

from .index import Extent

Answer = Committed | Conflict
MOST = 1024 * 1024
"""Bytes of values in one record of a group: what is more goes into the next."""

ROW = 32
"""So many commits in a row are made at once for a task that is alone; then one lets the others on the loop go on."""


class Waiting:
    """A commit that waits for its group. ``deletes``: those of its keys that are there, once it has been checked."""

    __slots__ = ("answer", "batch", "deletes", "id")

    def __init__(self, batch: Batch, id: bytes, answer: asyncio.Future[Answer]) -> None:
        self.batch, self.id, self.answer = batch, id, answer
        self.deletes: Sequence[str] = ()

    def succeed(self, outcome: Answer) -> None:
        """Tell its caller, who may have been cancelled meanwhile."""
        self._tell(self.answer.set_result, outcome)

    def fail(self, error: BaseException) -> None:
        """The same with an error."""
        self._tell(self._failed, error)

    def _failed(self, error: BaseException) -> None:
        self.answer.set_exception(error)
        self.answer.exception()  # its caller may be cancelled before it hears of it: that is no error to report

    def _tell(self, tell: Callable[[Any], None], what: Any) -> None:
        loop = self.answer.get_loop()
        if loop.is_running() and loop is not asyncio._get_running_loop():  # another thread's: it has to be woken up
            loop.call_soon_threadsafe(self._told, tell, what)
        else:
            self._told(tell, what)

    def _told(self, tell: Callable[[Any], None], what: Any) -> None:
        if not self.answer.done():
            tell(what)

    def fail_as(self, error: AlkalineError) -> None:
        """The same with an error that others are told too: each raises one of its own."""
        own = type(error)(str(error), **error.detail)
        own.__cause__ = error.__cause__
        self.fail(own)


Members = Sequence[Waiting]
Flush = Callable[[Members], None]


def first_part(entries: Mapping[str, Entry | Extent], waiting: Sequence[Waiting]) -> tuple[Members, Members]:
    """The first of ``waiting`` that go into one record, and the rest. What writes nothing is answered here."""
    part, size, written = list[Waiting](), 0, dict[str, str | None]()

    def version_of(key: str) -> str | None:
        if key in written:
            return written[key]
        kept = entries.get(key)
        return None if kept is None else kept.version

    for n, one in enumerate(waiting):
        batch = one.batch
        size += sum([len(value) for _, value in batch.puts])
        if part and size > MOST:
            return part, waiting[n:]
        failed = tuple([key for key, version in batch.checks if version_of(key) != version])
        if failed:
            one.succeed(Conflict(failed))
            continue
        one.deletes = [key for key in batch.deletes if version_of(key) is not None]
        if not batch.puts and not one.deletes:
            one.succeed(Committed(batch.id))
            continue
        written.update(dict.fromkeys(one.deletes))
        written.update([(key, batch.id) for key, _ in batch.puts])
        part.append(one)
    return part, []


class Group:
    """Those that wait for the end of the loop's turn: of one loop at a time, whatever threads commit to the host."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        """Held while it is decided who waits, and for whom."""
        self._waiting: list[Waiting] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._last = 0
        """Which task committed last, by its address: one that has the place of another is taken for it, and no harm."""
        self._row = 0
        """How many commits it has made in a row, and at once."""

    def is_alone(self) -> bool:
        """Whether the commit that comes now can be shared with nobody, as far as is known: then it need not wait."""
        try:
            task = asyncio.current_task()
        except RuntimeError:  # no loop, so nobody would come for those that wait
            return True
        last, self._last = self._last, id(task)
        if self._waiting:
            with self._mutex:
                return bool(self._waiting) and not self._is_ours()
        alone = (not last or last == self._last) and self._row < ROW
        self._row = self._row + 1 if alone else 0
        return alone

    def takes_now(self) -> bool:
        """As ``is_alone``, for a commit that is made at once or not at all: where not, it is as if nobody had asked."""
        last, row = self._last, self._row
        if self.is_alone():
            return True
        self._last, self._row = last, row
        return False

    def _is_ours(self) -> bool:
        """Whether those that wait do so on the running loop; those of a loop that was closed wait no more."""
        assert self._loop is not None
        if self._loop.is_closed():
            self._waiting = []
            return True
        return self._loop is asyncio.get_running_loop()

    def join(self, batch: Batch, id: bytes, flush: Flush) -> Waiting | None:
        """Have ``batch``, whose raw id is ``id``, committed with the others, by ``flush``, which answers each.

        None where those of another thread's loop wait by now: it is committed alone.
        """
        loop = asyncio.get_running_loop()
        one = Waiting(batch, id, loop.create_future())
        with self._mutex:
            if self._waiting and not self._is_ours():
                return None
            self._loop = loop
            self._waiting.append(one)
            if len(self._waiting) == 1:
                loop.call_soon(self._flush_of, loop, flush)
        return one

    def _flush_of(self, loop: asyncio.AbstractEventLoop, flush: Flush) -> None:
        """At the end of that loop's turn: those that wait may be another's by now, whose turn has not ended."""
        with self._mutex:
            waiting: list[Waiting] = []
            if self._loop is loop:
                waiting, self._waiting = self._waiting, waiting
        _commit(waiting, flush)

    def flush(self, flush: Flush) -> None:
        """Commit those that wait, if any do. One whose caller was cancelled is left out: nothing of it is written."""
        with self._mutex:
            waiting, self._waiting = self._waiting, []
        _commit(waiting, flush)


def _commit(waiting: list[Waiting], flush: Flush) -> None:
    left = [one for one in waiting if not one.answer.done()]
    if left:
        flush(left)
