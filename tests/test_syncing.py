"""sync and hand_over between two runtimes: only what is missing is sent, and a fault anywhere loses nothing."""

from __future__ import annotations

import contextlib
import itertools
import random
from functools import partial
from typing import Any

import pytest

from alkaline_edge import (
    ConflictError,
    Context,
    InvalidInput,
    NotFound,
    Runtime,
    StoreError,
    hand_over,
    sync,
    workflow,
)
from alkaline_edge.host import Capabilities
from alkaline_edge.parts import Place
from alkaline_edge.runtime import handing
from alkaline_edge.runtime.handing import Local
from alkaline_edge.testing import SimulatedCrash, SimulatedHost
from tests.exchanged import closed, flow, other, parent, ran, suspended, work
from tests.support import Process, drive, kinds

FAULTS = ["crash", "crash-after", "applied-then-error", "error-before", "applied-then-conflict"]


DONE = [[0, 10, 20, 30, 40, 50], 10, "yes", "none"]


class Wire:
    """A peer behind a wire: counts what crosses it, and breaks at the call with that number, before or after it."""

    def __init__(self, runtime: Runtime, cut: int = -1, after: bool = False) -> None:
        self.local, self.cut, self.after = Local(runtime), cut, after
        self.calls = self.sent = 0
        self.name = "wire"

    def __getattr__(self, verb: str) -> Any:
        async def call(*args: Any) -> Any:
            self.calls += 1
            here = self.calls - 1 == self.cut
            if here and not self.after:
                raise OSError("the wire was cut")
            self.sent += sum(len(arg) for arg in args if isinstance(arg, bytes))
            answer = await getattr(self.local, verb)(*args)
            if here:
                raise OSError("the wire was cut")
            return answer

        return call


def test_only_the_missing_end_is_sent_and_the_copy_is_paused() -> None:
    """A second sync sends what came since, a third nothing; the copy replays to the same result and repeats no step."""

    async def test() -> None:
        a, b = await suspended(size=300_000), other()
        first = await sync(a.runtime, b.runtime, "a")
        assert first.parts == 1
        assert first.sent > 300_000
        copy = await b.runtime.get_execution("a")
        assert (copy.status, copy.owner, copy.attributes) == ("paused", None, {"team": "blue"})
        assert await b.runtime.recover() == []
        await b.runtime.run_due()
        assert (await sync(a.runtime, b.runtime, "a")).sent == 0
        await a.runtime.signal("a", "go", "yes")
        await a.runtime.settle("a")
        second = await sync(a.runtime, b.runtime, "a")
        assert 0 < second.sent < 1_500
        assert await b.runtime.history("a") == await a.runtime.history("a")
        assert [r.id for r in await b.runtime.list_executions(attributes={"team": "blue"})] == ["a"]
        ran.clear()
        assert await (await b.runtime.resume("a")).result() == [DONE[0], 300_000, "yes", "none"]
        assert ran == []
        await closed(a, b)

    drive(test)


def test_a_run_that_ended_ends_at_the_copy_too_with_its_large_result() -> None:
    """Status, result and failure are those of the source."""

    @workflow
    async def ends(ctx: Context, how: str) -> str:
        if how == "fail":
            raise ValueError("no")
        return "x" * 300_000

    async def test() -> None:
        a, b = Process(ends), Process(ends, host=SimulatedHost(seed=2))
        for how in ("fail", "end"):
            run = await a.runtime.start("ends", how, id=how)
            await run.settle()
            await sync(a.runtime, b.runtime, how)
            ours, theirs = await a.runtime.get_execution(how), await b.runtime.get_execution(how)
            assert (ours.status, ours.result, ours.failure) == (theirs.status, theirs.result, theirs.failure)
        assert await hand_over(a.runtime, "end", b.runtime) == await Local(b.runtime).place("end")
        await closed(a, b)

    drive(test)


