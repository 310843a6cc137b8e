"""Effects: one attempt of a step, called with copies, whatever it returns or raises."""

from __future__ import annotations

import asyncio
import signal
from typing import Any

import pytest

from alkaline_edge import Codec, StepInfo
from alkaline_edge.machine.commands import RunStep
from alkaline_edge.runs import ExecutionInfo
from alkaline_edge.runtime.effects import Raised, call, in_a_thread, settled, watched
from alkaline_edge.runtime.pace import Pace
from alkaline_edge.testing import SimulatedHost
from tests.support import drive


class Machine:
    """What ``call`` reads of a machine."""

    codec = Codec()
    info = ExecutionInfo("a", "flow", 1, None, 0, 1, "0" * 12, 0)


def told(command: RunStep) -> StepInfo:
    """What a step is told of itself."""
    key = Machine.info.idempotency_key(command.id)
    return StepInfo(Machine.info.id, command.name, command.id, command.attempt, key)


def called(fn: Any, *args: Any, **kwargs: Any) -> Any:
    command = RunStep("3", "work", None, fn, args, kwargs)
    return call(Machine(), command, Pace().of(command), told)  # type: ignore[arg-type]


def test_a_step_gets_copies_of_what_it_was_given() -> None:
    """Each attempt the same, whatever the one before did to its own."""
    given = [1]
    command = RunStep("3", "work", None, lambda items: items.append(2) or items, (given,), {})
    for _ in range(2):
        assert call(Machine(), command, Pace().of(command), told) == [1, 2]  # type: ignore[arg-type]
    assert given == [1]


@pytest.mark.parametrize("place", ["first", "last", "keyword"])
def test_a_step_is_told_of_itself_wherever_it_wants_it(place: str) -> None:
    """The arguments go around the parameter that is annotated StepInfo."""

    def first(info: StepInfo, amount: int) -> Any:
        return info, amount

    def last(amount: int, info: StepInfo) -> Any:
        return info, amount

    def keyword(amount: int, *, info: StepInfo) -> Any:
        return info, amount

    info, amount = called({"first": first, "last": last, "keyword": keyword}[place], 5)
    assert amount == 5
    assert info == StepInfo("a", "work", "3", 1, "000000000000.0.3")


@pytest.mark.parametrize(
    "error", [ValueError("no"), StopIteration(), SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError()]
)
def test_whatever_a_step_raises_is_its_outcome(error: BaseException) -> None:
    """But for what a signal raises, Ctrl-C as it is pressed: that is the wish of whoever runs this process."""

    def fails() -> None:
        raise error

    raised = called(fails)
    assert isinstance(raised, Raised)
    assert raised.error is error
    assert not raised.unknown

    async def fails_later() -> None:
        raise error

    if not isinstance(error, StopIteration):  # Python makes another error of that one
        assert drive(lambda: settled(fails_later())).error is error

    kept = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job begins without it
    with pytest.raises(KeyboardInterrupt):
        called(lambda: signal.raise_signal(signal.SIGINT))
    signal.signal(signal.SIGINT, kept)


def test_an_attempt_past_its_timeout_is_stopped_and_said_to_have_perhaps_acted() -> None:
    """One that ends in time is not touched."""

    async def body() -> None:
        host = SimulatedHost()
        command = RunStep("1", "slow", None, print, (), {})
        command.timeout = 5.0
        stopped = asyncio.Event()

        async def slow() -> None:
            try:
                await host.sleep(60)
            finally:
                stopped.set()

        async def quick() -> int:
            return 7

        assert await watched(command, quick(), host) == 7
        raised = await watched(command, settled(slow()), host)
        assert isinstance(raised, Raised)
        assert raised.unknown
        assert "timeout of 5.0 seconds" in str(raised.error)
        assert stopped.is_set()

    drive(body)


@pytest.mark.parametrize("how", ["withdrawn", "let go", "neither"])
def test_a_step_that_waits_for_a_thread_and_is_no_more_ours_does_not_begin(how: str) -> None:
    """Another may have recorded it by the time that a thread is free."""
    ran: list[int] = []

    class Busy:
        def __init__(self) -> None:
            self.free = asyncio.Event()

        def now_ms(self) -> int:
            return 0

        async def run_in_thread(self, work: Any) -> Any:
            await self.free.wait()
            return work()

    class Withdrawing(Machine):
        def __init__(self) -> None:
            self.withdrawn: set[str] = set()

    async def test() -> None:
        machine, host = Withdrawing(), Busy()
        command = RunStep("3", "work", None, lambda: ran.append(1), (), {})
        known, threads = Pace().of(command), dict[asyncio.Future[Any], RunStep]()
        waiting = in_a_thread(machine, command, host, known, threads, told)  # type: ignore[arg-type]
        attempt = asyncio.ensure_future(waiting)
        await asyncio.sleep(0)
        calls = [*threads]
        assert len(calls) == 1
        if how == "let go":
            attempt.cancel()
            await asyncio.wait([attempt])
        elif how == "withdrawn":
            machine.withdrawn = {command.id}
        host.free.set()
        await asyncio.wait([attempt, *calls])
        assert len(ran) == (how == "neither")

    drive(test)
