"""Places in limits that processes share: waited for, held while work is done, given back; all of it in the store."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from heapq import heappop, heappush
from typing import Any

from .. import keys
from ..errors import ConflictError
from ..host import Conflict
from ..names import Need
from ..structs import Protocol
from .crew import beside
from .limit import Shared
from .store import Store
from .write import Write

HOLD_SECONDS = 30.0
LOOK_SECONDS = 1.0
"""How often who waits looks, where nobody tells of a change."""
_TRIES = 100
FAR = 4
"""A place that is held for so many holds to come is cut down to them: a clock that was ahead has written it."""
ASKING = 8
"""So many of one process ask for a limit at a time. The others wait for their turn here, by priority, and cost nothing:
each change of a limit wakes all who ask."""


class Word(Protocol):
    """Word of changes in the store, as far as this process has it."""

    def mark(self) -> int:
        """Where the count of changes stands."""
        ...

    def changed(self) -> None:
        """Something has."""
        ...

    async def wait(self, seconds: float, mark: int, /) -> None:
        """Until something has changed since ``mark``, or ``seconds`` have passed."""
        ...


class Places:
    """The places of one store's limits, as one process asks for them. ``hold``: for how many ms without a renewal."""

    def __init__(self, store: Store, word: Word, hold: int = round(HOLD_SECONDS * 1000)) -> None:
        self._store, self._changes, self.hold = store, word, hold
        self._asking: dict[str, int] = {}
        self._queues: dict[str, list[tuple[int, int, asyncio.Future[None]]]] = {}
        self._count = 0

    async def run_all(self, needs: Sequence[Need], work: Callable[[], Awaitable[Any]]) -> Any:
        """As ``run``, with a place of each: asked for in one order everywhere, so that no two wait for each other."""
        for need in sorted(needs, reverse=True):
            work = self._within(need, work)
        return await work()

    def _within(self, need: Need, work: Callable[[], Awaitable[Any]]) -> Callable[[], Awaitable[Any]]:
        return lambda: self.run(need, work)

    async def run(self, need: Need, work: Callable[[], Awaitable[Any]]) -> Any:
        """What ``work()`` returns or raises, done with a place held; see ``Limits.run``."""
        name, store = need.name, self._store
        token = store.host.entropy(8).hex()
        try:
            await self._wait(need, token)
            how, what = await beside(work(), lambda: self._renew(name, token), self.hold / 3_000, store.host.sleep)
        finally:
            await self._let_go(name, token)
        if how == "returned":
            return what
        if how == "raised":
            raise what
        raise ConflictError(
            f"the place in limit {name!r} was lost, as it was not renewed in time; the work was stopped, so try again",
            limit=name,
        ) from (what if isinstance(what, BaseException) else None)

    # --- whose turn it is in this process ----------------------------------------------------------------------------
    async def _wait(self, need: Need, token: str) -> None:
        await self._turn(need)
        try:
            await self._ask(need, token)
        finally:
            self._next(need.name)

    async def _turn(self, need: Need) -> None:
        asking = self._asking.get(need.name, 0)
        if asking < ASKING:
            self._asking[need.name] = asking + 1
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._count += 1
        heappush(self._queues.setdefault(need.name, []), (-need.priority, self._count, future))
        try:
            await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                self._next(need.name)  # the turn was ours already
            raise

    def _next(self, name: str) -> None:
        """A turn is over: it is the next one's."""
        queue = self._queues.get(name)
        while queue:
            future = heappop(queue)[2]
            if not future.done():
                future.set_result(None)
                return
        self._queues.pop(name, None)
        self._asking[name] -= 1
        if not self._asking[name]:
            del self._asking[name]

    # --- the store -------------------------------------------------------------------------------------------------
    async def _ask(self, need: Need, token: str) -> None:
        name, queued, lost = need.name, False, 0
        while True:
            mark = self._changes.mark()  # before looking: what changes meanwhile is looked at again
            known = False

            def ask(shared: Shared | None, now: int) -> Shared | None:
                nonlocal known
                if shared is None:
                    return None
                known = shared.knows(token)
                shared.pass_time(now, now + FAR * self.hold)
                if shared.holds(token) is None:
                    shared.queue(token, need.key, need.priority, now, self.hold)
                    shared.grant(now + self.hold)
                return shared

            shared = await self.change(name, ask)
            if shared is None or shared.holds(token) is not None:
                return
            queued, lost = True, lost + 1 if queued and not known else 0
            if lost:
                # To a clock that is ahead by more than a hold. It would go on so at each change, as fast as it can.
                await self._store.host.sleep(min(LOOK_SECONDS, 0.01 * 2 ** min(lost, 7)))
            now = self._store.host.now_ms()
            opens = shared.opens_at(now)
            pause = min(LOOK_SECONDS, self.hold / 3_000, LOOK_SECONDS if opens is None else (opens - now) / 1000)
            await self._changes.wait(max(0.001, pause), mark)

    async def _renew(self, name: str, token: str) -> None:
        def renew(shared: Shared | None, now: int) -> Shared | None:
            if shared is None:
                return None
            held = shared.holds(token)
            if held is None or held[2] <= now:
                raise ConflictError(f"the place in limit {name!r} is another one's", limit=name)
            held[2] = now + self.hold
            return shared

        await self.change(name, renew)

    async def _let_go(self, name: str, token: str) -> None:
        def let_go(shared: Shared | None, now: int) -> Shared | None:
            if shared is None:
                return None
            shared.let_go(token)
            shared.pass_time(now, now + FAR * self.hold)
            shared.grant(now + self.hold)
            return shared

        await self.change(name, let_go)

    async def find(self, name: str) -> Shared | None:
        """The limit of that name as it is stored."""
        entry = (await self._store.host.get([keys.limit(name)]))[0]
        return None if entry is None else Shared.from_map(self._store.opened(entry), entry.version)

    async def change(self, name: str, change: Callable[[Shared | None, int], Shared | None]) -> Shared | None:
        """Read, change, commit; again where others were quicker. What has not changed is not written."""
        store, key = self._store, keys.limit(name)
        for attempt in range(_TRIES):
            shared = await self.find(name)
            before = None if shared is None else (shared.numbers(), *shared.places())
            changed = change(shared, store.host.now_ms())
            if changed is None or (changed.numbers(), *changed.places()) == before:
                return changed  # only time has passed, which the next one reckons anew
            data = store.codec.encode(changed.to_map())
            version = changed.version_tag
            if not isinstance(await store.commit(Write({key: version}, {key: data})), Conflict):
                self._changes.changed()
                return changed
            spread = int.from_bytes(store.host.entropy(2), "big") / 65_536
            await store.host.sleep(min(0.1, 0.001 * 2 ** min(attempt, 7)) * spread)
        raise ConflictError(f"limit {name!r} was changed by others {_TRIES} times in a row; call again", limit=name)