def test_what_is_no_fast_forward_is_refused_with_both_heads_and_the_place() -> None:
    """A copy that went on by itself, and a source that is behind: nothing is changed."""

    async def test() -> None:
        a, b = await suspended(), other()
        await sync(a.runtime, b.runtime, "a")
        common = (await b.runtime.get_execution("a")).cursor_length
        await b.runtime.resume("a")
        await b.runtime.signal("a", "go", "theirs")
        await b.runtime.settle("a")
        with pytest.raises(ConflictError, match="the target is ahead") as ahead:
            await sync(a.runtime, b.runtime, "a")
        assert ahead.value.detail["position"] == common
        await a.runtime.signal("a", "go", "ours")
        await a.runtime.settle("a")
        before = dict(b.host.store.entries)
        with pytest.raises(ConflictError, match=f"part behind commit {common}") as parted:
            await sync(a.runtime, b.runtime, "a")
        heads = [(await p.runtime.get_execution("a")).head.hex() for p in (a, b)]
        assert parted.value.detail == {
            "id": "a", "position": common, "generation": 0, "source": heads[0], "target": heads[1],
        }  # fmt: skip
        assert b.host.store.entries == before
        await closed(a, b)

    drive(test)


def test_a_run_that_may_go_on_at_the_target_is_never_written_to() -> None:
    """Also another run of the same id, and a run that the source does not have."""

    async def test() -> None:
        a, b = await suspended(), other()
        await hand_over(a.runtime, "a", b.runtime)
        await b.runtime.signal("a", "go", "yes")
        await b.runtime.settle("a")
        for wrong in (sync(a.runtime, b.runtime, "a"), sync(b.runtime, b.runtime, "none")):
            with pytest.raises((ConflictError, NotFound)):
                await wrong
        await sync(b.runtime, a.runtime, "a")  # what was handed over may follow, and stays frozen
        record = await a.runtime.get_execution("a")
        assert record.moved_to is not None
        assert record.head == (await b.runtime.get_execution("a")).head
        c = other(seed=5)
        await (await c.runtime.start("flow", 1, id="a")).settle()
        with pytest.raises(ConflictError, match="another run under the id"):
            await sync(b.runtime, c.runtime, "a")
        await closed(a, b, c)

    drive(test)


def test_a_copy_follows_its_source_into_the_next_generation() -> None:
    """continue_as_new begins a new history; the copy has it, and old ones don't pile up."""

    async def test() -> None:
        a, b = other(1), other(2)
        run = await a.runtime.start("generations", 0, id="g")
        for _ in range(3):
            await run.settle()
            await sync(a.runtime, b.runtime, "g")
            await run.signal("next")
        await run.settle()
        await sync(a.runtime, b.runtime, "g")
        assert (await b.runtime.get_execution("g")).generation == 3
        assert await b.runtime.history("g") == await a.runtime.history("g")
        names = {key.split("/")[1] for key in b.host.store.keys if key[:2] in ("h/", "s/")}
        assert len(names) <= 2
        await hand_over(a.runtime, "g", b.runtime)
        await b.runtime.signal("g", "next")
        assert await b.runtime.result("g", None) == 3
        await closed(a, b)

    drive(test)


def test_a_hand_over_carries_requests_and_dedupe_keys_and_comes_back() -> None:
    """Both ways, with what was asked meanwhile: each signal counts once, and each step runs once."""

    async def test() -> None:
        a, b = await suspended(), other()
        await a.runtime.signal("a", "more", "later", dedupe="k")
        await a.runtime.settle("a")
        there = await hand_over(a.runtime, "a", b.runtime)
        assert there.moved_to is None
        for refused in (a.runtime.resume("a"), a.runtime.signal("a", "go")):
            with pytest.raises(ConflictError, match="handed over to simulated"):
                await refused
        assert await hand_over(a.runtime, "a", b.runtime) is not None
        await b.runtime.signal("a", "more", "again", dedupe="k")
        await b.runtime.signal("a", "go", "yes", dedupe="g")
        await b.runtime.settle("a")
        await hand_over(b.runtime, "a", a.runtime)
        assert await a.runtime.result("a", None) == [DONE[0], 10, "yes", "later"]
        assert kinds(await a.runtime.history("a")).count("SignalReceived") == 2
        assert ran == [0, 1, 2, 3, 4, 5]
        await closed(a, b)

    drive(test)


def test_a_running_step_ends_before_its_run_is_handed_over() -> None:
    """The pause waits for what is in flight; its outcome goes along."""

    async def test() -> None:
        a, b = other(1), other(2)
        await a.runtime.start("flow", 10, id="a")
        await hand_over(a.runtime, "a", b.runtime)
        await b.runtime.signal("a", "go", "yes")
        ran_here = list(ran)
        assert await b.runtime.result("a", None) == DONE
        assert sorted(ran[-6:]) == [0, 1, 2, 3, 4, 5]
        assert len(ran_here) >= 1
        await closed(a, b)

    ran.clear()
    drive(test)


