"""Following a run: its history from a place on, then each event as it is recorded, until the run ends.

Reading goes on where it was left: what a follower costs is what is new, however long the history is.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from typing import Any

from .. import events as ev
from .. import keys, lifecycle
from ..arguments import expect, refused
from ..calling import is_awaitable
from ..errors import ConflictError, InvalidInput, NotFound, StoreError
from ..events import Event
from ..history import Cursor, Timed, split
from ..host import Entry
from ..runs import ExecutionRecord
from ..structs import dataclass
from .asking import Asker
from .moved import ARRIVING, gone
from .store import PAGE, Store
from .telling import Teller

LIVE = 1_000
"""So much of what steps publish is kept for a follower that is slower than they; the oldest is dropped."""
_PLACE = re.compile(r"(\d{1,10})\.(\d{1,15})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Followed:
    """An event of a history, and its place: hand that back as ``after`` to go on behind it.

    ``number`` counts the events of the present history, ``commit`` its commits, from 0; ``at`` is in ms since 1970.
    """

    place: str
    number: int
    commit: int
    at: int
    event: Event


def place_of(text: str) -> tuple[int, int]:
    """The generation and the number of the event that ``text`` names; (0, -1) for the empty text."""
    expect(text, str, "after", "the place of an event, or empty")
    if not text:
        return 0, -1
    found = _PLACE.fullmatch(text)
    if found is None:
        raise InvalidInput(f"after is the place of an event, such as 0.17, as it was told with it; not {text[:40]!r}")
    return int(found[1]), int(found[2])


class Follower:
    """Follows runs on behalf of one runtime's callers."""

    def __init__(self, store: Store, asker: Asker, teller: Teller) -> None:
        self._store, self._asker, self._teller = store, asker, teller

    async def follow(
        self, id: str, after: str, live: bool, begin: Callable[[], Awaitable[Any]] | None
    ) -> AsyncGenerator[Followed | lifecycle.Published, None]:
        """See ``Runtime.follow``."""
        generation, number = place_of(after)
        with _Watch(self._teller, id, live) as watch:
            if begin is not None:
                begun: object = begin()
                if not is_awaitable(begun):
                    raise refused("follow(begin=)", "a function that returns what is to be awaited", begun)
                await begun
            record = await self._store.record(id)
            if generation > record.generation:
                raise _elsewhere(id, after)
            reading = _Reading(self._store, record.run, generation if after else record.generation)
            while True:
                mark, watch.recorded = self._asker.mark(), False  # before looking: what is recorded behind it is news
                seen = await self._asker.look(id)
                newest = seen or await self._store.record(id)
                if newest.run != reading.run:
                    raise NotFound(f"run {id!r} was deleted, and another run has its id now", id=id)
                while found := await reading.next():
                    for one in watch.between(found):
                        if isinstance(one, lifecycle.Published) or (reading.generation, one.number) > (
                            generation,
                            number,
                        ):
                            yield one
                    last = found[-1].event[0]
                    if last == ev.CONTINUED_AS_NEW:
                        reading = _Reading(self._store, reading.run, reading.generation + 1)
                    elif last in ev.ENDINGS and (last != ev.FAILED or await self._ended(id, reading)):
                        return
                while watch.heard and not watch.recorded:
                    yield watch.heard.popleft()
                if reading.generation < newest.generation:  # what was left of it is deleted
                    reading = _Reading(self._store, reading.run, newest.generation)
                    continue
                if reading.generation == generation and reading.count <= number:
                    raise _elsewhere(id, after)
                if seen is not None:
                    await self._refuse(seen, reading)
                    await self._asker.wait(id, None, mark, seen)
                while (
                    seen is None
                    and not watch.recorded
                    and await watch.wait(self._asker.wait(id, None, mark, None, True))
                ):
                    while watch.heard and not watch.recorded:  # what is recorded stands in front of what is shown since
                        yield watch.heard.popleft()

    async def _ended(self, id: str, reading: _Reading) -> bool:
        """Whether a run that had failed was not tried again since."""
        record = await self._store.find(id)
        return record is None or record.run != reading.run or record.status == "failed"

    async def _refuse(self, seen: ExecutionRecord, reading: _Reading) -> None:
        """Raise why nothing follows here, if that is so."""
        if seen.finished:
            raise StoreError(
                f"run {seen.id!r} has ended, and its history has no end behind commit {reading.cursor.length}: the "
                "store lost it; restore it",
                id=seen.id,
            )
        if seen.moved_to not in (None, ARRIVING):
            raise gone(seen, "follow")
        await self._asker.raise_if_stuck(seen.id)


