"""``Run``: a handle on one run, as ``Runtime.start`` returns it."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from .. import lifecycle
from ..runs import ExecutionRecord
from . import asking

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
        """Until the run is finished or suspended: what a Worker awaits before it answers.

        One that another process drives is waited for as well, and taken over when its owner is gone. ERR_CLOSED when
        this runtime is closed meanwhile.
        """
        await asking.settle(self._runtime, self.id)

    async def result(self, timeout: float | None = None) -> Any:
        """The result, once there is one; what the run failed with is raised.

        While this waits, timers that come due are woken, and the run is taken over when its owner is gone. After
        ``timeout`` seconds: TimeoutError, and the run goes on. ERR_CLOSED when this runtime is closed meanwhile.
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
        """Lifecycle events of the run, in this runtime, from now until it ends.

        Where it ends in another process, that end is the last one all the same. ERR_CLOSED when this runtime is closed
        meanwhile, and what keeps the run from going on here is raised.
        """
        runtime, id = self._runtime, self.id
        heard: deque[lifecycle.LifecycleEvent] = deque()
        unsubscribe = runtime.listen(lambda event: heard.append(event) if event.id == id else None)
        try:
            if (await runtime.get_execution(id)).finished and not heard:
                return
            while True:
                while heard:
                    event = heard.popleft()
                    yield event
                    if isinstance(event, _LAST):
                        return
                mark = runtime.changes.mark()
                record = await asking.look(runtime, id)
                if record is not None and not heard:
                    if record.finished:
                        yield _end_of(record)
                        return
                    await asking.raise_if_stuck(runtime, id)
                if not heard:
                    await asking.wait(runtime, id, None, mark, record)
        finally:
            unsubscribe()


def _end_of(record: ExecutionRecord) -> lifecycle.LifecycleEvent:
    """The last event of a run that ended in another process."""
    failure = record.failure or {}
    if record.status == "completed":
        return lifecycle.RunCompleted(record.id, record.updated_at, record.result)
    if record.status == "cancelled":
        reason = (failure.get("detail") or {}).get("reason")
        return lifecycle.RunWasCancelled(record.id, record.updated_at, reason)
    return lifecycle.RunFailed(record.id, record.updated_at, failure)
