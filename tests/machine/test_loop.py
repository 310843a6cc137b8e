"""The handler's loop: what it answers, what it refuses by name, and a handler that never waits."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
from collections.abc import Callable
from typing import Any

import pytest

from alkaline_edge import Context, DeterminismError, InvalidInput, Runtime, replay, workflow
from alkaline_hosts.memory import MemoryHost
from tests.support import Process, drive

anyio: Any = importlib.import_module("anyio")
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
    "anyio.get_running_tasks": lambda _: anyio.get_running_tasks(),
    "anyio.current_time": lambda _: anyio.current_time(),
    "anyio.current_effective_deadline": lambda _: anyio.current_effective_deadline(),
    "anyio.wait_all_tasks_blocked": lambda _: anyio.wait_all_tasks_blocked(),
    "anyio.to_thread.current_default_thread_limiter": lambda _: anyio.to_thread.current_default_thread_limiter(),
    "anyio.lowlevel.checkpoint": lambda _: anyio.lowlevel.checkpoint(),
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
    "anyio.connect_unix": lambda _: anyio.connect_unix("nowhere.sock"),
    "anyio.create_tcp_listener": lambda _: anyio.create_tcp_listener(local_host="127.0.0.1"),
    "anyio.create_unix_listener": lambda _: anyio.create_unix_listener("nowhere.sock"),
    "anyio.getaddrinfo": lambda _: anyio.getaddrinfo("127.0.0.1", 80),
    "anyio.wait_readable": lambda _: anyio.wait_readable(0),
    "anyio.Path": lambda _: anyio.Path("nowhere").exists(),
    "anyio.open_file": lambda _: anyio.open_file("nowhere"),
    "anyio.TemporaryFile": lambda _: anyio.TemporaryFile().__aenter__(),
    "anyio.to_process": lambda _: importlib.import_module("anyio.to_process").run_sync(int),
    "anyio.open_signal_receiver": lambda _: anyio.open_signal_receiver(2).__enter__(),
    "anyio.from_thread.start_blocking_portal": lambda _: anyio.from_thread.start_blocking_portal().__enter__(),
    "anyio.from_thread.BlockingPortal": lambda _: anyio.from_thread.BlockingPortal().__aenter__(),
    "anyio.run": lambda _: anyio.run(anyio.sleep, 0),
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


def test_several_futures_made_by_hand_are_refused_where_asyncio_puts_them_into_sets() -> None:
    """Those sets are walked by address. One alone, and those that the loop or create_task made, are waited for."""

    @workflow(name="waits")
    async def waits(ctx: Context, how: list[str]) -> list[int]:
        loop = asyncio.get_running_loop()
        futures: list[Any] = []
        for one in how:
            futures.append({"hand": asyncio.Future, "loop": loop.create_future}[one]())
            futures[-1].set_result(None)
        done, _ = await asyncio.wait(futures)
        return [futures.index(one) for one in done]

    async def test() -> None:
        async with Runtime(MemoryHost(), workflows=[waits]) as runtime:
            assert await (await runtime.start(waits, ["hand"])).result(timeout=5) == [0]
            assert await (await runtime.start(waits, ["loop"] * 4)).result(timeout=5) == [0, 1, 2, 3]
            for how in (["hand", "hand"], ["loop", "hand", "loop"]):
                with pytest.raises(InvalidInput, match=r"asyncio\.wait gives sets.*create_future"):
                    await (await runtime.start(waits, how)).result(timeout=5)

    drive(test)


def test_a_group_cancels_what_a_task_factory_made_in_the_order_of_its_making() -> None:
    """Its tasks are asyncio's own, whose hash is their address."""
    ended: list[int] = []

    @workflow(name="groups")
    async def groups(ctx: Context) -> None:
        asyncio.get_running_loop().set_task_factory(lambda loop, coro, **kw: asyncio.Task(coro, loop=loop, **kw))

        async def one(n: int) -> None:
            try:
                await ctx.wait_for_signal("never")
            finally:
                ended.append(n)

        with pytest.raises(ExceptionGroup):
            async with asyncio.TaskGroup() as group:
                for n in range(12):
                    group.create_task(one(n))
                await asyncio.sleep(0)
                raise ValueError

    async def test() -> None:
        async with Runtime(MemoryHost(), workflows=[groups]) as runtime:
            await (await runtime.start(groups, id="a")).result(timeout=5)

    drive(test)
    assert ended == list(range(12))


def test_a_step_that_is_asked_for_while_a_cancel_is_on_its_way_is_replayed_as_it_was() -> None:
    """A scope of anyio that was cancelled cancels again and again: where that waits for the next event, the task may go
    on with a step, and a replay hands it no result before the cancel had its turn."""

    async def echo(n: int) -> int:
        return n

    @workflow(name="asks_again")
    async def asks_again(ctx: Context) -> list[int]:
        seen: list[int] = []
        with anyio.CancelScope() as scope:
            scope.cancel()
            for n in range(250):
                try:
                    seen.append(await ctx.step("again", echo, n))
                except asyncio.CancelledError:
                    pass
        await ctx.wait_for_signal("end")
        return await ctx.step("after", lambda found: found, seen)

    async def test() -> None:
        process = Process(asks_again)
        run = await process.runtime.start(asks_again, id="a")
        await run.settle()
        other = await process.crash()
        await other.signal("a", "end")
        assert await other.result("a", None) == [99, 199]
        (checked,) = replay.check({"a": await other.export("a")}, [asks_again])
        assert checked.verdict == "ok", checked.message

    drive(test)


def test_what_a_step_resolves_outside_of_the_handler_wakes_nobody() -> None:
    """A replay would not run the step: the run says so, and does not go on."""

    @workflow(name="woken")
    async def woken(ctx: Context) -> str:
        event = asyncio.Event()

        async def work() -> None:
            event.set()

        waits = asyncio.ensure_future(event.wait())
        await asyncio.sleep(0)
        await ctx.step("work", work)
        await waits
        return "done"

    async def test() -> None:
        async with Runtime(MemoryHost(), workflows=[woken]) as runtime:
            with pytest.raises(DeterminismError, match="outside of the workflow woke"):
                await (await runtime.start(woken)).result(timeout=5)

    drive(test)
