"""Loading: a history that is not whole, or not the one that the run's record knows, is never gone on with."""

from __future__ import annotations

import pytest

from alkaline_edge import Context, DeterminismError, StoreError, workflow
from alkaline_edge.codec import Codec, pack
from alkaline_edge.lifecycle import LogLine
from tests.support import Process, drive
from tests.travellers import ran, suspended


@pytest.mark.parametrize("damage", ["all", "the last", "gap", "swap", "edit", "tail"])
def test_a_damaged_history_is_found(damage: str) -> None:
    """A gap, a swap, an edit, a lost end, or nothing at all: ERR_STORE, and nothing runs."""

    async def test() -> None:
        process = await suspended()
        record = await process.runtime.get_execution("a")
        entries = process.host.store.entries
        keys = sorted(k for k in entries if k.startswith(f"h/{record.run}/"))
        if damage == "gap":
            del entries[keys[2]]
        elif damage == "tail":
            del entries[keys[-1]]
        elif damage == "all":
            for key in keys:
                del entries[key]
        elif damage == "the last":  # no commit behind it tells: the record does
            entry = entries[keys[-1]]
            edited = Codec().decode(entry.value)
            entries[keys[-1]] = entry._replace(value=pack([edited[0], edited[1] + 1, *edited[2:]]))
        elif damage == "swap":
            a, b = entries[keys[1]], entries[keys[2]]
            entries[keys[1]], entries[keys[2]] = a._replace(value=b.value), b._replace(value=a.value)
        else:
            entry = entries[keys[1]]
            entries[keys[1]] = entry._replace(value=entry.value[:-1] + bytes([entry.value[-1] ^ 1]))
        process.host.store.keys = sorted(entries)
        await process.crash()
        ran.clear()
        with pytest.raises(StoreError, match=r"restore it|Restore it"):
            await (await process.runtime.resume("a")).result()
        assert ran == []
        await process.runtime.close()

    drive(test)


broken: set[str] = set()


def work(name: str) -> str:
    if name in broken:
        raise ConnectionError(f"{name} is down")
    return name


@workflow
async def mended(ctx: Context) -> str:
    await ctx.step("work", work, "first")
    await ctx.step("work", work, "second")
    return str(await ctx.wait_for_signal("go"))


def test_a_run_that_is_tried_again_behind_the_record_that_was_read_is_replayed_as_it_is_now() -> None:
    """Its failure counts no more, which the record of before can't say; and code that differs is told from it."""

    async def test() -> None:
        broken.add("second")
        process = Process(mended)
        run = await process.runtime.start("mended", id="a")
        with pytest.raises(ConnectionError):
            await run.result()
        store, loader = process.runtime.store, process.runtime.owner.loader
        before = await store.record("a")
        broken.clear()
        await process.runtime.retry("a")
        await run.settle()
        assert (before.retried, (await store.record("a")).retried) == (0, 1)
        loaded = await loader.load(before, before.attempt)
        assert loaded.machine.outcome is None  # it waits
        loaded.machine.set_aside()
        await process.runtime.close()

        @workflow(name="mended")
        async def other(ctx: Context) -> str:
            return str(await ctx.wait_for_signal("go"))

        process = Process(other, host=process.host)
        with pytest.raises(DeterminismError):
            await process.runtime.owner.loader.load(before, before.attempt)
        await process.runtime.close()

    drive(test)


def test_what_a_run_logged_before_it_waited_is_not_logged_again_by_who_wakes_it() -> None:
    """Its record says that it had come to rest, so all of that was told."""

    @workflow
    async def asks(ctx: Context) -> None:
        ctx.log("info", "asked")
        await ctx.wait_for_signal("go")
        ctx.log("info", "answered")

    async def test() -> None:
        process = Process(asks)
        await (await process.runtime.start(asks, id="a")).settle()
        await process.crash()
        run = await process.runtime.resume("a")
        await run.signal("go")
        await run.result()
        assert [each.message for each in process.events if isinstance(each, LogLine)] == ["asked", "answered"]
        await process.runtime.close()

    drive(test)
