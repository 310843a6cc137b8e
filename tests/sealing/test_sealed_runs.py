"""Whole runs behind the seal: crashes, lost answers, signals, large values, and moves to stores sealed otherwise."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from alkaline_edge import Context, Run, Runtime, StoreError, hand_over, migrate, sync, workflow
from alkaline_edge.errors import UnknownOutcome, UnreadableValue
from alkaline_edge.host import Host
from alkaline_edge.runtime.handing import Local
from alkaline_edge.sealing import Keyring, SealedHost
from alkaline_edge.testing import SimulatedCrash, SimulatedHost
from alkaline_edge.testing.simulated import Fault, FaultKind
from alkaline_hosts.file import FileHost
from alkaline_hosts.memory import MemoryHost
from tests.sealing.support import KEYS, ONLY_OLD, TENANT, cipher, sealed
from tests.support import drive, kinds

ran: list[str] = []


async def work(name: str) -> str:
    ran.append(name)
    return f"the result of {name}"


@workflow
async def small(ctx: Context, name: str) -> Any:
    return await ctx.step("work", work, f"child {name}")


@workflow
async def flow(ctx: Context, size: int) -> Any:
    first = [await ctx.step("work", work, f"step {n}") for n in range(3)]
    large = await ctx.step("large", lambda: "x" * size)
    child = await ctx.child(small, "one")
    await ctx.sleep(0.01)
    decision = await ctx.wait_for_signal("go")
    both = await ctx.all(ctx.step("work", work, "left"), ctx.step("work", work, "right"))
    return [*first, len(large), child, decision, *both, ctx.random() < 1]


SIZE = 200_000
RESULT = [
    *(f"the result of step {n}" for n in range(3)), SIZE, "the result of child one", {"by": "ada lovelace"},
    "the result of left", "the result of right", True,
]  # fmt: skip
WORKFLOWS = [flow, small]


async def waiting(runtime: Runtime) -> Run:
    """A run that has done half of its work and waits for its signal."""
    run = await runtime.start(flow, SIZE, id="exe_1")
    while not any(kind == "TimerFired" for kind in kinds(await runtime.history("exe_1"))):
        await runtime.host.sleep(0.005)
        await runtime.run_due()
        await run.settle()
    return run


async def finish(runtime: Runtime) -> Any:
    """Send the signal, and give the result."""
    await runtime.signal("exe_1", "go", {"by": "ada lovelace"}, dedupe="k")
    return await Run(runtime, "exe_1").result(timeout=10)


def test_a_run_in_a_file_comes_to_its_result_and_nothing_of_it_is_readable(tmp_path: Path) -> None:
    """Steps, a child, a timer, a signal, a large value. The next process reads the same, the file tells keys only."""

    async def test() -> None:
        ran.clear()
        path = tmp_path / "store.alkaline"
        host = sealed(FileHost(path, fsync=False))
        async with Runtime(host, workflows=WORKFLOWS) as runtime:
            await waiting(runtime)
            assert await finish(runtime) == RESULT
            history = await runtime.history("exe_1")
        await host.close()
        assert len(ran) == 6
        content = path.read_bytes()
        assert not re.search(rb"the result of|child one|ada lovelace|xxxxxxxx", content)
        assert b"/completed/flow/exe_1" in content, "keys are in clear, and this test would see what is"
        again = sealed(FileHost(path, read_only=True))
        async with Runtime(again, workflows=WORKFLOWS) as runtime:
            assert (await runtime.get_execution("exe_1")).result == RESULT
            assert await runtime.history("exe_1") == history
            assert [record.id for record in (await runtime.list_executions(workflow="flow")).items] == ["exe_1"]
        await again.close()

    drive(test)


@pytest.mark.parametrize(
    ("keys", "tenant", "reason", "says"),
    [
        (None, "", "sealed", r"this store is sealed, .*SealedHost; to the command alkaline give --keys"),
        (ONLY_OLD, TENANT, "unknown key", "'r/exe_1' is sealed with the key 'new', and the keyring holds old"),
        (KEYS, "another", "not authentic", "'r/exe_1' does not open with the key 'new' here"),
    ],
    ids=["no keys", "another keyring", "another tenant"],
)
def test_a_store_that_is_sealed_is_of_no_use_without_its_keys(
    keys: Keyring | None, tenant: str, reason: str, says: str
) -> None:
    """A runtime beside the seal, and one with another keyring, do nothing, write nothing, and say why at once.

    What does not open will not open later: nothing waits for the store to answer.
    """

    async def test() -> None:
        host = SimulatedHost()
        async with Runtime(sealed(host), workflows=WORKFLOWS) as runtime:
            await waiting(runtime)
        kept, at = dict(host.store.entries), host.now_ms()
        stranger = Runtime(host if keys is None else sealed(host, keys, tenant), workflows=WORKFLOWS)
        for asked in (
            lambda: stranger.get_execution("exe_1"),
            lambda: stranger.export("exe_1"),
            lambda: stranger.history("exe_1"),
            lambda: stranger.list_executions(),
            lambda: stranger.signal("exe_1", "go", None),
            lambda: stranger.start(flow, 1, id="exe_1"),
        ):
            with pytest.raises(UnreadableValue, match=says) as refused:
                await asked()
            assert (refused.value.code, refused.value.detail["reason"]) == ("ERR_STORE", reason)
        assert host.now_ms() - at < 100, "it waited for a store that had answered"
        assert host.store.entries == kept

    drive(test)


def test_after_a_lost_answer_a_value_that_does_not_open_leaves_the_commit_unknown_at_once() -> None:
    """Somebody may have written over what landed: it is not called refused, and nothing waits."""

    async def test() -> None:
        host = SimulatedHost()
        async with Runtime(sealed(host), workflows=WORKFLOWS) as runtime:
            await waiting(runtime)
        other = host.reopen(fault=lambda n, verb: "error-before" if verb == "commit" else None)
        at = other.now_ms()
        with pytest.raises(UnknownOutcome, match=r"answer to a commit was lost, .* keyring holds old") as refused:
            await Runtime(sealed(other, ONLY_OLD), workflows=WORKFLOWS).start(flow, 1, id="exe_1")
        assert refused.value.detail["reason"] == "unknown key"
        assert other.now_ms() - at < 100

    drive(test)


def test_a_store_that_is_away_is_still_asked_again_behind_the_seal() -> None:
    """Its StoreError says that it did not answer a read: it is asked until it does, and what landed is found."""

    async def test() -> None:
        inner = SimulatedHost(fault=lambda n, verb: "applied-then-error" if verb == "commit" and n == 1 else None)
        refusals = 0

        class Away(SealedHost):
            async def get(self, keys: Any) -> Any:
                nonlocal refusals
                if inner.calls and refusals < 3:
                    refusals += 1
                    raise StoreError("the store did not answer a read")
                return await super().get(keys)

        host = Away(inner, keys=KEYS, tenant=TENANT, cipher=cipher())
        at = inner.now_ms()
        async with Runtime(host, workflows=WORKFLOWS) as runtime:
            await (await runtime.start(small, "one", id="exe_1")).result(timeout=10)
        assert (refusals, inner.now_ms() - at > 300) == (3, True)

    drive(test)


@pytest.mark.parametrize(
    "kind", ["crash", "crash-after", "applied-then-error", "error-before", "applied-then-conflict"]
)
def test_a_fault_anywhere_loses_nothing_behind_the_seal(kind: FaultKind) -> None:
    """A fault at every callback of a sealed store, one at a time: the next process brings the run to its result.

    A step that was recorded never runs again.
    """

    def fault(call: int) -> Callable[[int, str], Fault]:
        return lambda n, verb: kind if n == call and (verb == "commit" or "crash" in kind) else None

    async def attempt(call: int) -> int:
        inner = SimulatedHost(fault=fault(call))
        ran.clear()
        try:
            async with Runtime(sealed(inner), workflows=WORKFLOWS) as runtime:
                await waiting(runtime)
                assert await finish(runtime) == RESULT
        except (SimulatedCrash, StoreError):
            inner.dead = True
        calls = inner.calls
        inner = inner.reopen()
        inner.advance(60)
        async with Runtime(sealed(inner), workflows=WORKFLOWS) as runtime:
            if await runtime.store.find("exe_1") is None:
                await runtime.start(flow, SIZE, id="exe_1")
            await runtime.recover()
            record = await runtime.get_execution("exe_1")
            assert (record.result if record.finished else await finish(runtime)) == RESULT
        assert sorted({*ran}) == sorted({f"step {n}" for n in range(3)} | {"child one", "left", "right"})
        assert len(ran) <= 8, "what was in flight may run twice: one step, or the pair"
        assert all(entry.value.startswith(b"\xc1ae\x01") for entry in inner.store.entries.values())
        return calls

    async def test() -> None:
        last = await attempt(0)
        for call in range(1, last + 1):
            await attempt(call)

    drive(test)


def host_of(kind: str) -> Host:
    """A store, sealed with one keyring or another or not at all."""
    if kind == "plain":
        return MemoryHost()
    return sealed(MemoryHost(), ONLY_OLD, "another") if kind == "other" else sealed(MemoryHost(), KEYS)


@pytest.mark.parametrize(
    "way", [("sealed", "plain", "sealed"), ("plain", "sealed", "other"), ("sealed", "other", "plain")]
)
def test_a_run_moves_between_stores_that_are_sealed_and_stores_that_are_not(way: tuple[str, ...]) -> None:
    """Handed over twice: what moves is the plain history, so its digests are the same in every store."""

    async def test() -> None:
        ran.clear()
        first, second, third = (Runtime(host_of(kind), workflows=WORKFLOWS) for kind in way)
        await waiting(first)
        before = await Local(first).digests("exe_1", 0)
        place = await hand_over(first, "exe_1", second)
        assert (await Local(second).digests("exe_1", 0))[: len(before)] == before
        assert place.head
        await hand_over(second, "exe_1", third)
        assert (await Local(third).digests("exe_1", 0))[: len(before)] == before
        assert await finish(third) == RESULT
        whole = await Local(third).digests("exe_1", 0)
        await sync(third, first, "exe_1")
        assert await Local(first).digests("exe_1", 0) == whole
        bundles = [(await runtime.export("exe_1")) for runtime in (first, third)]
        assert all(b"the result of left" in bundle for bundle in bundles), "an export is plain"
        assert len(ran) == 6
        for runtime in (first, second, third):
            await runtime.close()

    drive(test)


def test_a_runtime_goes_on_upon_a_sealed_store() -> None:
    """``migrate`` and ``swap_host`` seal a whole store while they copy it, and open it on the way back."""

    async def test() -> None:
        ran.clear()
        plain, target, back = MemoryHost(), MemoryHost(), MemoryHost()
        runtime = Runtime(plain, workflows=WORKFLOWS)
        await waiting(runtime)
        await runtime.swap_host(sealed(target))
        assert await finish(runtime) == RESULT
        await runtime.close()
        assert all(entry.value.startswith(b"\xc1ae\x01") for entry in target.store.entries.values())
        await migrate(sealed(target), back)
        async with Runtime(back, workflows=WORKFLOWS) as other:
            assert (await other.get_execution("exe_1")).result == RESULT
        assert len(ran) == 6

    drive(test)


def test_a_sync_step_runs_in_a_thread_and_a_watch_tells_of_others() -> None:
    """What a runtime finds on a host beyond the contract, it finds behind the seal: here the watch of a host."""

    async def test() -> None:
        told: list[Any] = []

        class Watched(MemoryHost):
            def watch(self, callback: Any) -> Any:
                told.append(callback)
                return told.clear

        host: SealedHost = sealed(Watched())
        async with Runtime(host, workflows=WORKFLOWS):
            assert len(told) == 1
        assert told == []

    drive(test)
