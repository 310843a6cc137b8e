"""What a Durable Object's host asks of JavaScript, counted: each call into it costs as much as a short statement.

The object's storage is SQLite itself behind what looks like the platform's; the real one is in tests/workers.
"""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from alkaline_edge import Context, Runtime, workflow
from alkaline_edge.host import Batch, Check, Committed, Conflict, Put
from alkaline_hosts import durable_object
from alkaline_hosts.durable_object import DurableObjectHost


class Rows(list[Any]):
    """A cursor's rows, each way that the host asks for them."""

    def raw(self) -> Rows:
        return self

    def toArray(self) -> Rows:
        return self

    def to_py(self) -> Rows:
        return self


class Exec:
    """``storage.sql.exec``: keeps each call, and how often it was bound."""

    def __init__(self) -> None:
        self.database = sqlite3.connect(":memory:", isolation_level=None)
        self.calls: list[tuple[Any, ...]] = []
        self.bound = 0

    def __call__(self, *given: Any) -> Rows:
        self.calls.append(given)
        return self._run(*given)

    def _run(self, sql: str, *parameters: Any) -> Rows:
        return Rows(self.database.execute(sql, parameters).fetchall())

    def bind(self, this: Any, *known: Any) -> Callable[..., Rows]:
        self.bound += 1

        def bound(*given: Any) -> Rows:
            self.calls.append(given)
            return self._run(*known, *given)

        return bound


class Storage:
    """The state's ``storage``."""

    def __init__(self) -> None:
        self.exec = Exec()
        self.sql = SimpleNamespace(exec=self.exec)
        self.transactions = 0

    def transactionSync(self, body: Callable[[], None]) -> None:
        self.transactions += 1
        self.exec.database.execute("BEGIN")
        try:
            body()
        except BaseException:
            self.exec.database.execute("ROLLBACK")
            raise
        self.exec.database.execute("COMMIT")


class Platform:
    """A host on such a storage, and how often it let other requests have their turn."""

    def __init__(self) -> None:
        self.storage = Storage()
        self.turns = 0
        state = SimpleNamespace(blockConcurrencyWhile=True, storage=self.storage)
        self.host = DurableObjectHost(state, alarm=False)

    @property
    def calls(self) -> list[tuple[Any, ...]]:
        return self.storage.exec.calls

    async def wait(self, _: float) -> None:
        self.turns += 1
        await asyncio.sleep(0)


@pytest.fixture
def platform(monkeypatch: pytest.MonkeyPatch) -> Platform:
    """The modules that Pyodide has, and a host."""
    ffi, js = ModuleType("pyodide.ffi"), ModuleType("js")
    ffi.__dict__.update(to_js=bytes, create_once_callable=lambda body: body)
    for name, module in {"pyodide": ModuleType("pyodide"), "pyodide.ffi": ffi, "js": js}.items():
        monkeypatch.setitem(sys.modules, name, module)
    made = Platform()
    js.__dict__["scheduler"] = SimpleNamespace(wait=made.wait)
    return made


def step(number: int, version: str, key: str | None = None) -> Batch:
    """A step's commit as the kernel makes it."""
    key = key or f"h/{number:06d}"
    return Batch(f"{number:016x}", (Check("r/a", version), Check(key, None)), (Put(key, b"x"),))


def test_a_step_is_one_call_of_three_values(platform: Platform) -> None:
    """Its text and its fence are bound before the first; each other gives its id, key and value, and binds nothing."""
    host, exec = platform.host, platform.storage.exec
    assert host.commit_now(Batch("0" * 16, (), (Put("r/a", b""),))) == Committed("0" * 16)
    assert isinstance(host.commit_now(step(1, "0" * 16)), Committed)
    bound, exec.calls[:] = exec.bound, []
    for number in range(2, 50):
        assert isinstance(host.commit_now(step(number, "0" * 16)), Committed)
    assert [len(call) for call in exec.calls] == [3] * 48
    assert exec.bound == bound
    assert platform.storage.transactions == 0


def test_what_is_bound_is_of_that_version_alone(platform: Platform) -> None:
    """A step behind another version of the record is checked against that one, and the old fence still refuses."""
    host = platform.host
    host.commit_now(Batch("0" * 16, (), (Put("r/a", b""),)))
    assert isinstance(host.commit_now(step(1, "0" * 16)), Committed)
    host.commit_now(Batch("f" * 16, (), (Put("r/a", b"new"),)))
    assert host.commit_now(step(2, "0" * 16)) == Conflict(("r/a",))
    assert isinstance(host.commit_now(step(2, "f" * 16)), Committed)
    assert host.commit_now(step(3, "f" * 16, key="h/000002")) == Conflict(("h/000002",))


def test_what_is_bound_is_not_kept_for_ever(platform: Platform) -> None:
    """A thousand activations, each behind another version of its record, keep a bounded number of functions."""
    host, version = platform.host, "0" * 16
    host.commit_now(Batch(version, (), (Put("r/a", b""),)))
    for number in range(1, 1000):
        asyncio.run(host.commit(step(number, version)))
        version = f"{number:015x}f"
        asyncio.run(host.commit(Batch(version, (), (Put("r/a", b""),))))
    assert len(host._prepared) <= 64


def test_others_have_their_turn(platform: Platform) -> None:
    """``commit_now`` refuses as often as a turn is due, and ``commit`` takes it: so do all commits together."""
    host, every = platform.host, durable_object._TURN_COMMITS
    refused = 0
    for number in range(3 * every):
        batch = Batch(f"{number:016x}", (), (Put(f"k/{number}", b""),))
        if host.commit_now(batch) is None:
            refused += 1
            assert isinstance(asyncio.run(host.commit(batch)), Committed)
    assert refused == platform.turns == 3


@workflow(name="many", version=1)
async def many(ctx: Context, steps: int) -> int:
    """So many steps, one after the other."""
    return sum([await ctx.step("add", int, n) for n in range(steps)])


async def calls_of(platform: Platform, count: int) -> int:
    """The calls into JavaScript of a run of so many steps."""
    before = len(platform.calls) + platform.storage.exec.bound + platform.storage.transactions
    async with Runtime(platform.host, workflows=[many]) as runtime:
        assert await (await runtime.start("many", count)).result() == sum(range(count))
    return len(platform.calls) + platform.storage.exec.bound + platform.storage.transactions - before


def test_a_run_asks_once_a_step(platform: Platform) -> None:
    """From 1,000 steps to 2,000 there is a call more for each, and a few for every segment that is sealed."""
    asyncio.run(calls_of(platform, 10))
    few = asyncio.run(calls_of(platform, 1_000))
    many_more = asyncio.run(calls_of(platform, 2_000))
    assert 1.0 <= (many_more - few) / 1_000 <= 1.1
