"""Batches and whole runs below, at and above each limit that a server's host declares: on the real server."""

from __future__ import annotations

import random
from typing import Any

import pytest

from alkaline_edge import Context, InvalidInput, Run, Runtime, hand_over, workflow
from alkaline_edge.host import Batch, Check, Committed, Host, Put
from alkaline_edge.parts import PART_BYTES
from alkaline_edge.runtime.store import PAGE
from alkaline_hosts.memory import MemoryHost


@workflow
async def mirror(ctx: Context, given: list[int]) -> Any:
    """As many small steps as it is told, results of the sizes that it is told, and what it is sent."""
    steps, *sizes = given
    for n in range(steps):
        await ctx.step("small", lambda n=n: n)
    found = [len(await ctx.step(f"s{size}", lambda size=size: "s" * size)) for size in sizes]
    while text := await ctx.wait_for_signal("in"):
        found.append(len(text))
    return found


async def batches(host: Host, values: int = 1) -> None:
    """A key, a value, a batch in bytes and one in keys: at the limit all is there, one above it is refused."""
    limits = host.capabilities
    largest = random.Random(1).randbytes(limits.max_value)
    fitting = [(f"a/{n}", largest) for n in range(limits.max_batch_bytes // limits.max_value)][:values]
    full = sum(len(value) for _, value in fitting) == limits.max_batch_bytes
    many = [(f"k/{n:05}", b"x") for n in range(limits.max_batch_keys)]
    key = "l/" + "y" * (limits.max_key - 2)
    assert isinstance(await host.commit(Batch("1" * 16, puts=tuple(Put(*one) for one in fitting))), Committed)
    assert [entry.value == largest for entry in await host.list("a/")] == [True] * len(fitting)
    assert isinstance(await host.commit(Batch("2" * 16, puts=tuple(Put(*one) for one in many))), Committed)
    assert isinstance(await host.commit(Batch("3" * 16, (Check(key, None),), (Put(key, b"x"),))), Committed)
    assert [entry.key for entry in await host.list("l/")] == [key]
    found, after = 0, ""
    while page := await host.list("k/", after, 4_999):
        found, after = found + len(page), page[-1].key
    assert found == len(many)
    for puts in (
        [("b", largest + b"x")],
        *([[*fitting, ("b", b"x")]] if full else []),
        [*many, ("b", b"x")],
        [("b", b"x"), (key + "y", b"x")],
    ):
        with pytest.raises(InvalidInput, match="nothing was written"):
            await host.commit(Batch("4" * 16, puts=tuple(Put(*one) for one in puts)))
    assert await host.get(["b"]) == [None]
    for name, _ in (*fitting, (key, b"")):
        assert isinstance(await host.commit(Batch("5" * 16, deletes=(name,))), Committed)
    assert isinstance(await host.commit(Batch("6" * 16, deletes=tuple(name for name, _ in many))), Committed)
    assert await host.list("") == []


def sizes(host: Host, seed: int) -> list[int]:
    """Sizes of values around what is kept inline, put into one part, sealed together, and put into one key."""
    limits, draw = host.capabilities, random.Random(seed)
    borders = [limits.inline_limit, PART_BYTES, PART_BYTES - limits.inline_limit, limits.max_value // 2]
    return [*(border + draw.randint(-12, 12) for border in borders), limits.max_value - 1_024 + draw.randint(-8, 8)]


async def there_and_back(host: Host, seed: int) -> None:
    """A history of several pages and segments moves to another store and back, and is read and ended in both."""
    draw, given = random.Random(seed), sizes(host, seed)
    steps = draw.choice([PAGE, host.capabilities.segment_commits * 2]) + draw.randint(-3, 3)
    async with Runtime(MemoryHost(), workflows=[mirror]) as here:
        await (await here.start(mirror, [steps, *given], id="a")).settle()
        async with Runtime(host, workflows=[mirror]) as there:
            await hand_over(here, "a", there)
            await there.settle("a")
            for size in (given[0], given[1]):
                await there.signal("a", "in", "i" * size)
            await there.settle("a")
            whole = await there.history("a")
        async with Runtime(host, workflows=[mirror]) as there:  # another process, which replays it from the server
            run = await there.resume("a")
            await run.settle()
            assert await there.history("a") == whole
            await hand_over(there, "a", here)
            await here.signal("a", "in", "")
            assert await Run(here, "a").result() == [*given, given[0], given[1]]
            assert (await hand_over(here, "a", there)).status == "completed"
            assert await Run(there, "a").result() == [*given, given[0], given[1]]
            await there.delete("a")
            assert [entry.key for entry in await host.list("") if not entry.key.startswith("m/")] == []