def test_a_hand_over_has_one_target() -> None:
    """A run on its way to one store is not handed to another, nor its letter; and a store not to itself."""

    async def test() -> None:
        a, b, c = await suspended(), other(), other(seed=3)
        with pytest.raises(OSError, match="cut"):
            await hand_over(a.runtime, "a", Wire(b.runtime, cut=5))
        record = await a.runtime.get_execution("a")
        assert record.moved_to is not None
        assert record.moved_to.endswith("not confirmed yet")
        with pytest.raises(ConflictError, match="handed over to wire"):
            await hand_over(a.runtime, "a", c.runtime)
        with pytest.raises(ConflictError, match="delete it once that is confirmed"):
            await a.runtime.delete("a")
        letter = await Local(a.runtime).freeze("a", "wire", await Local(b.runtime).identity())
        with pytest.raises(InvalidInput, match="another store"):
            await Local(c.runtime).take_over(letter)
        await hand_over(a.runtime, "a", b.runtime)
        with pytest.raises(InvalidInput, match="same store"):
            await hand_over(b.runtime, "a", b.runtime)
        await a.runtime.delete("a")
        await closed(a, b, c)

    drive(test)


def test_a_late_repeat_of_a_hand_over_starts_nothing() -> None:
    """The letter and the bundle again: after the run went home, and after it was deleted."""

    async def test() -> None:
        a, b = await suspended(), other()
        bundle = await a.runtime.export("a", handoff=True)
        await b.runtime.import_(bundle, "take_over")
        await hand_over(b.runtime, "a", a.runtime)
        await hand_over(a.runtime, "a", b.runtime)
        letter = await Local(a.runtime).freeze("a", "x", await Local(b.runtime).identity())
        with pytest.raises(ConflictError, match="handed over to simulated"):
            await a.runtime.export("a", handoff=True)  # a bundle that is taken over would make two of it
        await hand_over(b.runtime, "a", a.runtime)
        assert (await Local(b.runtime).take_over(letter)).moved_to is not None
        await b.runtime.import_(bundle, "take_over")
        assert (await b.runtime.get_execution("a")).moved_to is not None
        await b.runtime.delete("a")
        assert (await Local(b.runtime).take_over(letter)).status == "deleted"
        await b.runtime.import_(bundle, "take_over")
        with pytest.raises(NotFound):
            await b.runtime.get_execution("a")
        await closed(a, b)

    drive(test)


def test_a_copy_that_was_exported_is_not_taken_over() -> None:
    """Its source may go on, so taking it over would make two; and a copied hand-over can be taken over later."""

    async def test() -> None:
        a, b = await suspended(), other()
        with pytest.raises(InvalidInput, match="is a copy"):
            await b.runtime.import_(await a.runtime.export("a"), "take_over")
        bundle = await a.runtime.export("a", handoff=True)
        await b.runtime.import_(bundle)
        assert (await b.runtime.get_execution("a")).status == "paused"
        await b.runtime.import_(bundle, "take_over")
        assert (await b.runtime.get_execution("a")).status == "suspended"
        await closed(a, b)

    drive(test)


def test_a_family_is_not_torn_apart() -> None:
    """A parent that waits for a child here, and that child, stay; when the child has ended, the parent may go."""

    async def test() -> None:
        a, b = other(1), other(2)
        run = await a.runtime.start("parent", 7, id="p")
        await run.settle()
        for id in ("p", "c"):
            with pytest.raises(ConflictError, match="one waits for the other"):
                await hand_over(a.runtime, id, b.runtime)
        await a.runtime.signal("c", "child")
        assert await run.result() == 7
        await closed(a, b)

    drive(test)


