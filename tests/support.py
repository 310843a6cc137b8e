"""What many tests share: a runtime on a simulated host, and the next process after a crash."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

from alkaline_edge import Runtime, Workflow
from alkaline_edge.host import Conflict
from alkaline_edge.runtime.write import Write, indexes_of
from alkaline_edge.testing import SimulatedCrash, SimulatedHost


def drive(test: Callable[[], Awaitable[Any]]) -> Any:
    """Run one async test body. One that spins or waits for ever fails instead of hanging the suite."""
    return asyncio.run(asyncio.wait_for(test(), 20))


class Process:
    """One process after the other on the same simulated store."""

    def __init__(self, *workflows: Workflow, host: SimulatedHost | None = None, **options: Any) -> None:
        self.workflows = list(workflows)
        self.options = options
        self.host = host or SimulatedHost()
        self.events: list[Any] = []
        self.runtime = self._new()

    def _new(self) -> Runtime:
        return Runtime(self.host, workflows=self.workflows, on_event=self.events.append, **self.options)

    async def crash(self, *workflows: Workflow) -> Runtime:
        """Kill the process without a goodbye, let its leases run out, and start the next one."""
        self.host.dead = True
        with contextlib.suppress(SimulatedCrash):
            await self.runtime.close()
        self.host = self.host.reopen()
        self.host.advance(60)
        if workflows:
            self.workflows = list(workflows)
        self.runtime = self._new()
        return self.runtime


async def change(runtime: Runtime, **fields: Any) -> None:
    """Write the record of run a with other values."""
    record = await runtime.store.record("a")
    before = indexes_of(record)
    for name, value in fields.items():
        setattr(record, name, value)
    write = Write({"r/a": record.version_tag})
    runtime.store.put_record(write, record, before)
    assert not isinstance(await runtime.store.commit(write), Conflict)


def bundle_of(definition: Workflow, input: Any = None, seed: int = 0, end: bool = True) -> bytes:
    """The bundle of a run of ``definition``, which waits for the signal "go", and with ``end`` was sent that."""

    async def test() -> bytes:
        process = Process(definition, host=SimulatedHost(seed=seed))
        run = await process.runtime.start(definition, input, id="a")
        await run.settle()
        if end:
            await run.signal("go")
            await run.result()
        bundle = await process.runtime.export("a")
        await process.runtime.close()
        return bundle

    made: bytes = drive(test)
    return made


def kinds(history: list[Any]) -> list[str]:
    """The names of a history's events, in order."""
    return [type(recorded.event).__name__ for recorded in history]
