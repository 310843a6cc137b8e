"""What of a store can't be read is set apart, named, and left alone: every other run goes on, and nobody spins."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from alkaline_edge import Context, Run, Runtime, workflow
from alkaline_edge.codec import Codec
from alkaline_edge.errors import StoreError, UnreadableValue
from alkaline_edge.host import Entry
from alkaline_edge.sealing import Keyring, SealedHost
from alkaline_edge.testing import SimulatedHost
from alkaline_edge.testing.simulated import SimulatedStore
from tests.support import drive

codec = Codec()


@workflow(name="naps", version=1)
async def naps(ctx: Context, seconds: float) -> str:
    await ctx.sleep(seconds)
    return await ctx.wait_for_signal("go")


@workflow(name="parent", version=1)
async def parent(ctx: Context) -> str:
    return await ctx.child("naps", 5.0, id="child")


def put(store: SimulatedStore, key: str, value: bytes) -> None:
    store.entries[key] = Entry(key, value, "0" * 16)
    store.keys = sorted(store.entries)


def spoilt(field: str, value: Any) -> Callable[[SimulatedStore], None]:
    """The record of the run ``bad`` with one field that is none."""

    def spoil(store: SimulatedStore) -> None:
        values = codec.decode(store.entries["r/bad"].value)
        put(store, "r/bad", codec.encode({**values, field: value}))

    return spoil


def raw(key: str, value: bytes = b"\xc0") -> Callable[[SimulatedStore], None]:
    return lambda store: put(store, key, value)


RECORDS: dict[str, Callable[[SimulatedStore], None]] = {
    "no msgpack": raw("r/bad", b"\xc1\xff"),
    "cut short": lambda store: put(store, "r/bad", store.entries["r/bad"].value[:-3]),
    "a text": raw("r/bad", codec.encode("what")),
    "an empty map": raw("r/bad", codec.encode({})),
    "another run's": lambda store: put(store, "r/bad", store.entries["r/good"].value),
    **{
        f"{field}={value!r}": spoilt(field, value)
        for field, value in [
            ("status", "flying"), ("status", None), ("workflow", 7), ("version", "1"), ("wake_at", "soon"),
            ("waiting", [1]), ("waiting", {}), ("attributes", [1]), ("attributes", {"a": [1]}), ("owner", 3),
            ("lease_until", None), ("epoch", "x"), ("generation", None), ("cursor_length", b""), ("clocks", ["x"]),
            ("parent", 5), ("moved_to", 1), ("run", None), ("ahead", "x"), ("failure", "x"),
        ]
    },
}  # fmt: skip
"""Ways in which the record of the run ``bad`` may be damaged."""
KEYS: dict[str, Callable[[SimulatedStore], None]] = {
    "a timer without a time": raw("t/soon/bad"),
    "a timer with nothing else": raw("t/x"),
    "a timer before all others": raw("t/0/x/y"),
    "a timer without an id": raw("t/0000000000000/"),
    "an index without an id": raw("x/s/running/naps/"),
    "an index of nothing": raw("x/s/running/"),
    "an index of a run that there is not": raw("x/s/running/naps/nobody"),
    "an inbox of nobody": raw("i/x"),
    "a request with no place": raw("i/bad/"),
    "a request at an odd place": raw("i/bad/zz"),
    "a request of bytes": raw("i/bad/a1", b"\xc1"),
    "a request that is a text": raw("i/bad/a2", codec.encode("go")),
    "a request that is short": raw("i/bad/a3", codec.encode(["x", "signal"])),
    "a child's end that is none": raw("i/bad/~child", codec.encode(["child-1", "child", "1", "done", 5])),
    "a time of setting that is none": lambda store: put(
        store, next(key for key in store.keys if key.startswith("t/")), b"\xc1"
    ),
}
"""Keys and requests that are none."""
DAMAGE = {**RECORDS, **KEYS}


async def three_runs(store: SimulatedStore) -> SimulatedHost:
    """A store with the runs ``bad``, ``good`` and ``running``; the last one's owner is dead."""
    host = SimulatedHost(store)
    host.clock.auto = False
    async with Runtime(host, workflows=[naps]) as runtime:
        for id, seconds in (("bad", 5.0), ("good", 6.0), ("running", 7.0)):
            await (await runtime.start(naps, seconds, id=id)).settle()
    values = codec.decode(store.entries["r/running"].value)
    gone = {**values, "status": "running", "owner": "gone.x", "lease_until": host.now_ms(), "wake_at": None}
    put(store, "r/running", codec.encode(gone))
    put(store, "x/s/running/naps/running", b"\xc0")
    return host.reopen()