def test_a_long_history_goes_in_parts_and_an_interruption_repeats_at_most_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of bounded size; after a cut only what did not arrive is sent again; in a store with small batches too."""
    monkeypatch.setattr(handing, "PART_BYTES", 600)
    small = Capabilities("small", durability="volatile", segment_commits=3, max_value=4096, max_batch_bytes=8192,
                         max_batch_keys=40, inline_limit=1024)  # fmt: skip

    @workflow
    async def many(ctx: Context, n: int) -> int:
        for k in range(n):
            await ctx.step("work", work, k)
        await ctx.wait_for_signal("go")
        return n

    async def test(target: Capabilities) -> None:
        a, b = Process(many), Process(many, host=SimulatedHost(seed=2, capabilities=target))
        await (await a.runtime.start("many", 100, id="m")).settle()
        whole = await sync(a.runtime, Process(many, host=SimulatedHost(seed=3)).runtime, "m")
        assert whole.parts > 5
        first = Wire(b.runtime, cut=5, after=True)
        with pytest.raises(OSError, match="cut"):
            await sync(a.runtime, first, "m")
        rest = Wire(b.runtime)
        await sync(a.runtime, rest, "m")
        assert first.sent + rest.sent == whole.sent
        assert await b.runtime.history("m") == await a.runtime.history("m")
        await hand_over(a.runtime, "m", b.runtime)
        await b.runtime.signal("m", "go")
        assert await b.runtime.result("m", None) == 100
        await closed(a, b)

    for target in (small, Capabilities("keys", durability="volatile", segment_commits=0)):
        drive(lambda target=target: test(target))  # type: ignore[misc]  # bound now


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("grows", ["commits", "generations"])
def test_a_sync_ends_though_the_run_goes_on_faster_than_it_is_sent(
    grows: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was there when it began arrives, in no more parts than it takes; a later one brings the rest."""
    draw = random.Random(seed)
    monkeypatch.setattr(handing, "PART_BYTES", draw.randrange(100, 2_000))

    @workflow
    async def endless(ctx: Context, n: int) -> None:
        for k in range(n):
            await ctx.step("work", work, k)
        while True:
            await ctx.wait_for_signal("go")
            for k in range(n):
                await ctx.step("work", work, k)
            if grows == "generations":
                ctx.continue_as_new(n)

    async def on(source: Process) -> None:
        with contextlib.suppress(ConflictError):  # it is frozen: it goes on no more
            await source.runtime.signal("e", "go")
        await source.runtime.settle("e")

    class Growing(Wire):
        """A source whose run goes on before each part is read."""

        parts = 0

        async def part(self, id: str, at: Place | None) -> bytes:
            self.parts += 1
            assert self.parts <= most, "what comes meanwhile is sent for ever"
            await on(a)
            return await self.local.part(id, at)

    a, b = Process(endless), Process(endless, host=SimulatedHost(seed=2))

    async def test() -> None:
        nonlocal most
        await (await a.runtime.start("endless", draw.randrange(2, 40), id="e")).settle()
        there = await Local(a.runtime).place("e")
        assert there is not None
        most = there.length + 1
        first = await sync(Growing(a.runtime), b.runtime, "e")
        assert (first.place.generation, first.place.length) >= (there.generation, there.length)
        moved = Growing(a.runtime)
        last = await hand_over(moved, "e", b.runtime)
        assert last.moved_to is None
        assert (await a.runtime.get_execution("e")).moved_to is not None
        assert await b.runtime.history("e") == await a.runtime.history("e")
        await closed(a, b)

    most = 0
    drive(test)


def test_a_history_arrives_in_segments_as_long_as_the_store_seals_them() -> None:
    """Not one commit to a segment: a long run that was handed over is read in few calls from then on."""

    @workflow
    async def many(ctx: Context, n: int) -> None:
        for k in range(n):
            await ctx.step("work", work, k)
        await ctx.wait_for_signal("go")

    async def test() -> None:
        a, b = Process(many), Process(many, host=SimulatedHost(seed=2))
        await (await a.runtime.start("many", 100, id="m")).settle()
        await hand_over(a.runtime, "m", b.runtime)
        await b.runtime.settle("m")
        commits, each = (await b.runtime.get_execution("m")).cursor_length, b.host.capabilities.segment_commits
        assert len(await b.host.list("s/")) == commits // each + 1
        await closed(a, b)

    drive(test)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_hand_over_cut_at_any_call_is_repeated(after: bool) -> None:
    """Each call across the wire lost, or its answer: never two active, nothing lost, nothing done twice."""

    async def test(cut: int) -> int:
        a, b = await suspended(), other()
        await a.runtime.signal("a", "go", "yes", dedupe="g")
        wire = Wire(b.runtime, cut, after)
        try:
            await hand_over(a.runtime, "a", wire)
        except OSError:
            one, two = await a.runtime.get_execution("a"), await b.runtime.store.find("a")
            active = [r.moved_to is None and r.status != "paused" for r in (one, two) if r is not None]
            assert sum(active) <= 1
            await hand_over(a.runtime, "a", b.runtime)
        assert (await a.runtime.get_execution("a")).moved_to is not None or wire.calls == 0
        assert await b.runtime.result("a", None) == DONE
        assert ran == [0, 1, 2, 3, 4, 5]
        await closed(a, b)
        return wire.calls

    calls = drive(lambda: test(-1))
    assert calls >= 6
    for cut in range(calls):
        drive(lambda cut=cut: test(cut))  # type: ignore[misc]  # bound now