class _Watch:
    """What one follower hears of its run while it is driven here."""

    def __init__(self, teller: Teller, id: str, live: bool) -> None:
        self._teller, self._id, self._live = teller, id, live
        self.heard: deque[lifecycle.Published] = deque(maxlen=LIVE)
        self.recorded = False
        """A commit of the run came behind the last look."""
        self._bell: asyncio.Future[None] | None = None
        self._deaf: Callable[[], None] = lambda: None

    def __enter__(self) -> _Watch:
        self._teller.followed.setdefault(self._id, []).append(self._committed)
        if self._live:
            self._deaf = self._teller.listen(self._hear)
        return self

    def __exit__(self, *_: object) -> None:
        self._deaf()
        calls = self._teller.followed[self._id]
        calls.remove(self._committed)
        if not calls:
            del self._teller.followed[self._id]

    def _hear(self, event: lifecycle.LifecycleEvent) -> None:
        if isinstance(event, lifecycle.Published) and event.id == self._id:
            self.heard.append(event)
            self._ring()

    def _committed(self) -> None:
        self.recorded = True
        self._ring()

    def _ring(self) -> None:
        if self._bell is not None and not self._bell.done():
            self._bell.set_result(None)

    async def wait(self, until: Coroutine[Any, Any, None]) -> bool:
        """Until something is heard (True), or ``until`` returns; what that raises is raised."""
        task = asyncio.ensure_future(until)
        if not self.heard and not self.recorded:
            self._bell = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._bell, task], return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return bool(self.heard)

    def between(self, found: list[Followed]) -> list[Followed | lifecycle.Published]:
        """Events, and in front of what became of an attempt what it has published."""
        mixed: list[Followed | lifecycle.Published] = []
        for one in found:
            if self.heard and isinstance(one.event, _OUTCOMES):
                mixed += self._published_by(one.event)
            mixed.append(one)
        return mixed

    def _published_by(self, outcome: ev.StepCompleted | ev.StepFailed | ev.AttemptFailed) -> list[lifecycle.Published]:
        last = outcome.attempt if isinstance(outcome, ev.AttemptFailed) else float("inf")
        taken = [each for each in self.heard if each.command == outcome.id and each.attempt <= last]
        if taken:
            kept = [each for each in self.heard if not (each.command == outcome.id and each.attempt <= last)]
            self.heard.clear()
            self.heard.extend(kept)
        return taken


_OUTCOMES = (ev.StepCompleted, ev.StepFailed, ev.AttemptFailed)


class _Reading:
    """One history, read on from where it was left."""

    def __init__(self, store: Store, run: str, generation: int) -> None:
        self._store, self.run, self.generation = store, run, generation
        self._name = keys.history(run, generation)
        self.cursor = Cursor()
        self.count = 0
        """How many events have been read."""
        self._segment = ""
        """The key of the last segment that was read to its end."""

    async def next(self) -> list[Followed]:
        """The events of the next commits, a page of them at most; none where nothing more is recorded."""
        found: list[Followed] = []
        for raw in await self._raws():
            commit = self.cursor.length
            timed: list[Timed] = self.cursor.advance(raw, self._store.codec)
            for at, event in await self._store.fill(timed, self.run):
                found.append(Followed(f"{self.generation}.{self.count}", self.count, commit, at, event))
                self.count += 1
        return found

    async def _raws(self) -> list[bytes]:
        """The next commits. What is sealed between two listings is in the second of them."""
        sealed = self._segment or not self.cursor.length
        for listing in (self._sealed, self._loose, self._sealed) if sealed else (self._loose, self._sealed):
            raws = await listing()
            if raws:
                return raws
        return []

    async def _loose(self) -> list[bytes]:
        length = self.cursor.length
        after = keys.commit(self._name, length - 1) if length else ""
        raws: list[bytes] = []
        for entry in await self._store.host.list(keys.commits(self._name), after, PAGE):
            if keys.position_of(entry.key) != length + len(raws):
                break
            raws.append(entry.value)
        return raws

    async def _sealed(self) -> list[bytes]:
        while True:
            entries: list[Entry] = await self._store.host.list(keys.segments(self._name), self._segment, 4)
            for entry in entries:
                start = keys.position_of(entry.key)
                if start > self.cursor.length:
                    return []
                commits = split(entry.value)
                self._segment = entry.key
                if start + len(commits) > self.cursor.length:
                    return commits[self.cursor.length - start :]
            if not entries:
                return []


def _elsewhere(id: str, after: str) -> ConflictError:
    return ConflictError(
        f"the history of run {id!r} has no place {after} yet: it is that of another run, or of a store that was rolled "
        "back; follow it without after",
        id=id,
    )
