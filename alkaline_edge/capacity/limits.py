"""``Limits``: waiting for a place, holding it while work is done, and giving it back; all of it in the store."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import Any

from .. import keys
from ..arguments import expect, whole
from ..calling import is_awaitable
from ..errors import InvalidInput, NotFound
from ..limits import check_seconds
from ..names import Need, check_id, check_text
from ..runtime.limit import Limit, Shared
from ..runtime.places import FAR, HOLD_SECONDS, Places
from ..runtime.runtime import Runtime
from ..runtime.write import Write
from ..structs import dataclass


@dataclass(frozen=True, slots=True)
class LimitState:
    """A limit as it stands: ``holding``, by whose key how many places are held, and how many are ``waiting``."""

    limit: Limit
    holding: dict[str, int]
    waiting: int


class Limits:
    """The limits of a runtime's store: any number of processes on it share them.

    A place is held for ``hold`` seconds and renewed while the work goes on, so that of a process that died comes back.
    Nothing of it is in a history: a replay waits for nothing. The time for which a step waits counts to its timeout.
    """

    def __init__(self, runtime: Runtime, hold: float = HOLD_SECONDS) -> None:
        expect(runtime, Runtime, "Limits(runtime=)", "a Runtime")
        self._store, self._changes = runtime.store, runtime.chores
        self._places = Places(self._store, self._changes, round(check_seconds(hold, "Limits(hold=)", 0.01) * 1000))

    async def set(self, limit: Limit) -> None:
        """Make a limit, or give one that is there other numbers; who holds it goes on."""
        expect(limit, Limit, "set(limit)", 'a Limit, such as Limit("model", concurrency=3)')

        def change(shared: Shared | None, now: int) -> Shared:
            made = shared or Shared(limit.name)
            made.set(limit, now)
            return made

        await self._places.change(limit.name, change)

    async def delete(self, name: str) -> None:
        """There is no such limit any more: who waits for it goes ahead."""
        check_id(name, "a limit's name")
        await self._store.commit(Write({}, {}, {keys.limit(name)}))
        self._changes.changed()

    async def state(self, name: str) -> LimitState:
        """The limit as it stands; ERR_NOT_FOUND where there is none."""
        shared = await self._places.find(check_id(name, "a limit's name"))
        if shared is None:
            raise NotFound(f"there is no limit {name!r} in this store; make it with set(Limit({name!r}, ...))")
        now = self._store.host.now_ms()
        shared.pass_time(now, now + FAR * self._places.hold)
        holding: dict[str, int] = {}
        for _, key, _ in shared.holders:
            holding[key] = holding.get(key, 0) + 1
        limit = Limit(shared.name, shared.concurrency, shared.rate, shared.per, shared.burst)
        return LimitState(limit, holding, len(shared.waiting))

    def around(
        self, name: str, fn: Callable[..., Any], *, key: str = "", priority: int = 0
    ) -> Callable[..., Awaitable[Any]]:
        """``fn`` as a step function that waits for a place: ``ctx.step("ask", limits.around("model", ask), x)``.

        ``key`` and ``priority``: as for ``run``. What is no function is ERR_INVALID_INPUT.
        """
        if not callable(fn):
            raise InvalidInput("around(name, fn) wants a function to call with a place held")

        @functools.wraps(fn)
        async def limited(*args: Any, **kwargs: Any) -> Any:
            async def work() -> Any:
                answer = fn(*args, **kwargs)
                return await answer if is_awaitable(answer) else answer

            return await self.run(name, work, key=key, priority=priority)

        return limited

    async def run(self, name: str, work: Callable[[], Awaitable[Any]], *, key: str = "", priority: int = 0) -> Any:
        """What ``work()`` returns or raises, done with a place of the limit held.

        ``key`` says for whom, such as a tenant: of equal priority, whose key holds fewest places is next. ``priority``:
        the highest first. A limit that is not there limits nothing. ERR_CONFLICT where the place was lost meanwhile,
        since this process could not renew it: the work was cancelled then.
        """
        check_id(name, "a limit's name")
        check_text(key, "a limit's key", 200)
        whole(priority, "priority", -1_000, 1_000)
        return await self._places.run(Need(name, key, priority), work)