@pytest.mark.parametrize("kind", FAULTS)
@pytest.mark.parametrize("side", ["source", "target"])
def test_a_fault_at_any_callback_of_either_store_loses_nothing(side: str, kind: str) -> None:
    """The process of one side dies, or an answer of its store is lost, at each call in turn; then it is repeated.

    At the end one store has the run, with each step done once, and every signal that was acknowledged is there.
    """

    async def test(call: int) -> bool:
        ran.clear()
        hosts = {"source": SimulatedHost(seed=1), "target": SimulatedHost(seed=2)}
        sides = {name: Process(flow, host=host) for name, host in hosts.items()}
        await (await sides["source"].runtime.start("flow", 10, id="a")).settle()
        await sides["source"].runtime.signal("a", "more", "kept", dedupe="k")
        await sides["source"].runtime.settle("a")
        host = hosts[side]
        host.calls = 0
        hit = False

        def fault(n: int, verb: str) -> Any:
            nonlocal hit
            if n != call or (verb != "commit" and kind != "crash"):
                return None
            hit = True
            return kind

        host.fault = fault
        for _ in range(4):
            try:
                await hand_over(sides["source"].runtime, "a", sides["target"].runtime)
                break
            except (SimulatedCrash, StoreError, ConflictError):
                host.fault = None
                if host.dead:
                    await sides[side].crash()
        else:
            raise AssertionError("four attempts")
        last = host.calls >= call or hit
        host.fault = None
        if host.dead:  # behind the hand-over, while the run went on at the target
            await sides[side].crash()
        source, target = sides["source"].runtime, sides["target"].runtime
        assert (await source.get_execution("a")).moved_to is not None
        await source.recover()
        await source.run_due()
        await target.recover()
        await target.signal("a", "go", "yes")
        assert await target.result("a", None) == [DONE[0], 10, "yes", "kept"]
        assert ran == [0, 1, 2, 3, 4, 5]
        await closed(*sides.values())
        return last

    for call in itertools.count(1):
        if not drive(lambda call=call: test(call)):  # type: ignore[misc]  # bound now
            assert call > 10
            break


def test_two_hand_overs_at_once_activate_one() -> None:
    """Two callers hand the same run to two stores: one of them has it, the other one is told."""
    import asyncio

    async def test(first: int) -> None:
        a, b, c = await suspended(), other(), other(seed=3)
        order = [b, c] if first else [c, b]
        found = await asyncio.gather(*(hand_over(a.runtime, "a", p.runtime) for p in order), return_exceptions=True)
        assert sum(isinstance(one, ConflictError) for one in found) == 1
        active = [r for p in (b, c) if (r := await p.runtime.store.find("a")) is not None and r.status != "paused"]
        assert len(active) == 1
        await closed(a, b, c)

    for first in (0, 1):
        drive(lambda first=first: test(first))  # type: ignore[misc]  # bound now


def test_the_same_import_twice_at_once_harms_no_run_that_goes_on() -> None:
    """A client that lost its patience sends a bundle again while the first is under way."""
    import asyncio

    async def test() -> None:
        a, b = await suspended(), other()
        bundle = await a.runtime.export("a", handoff=True)
        found = await asyncio.gather(
            *(b.runtime.import_(bundle, "take_over") for _ in range(3)), return_exceptions=True
        )
        assert all(not isinstance(one, BaseException) or isinstance(one, ConflictError) for one in found)
        await b.runtime.import_(bundle, "take_over")
        await b.runtime.signal("a", "go", "yes")
        assert await b.runtime.result("a", None) == DONE
        assert ran == [0, 1, 2, 3, 4, 5]
        await closed(a, b)

    drive(test)


