"""What holds attempts of steps back in one runtime: places in limits that processes share, and what was learned.

Both decide when an attempt starts and nothing else, so no history knows of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from ..calling import is_awaitable
from ..errors import ConflictError
from ..host import Host
from ..machine.commands import RunStep
from ..machine.execution import Execution
from . import effects
from .effects import InfoFor, Raised
from .learning import Learned, Learner, Learning
from .outcomes import Outcomes
from .pace import Known
from .places import Places, Word
from .remembering import Memory
from .store import Store


class Gates:
    """The gates of one runtime."""

    def __init__(self, store: Store, word: Word, learning: Learning | None) -> None:
        self._places = Places(store, word)
        self._learner = None if learning is None else Learner(learning, lambda: store.host, Memory(store))

    def begin(
        self,
        machine: Execution,
        command: RunStep,
        host: Host,
        known: Known,
        threads: dict[asyncio.Future[Any], RunStep] | None,
        info_for: InfoFor,
        outcomes: Outcomes,
    ) -> asyncio.Task[Any]:
        """What an attempt gives, begun once nothing holds it back: in one of ``threads``, or with None here.

        How long it may take is learned where another attempt follows, as ``outcomes`` say.
        """

        async def called() -> Any:
            if threads is not None:
                return await effects.in_a_thread(machine, command, host, known, threads, info_for)
            command.began_ms, raw = host.now_ms(), effects.call(machine, command, known, info_for)
            return await effects.settled(raw) if is_awaitable(raw) else raw

        async def timed() -> Any:
            learns = self._learner if outcomes.is_retried(command, TimeoutError()) else None
            limit = command.timeout if learns is None else learns.timeout_of(command)
            return await (called() if limit is None else effects.watched(command, called(), host, limit))

        return self._held_back(command, timed)

    def _held_back(self, command: RunStep, work: Callable[[], Awaitable[Any]]) -> asyncio.Task[Any]:
        """What ``work()`` gives, begun once it is its turn and it has its places. What is ready is put into line now.

        A place that was lost is Raised: whether the step acted is not known.
        """
        learner = self._learner
        ticket = None if learner is None else learner.enter(command)

        async def placed() -> Any:
            try:
                return await self._places.run_all(command.limits, work)
            except ConflictError as error:
                return Raised(error, True)

        async def in_turn() -> Any:
            if learner is None or ticket is None:
                return await placed()
            return await learner.run(ticket, placed)

        task = asyncio.ensure_future(in_turn())
        if learner is not None and ticket is not None:
            task.add_done_callback(lambda _: learner.over(ticket))  # also of one that was stopped before it began
        return task

    def learned(self) -> list[Learned]:
        """What is known of steps, by name; nothing where nothing is learned."""
        return [] if self._learner is None else self._learner.learned()

    async def end(self, seconds: float) -> None:
        """The runtime is being closed; what was learned is stored, for at most ``seconds``."""
        if self._learner is not None:
            await self._learner.end(seconds)
