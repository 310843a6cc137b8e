"""Going through a store: rotated keys, a first sealing in place, interruptions, others who write meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest

from alkaline_edge import ConflictError, Context, InvalidInput, Run, Runtime, StoreError, workflow
from alkaline_edge.host import Batch, Capabilities, Entry, Put
from alkaline_edge.sealing import Keyring, SealedHost, Swept, reseal, seal_store
from alkaline_edge.testing import SimulatedCrash, SimulatedHost
from alkaline_hosts.memory import MemoryHost, MemoryStore
from tests.sealing.support import KEYS, NEW, OLD, ONLY_OLD, TENANT, cipher, sealed
from tests.support import drive

ONLY_NEW = Keyring("new", {"new": NEW})
ran: list[int] = []


async def work(n: int) -> str:
    ran.append(n)
    return f"the result of step {n}"


@workflow
async def flow(ctx: Context, steps: int) -> Any:
    done = [await ctx.step("work", work, n) for n in range(steps)]
    return [len(done), await ctx.wait_for_signal("go")]


async def filled(host: Any, count: int, size: int = 10) -> None:
    """So many values, each in a commit of its own."""
    for n in range(count):
        await host.commit(Batch(f"{n:016x}", (), (Put(f"k/{n:04}", b"%d" % n * size),)))


def ids_in(store: MemoryStore) -> dict[str, int]:
    """How many values each key has sealed; plain ones count for an empty id."""
    found: dict[str, int] = {}
    for _, value, _ in store.entries.values():
        id = value[5 : 5 + value[4]].decode() if value.startswith(b"\xc1ae\x01") else ""
        found[id] = found.get(id, 0) + 1
    return found


def test_a_store_is_sealed_anew_under_the_current_key_and_the_old_one_can_go() -> None:
    """Every value is read as before, first with both keys and then with the new one alone."""

    async def test() -> None:
        store = MemoryStore()
        await filled(sealed(MemoryHost(store), ONLY_OLD), 130)
        before = [(key, value) for key, value, _ in await sealed(MemoryHost(store), ONLY_OLD).list("", "", 500)]
        host = sealed(MemoryHost(store), KEYS)
        await host.commit(Batch("a" * 16, (), (Put("k/0000", b"newer"),)))
        assert ids_in(store) == {"old": 129, "new": 1}
        assert await reseal(host) == Swept(seen=130, written=129, held=0, after=None)
        assert ids_in(store) == {"new": 130}
        assert await reseal(host) == Swept(seen=130, written=0, held=0, after=None)
        after = [(key, value) for key, value, _ in await sealed(MemoryHost(store), ONLY_NEW).list("", "", 500)]
        assert after == [("k/0000", b"newer"), *before[1:]]

    drive(test)


def test_a_store_is_sealed_in_place_and_never_by_itself() -> None:
    """A plain value is refused until ``seal_store`` has sealed it, by name; ``reseal`` does not take it either."""

    async def test() -> None:
        ran.clear()
        plain = MemoryHost()
        async with Runtime(plain, workflows=[flow]) as runtime:
            await (await runtime.start(flow, 3, id="exe_1")).settle()
        count = len(plain.store.entries)
        host = sealed(plain)
        with pytest.raises(StoreError, match="is not sealed"):
            await Runtime(host, workflows=[flow]).get_execution("exe_1")
        with pytest.raises(StoreError, match=f"{count} of {count} values did not open"):
            await reseal(host)
        assert ids_in(plain.store) == {"": count}
        assert await seal_store(host) == Swept(seen=count, written=count, held=0, after=None)
        assert ids_in(plain.store) == {"new": count}
        assert (await seal_store(host)).written == 0
        async with Runtime(host, workflows=[flow]) as runtime:
            await runtime.signal("exe_1", "go", 1)
            assert await Run(runtime, "exe_1").result() == [3, 1]
        assert ran == [0, 1, 2]

    drive(test)


@pytest.mark.parametrize("sweep", [reseal, seal_store])
def test_a_sweep_that_is_cut_off_anywhere_goes_on(sweep: Any) -> None:
    """Killed at each of its callbacks, it leaves a store that opens, and another call brings it to its end."""

    async def test() -> None:
        cut = 0
        while True:
            inner = SimulatedHost(capabilities=Capabilities("small batches", max_batch_keys=20))
            await filled(sealed(inner, ONLY_OLD) if sweep is reseal else inner, 60)
            call = inner.calls + cut + 1
            inner.fault = lambda n, verb, call=call: "applied-then-error" if n == call else None
            whole = True
            try:
                await sweep(sealed(inner))
            except StoreError:
                whole = False
            inner.fault = None
            assert set(ids_in(inner.store)) <= {"new", "old", ""}  # type: ignore[arg-type]  # it has entries as well
            swept = await sweep(sealed(inner))
            assert (swept.seen, ids_in(inner.store)) == (60, {"new": 60})  # type: ignore[arg-type]
            assert [entry.value for entry in await sealed(inner, ONLY_NEW).list("k/")] == [
                b"%d" % n * 10 for n in range(60)
            ]
            cut += 1
            if whole:
                break
        assert cut > 4

    drive(test)


def test_a_sweep_in_small_bites_sees_every_value_once() -> None:
    """As an invocation of a Worker does it: so many values at a time, and where to go on."""

    async def test() -> None:
        store = MemoryStore()
        await filled(sealed(MemoryHost(store), ONLY_OLD), 23)
        host, bites = sealed(MemoryHost(store)), [await reseal(sealed(MemoryHost(store)), limit=7)]
        while bites[-1].after is not None:
            bites.append(await reseal(host, after=bites[-1].after, limit=7))
        assert [bite[:2] for bite in bites] == [(7, 7), (7, 7), (7, 7), (2, 2)]
        assert ids_in(store) == {"new": 23}

    drive(test)


def test_large_values_are_written_in_batches_that_the_host_takes() -> None:
    """A page of values that are too many bytes for one batch is several."""

    async def test() -> None:
        inner = MemoryHost()
        inner.capabilities = Capabilities("small", max_value=9_000, max_batch_bytes=20_000, inline_limit=9_000)
        host = sealed(inner, ONLY_OLD)
        size = host.capabilities.max_value
        for n in range(9):
            await host.commit(Batch(f"{n:016x}", (), (Put(f"k/{n}", b"x" * size),)))
        keys = Keyring("k" * 32, {"k" * 32: NEW, "old": OLD})
        assert (await reseal(sealed(inner, keys))).written == 9

    drive(test)


class Meddling(MemoryHost):
    """A host on which somebody else writes between a read and the write that follows it."""

    meddle: Any = None

    async def commit(self, batch: Batch) -> Any:
        """Let the other go first."""
        meddle, self.meddle = self.meddle, None
        if meddle is not None:
            await meddle()
        return await super().commit(batch)


def test_what_others_write_meanwhile_is_never_overwritten() -> None:
    """A value that was changed or deleted between reading and writing stays as the other one left it."""

    async def test() -> None:
        inner = Meddling()
        await filled(sealed(inner, ONLY_OLD), 5)
        other = sealed(MemoryHost(inner.store), KEYS)
        stale = sealed(MemoryHost(inner.store), ONLY_OLD)

        async def meddle() -> None:
            await other.commit(Batch("a" * 16, (), (Put("k/0001", b"current"),), ("k/0002",)))
            await stale.commit(Batch("b" * 16, (), (Put("k/0003", b"by an old key"),)))

        inner.meddle = meddle
        swept = await reseal(sealed(inner))
        assert swept == Swept(5, 3, 0, None)
        values = {entry.key: entry.value for entry in await sealed(inner, ONLY_NEW).list("")}
        assert values == {"k/0000": b"0" * 10, "k/0001": b"current", "k/0003": b"by an old key", "k/0004": b"4" * 10}

    drive(test)


def test_a_writer_with_the_old_key_that_never_rests_is_named() -> None:
    """Instead of a sweep without end."""

    async def test() -> None:
        class Busy(MemoryHost):
            async def commit(self, batch: Batch) -> Any:
                if batch.checks:
                    await sealed(MemoryHost(self.store), ONLY_OLD).commit(
                        Batch(self.entropy(8).hex(), (), (Put("k/0000", b"again"),))
                    )
                return await super().commit(batch)

        inner = Busy()
        await filled(sealed(inner, ONLY_OLD), 1)
        with pytest.raises(ConflictError, match="seals with an older key wrote 20 times"):
            await reseal(sealed(inner))

    drive(test)


def test_runs_go_on_while_their_store_is_sealed_anew() -> None:
    """The keys are rotated and the store swept while each step of a run is in flight, and while another run sleeps.

    No step runs twice: the record of the run that is being driven is left to its owner. In the end all is current.
    """

    async def test() -> None:
        ran.clear()
        store = MemoryStore()
        swept: list[Swept] = []
        rotated = [Keyring("old", {"new": NEW, "old": OLD}), KEYS]

        async def swept_over(n: int) -> int:
            ran.append(n)
            swept.append(await reseal(sealed(MemoryHost(store), rotated[n % 2])))
            return n

        @workflow(name="driven")
        async def driven(ctx: Context) -> Any:
            done = [await ctx.step("swept over", swept_over, n, at_most_once=True) for n in range(10)]
            return [done, await ctx.wait_for_signal("go")]

        async with Runtime(sealed(MemoryHost(store), ONLY_OLD), workflows=[flow]) as old:
            await (await old.start(flow, 3, id="asleep")).settle()
        host = sealed(MemoryHost(store))
        async with Runtime(host, workflows=[flow, driven]) as runtime:
            run = await runtime.start("driven", id="driven")
            await run.settle()
            assert (await runtime.get_execution("driven")).epoch == 1, "its owner lost it"
            for id in ("asleep", "driven"):
                await runtime.signal(id, "go", id)
            assert await run.result(timeout=10) == [list(range(10)), "driven"]
            assert await Run(runtime, "asleep").result(timeout=10) == [3, "asleep"]
        assert ran == [*range(3), *range(10)]
        assert {each.held for each in swept} == {0, 1}
        assert all(each.written for each in swept)
        assert (await reseal(host)).held == 0
        assert set(ids_in(store)) == {"new"}

    drive(test)


def test_the_record_of_an_owner_that_died_is_sealed_anew_once_its_lease_has_ended() -> None:
    """Until then it is counted as held. A first sealing does not wait: nobody may be writing."""

    async def test() -> None:
        never = asyncio.Event()

        @workflow(name="stopped")
        async def stopped(ctx: Context) -> None:
            await ctx.step("never", never.wait)

        async def left_by_the_dead(inner: SimulatedHost, host: Any) -> SimulatedHost:
            runtime = Runtime(host, workflows=[stopped])
            await runtime.start("stopped", id="exe_1")
            while not (await runtime.get_execution("exe_1")).owner:
                await inner.sleep(0.001)
            inner.dead = True
            with contextlib.suppress(SimulatedCrash):
                await runtime.close()
            return inner.reopen()

        inner = SimulatedHost()
        inner = await left_by_the_dead(inner, sealed(inner, ONLY_OLD))
        first = await reseal(sealed(inner))
        assert (first.held, first.written) == (1, first.seen - 1)
        assert (await reseal(sealed(inner)))[1:3] == (0, 1)
        inner.advance(60)
        assert (await reseal(sealed(inner)))[1:3] == (1, 0)
        plain = SimulatedHost()
        plain = await left_by_the_dead(plain, plain)
        at_once = await seal_store(sealed(plain))
        assert (at_once.held, at_once.written) == (0, at_once.seen)

    drive(test)


@pytest.mark.parametrize("sweep", [reseal, seal_store])
def test_what_does_not_open_is_named_at_the_end_and_keeps_nothing_from_being_done(sweep: Any) -> None:
    """Damaged values stay as they are, all others are sealed anew, and the error counts and names both."""

    async def test() -> None:
        store = MemoryStore()
        await filled(sealed(MemoryHost(store), ONLY_OLD), 60)
        for key in ("k/0003", "k/0055"):
            before = store.entries[key]
            store.entries[key] = Entry(key, before.value[:-1], before.version)
        kept = {key: store.entries[key] for key in ("k/0003", "k/0055")}
        with pytest.raises(
            StoreError, match=r"2 of 60 values did not open .*'k/0003' .*58 were sealed anew"
        ) as refused:
            await sweep(sealed(MemoryHost(store)))
        detail = refused.value.detail
        assert detail == {
            "places": ["k/0003", "k/0055"],
            "refused": 2,
            "seen": 60,
            "written": 58,
            "held": 0,
            "after": None,
        }
        assert {key: store.entries[key] for key in kept} == kept
        assert ids_in(store) == {"new": 58, "old": 2}

    drive(test)


def test_a_plain_value_that_looks_sealed_is_not_guessed_at() -> None:
    """A first sealing that can't tell a plain value from a damaged one says so, and leaves it."""

    async def test() -> None:
        host = MemoryHost()
        await host.commit(
            Batch("0" * 16, (), (Put("b/run/ff/a1", b"\xc1ae\x01 and more of a chunk"), Put("r/a", b"\x80")))
        )
        with pytest.raises(StoreError, match="1 of 2 values did not open"):
            await seal_store(sealed(host))
        assert host.store.entries["b/run/ff/a1"].value == b"\xc1ae\x01 and more of a chunk"

    drive(test)


def test_a_sweep_is_refused_where_it_could_overwrite() -> None:
    """A host that checks nothing, and one that is not sealed at all."""

    async def test() -> None:
        inner = MemoryHost()
        inner.capabilities = Capabilities("careless", conditional=False)
        with pytest.raises(StoreError, match="careless can't check a value before it writes"):
            await reseal(sealed(inner))
        with pytest.raises(InvalidInput, match="SealedHost of the store, not a MemoryHost"):
            await seal_store(MemoryHost())  # type: ignore[arg-type]  # is the point

    drive(test)


def test_a_seal_within_a_seal_opens_in_order() -> None:
    """Two keyrings, one around the other: whoever wants two keys may have them."""

    async def test() -> None:
        inner = MemoryHost()
        outer = SealedHost(sealed(inner, ONLY_OLD), keys=ONLY_NEW, tenant=TENANT, cipher=cipher())
        await filled(outer, 3)
        assert ids_in(inner.store) == {"old": 3}
        assert [entry.value for entry in await outer.list("")] == [b"%d" % n * 10 for n in range(3)]

    drive(test)