def test_what_a_run_was_asked_before_it_left_as_a_file_resumes_no_copy() -> None:
    """The requests went with the file and were met there: a copy that is brought up to date has none of them."""

    async def test() -> None:
        a, b = await suspended(), other()
        quiet = Runtime(a.host)
        await quiet.pause("a")
        await quiet.resume("a")  # nobody has read either of them yet
        await b.runtime.import_(await quiet.export("a", handoff=True), "take_over")
        await b.runtime.signal("a", "other", 1)
        await b.runtime.settle("a")
        await sync(b.runtime, quiet, "a")
        copy = await quiet.get_execution("a")
        assert (copy.status, copy.moved_to) == ("paused", None)
        await a.runtime.run_due()
        await a.runtime.settle("a")
        assert (await quiet.get_execution("a")).cursor_length == copy.cursor_length
        await hand_over(b.runtime, "a", a.runtime)
        await a.runtime.signal("a", "go", "yes")
        assert await a.runtime.result("a", None) == DONE
        await closed(a, b)

    drive(test)


def test_many_unread_requests_go_along() -> None:
    """More than a batch takes: they go ahead of the activation, which still happens once."""

    async def test() -> None:
        a, b = await suspended(), other()
        quiet = Runtime(a.host)
        for n in range(150):
            await quiet.signal("a", "other", n)
        await quiet.signal("a", "go", "yes")
        await hand_over(quiet, "a", b.runtime)
        assert await b.runtime.result("a", None) == DONE
        assert kinds(await b.runtime.history("a")).count("SignalReceived") == 151
        await closed(a, b)

    drive(test)


def test_a_history_that_is_sealed_while_it_is_read_is_read_whole() -> None:
    """Commits become a segment between the two listings of a reader: it finds them twice, and never misses them."""

    @workflow
    async def many(ctx: Context, n: int) -> int:
        for k in range(n):
            await ctx.step("work", work, k)
        return n

    async def test() -> None:
        a = Process(many)
        await (await a.runtime.start("many", 5, id="m")).settle()
        store, name = a.host.store, (await a.runtime.get_execution("m")).run
        whole = await a.runtime.history("m")
        commits = [(key, store.entries[key]) for key in store.keys if key.startswith("h/")]
        lists = 0

        def seal(number: int, verb: str, arguments: Any) -> None:
            nonlocal lists
            lists += verb == "list"
            if verb == "list" and lists == 2:
                for key, _ in commits:
                    del store.entries[key]
                sealed = b"".join(entry.value for _, entry in commits)
                store.entries[f"s/{name}/a0"] = commits[0][1]._replace(key=f"s/{name}/a0", value=sealed)
                store.keys = sorted(store.entries)

        a.host.on_call = seal
        assert await a.runtime.history("m") == whole
        assert lists >= 2
        await closed(a)

    drive(test)


def test_a_signal_is_never_acknowledged_into_a_run_that_left() -> None:
    """A signal that races the freeze is in the letter, or is refused."""
    import asyncio

    async def test(turns: int) -> None:
        a, b = await suspended(), other()

        async def late() -> bool:
            for _ in range(turns):
                await asyncio.sleep(0)
            try:
                await a.runtime.signal("a", "go", "yes")
            except ConflictError:
                return False
            return True

        sent, _ = await asyncio.gather(late(), hand_over(a.runtime, "a", b.runtime))
        if not sent:
            await b.runtime.signal("a", "go", "yes")
        assert await b.runtime.result("a", 10) == DONE
        await closed(a, b)

    for turns in range(0, 120, 3):
        drive(lambda turns=turns: test(turns))  # type: ignore[misc]  # bound now


