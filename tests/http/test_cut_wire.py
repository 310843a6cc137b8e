"""A run handed over through a real server and a wire that is cut at any byte: nothing is lost or done twice."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from alkaline_edge import AlkalineError, Context, Runtime, StepInfo, hand_over, sync, workflow
from alkaline_hosts.asgi import asgi_app
from alkaline_hosts.memory import MemoryHost
from alkaline_hosts.remote import Remote
from tests.http.wire import CuttingProxy, served

KEY = ("laptop", "a-secret-of-enough-bytes")
POSITIONS = 10
"""Places at which the wire is cut, each way; all of them with ALKALINE_EXHAUSTIVE=1."""
ran: Counter[str] = Counter()


async def work(n: int, info: StepInfo) -> str:
    ran[info.idempotency_key] += 1
    return f"{n}" * 50


@workflow
async def flow(ctx: Context, n: int) -> Any:
    done = [await ctx.step("work", work, k) for k in range(n)]
    kept = await ctx.wait_for_signal("kept")
    go = await ctx.wait_for_signal("go")
    return [len(done), kept, go, await ctx.step("work", work, n)]


class Stage:
    """A source, a target behind a real server, and the proxy between them."""

    def __init__(self, source: Runtime, target: Runtime, proxy: CuttingProxy, port: int) -> None:
        self.source, self.target, self.proxy = source, target, proxy
        self.direct = f"http://127.0.0.1:{port}"

    async def suspended(self, id: str, steps: int = 4) -> None:
        """A run of the source that waits, with an unread signal of which the sender was told that it is kept."""
        await (await self.source.start("flow", steps, id=id)).settle()
        quiet = Runtime(self.source.host)  # knows no workflow, so the signal stays unread
        await quiet.signal(id, "kept", "kept", dedupe="k")

    async def active(self, id: str) -> int:
        """How many of the two stores would let the run go on by itself."""
        records = [await self.source.store.find(id), await self.target.store.find(id)]
        return sum(r is not None and r.moved_to is None and r.status != "paused" for r in records)

    async def ends(self, id: str) -> None:
        """The run goes on at the target, to the right end, with each step done once."""
        await self.target.signal(id, "kept", "again", dedupe="k")
        await self.target.signal(id, "go", 7)
        assert await self.target.result(id, 20) == [4, "kept", 7, "4" * 50]
        run = (await self.target.get_execution(id)).run
        assert [ran[f"{run}.0.{n}"] for n in (1, 2, 3, 4)] == [1, 1, 1, 1]
        assert sum(count for key, count in ran.items() if key.startswith(run)) == 5
        assert (await self.source.get_execution(id)).moved_to is not None


@asynccontextmanager
async def stage(**options: Any) -> AsyncIterator[Stage]:
    source, target = Runtime(MemoryHost(), workflows=[flow]), Runtime(MemoryHost(), workflows=[flow])
    app = asgi_app(target, **({"keys": dict([KEY])} | options))
    async with source, target, served(app) as port, CuttingProxy(port) as proxy:
        yield Stage(source, target, proxy, port)


def run(test: Callable[[], Awaitable[None]], seconds: float = 120) -> None:
    asyncio.run(asyncio.wait_for(test(), seconds))


def positions(total: int) -> range:
    return range(0, total, 1 if os.environ.get("ALKALINE_EXHAUSTIVE") else max(1, total // POSITIONS))


@pytest.mark.parametrize("direction", ["up", "down"])
def test_a_hand_over_cut_after_any_number_of_bytes_is_repeated(direction: str) -> None:
    """Never two active; what was acknowledged is there; every step is done once; and the repeat ends it."""

    async def test() -> None:
        async with stage() as it, Remote(it.direct, key=KEY) as direct:
            direct.name = it.proxy.url  # the same server by another way
            await it.suspended("whole")
            it.proxy.arm(direction, -1)
            async with Remote(it.proxy.url, key=KEY) as remote:
                await hand_over(it.source, "whole", remote)
            total = it.proxy.count[direction]
            await it.ends("whole")
            assert total > 1_000
            for cut in positions(total):
                id = f"cut{cut}"
                await it.suspended(id)
                it.proxy.arm(direction, cut)
                async with Remote(it.proxy.url, key=KEY) as remote:
                    with pytest.raises(AlkalineError) as lost:
                        await hand_over(it.source, id, remote)
                assert lost.value.code == "ERR_STORE"
                assert await it.active(id) <= 1
                await hand_over(it.source, id, direct)
                await hand_over(it.source, id, direct)
                assert await it.active(id) == 1
                await it.ends(id)
            assert it.proxy.cuts >= len(positions(total))

    run(test, 3_000 if os.environ.get("ALKALINE_EXHAUSTIVE") else 120)


@pytest.mark.parametrize("direction", ["up", "down"])
def test_a_sync_cut_after_any_number_of_bytes_is_repeated_both_ways(
    direction: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To a remote and from it: what arrived whole is kept, the copy is never active, and the repeat ends it."""
    monkeypatch.setattr("alkaline_edge.runtime.handing.PART_BYTES", 300)

    async def test() -> None:
        async with stage() as it:
            third = Runtime(MemoryHost())
            await it.suspended("probe")
            it.proxy.arm(direction, -1)
            async with Remote(it.proxy.url, key=KEY) as remote:
                assert (await sync(it.source, remote, "probe")).parts > 1
            total = it.proxy.count[direction]
            for cut in positions(total):
                id = f"cut{cut}"
                await it.suspended(id)
                for source, target in ((it.source, "remote"), ("remote", third)):
                    it.proxy.arm(direction, cut)
                    for url in (it.proxy.url, it.direct):
                        async with Remote(url, key=KEY) as remote:
                            a, b = (remote if side == "remote" else side for side in (source, target))
                            if url == it.direct:
                                await sync(a, b, id)  # type: ignore[arg-type]  # both are peers by now
                            else:
                                with pytest.raises(AlkalineError):
                                    await sync(a, b, id)  # type: ignore[arg-type]  # as above
                                    raise_if_short(it.proxy, direction, cut)
                    assert await it.active(id) == 1
                assert await third.history(id) == await it.source.history(id)
                assert (await third.get_execution(id)).status == "paused"

    run(test, 3_000 if os.environ.get("ALKALINE_EXHAUSTIVE") else 120)


