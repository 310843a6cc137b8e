"""The handler's loop: what it answers, what it refuses by name, and a handler that never waits."""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import Callable
from typing import Any

import pytest

from alkaline_edge import Context, DeterminismError, Runtime, workflow
from alkaline_hosts.memory import MemoryHost
from tests.support import drive

anyio: Any = pytest.importorskip("anyio")  # not in Pyodide
ANSWERED: dict[str, Callable[[Any], Any]] = {
    "get_task_factory": lambda loop: loop.get_task_factory(),
    "set_task_factory": lambda loop: loop.set_task_factory(None),
    "get_exception_handler": lambda loop: loop.get_exception_handler(),
    "set_exception_handler": lambda loop: loop.set_exception_handler(None),
    "set_debug": lambda loop: loop.set_debug(True),
    "get_debug": lambda loop: loop.get_debug(),
    "slow_callback_duration": lambda loop: loop.slow_callback_duration,
    "is_closed": lambda loop: loop.is_closed(),
    "is_running": lambda loop: loop.is_running(),
    "remove_reader": lambda loop: loop.remove_reader(0),
    "remove_writer": lambda loop: loop.remove_writer(0),
    "remove_signal_handler": lambda loop: loop.remove_signal_handler(2),
    "shutdown_asyncgens": lambda loop: loop.shutdown_asyncgens(),
    "shutdown_default_executor": lambda loop: loop.shutdown_default_executor(),
    "call_soon_threadsafe": lambda loop: loop.call_soon_threadsafe(int),
    "anyio.get_current_task": lambda _: anyio.get_current_task(),
}
if importlib.util.find_spec("sniffio"):
    ANSWERED["sniffio"] = lambda _: importlib.import_module("sniffio").current_async_library()
REFUSED: dict[str, Callable[[Any], Any]] = {
    "run_in_executor": lambda loop: loop.run_in_executor(None, int),
    "to_thread": lambda _: asyncio.to_thread(int),
    "stop": lambda loop: loop.stop(),
    "close": lambda loop: loop.close(),
    "add_reader": lambda loop: loop.add_reader(0, int),
    "add_signal_handler": lambda loop: loop.add_signal_handler(2, int),
    "create_connection": lambda loop: loop.create_connection(asyncio.Protocol, "127.0.0.1", 1),
    "sock_recvfrom": lambda loop: loop.sock_recvfrom(None, 1),
    "open_connection": lambda _: asyncio.open_connection("127.0.0.1", 1),
    "subprocess": lambda _: asyncio.create_subprocess_exec("true"),
    "run_until_complete": lambda loop: loop.run_until_complete(None),
    "asyncio.run": lambda _: asyncio.run(asyncio.sleep(0)),
    "Runner": lambda _: asyncio.Runner().__enter__(),
    "new_event_loop": lambda _: asyncio.new_event_loop(),
    "anyio.to_thread": lambda _: anyio.to_thread.run_sync(int),
    "anyio.from_thread": lambda _: anyio.from_thread.run_sync(int),
    "anyio.open_process": lambda _: anyio.open_process("true"),
    "anyio.connect_tcp": lambda _: anyio.connect_tcp("127.0.0.1", 1),
}


async def asked(ask: Callable[[Any], Any]) -> Any:
    @workflow(name="asks")
    async def asks(ctx: Context) -> str:
        got = ask(asyncio.get_running_loop())
        if hasattr(got, "__await__"):
            got = await got
        return str(got)

    async with Runtime(MemoryHost(), workflows=[asks]) as runtime:
        return await (await runtime.start(asks, id="a")).result(timeout=5)


@pytest.mark.parametrize("name", ANSWERED)
def test_what_a_library_asks_of_the_loop_is_answered(name: str) -> None:
    """Settings and questions have an answer."""
    drive(lambda: asked(ANSWERED[name]))


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_replayed_is_refused_by_name(name: str) -> None:
    """With the line of the handler, what it was, and what to do."""

    async def main() -> None:
        with pytest.raises(DeterminismError, match=r"uses .*; put it in ctx\.step"):
            await asked(REFUSED[name])

    drive(main)


async def poll() -> None:
    while True:
        await asyncio.sleep(0)


async def rearm() -> None:
    loop = asyncio.get_running_loop()

    def again() -> None:
        loop.call_soon(again)

    again()
    await loop.create_future()


async def make_tasks() -> None:
    while True:
        await asyncio.create_task(asyncio.sleep(0))


@pytest.mark.parametrize("busy", [poll, rearm, make_tasks])
def test_a_handler_that_never_waits_is_named_and_holds_nobody(busy: Any) -> None:
    """Its turn ends, its line is told, another run goes on, and close() ends."""

    @workflow(name="polls")
    async def polls(ctx: Context) -> None:
        await busy()

    @workflow(name="other")
    async def other(ctx: Context) -> int:
        return int(await ctx.step("one", lambda: 1))

    async def main() -> None:
        async with Runtime(MemoryHost(), workflows=[polls, other]) as runtime:
            run = await runtime.start(polls, id="p")
            assert await (await runtime.start(other, id="o")).result(timeout=5) == 1
            with pytest.raises(DeterminismError, match=r"test_loop\.py:\d+ in \w+ keeps the run busy"):
                await run.result(timeout=5)

    drive(main)


def test_a_sleep_for_ever_waits_and_can_be_cancelled() -> None:
    """Infinity is a time that never comes: the run is suspended, and a cancel ends it."""

    @workflow(name="sleeps")
    async def sleeps(ctx: Context) -> None:
        await asyncio.gather(asyncio.sleep(float("inf")), anyio.sleep_forever())

    async def main() -> None:
        async with Runtime(MemoryHost(), workflows=[sleeps]) as runtime:
            run = await runtime.start(sleeps, id="s")
            await run.settle()
            assert (await runtime.get_execution("s")).status == "suspended"
            await run.cancel("enough")
            await run.settle()
            assert (await runtime.get_execution("s")).status == "cancelled"

    drive(main)


def test_a_wide_turn_is_not_busy() -> None:
    """A turn of many tasks, each of which takes a few rounds, is honest work."""

    @workflow(name="wide")
    async def wide(ctx: Context) -> int:
        async def rounds() -> int:
            for _ in range(20):
                await asyncio.sleep(0)
            return 1

        return sum(await asyncio.gather(*(rounds() for _ in range(15_000))))

    async def main() -> None:
        async with Runtime(MemoryHost(), workflows=[wide]) as runtime:
            assert await (await runtime.start(wide, id="w")).result(timeout=60) == 15_000

    drive(main)


def test_asyncio_outside_of_a_handler_is_as_it_was() -> None:
    """The switched functions do outside what they did: other types, other loops, other errors."""

    async def main() -> None:
        assert await asyncio.wait_for(asyncio.sleep(0, 1), 5) == 1
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.sleep(5), 0.001)
        assert sorted([await one for one in asyncio.as_completed([asyncio.sleep(0, n) for n in range(3)])]) == [0, 1, 2]
        assert await asyncio.gather(asyncio.sleep(0, 1), asyncio.sleep(0, 2)) == [1, 2]
        assert asyncio.current_task() in asyncio.all_tasks()
        async with asyncio.Semaphore(1), asyncio.Lock():
            assert await asyncio.to_thread(asyncio.run, asyncio.sleep(0, 3)) == 3
        await asyncio.to_thread(asyncio.new_event_loop().close)

    drive(lambda: asked(lambda _: None))  # they are switched now
    asyncio.run(main())