async def all_readers(runtime: Runtime, host: Any) -> None:
    """Each that looks through many runs goes on with those that can be read."""
    assert {each.id for each in await runtime.list_executions()} >= {"good", "running"}
    for filters in ({"status": "suspended"}, {"workflow": "naps"}):
        assert "good" in {each.id for each in await runtime.list_executions(**filters)}  # type: ignore[arg-type]
    assert "running" in {each.id for each in await runtime.list_executions(status="running")}
    assert "running" in {run.id for run in await runtime.recover()}
    await runtime.settle("running")
    await runtime.signal("good", "go", "by then")
    host.advance(60)
    due = await runtime.run_due()
    assert due is None or due > host.now_ms()
    assert await asyncio.wait_for(Run(runtime, "good").result(), 5) == "by then"
    await runtime.signal("running", "go", "served")
    stop = datetime.fromtimestamp(host.now_ms() / 1000 + 60, UTC)
    host.clock.auto = True
    await runtime.serve(until=stop)
    assert (await runtime.get_execution("running")).result == "served"
    await (await runtime.start(parent, id="parent")).settle()


@pytest.mark.parametrize("how", DAMAGE)
def test_one_bad_thing_in_a_store_ends_nothing_else(how: str, caplog: pytest.LogCaptureFixture) -> None:
    """Lists, recover, run_due, serve and whoever waits go on with the other runs; the bad one is named once."""
    caplog.set_level(logging.ERROR, "alkaline_edge")
    store = SimulatedStore()

    async def body() -> None:
        host = await three_runs(store)
        DAMAGE[how](store)
        bad = store.entries["r/bad"].value
        async with Runtime(host, workflows=[naps, parent]) as runtime:
            if how in RECORDS:
                page = await runtime.list_executions()
                assert list(page.unreadable) == ["bad"]
                assert page.unreadable["bad"].code == "ERR_STORE"
                with pytest.raises(StoreError, match="bad"):
                    await runtime.get_execution("bad")
            await all_readers(runtime, host)
            if how in RECORDS:
                assert store.entries["r/bad"].value == bad, "left as it was"
        named = [each.getMessage() for each in caplog.records if "can't be read" in each.getMessage()]
        assert len(named) == len(set(named))
        assert named or "that there is not" in how or "time of setting" in how or "of nobody" in how

    drive(body)


@pytest.mark.parametrize("how", ["no msgpack", "waiting=[1]", "a request of bytes", "a request at an odd place"])
def test_what_is_damaged_is_not_asked_again_and_again(how: str) -> None:
    """Ten minutes of serve beside it cost few calls and commits more than without it: less and less of them."""

    async def calls(damaged: bool) -> tuple[int, int]:
        store = SimulatedStore()
        host = await three_runs(store)
        if damaged:
            DAMAGE[how](store)
        host.clock.auto = True
        async with Runtime(host, workflows=[naps]) as runtime:
            await runtime.serve(until=datetime.fromtimestamp(host.now_ms() / 1000 + 600, UTC))
        return host.calls, host.counts["commit"]

    async def body() -> None:
        plain, beside = await calls(False), await calls(True)
        assert beside[1] <= plain[1] + 24
        assert beside[0] <= plain[0] * 1.5 + 40

    drive(body)


