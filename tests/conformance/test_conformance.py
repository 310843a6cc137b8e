"""Every host that runs in CPython without a server, against every case of the suite."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from alkaline_edge.host import Batch, Capabilities, Check, Conflict, Entry, Host, Put
from alkaline_edge.testing import CASES, Case, SimulatedHost, SimulatedStore, check_case
from alkaline_hosts.callbacks import CallbackHost
from alkaline_hosts.file import FileHost
from alkaline_hosts.memory import MemoryHost, MemoryStore


class Shared:
    """Handles that share one object in memory."""

    def __init__(self, handle: Callable[[], Host]) -> None:
        self.handle = handle

    async def open(self) -> Host:
        return self.handle()

    async def destroy(self) -> None:
        pass


class File:
    """A file in a directory of its own."""

    def __init__(self) -> None:
        self.directory = tempfile.TemporaryDirectory()

    async def open(self) -> Host:
        return FileHost(os.path.join(self.directory.name, "store.alkaline"), fsync=False)

    async def destroy(self) -> None:
        self.directory.cleanup()


def callbacks(store: MemoryStore, awaited: bool) -> CallbackHost:
    """Plain callables over ``store``: sync ones, or ones that give way to others before they answer."""

    def get(keys: list[str]) -> list[Any]:
        return [store.entries.get(key) for key in keys]

    def under(prefix: str, after: str, limit: int) -> list[Any]:
        return [list(entry) for entry in store.under(prefix, after, limit)]

    def commit(batch: dict[str, Any]) -> Any:
        checks, puts = [Check(*check) for check in batch["checks"]], [Put(*put) for put in batch["puts"]]
        outcome = store.apply(Batch(batch["id"], tuple(checks), tuple(puts), tuple(batch["deletes"])))
        return {"conflict": list(outcome.keys)} if isinstance(outcome, Conflict) else True

    def later(fn: Callable[..., Any]) -> Callable[..., Any]:
        async def answer(*args: Any) -> Any:
            await asyncio.sleep(0)
            return fn(*args)

        return answer

    if awaited:
        return CallbackHost(
            get=later(get),
            list=later(under),
            commit=later(commit),
            capabilities=Capabilities("later", durability="weak"),
        )
    return CallbackHost(get=get, list=under, commit=commit)


async def memory() -> Shared:
    store = MemoryStore()
    return Shared(lambda: MemoryHost(store))


async def simulated() -> Shared:
    store = SimulatedStore()
    return Shared(lambda: SimulatedHost(store))


async def file() -> File:
    return File()


async def callbacks_sync() -> Shared:
    store = MemoryStore()
    return Shared(lambda: callbacks(store, awaited=False))


async def callbacks_async() -> Shared:
    store = MemoryStore()
    return Shared(lambda: callbacks(store, awaited=True))


@pytest.mark.parametrize("make", [memory, simulated, file, callbacks_sync, callbacks_async], ids=lambda m: m.__name__)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_conformance(make: Any, case: Case) -> None:
    """The host passes the case, or says by its capabilities why the case does not apply."""
    asyncio.run(check_case(case, make, gather=asyncio.gather))


def test_without_an_event_loop() -> None:
    """The suite needs no asyncio where the host needs none: without ``gather`` the races run one after the other."""

    async def tried() -> list[str]:
        return [(await check_case(case, memory)).outcome for case in CASES if case.name not in NEED_A_LOOP]

    with pytest.raises(StopIteration) as done:  # it ends at the first step: nothing of asyncio was awaited
        tried().send(None)
    assert set(done.value.value) == {"passed", "skipped"}


NEED_A_LOOP = ("sleep_returns", "sleep_can_be_cancelled", "threads_run_functions")


class FromTheLastIO(MemoryHost):
    """Timers that count from the last I/O while the clock goes on, as the workerd of 2024 has them locally."""

    def __init__(self) -> None:
        super().__init__()
        self.clock, self.io = 100, 0

    def now_ms(self) -> int:
        return self.clock

    async def get(self, keys: Iterable[str]) -> list[Entry | None]:
        self.io = self.clock
        return await super().get(keys)

    async def sleep(self, seconds: float) -> None:
        self.io += max(0, round(seconds * 1000))
        self.clock = max(self.clock, self.io)


def test_work_before_a_sleep_is_no_fault_of_the_sleep() -> None:
    """What was computed since the last I/O shortens no sleep that the suite measures."""
    case = next(case for case in CASES if case.name == "sleep_returns")

    async def make() -> Shared:
        return Shared(FromTheLastIO)

    result = asyncio.run(check_case(case, make, gather=asyncio.gather))
    assert (result.outcome, result.message) == ("passed", "")
