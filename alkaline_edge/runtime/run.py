"""``Run``: a handle on one run, as ``Runtime.start`` returns it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from .. import lifecycle

if TYPE_CHECKING:
    from ..runs import Status
    from .runtime import Runtime

_LAST = (lifecycle.RunCompleted, lifecycle.RunFailed, lifecycle.RunWasCancelled)


class Run:
    """A run by its id. It holds no state of its own: every call asks the runtime."""

    def __init__(self, runtime: Runtime, id: str) -> None:
        self._runtime = runtime
        self.id = id

    def __repr__(self) -> str:
        return f"Run({self.id!r})"

    @property
    def status(self) -> Status | None:
        """The status as this runtime last saw it; None if it has not. ``get_execution`` asks the store."""
        return self._runtime.statuses.get(self.id)

    async def settle(self) -> None:
        """Until the run is finished or suspended: what a Worker awaits before it answers."""
        await self._runtime.settle(self.id)

    async def result(self, timeout: float | None = None) -> Any:
        """The result, once there is one; what the run failed with is raised.

        While this waits, timers that come due are woken. After ``timeout`` seconds: TimeoutError, and the run goes on.
        """
        return await self._runtime.result(self.id, timeout)

    async def signal(self, name: str, payload: Any = None, dedupe: str | None = None) -> None:
        """As ``Runtime.signal``."""
        await self._runtime.signal(self.id, name, payload, dedupe)

    async def update(self, name: str, payload: Any = None) -> Any:
        """As ``Runtime.update``."""
        return await self._runtime.update(self.id, name, payload)

    async def query(self, name: str, *args: Any) -> Any:
        """As ``Runtime.query``."""
        return await self._runtime.query(self.id, name, *args)

    async def pause(self) -> None:
        """As ``Runtime.pause``."""
        await self._runtime.pause(self.id)

    async def resume(self) -> Run:
        """As ``Runtime.resume``."""
        return await self._runtime.resume(self.id)

    async def cancel(self, reason: str | None = None) -> None:
        """As ``Runtime.cancel``."""
        await self._runtime.cancel(self.id, reason)

    async def events(self) -> AsyncIterator[lifecycle.LifecycleEvent]:
        """Lifecycle events of the run, in this runtime, from now until it ends."""
        queue: asyncio.Queue[lifecycle.LifecycleEvent] = asyncio.Queue()
        unsubscribe = self._runtime.listen(lambda event: queue.put_nowait(event) if event.id == self.id else None)
        try:
            if (await self._runtime.get_execution(self.id)).finished:
                return
            while True:
                event = await queue.get()
                yield event
                if isinstance(event, _LAST):
                    return
        finally:
            unsubscribe()