@pytest.mark.parametrize("kind", FAULTS)
def test_a_fault_at_any_callback_of_an_import_is_repeated(kind: str) -> None:
    """The bundle of a hand-over, with a large value: the process dies, or an answer is lost, at each call in turn."""
    small = Capabilities("small", durability="volatile", segment_commits=3, max_value=4096, max_batch_bytes=8192,
                         max_batch_keys=40, inline_limit=1024)  # fmt: skip

    async def test(call: int) -> bool:
        a, b = await suspended(size=20_000, capabilities=small), other(capabilities=small)
        await Runtime(a.host).signal("a", "more", "kept", dedupe="k")
        bundle = await a.runtime.export("a", handoff=True)
        host, hit = b.host, False

        def fault(n: int, verb: str) -> Any:
            nonlocal hit
            if n != call or (verb != "commit" and kind != "crash"):
                return None
            hit = True
            return kind

        host.fault = fault
        for _ in range(3):
            try:
                await b.runtime.import_(bundle, "take_over")
                break
            except (SimulatedCrash, StoreError, ConflictError):
                host.fault = None
                record = None if host.dead else await b.runtime.store.find("a")
                assert record is None or record.moved_to is not None  # not begun by half
                if host.dead:
                    await b.crash()
        else:
            raise AssertionError("three attempts")
        reached = hit or host.calls >= call
        host.fault = None
        await b.runtime.signal("a", "go", "yes")
        assert await b.runtime.result("a", None) == [DONE[0], 20_000, "yes", "kept"]
        assert ran == [0, 1, 2, 3, 4, 5]
        await closed(a, b)
        return reached

    for call in itertools.count(1):
        if not drive(lambda call=call: test(call)):  # type: ignore[misc]  # bound now
            assert call > 8
            break


def test_a_commit_that_a_store_can_not_hold_is_refused_before_the_run_is_frozen() -> None:
    """A large value that is inline at its source and above the target's limit: an import writes nothing."""
    small = Capabilities("small", durability="volatile", max_value=4096, inline_limit=1024)

    async def test() -> None:
        a, b = await suspended(size=20_000), other(capabilities=small)
        with pytest.raises(InvalidInput, match="max_value=4096"):
            await b.runtime.import_(await a.runtime.export("a"))
        assert b.host.store.entries == {}
        with pytest.raises(InvalidInput, match="max_value=4096"):
            await hand_over(a.runtime, "a", b.runtime)
        assert (await a.runtime.get_execution("a")).moved_to is None
        assert (await b.runtime.get_execution("a")).status == "paused"  # a copy, as far as it could come
        await closed(a, b)

    drive(test)


@pytest.mark.parametrize("cut", range(1, 12))
def test_a_signal_to_a_copy_waits_for_a_hand_over_that_was_cut(cut: int) -> None:
    """The source says to send it there; there it is accepted, parts nothing, and is read once the run has arrived."""

    async def test() -> None:
        a, b = await suspended(), other()
        with contextlib.suppress(OSError):
            await hand_over(a.runtime, "a", Wire(b.runtime, cut=cut, after=cut % 2 == 0))
        for side in (a, b):  # one of them takes it, or both: it has one dedupe key
            with contextlib.suppress(ConflictError, NotFound):
                await side.runtime.signal("a", "go", "yes", dedupe="1")
        await b.runtime.recover()
        await b.runtime.run_due()
        await hand_over(a.runtime, "a", b.runtime)
        assert await b.runtime.result("a", None) == DONE
        assert kinds(await b.runtime.history("a")).count("SignalReceived") == 1
        await closed(a, b)

    drive(test)


def test_requests_of_a_copy_keep_their_order_behind_those_that_the_run_brings() -> None:
    """Both inboxes number from one; a request whose dedupe key the run has met is dropped, and none is lost."""

    async def test() -> None:
        a, b = await suspended(), other()
        await sync(a.runtime, b.runtime, "a")
        quiet = Runtime(a.host)  # sends, and runs nothing
        for n in range(3):
            await quiet.signal("a", "later", f"source {n}", dedupe=f"{n}")
        for n in range(5):
            await b.runtime.signal("a", "later", f"copy {n}", dedupe=f"{n + 1}")
        await hand_over(a.runtime, "a", b.runtime)
        await b.runtime.settle("a")
        events = [r.event for r in await b.runtime.history("a")]
        got = [event.payload for event in events if type(event).__name__ == "SignalReceived"]
        assert got == ["source 0", "source 1", "source 2", "copy 2", "copy 3", "copy 4"]
        await closed(a, b)

    drive(test)


