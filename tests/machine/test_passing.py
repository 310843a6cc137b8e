"""What the history answers next is answered at once: at the same place in the order, and without a turn of the loop."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import msgpack
import pytest

from alkaline_edge import Context, Runtime, workflow
from alkaline_edge import history as histories
from alkaline_edge.host import Capabilities
from alkaline_edge.machine.loop.loop import DeterministicLoop
from alkaline_edge.runtime import store as stores
from alkaline_edge.runtime.loading import Loader
from alkaline_edge.testing import SimulatedHost
from tests.support import Process, drive

LOG: list[tuple[int, int, str]] = []


@workflow
async def leaf(ctx: Context, n: int) -> int:
    if n % 3:
        await ctx.sleep(n % 5)
    return n


@workflow
async def row(ctx: Context, given: list[Any]) -> None:
    """One thing after the other."""
    kind, count = given
    for n in range(count):
        await obey(ctx, kind, n)
    await ctx.wait_for_signal("end")


@workflow
async def tangle(ctx: Context, seed: int) -> None:
    """Branches that do this and that, and write down in which order they come back from it."""
    draw = random.Random(seed)
    programs = [
        [
            (draw.choice(["step", "sleep", "child", "now", "turn", "nothing"]), draw.randint(0, 9))
            for _ in range(draw.randint(1, 6))
        ]
        for _ in range(draw.randint(1, 4))
    ]

    async def branch(k: int) -> None:
        for n, (kind, size) in enumerate(programs[k]):
            await obey(ctx, kind, size)
            LOG.append((k, n, kind))

    if seed % 2:
        await asyncio.gather(*map(branch, range(len(programs))))
    else:
        await ctx.map(branch, range(len(programs)))
    await ctx.wait_for_signal("end")


async def obey(ctx: Context, kind: str, n: int) -> None:
    if kind == "step":
        assert await ctx.step("same", lambda n: n, n) == n
    elif kind == "sleep":
        await ctx.sleep(n)
    elif kind == "child":
        assert await ctx.child(leaf, n) == n
    elif kind == "turn":
        await asyncio.sleep(0)
    elif kind == "now":
        ctx.now()


async def waits_for_its_end(process: Process, workflow: Any, given: Any) -> Runtime:
    """A run that has done all that it does before a signal comes; it is set aside."""
    await process.runtime.start(workflow, given, id="a")
    while (await process.runtime.get_execution("a")).waiting != ["signal end"]:
        process.host.advance(3)
        await process.runtime.run_due()
        for record in await process.runtime.list_executions(limit=500):
            if not record.finished:
                await (await process.runtime.resume(record.id)).settle()
    return process.runtime


async def replayed(runtime: Runtime) -> None:
    record = await runtime.get_execution("a")
    (await Loader(runtime.store, runtime.registry).load(record, 1)).machine.set_aside()


@pytest.mark.parametrize("seed", range(30))
def test_a_replay_comes_back_from_everything_in_the_order_of_the_run(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps, sleeps and children in branches, wherever a page of the history ends."""

    async def test() -> None:
        LOG.clear()
        runtime = await waits_for_its_end(Process(tangle, leaf), tangle, seed)
        live = list(LOG)
        for page in (1, 2, 3, 7, 500):
            monkeypatch.setattr(stores, "PAGE", page)
            LOG.clear()
            await replayed(runtime)
            assert live == LOG
        await runtime.close()

    drive(test)


async def counted(kind: str, count: int, monkeypatch: pytest.MonkeyPatch) -> tuple[int, int]:
    """Callbacks of the handler's loop, and calls of the decoder, for the replay of ``count`` of a kind."""
    host = SimulatedHost(capabilities=Capabilities("unsealed", durability="volatile", segment_commits=0))
    runtime = await waits_for_its_end(Process(row, leaf, host=host), row, [kind, count])
    calls, decoded = 0, 0
    call_soon = DeterministicLoop.call_soon

    def counting(self: Any, *args: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        return call_soon(self, *args, **options)

    class Decoder:
        """msgpack, counted."""

        def __getattr__(self, name: str) -> Any:
            nonlocal decoded
            decoded += name in ("unpackb", "Unpacker")
            return getattr(msgpack, name)

    with monkeypatch.context() as patch:
        patch.setattr(DeterministicLoop, "call_soon", counting)
        patch.setattr(histories, "msgpack", Decoder())
        await replayed(runtime)
    await runtime.close()
    return calls, decoded


@pytest.mark.parametrize("kind", ["step", "sleep", "child"])
def test_a_replay_takes_no_turn_and_no_call_of_the_decoder_for_each_event(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether 10 or 40 things of a page: the handler's loop is as busy, and the decoder is called once for the page."""

    async def test() -> None:
        monkeypatch.setattr(stores, "PAGE", 1_000)
        few, many = await counted(kind, 10, monkeypatch), await counted(kind, 40, monkeypatch)
        assert few == many
        assert many[1] <= 2

    drive(test)