def raise_if_short(proxy: CuttingProxy, direction: str, cut: int) -> None:
    """The other way round fewer bytes cross the wire: then nothing was cut, and that is all right."""
    if proxy.count[direction] < cut:
        from alkaline_edge import StoreError

        raise StoreError("it was over before the wire was cut")


def test_two_clients_that_hand_over_at_once_make_one_run() -> None:
    """A caller that lost patience and began again while the first attempt was still on its way."""

    async def test() -> None:
        async with stage() as it:
            await it.suspended("a")
            async with Remote(it.direct, key=KEY) as one, Remote(it.direct, key=KEY) as two:
                found = await asyncio.gather(
                    *(hand_over(it.source, "a", r) for r in (one, two)), return_exceptions=True
                )
                assert all(not isinstance(f, BaseException) or isinstance(f, AlkalineError) for f in found)
                await hand_over(it.source, "a", one)
            await it.ends("a")

    run(test)


def test_a_run_goes_there_and_back_over_the_wire() -> None:
    """From the remote, too: a Remote is a source as well as a target."""

    async def test() -> None:
        async with stage() as it, Remote(it.direct, key=KEY) as remote:
            await it.suspended("a")
            await hand_over(it.source, "a", remote)
            await remote.signal("a", "other", 1)
            await hand_over(remote, "a", it.source)
            assert (await remote.status("a"))["status"] == "paused"
            assert await it.active("a") == 1
            await it.source.signal("a", "go", 7)
            assert await it.source.result("a", 20) == [4, "kept", 7, "4" * 50]

    run(test)


def test_bundles_over_the_wire() -> None:
    """Export, freeze, import as a copy and to go on; each may be repeated."""

    async def test() -> None:
        async with stage() as it, Remote(it.direct, key=KEY) as remote:
            await it.suspended("a")
            bundle = await it.source.export("a", handoff=True)
            for _ in range(2):
                assert await remote.import_(bundle, "take_over") == "a"
            frozen = await remote.export("a", handoff=True)
            assert await remote.export("a", handoff=True) == frozen
            await it.source.import_(frozen, "take_over")
            await it.source.signal("a", "go", 7)
            assert (await it.source.result("a", 20))[1:3] == ["kept", 7]
            third = Runtime(MemoryHost())
            await third.import_(await remote.export("a"))
            assert (await third.get_execution("a")).status == "paused"

    run(test)