def test_a_run_comes_back_while_it_is_running() -> None:
    """What it commits between the first sync and the freeze takes nothing from the way back."""

    async def test() -> None:
        a, b = await suspended(), other()
        await hand_over(a.runtime, "a", b.runtime)
        await (await b.runtime.resume("a")).settle()
        for there, here in ((b, a), (a, b), (b, a)):
            await there.runtime.signal("a", "later", 1)  # it commits while the move is under way
            assert (await hand_over(there.runtime, "a", here.runtime)).moved_to is None
        await a.runtime.signal("a", "go", "yes")
        assert await a.runtime.result("a", None) == DONE
        await closed(a, b)

    drive(test)


def test_a_copy_is_not_handed_over() -> None:
    """The run goes on elsewhere, so taking its copy over would make two: refused, with the store to ask."""

    async def test() -> None:
        a, b, c = await suspended(), other(), other(seed=3)
        await sync(a.runtime, b.runtime, "a")
        with pytest.raises(ConflictError, match="is a copy here"):
            await hand_over(b.runtime, "a", c.runtime)
        with pytest.raises(ConflictError, match="is a copy here"):
            await b.runtime.export("a", handoff=True)
        await hand_over(a.runtime, "a", b.runtime)
        await hand_over(b.runtime, "a", c.runtime)
        await closed(a, b, c)

    drive(test)


def test_a_run_is_not_handed_to_a_runtime_that_cannot_run_it() -> None:
    """Refused before anything is written, with what is registered there; a runtime that runs nothing may keep it."""

    async def test() -> None:
        a, b, archive = (
            await suspended(),
            Process(parent, host=SimulatedHost(seed=2)),
            Process(host=SimulatedHost(seed=3)),
        )
        with pytest.raises(ConflictError, match=r"'flow' version 1 is not among its workflows \(parent version 1\)"):
            await hand_over(a.runtime, "a", b.runtime)
        assert (await a.runtime.get_execution("a")).moved_to is None
        await sync(a.runtime, b.runtime, "a")
        await hand_over(a.runtime, "a", archive.runtime)
        assert (await archive.runtime.get_execution("a")).status == "suspended"
        await closed(a, b, archive)

    drive(test)


def test_a_run_that_was_deleted_at_its_new_place_is_not_sent_again() -> None:
    """A hand-over that is repeated late notes that it had arrived, and leaves no copy behind."""

    async def test() -> None:
        a, b = await suspended(), other()
        with pytest.raises(OSError, match="cut"):
            await hand_over(a.runtime, "a", Wire(b.runtime, cut=5, after=True))
        await b.runtime.cancel("a")
        await b.runtime.settle("a")
        await b.runtime.delete("a")
        assert (await hand_over(a.runtime, "a", b.runtime)).status == "deleted"
        assert await b.runtime.store.find("a") is None
        assert (await a.runtime.get_execution("a")).moved_to.endswith("]")
        await a.runtime.delete("a")
        await closed(a, b)

    drive(test)


def test_each_message_of_a_limbo_names_the_verb_that_ends_it() -> None:
    """On its way to a store, in a file, handed over: every verb at the source says where it is and what to call."""

    async def test() -> None:
        a, b = await suspended(), other()
        with pytest.raises(OSError, match="cut"):
            await hand_over(a.runtime, "a", Wire(b.runtime, cut=5))
        for verb in (
            a.runtime.resume,
            a.runtime.cancel,
            a.runtime.pause,
            partial(a.runtime.export, handoff=True),
        ):
            with pytest.raises(ConflictError, match=r"wire \[.*call hand_over to that store again"):
                await verb("a")
        await hand_over(a.runtime, "a", b.runtime)
        for verb in (a.runtime.resume, a.runtime.cancel, a.runtime.pause):
            with pytest.raises(ConflictError, match=r"handed over to wire \[\w+\]: "):
                await verb("a")
        await b.runtime.export("a", handoff=True)
        for verb in (b.runtime.resume, b.runtime.cancel, b.runtime.pause):
            with pytest.raises(ConflictError, match=r'a bundle: .*mode="take_over"'):
                await verb("a")
        await closed(a, b)

    drive(test)


def test_what_is_no_side_of_a_move_is_refused_by_name() -> None:
    """Arguments in another order, say: ``hand_over`` takes the id second, and ``sync`` last."""

    async def test() -> None:
        async with Runtime(SimulatedHost()) as one, Runtime(SimulatedHost()) as two:
            for moved in (sync(one, "a", two), hand_over(one, two, "a")):  # type: ignore[arg-type]
                with pytest.raises(InvalidInput, match="not a str"):
                    await moved

    drive(test)
