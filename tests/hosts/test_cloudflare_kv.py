"""The KV host on a KV that is as stale as the real one."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from alkaline_edge import Context, Runtime, workflow
from alkaline_edge.errors import ERR_STORE, ConflictError, InvalidInput, NotFound, StoreError, UnknownOutcome
from alkaline_edge.host import Batch, Check, Committed, Conflict, Host, Put
from alkaline_edge.testing.conformance import CASES, check_case
from alkaline_hosts._kv.log import CHECKPOINT_COMMITS, MOST_COMMITS, SPILL_BYTES
from alkaline_hosts.cloudflare_kv import KVArchive, KVHost
from alkaline_hosts.memory import MemoryHost, MemoryStore
from tests.hosts.kv_simulator import Fault, Place, SimulatedKV

_ids = itertools.count(1)


class VirtualKVHost(KVHost):
    """A KVHost whose clock is the simulator's; sleeping moves it."""

    def __init__(self, place: Place, **options: Any) -> None:
        self.clock = place._kv
        super().__init__(place, **options)

    def now_ms(self) -> int:
        return int(self.clock.now * 1000) + 1_700_000_000_000

    async def sleep(self, seconds: float) -> None:
        self.clock.now += max(0.0, seconds)
        await asyncio.sleep(0)


def single(kv: SimulatedKV, place: str = "here", **options: Any) -> VirtualKVHost:
    return VirtualKVHost(kv.at(place), single_writer=True, **options)


def batch(puts: dict[str, bytes], checks: dict[str, str | None] | None = None, deletes: tuple[str, ...] = ()) -> Batch:
    return Batch(
        f"{next(_ids):016x}",
        tuple(Check(*check) for check in (checks or {}).items()),
        tuple(Put(*put) for put in puts.items()),
        deletes,
    )


async def fill(host: Host, count: int, start: int = 0) -> None:
    for n in range(start, start + count):
        assert isinstance(await host.commit(batch({f"k/{n:05d}": b"%d" % n})), Committed)


def values(entries: list[Any]) -> list[bytes]:
    return [entry.value for entry in entries]


async def read_or_reason(host: Host) -> tuple[list[Any], Any]:
    """What the host lists, or why it refuses to."""
    try:
        return await host.list("k/"), None
    except StoreError as error:
        return [], error.detail.get("reason")


class LogStore:
    """A store of the suite: one place of one simulated KV."""

    def __init__(self, **options: Any) -> None:
        self.kv, self.options = SimulatedKV(), options

    async def open(self) -> Host:
        return KVHost(self.kv.at("here"), **self.options)

    async def destroy(self) -> None:
        assert self.kv.unlisted_reads == [], "a key was read that was never listed: KV would remember its absence"


class CoordinatedStore:
    """A store of the suite: KV with memory as the coordinator."""

    def __init__(self) -> None:
        self.kv, self.front = SimulatedKV(), MemoryStore()

    async def open(self) -> Host:
        return KVHost(self.kv.at("here"), coordinator=MemoryHost(self.front), large=500)

    async def destroy(self) -> None:
        pass


MAKERS: dict[str, Callable[[], Any]] = {
    "no checks": LogStore,
    "single writer": lambda: LogStore(single_writer=True),
    "coordinated": CoordinatedStore,
}


