"""Steps that wait for a network, where their policy asks for it and their host can tell."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from alkaline_edge import Context, InvalidInput, Retry, Runtime, workflow
from alkaline_edge.host import Capabilities
from alkaline_edge.testing import SimulatedHost
from alkaline_hosts.callbacks import CallbackHost
from tests.sealing.support import sealed
from tests.support import Process, drive, kinds

ran: list[str] = []


@pytest.fixture(autouse=True)
def _fresh() -> None:
    ran.clear()


async def turns() -> None:
    for _ in range(50):
        await asyncio.sleep(0)


@workflow
async def flow(ctx: Context, retry: dict[str, Any]) -> Any:
    await ctx.step("local", ran.append, "local")
    return await ctx.step("call", call, retry=Retry(**retry))


host: Any = None
drops: list[bool] = []


async def call() -> str:
    ran.append("call")
    if drops and drops.pop():
        host.online = False
    if not host.online:
        raise ConnectionError("no network")
    return "ok"


@pytest.mark.parametrize("sealing", [False, True])
@pytest.mark.parametrize("synchronous", [False, True])
def test_a_step_that_asks_for_it_is_not_started_while_there_is_no_network(sealing: bool, synchronous: bool) -> None:
    """The steps before it are; it starts when the host says that there is one, with its first attempt."""

    async def test() -> None:
        global host
        can = Capabilities("s", durability="volatile", synchronous=synchronous)
        host = SimulatedHost(capabilities=can)
        host.online = False
        async with Runtime(sealed(host) if sealing else host, workflows=[flow]) as runtime:
            run = await runtime.start("flow", {"while_offline": True}, id="a")
            await turns()
            host.advance(5)
            await turns()
            assert ran == ["local"]
            host.online = True
            assert await run.result() == "ok"
            assert ran == ["local", "call"]
            assert kinds(await runtime.history("a")) == ["Started", "StepCompleted", "StepCompleted", "Completed"]
            assert host._when_online == []

    drive(test)


def test_an_attempt_that_fails_without_a_network_counts_for_nothing() -> None:
    """Nothing of it is recorded, and it is made again; with a network it fails as any other."""

    async def test() -> None:
        global host
        host = SimulatedHost()
        async with Runtime(host, workflows=[flow]) as runtime:
            drops.append(True)
            run = await runtime.start("flow", {"while_offline": True}, id="a")
            await turns()
            assert ran == ["local", "call"]
            drops.append(True)
            host.online = True
            await turns()
            assert ran == ["local", "call", "call"]
            host.online = True
            assert await run.result() == "ok"
            assert "AttemptFailed" not in kinds(await runtime.history("a"))
            host.online = False
            with pytest.raises(ConnectionError):
                await (await runtime.start("flow", {}, id="b")).result()

    drive(test)


def test_who_waits_for_a_network_is_paused_cancelled_killed_and_goes_on() -> None:
    """It holds up nothing: a pause and a cancel are heard, and the next process waits on."""

    async def test() -> None:
        global host
        process = Process(flow)
        host = process.host
        host.online = False
        run = await process.runtime.start("flow", {"while_offline": True}, id="a")
        await turns()
        await run.pause()
        await run.settle()
        assert (await process.runtime.get_execution("a")).status == "paused"
        await run.resume()
        await turns()
        await process.crash()
        host = process.host
        host.online = False
        await process.runtime.recover()
        await turns()
        assert ran == ["local"]
        other = await process.runtime.start("flow", {"while_offline": True}, id="b")
        await turns()
        await other.cancel()
        await other.settle()
        assert (await process.runtime.get_execution("b")).status == "cancelled"
        host.online = True
        assert await (await process.runtime.resume("a")).result() == "ok"
        await process.runtime.close()

    drive(test)


class Asked(SimulatedHost):
    """A host that can tell, and calls nobody."""

    when_online = None  # type: ignore[assignment]


def test_a_host_that_can_be_asked_alone_is_asked_now_and_then() -> None:
    """Every second while something waits; a step that nobody waits for any more is waited for no longer."""

    @workflow
    async def races(ctx: Context) -> Any:
        won, _ = await ctx.race(
            step=ctx.step("call", call, retry=Retry(while_offline=True)), go=ctx.wait_for_signal("go")
        )
        return [won, await ctx.wait_for_signal("end")]

    async def test() -> None:
        global host
        host = Asked()
        host.online = False
        async with Runtime(host, workflows=[flow, races]) as runtime:
            run = await runtime.start("flow", {"while_offline": True}, id="a")
            await turns()
            host.online = True
            host.advance(1)
            assert await run.result() == "ok"
            host.online = False
            other = await runtime.start("races", id="b")
            await turns()
            await other.signal("go")
            await turns()
            host.advance(1)
            await other.settle()
            assert (await runtime.get_execution("b")).status == "suspended"

    drive(test)


def test_a_host_made_of_callables_says_what_it_is_told() -> None:
    """It is online where nobody says."""
    calls = {"get": len, "list": len, "commit": len}
    assert CallbackHost(**calls).is_online()  # type: ignore[arg-type]
    assert not CallbackHost(**calls, is_online=lambda: 0).is_online()  # type: ignore[arg-type]


def test_the_policy_says_what_it_takes() -> None:
    """A policy that could not be followed is refused where it is made."""
    with pytest.raises(InvalidInput, match="while_offline"):
        Retry(while_offline=1)  # type: ignore[arg-type]