@pytest.mark.parametrize("kind", ["waits", "begins later", "paused"])
def test_a_request_that_cannot_be_read_holds_its_run_alone(kind: str) -> None:
    """It may be anything, a cancel too: the run does not go on without it, names it, and goes on once it is mended."""
    store = SimulatedStore()

    @workflow(name="gathers", version=1)
    async def gathers(ctx: Context) -> list[Any]:
        return [await ctx.wait_for_signal("go") for _ in range(3)]

    async def body() -> None:
        host = SimulatedHost(store)
        host.clock.auto = False
        async with Runtime(host, workflows=[gathers]) as runtime:
            at = datetime.fromtimestamp(host.now_ms() / 1000 + 5, UTC) if kind == "begins later" else None
            run = await runtime.start(gathers, id="r", start_at=at)
            await run.settle()
            if kind == "paused":
                await run.pause()
                await run.settle()
        async with Runtime(host) as sender:
            await sender.signal("r", "go", 1)
            await sender.signal("r", "go", 2)
            good = store.entries["i/r/a1"].value
            put(store, "i/r/a1", b"\xc1")
            await sender.signal("r", "go", 3)
        host.advance(10)
        async with Runtime(host, workflows=[gathers]) as runtime:
            await runtime.run_due()
            if kind == "paused":
                await runtime.resume("r")
            with pytest.raises(UnreadableValue, match="a request") as told:
                await Run(runtime, "r").result()
            assert told.value.detail["place"] == "i/r/a1"
            assert len(await runtime.history("r")) == (2 if kind == "paused" else 1)
            put(store, "i/r/a1", good)
            assert await (await runtime.resume("r")).result() == [1, 2, 3]

    drive(body)


def test_a_sealed_value_that_does_not_open_is_set_apart_like_any_other() -> None:
    """In a store of which others open. One of which none does was opened with the wrong keys, and says so."""
    pytest.importorskip("cryptography")
    store = SimulatedStore()
    ring = Keyring("k1", {"k1": b"1" * 32})

    async def body() -> None:
        plain = SimulatedHost(store)
        plain.clock.auto = False
        async with Runtime(SealedHost(plain, keys=ring, tenant="t"), workflows=[naps]) as runtime:
            for id, seconds in (("bad", 5.0), ("good", 6.0), ("running", 7.0)):
                await (await runtime.start(naps, seconds, id=id)).settle()
            await runtime.signal("bad", "other", 1)
        for key in ("r/bad", "i/bad/a1", next(key for key in store.keys if key.endswith("/bad") and key[0] == "t")):
            if key in store.entries:
                value = store.entries[key].value
                put(store, key, value[:-1] + bytes([value[-1] ^ 1]))
        host = SealedHost(plain.reopen(), keys=ring, tenant="t")
        async with Runtime(host, workflows=[naps]) as runtime:
            page = await runtime.list_executions()
            assert list(page.unreadable) == ["bad"]
            assert isinstance(page.unreadable["bad"], UnreadableValue)
            await runtime.signal("good", "go", 1)
            plain.advance(60)
            await runtime.run_due()
            assert await Run(runtime, "good").result() == 1
        wrong = SealedHost(plain.reopen(), keys=Keyring("k1", {"k1": b"2" * 32}), tenant="t")
        async with Runtime(wrong, workflows=[naps]) as runtime:
            for verb in (runtime.list_executions, runtime.run_due, runtime.serve):
                with pytest.raises(UnreadableValue):
                    await verb()  # type: ignore[operator]
        async with Runtime(plain.reopen(), workflows=[naps]) as runtime:
            for verb in (runtime.list_executions, runtime.run_due):
                with pytest.raises(UnreadableValue, match="without its keys"):
                    await verb()

    drive(body)