@pytest.mark.parametrize("form", MAKERS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_conformance(case: Any, form: str) -> None:
    """Each form of the host keeps the contract that its capabilities describe."""

    async def maker() -> Any:
        return MAKERS[form]()

    asyncio.run(check_case(case, maker, gather=asyncio.gather))


def run(body: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(body())  # type: ignore[arg-type]  # a test body is a coroutine function


def test_a_commit_is_one_put_of_a_new_key() -> None:
    """Whatever a batch holds, it is one KV write, and no key is ever written twice."""

    async def body() -> None:
        kv = SimulatedKV()
        host = single(kv)
        await fill(host, 40)
        await host.commit(batch({"a": b"1", "b": b"2"}, {"k/00000": None}, ()))  # a conflict: no write
        await host.commit(batch({"a": b"1", "b": b"2"}, deletes=("k/00000", "k/00001")))
        assert kv.counts["put"] == 41
        assert all(len(history) == 1 for history in kv.writes.values())

    run(body)


def test_stale_list_is_an_error_with_a_token_and_never_a_shorter_history() -> None:
    """Elsewhere, before the writes are seen there, the token makes the host refuse; a minute later it reads them."""

    async def body() -> None:
        kv = SimulatedKV()
        writer = single(kv)
        await fill(writer, 5)
        token = writer.resume_token
        reader = single(kv, "elsewhere", resume=token)
        with pytest.raises(StoreError) as stale:
            await reader.list("k/")
        assert stale.value.detail["reason"] == "stale"
        with pytest.raises(StoreError):
            await reader.commit(batch({"k/00005": b"twice"}))
        assert len(kv.truth()) == 5
        kv.now += 61
        assert len(await reader.list("k/")) == 5
        assert reader.resume_token == token

    run(body)


def test_a_gap_in_a_list_is_an_error_without_a_token() -> None:
    """A list that shows commit 3 and not commit 2 is stale, whatever the reader was told."""

    async def body() -> None:
        kv = SimulatedKV()
        await fill(single(kv), 3)
        second = sorted(kv.writes)[1]
        kv.writes[second][0].when = kv.now + 30
        with pytest.raises(StoreError) as stale:
            await single(kv).list("k/")
        assert stale.value.detail["reason"] == "stale"

    run(body)


def test_listed_and_unreadable_is_an_error() -> None:
    """A key that the list shows and get does not (a remembered absence) is stale, not empty."""

    async def body() -> None:
        kv = SimulatedKV(list_lag=0)
        await fill(single(kv), 2)
        with pytest.raises(StoreError) as stale:
            await single(kv, "elsewhere").get(["k/00000"])
        assert stale.value.detail["reason"] == "stale"

    run(body)


@pytest.mark.parametrize("fault", ["lost", "answer lost"])
@pytest.mark.parametrize("number", [3, 4])
def test_a_lost_answer_is_unknown_and_then_known(fault: Fault, number: int) -> None:
    """After a put that failed or whose answer was lost, the next call writes the same key again: no fork, no gap."""

    async def body() -> None:
        kv = SimulatedKV(fault=lambda operation, n: fault if (operation, n) == ("put", number) else None)
        host = single(kv)
        await fill(host, number - 1)
        lost = batch({"k/x": b"x"})
        with pytest.raises(UnknownOutcome):
            await host.commit(lost)
        [entry] = await host.get(["k/x"])
        assert entry is not None
        assert entry.version == lost.id
        await fill(host, 2, start=100)
        assert len(await single(kv).list("k/")) == number + 2
        assert len(kv.truth()) == number + 2

    run(body)


def test_two_writers_are_found() -> None:
    """Two who wrote the same position are both refused by the next to open the store, who is told what to do."""

    async def body() -> None:
        kv = SimulatedKV()
        one = single(kv)
        await fill(one, 3)
        kv.now += 61
        two = single(kv, "elsewhere")
        await two.get(["k/00000"])
        await one.commit(batch({"k/one": b"1"}))
        await two.commit(batch({"k/two": b"2"}))
        kv.now += 61
        with pytest.raises(StoreError, match="two writers") as forked:
            await single(kv).get(["k/one"])
        assert forked.value.detail["reason"] == "forked"
        await one.refresh()
        with pytest.raises(StoreError, match="two writers"):
            await one.get(["k/one"])

    run(body)


def first_checkpoint(operation: str, number: int) -> Fault | None:
    return "lost" if operation == "put" and number == CHECKPOINT_COMMITS + 1 else None


@pytest.mark.parametrize("fault", [lambda operation, number: None, first_checkpoint])
def test_checkpoints_bound_what_opening_costs(fault: Callable[[str, int], Fault | None]) -> None:
    """After hundreds of commits, each one operation, the store is opened with few reads, and nothing is lost.

    A checkpoint that KV does not take is made up for by the next commit.
    """

    async def body() -> None:
        kv = SimulatedKV(list_lag=0, lag=0, fault=fault)
        host = single(kv)
        count = CHECKPOINT_COMMITS * 5 + 7
        for n in range(count):
            await host.commit(batch({f"k/{n % 50:02d}": b"%d" % n}))
        assert kv.counts.total() <= count + 10
        before = kv.counts.total()
        again = single(kv, resume=host.resume_token)
        expected = {f"k/{n % 50:02d}": b"%d" % n for n in range(count)}
        assert {entry.key: entry.value for entry in await again.list("k/")} == expected
        assert kv.counts.total() - before <= 12
        assert again.resume_token == host.resume_token

    run(body)


def test_a_large_store_is_not_written_over_and_over() -> None:
    """With 3 MB of entries, 800 small commits write few checkpoints, and the store is still opened with few reads."""

    async def body() -> None:
        kv = SimulatedKV(list_lag=0, lag=0)
        host = single(kv)
        for n in range(1_000):
            await host.commit(batch({f"large/{n:04d}": b"x" * 3_000}))
        before = kv.counts["put"]
        await fill(host, 800)
        assert kv.counts["put"] - before <= 800 + 3
        before = kv.counts.total()
        assert len(await single(kv).list("k/", limit=2_000)) == 800
        assert kv.counts.total() - before <= MOST_COMMITS + 10

    run(body)


def every_third_delete(operation: str, number: int) -> Fault | None:
    return "lost" if operation == "delete" and number % 3 == 0 else None


@pytest.mark.parametrize("fault", [lambda operation, number: None, every_third_delete])
def test_a_sweep_deletes_what_is_superfluous_and_nothing_else(fault: Callable[[str, int], Fault | None]) -> None:
    """Whenever it is called, a sweep leaves the store as it is; what KV does not take goes with the next one."""

    async def body() -> None:
        kv = SimulatedKV(list_lag=0, lag=0, fault=fault)
        host = single(kv)
        expected = {}
        for n in range(CHECKPOINT_COMMITS * 4 + 7):
            kv.now += 0.1
            key, value = f"k/{n % 30:02d}", b"%d" % n * (SPILL_BYTES if n % 7 == 0 else 1)
            await host.commit(batch({key: value}))
            expected[key] = value
            if n % 67 == 0:
                kv.now += 2
                await (host if n % 2 else single(kv)).sweep()
                assert {entry.key: entry.value for entry in await single(kv).list("k/")} == expected
        kv.now += 2
        await host.sweep()
        kv.now += 2
        await host.sweep()
        assert len(kv.truth()) <= 2 * CHECKPOINT_COMMITS + 60
        assert {entry.key: entry.value for entry in await single(kv).list("k/")} == expected
        small = single(kv, max_operations=6)
        with pytest.raises(StoreError, match="KV operations"):
            await small.sweep()

    run(body)


def test_a_reader_beside_a_checkpoint_sees_old_or_new_or_an_error() -> None:
    """Whenever a stale reader opens the store, it gets a prefix of the history or an error: never an empty store."""

    async def body() -> None:
        kv = SimulatedKV()
        host = single(kv)
        await fill(host, 10)
        kv.now += 100
        for n in range(10, CHECKPOINT_COMMITS * 2 + 30):
            kv.now += 0.7
            await host.commit(batch({f"k/{n:05d}": b"%d" % n}))
            if n % 10 == 0:
                found, reason = await read_or_reason(single(kv, f"reader {n}"))
                assert reason in (None, "stale")
                assert reason or len(found) >= 10
                assert values(found) == [b"%d" % n for n in range(len(found))]

    run(body)


def test_large_values_are_keys_of_their_own_and_are_swept_at_last() -> None:
    """A large value is read from its own key; once it was replaced, a sweep after two checkpoints deletes the key."""

    async def body() -> None:
        kv = SimulatedKV(lag=0, list_lag=0)
        host = single(kv)
        large = b"\xab" * (SPILL_BYTES + 1)
        await host.commit(batch({"b/1": large, "b/2": b"small"}))
        assert values(await single(kv).list("b/")) == [large, b"small"]
        await host.commit(batch({"b/2": b"smaller"}, deletes=("b/1",)))
        for _ in range(2):
            kv.now += 2
            await host.sweep()
            assert [key for key in kv.truth() if "/val/" in key]
            await fill(host, CHECKPOINT_COMMITS)
        kv.now += 2
        await host.sweep()
        assert not [key for key in kv.truth() if "/val/" in key]
        assert values(await single(kv).list("b/")) == [b"smaller"]

    run(body)


def test_a_damaged_key_is_an_error() -> None:
    """Bytes that were changed are found by the chain of digests, or by not being the format at all."""

    async def body() -> None:
        for change in (lambda raw: raw[:-1], lambda raw: raw[:-1] + bytes([raw[-1] ^ 1]), lambda raw: b""):
            kv = SimulatedKV()
            await fill(single(kv), 3)
            first = min(kv.writes)
            value = kv.writes[first][0].value
            assert value is not None
            kv.writes[first][0].value = change(value)
            with pytest.raises(StoreError):
                await single(kv).list("k/")

    run(body)


def test_operations_are_counted_and_refused_before_they_are_sent() -> None:
    """With max_operations the host stops before the platform would, and nothing is half written."""

    async def body() -> None:
        kv = SimulatedKV()
        host = single(kv, max_operations=7)
        with pytest.raises(StoreError, match="7 KV operations"):
            await fill(host, 10)
        assert host.operations == kv.counts.total() == 7
        assert len(await single(kv).list("k/")) == 5

    run(body)


def test_a_long_run_stays_under_the_operations_of_an_invocation() -> None:
    """A run on KV stops before its invocation has used up its operations; the next one goes on; no step runs twice."""
    calls: list[int] = []

    @workflow(name="many", version=1)
    async def many(ctx: Context, steps: int) -> int:
        for n in range(steps):
            await ctx.step("add", calls.append, n)
        return steps

    async def body() -> None:
        kv = SimulatedKV(lag=0, list_lag=0)
        token, used = None, []
        for invocation in range(20):
            host = single(kv, resume=token, max_operations=300)
            async with Runtime(host, workflows=[many]) as runtime:
                host.when_low(runtime.drain)
                if not invocation:
                    await (await runtime.start("many", 700, id="exe_1")).settle()
                await runtime.run_due()
                status = (await runtime.get_execution("exe_1")).status
            token = host.resume_token
            used.append(host.operations)
            if status == "completed":
                break
        assert status == "completed"
        assert calls == list(range(700))
        assert max(used) <= 300
        assert 3 <= len(used) <= 8

    run(body)


def test_what_needs_checks_is_refused_at_start() -> None:
    """A Runtime on KV that nobody vouched for is ERR_STORE with the reason; so is a coordinator that can't check."""
    kv = SimulatedKV()
    with pytest.raises(StoreError, match="conditional") as refused:
        Runtime(KVHost(kv.at("here")))
    assert refused.value.code == ERR_STORE
    with pytest.raises(StoreError, match="coordinate"):
        KVHost(kv.at("here"), coordinator=KVHost(kv.at("here")))
    with pytest.raises(InvalidInput):
        KVHost(kv.at("here"), coordinator=MemoryHost(), single_writer=True)
    with pytest.raises(InvalidInput, match="resume token"):
        single(kv, resume="kv1.x.y")


def test_a_single_writer_is_called_what_it_is() -> None:
    """It says that it has no conditional commits; a lease, which would need them, is refused at start."""
    host = single(SimulatedKV())
    can = host.capabilities
    assert (can.conditional, can.exclusive, can.single_writer, can.checks) == (False, False, True, True)
    Runtime(host)
    with pytest.raises(StoreError, match="no lease keeps a second writer out") as refused:
        Runtime(host, lease=5.0)
    assert refused.value.code == ERR_STORE


def test_a_run_left_behind_is_taken_up_at_once() -> None:
    """The next life of the only writer does not wait for the lease of the one before."""

    @workflow(name="asked", version=1)
    async def asked(ctx: Context) -> Any:
        return await ctx.step("ask", asyncio.sleep, 0, "answer")

    async def body() -> None:
        kv = SimulatedKV(lag=0, list_lag=0)
        runtime = Runtime(single(kv), workflows=[asked])
        await runtime.start("asked", id="exe_1")  # and never closed: its process is gone
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        async with Runtime(single(kv), workflows=[asked]) as following:
            [found] = await following.recover()
            assert await found.result() == "answer"

    run(body)


def test_finished_histories_are_archived() -> None:
    """A run that has ended is a bundle in KV that another store takes in; one that has not is refused."""

    @workflow(name="asked", version=1)
    async def asked(ctx: Context, wait: bool) -> Any:
        answer = await ctx.step("ask", asyncio.sleep, 0, "x" * 5_000)
        return await ctx.wait_for_signal("go") if wait else answer

    async def body() -> None:
        kv = SimulatedKV()
        archive = KVArchive(kv.at("here"))
        async with Runtime(MemoryHost(), workflows=[asked]) as runtime:
            assert await (await runtime.start("asked", False, id="done")).result() == "x" * 5_000
            await (await runtime.start("asked", True, id="waiting")).settle()
            history = await runtime.history("done")
            with pytest.raises(ConflictError, match="when it has ended"):
                await archive.store(runtime, "waiting", delete=True)
            assert kv.counts["put"] == 0
            await archive.store(runtime, "done", delete=True)
            with pytest.raises(NotFound):
                await runtime.get_execution("done")
            assert (await runtime.get_execution("waiting")).status == "suspended"
        assert await archive.ids() == ["done"]
        assert await KVArchive(kv.at("elsewhere")).load("done") is None
        kv.now += 61
        bundle = await KVArchive(kv.at("third")).load("done")
        assert bundle is not None
        async with Runtime(MemoryHost(), workflows=[asked]) as runtime:
            await runtime.import_(bundle)
            assert await runtime.history("done") == history

    run(body)


def test_a_delete_waits_for_the_archive() -> None:
    """Where KV did not confirm the bundle, the run stays where it is, and storing it again is harmless."""

    @workflow(name="empty", version=1)
    async def empty(ctx: Context) -> None:
        pass

    async def body() -> None:
        kv = SimulatedKV(fault=lambda operation, n: "lost" if (operation, n) == ("put", 1) else None)
        archive = KVArchive(kv.at("here"))
        async with Runtime(MemoryHost(), workflows=[empty]) as runtime:
            await (await runtime.start("empty", id="done")).result()
            with pytest.raises(UnknownOutcome):
                await archive.store(runtime, "done", delete=True)
            assert (await runtime.get_execution("done")).finished
            await archive.store(runtime, "done", delete=True)
            with pytest.raises(NotFound):
                await runtime.get_execution("done")
        assert len(kv.truth()) == 1

    run(body)


def test_sweep_deletes_values_that_nothing_refers_to() -> None:
    """A conflict and a replaced entry leave large values behind; a sweep finds them once they are old, and no other."""

    async def body() -> None:
        kv = SimulatedKV()
        coordinator = MemoryHost(now_ms=lambda: int(kv.now * 1000))
        host = KVHost(kv.at("here"), coordinator=coordinator, large=10)
        await host.commit(batch({"a": b"x" * 50, "k": b"kept" * 10}, {"a": None}))
        assert isinstance(await host.commit(batch({"a": b"y" * 50}, {"a": None})), Conflict)
        await host.commit(batch({"a": b"w" * 50}))
        assert len(kv.truth()) == 4
        assert await host.sweep(older_than=3600) == 0
        kv.now += 7200
        assert await host.sweep(older_than=3600) == 2
        assert values(await host.list("")) == [b"w" * 50, b"kept" * 10]

    run(body)


def test_coordinated_value_that_is_not_seen_yet_is_an_error() -> None:
    """Elsewhere the coordinator knows the entry at once and KV does not: that is stale, not absent and not empty."""

    async def body() -> None:
        kv, front = SimulatedKV(), MemoryStore()
        await KVHost(kv.at("here"), coordinator=MemoryHost(front), large=10).commit(batch({"a": b"x" * 50}))
        elsewhere = KVHost(kv.at("elsewhere"), coordinator=MemoryHost(front), large=10)
        with pytest.raises(StoreError) as stale:
            await elsewhere.get(["a"])
        assert stale.value.detail["reason"] == "stale"
        kv.now += 61
        assert values(await elsewhere.get(["a"])) == [b"x" * 50]

    run(body)


calls: list[str] = []


@workflow(name="approve", version=1)
async def approve(ctx: Context, topic: str) -> str:
    await ctx.step("ask", calls.append, f"ask {topic}")
    answer = await ctx.wait_for_signal("answer")
    await ctx.step("act", calls.append, f"act on {answer}")
    return f"{topic}: {answer}"


def test_a_run_moves_between_places_with_its_token_and_no_step_runs_twice() -> None:
    """Started in one place, resumed in another too early: a clear error, and later each step has run once."""
    calls.clear()

    async def body() -> None:
        kv = SimulatedKV()
        first = single(kv)
        async with Runtime(first, workflows=[approve]) as runtime:
            started = await runtime.start("approve", "launch", id="exe_1")
            await started.settle()
        token = first.resume_token
        early = single(kv, "elsewhere", resume=token)
        async with Runtime(early, workflows=[approve]) as runtime:
            with pytest.raises(StoreError) as stale:
                await runtime.signal("exe_1", "answer", "yes")
            assert stale.value.detail["reason"] == "stale"
        kv.now += 90
        late = single(kv, "elsewhere", resume=token)
        async with Runtime(late, workflows=[approve]) as runtime:
            await runtime.signal("exe_1", "answer", "yes")
            found = await runtime.resume("exe_1")
            assert await found.result() == "launch: yes"
        assert calls == ["ask launch", "act on yes"]

    run(body)
