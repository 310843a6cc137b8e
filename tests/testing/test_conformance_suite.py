"""The conformance suite can fail: each host here breaks one promise, and the suite must say so."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import pytest

from alkaline_edge.errors import ClosedError, InvalidInput, StoreError
from alkaline_edge.host import Batch, Capabilities, Committed, Conflict, Entry, Put
from alkaline_edge.testing.conformance import CASES, Result, check_case, format_results, run_conformance
from alkaline_hosts.memory import MemoryHost, MemoryStore

SMALL = Capabilities(
    "small", durability="process", threads=True, synchronous=True, max_value=300_000, max_batch_bytes=400_000
)


class GoodHost(MemoryHost):
    """Keeps the contract; its limits are small so that the suite runs fast."""

    def __init__(self, store: MemoryStore) -> None:
        super().__init__(store)
        self.capabilities = SMALL


class _Store:
    def __init__(self, host: Callable[[MemoryStore], Any]) -> None:
        self.host, self.store = host, MemoryStore()

    async def open(self) -> Any:
        return self.host(self.store)

    async def destroy(self) -> None:
        self.store = MemoryStore()


def suite(host: Callable[[MemoryStore], Any], only: Iterable[str] | None = None, **options: Any) -> list[Result]:
    """Run the suite against one class of host."""

    async def maker() -> Any:
        return _Store(host)

    names = None if only is None else list(only)
    return asyncio.run(run_conformance(maker, only=names, gather=asyncio.gather, **options))


def failed(results: list[Result]) -> list[str]:
    """Names of the cases that failed."""
    return [result.case for result in results if result.outcome == "failed"]


# --- hosts that break one promise each --------------------------------------------------------------------------------
class SaysThatAllOwnersLive(GoodHost):
    async def alive(self, owner: str) -> bool:
        return True


class ForgetsToLetGo(GoodHost):
    async def close(self) -> None:
        self._held.clear()
        await super().close()


class NowIgnoresChecks(GoodHost):
    async def commit(self, batch: Batch) -> Committed | Conflict:
        return await super().commit(batch)

    def commit_now(self, batch: Batch) -> Committed | Conflict:
        return super().commit_now(batch._replace(checks=()))


class NowAndThenWritesBefore(GoodHost):
    """Puts off each third commit, and has written it all the same."""

    async def commit(self, batch: Batch) -> Committed | Conflict:
        return await super().commit(batch)

    def commit_now(self, batch: Batch) -> Committed | Conflict | None:  # type: ignore[override]
        outcome = super().commit_now(batch)
        return None if int(batch.id, 16) % 3 == 0 else outcome


class SaysNowAndHasNoSuchMethod(GoodHost):
    async def commit(self, batch: Batch) -> Committed | Conflict:
        return await super().commit(batch)


class IgnoresChecks(GoodHost):
    async def commit(self, batch: Batch) -> Committed | Conflict:
        return await super().commit(batch._replace(checks=()))


class ChecksTheFirstOnly(GoodHost):
    async def commit(self, batch: Batch) -> Committed | Conflict:
        return await super().commit(batch._replace(checks=batch.checks[:1]))


class TakesAbsentForAnyVersion(GoodHost):
    async def commit(self, batch: Batch) -> Committed | Conflict:
        return await super().commit(
            batch._replace(checks=tuple(c for c in batch.checks if c.version is None or c.key in self.store.entries))
        )


class ChecksThatItIsThere(GoodHost):
    async def commit(self, batch: Batch) -> Committed | Conflict:
        def now(key: str, version: str | None) -> str | None:
            entry = self.store.entries.get(key)
            return version if entry is None or version is None else entry.version

        return await super().commit(batch._replace(checks=tuple(c._replace(version=now(*c)) for c in batch.checks)))


class AppliesHalfThenChecks(GoodHost):
    async def commit(self, batch: Batch) -> Committed | Conflict:
        if len(batch.puts) > 1 and batch.checks:
            self.store.apply(Batch(batch.id, (), batch.puts[:1]))
            batch = batch._replace(puts=batch.puts[1:])
        return await super().commit(batch)


class DeletesOnConflict(GoodHost):
    async def commit(self, batch: Batch) -> Committed | Conflict:
        self._open()
        self.store.apply(Batch(batch.id, deletes=batch.deletes))
        return await super().commit(batch._replace(deletes=()))


class NamesNoKeyInConflict(GoodHost):
    async def commit(self, batch: Batch) -> Committed | Conflict:
        outcome = await super().commit(batch)
        return Conflict(()) if isinstance(outcome, Conflict) else outcome


class NamesEveryKeyInConflict(GoodHost):
    async def commit(self, batch: Batch) -> Committed | Conflict:
        outcome = await super().commit(batch)
        return Conflict(tuple(c.key for c in batch.checks)) if isinstance(outcome, Conflict) else outcome


class RaisesOnConflict(GoodHost):
    async def commit(self, batch: Batch) -> Committed | Conflict:
        outcome = await super().commit(batch)
        if isinstance(outcome, Conflict):
            raise StoreError("somebody else was there")
        return outcome


class CountsItsVersions(GoodHost):
    count = itertools.count()

    async def commit(self, batch: Batch) -> Committed | Conflict:
        return await super().commit(batch._replace(id=f"{next(self.count):016x}"))


class KeepsVersionOfSameBytes(GoodHost):
    async def commit(self, batch: Batch) -> Committed | Conflict:
        if not batch.checks:
            entries = self.store.entries
            changed = tuple(p for p in batch.puts if p.key not in entries or entries[p.key].value != p.value)
            if changed != batch.puts:
                await super().commit(batch._replace(puts=changed))
                return Committed(batch.id)
        return await super().commit(batch)


class TouchesWhatItChecks(GoodHost):
    async def commit(self, batch: Batch) -> Committed | Conflict:
        outcome = await super().commit(batch)
        if isinstance(outcome, Committed):
            for check in batch.checks:
                entry = self.store.entries.get(check.key)
                if entry is not None:
                    self.store.entries[check.key] = entry._replace(version=batch.id)
        return outcome


class ChecksThenWritesLater(GoodHost):
    async def commit(self, batch: Batch) -> Committed | Conflict:
        probe = await super().commit(batch._replace(puts=(), deletes=()))
        if isinstance(probe, Conflict):
            return probe
        await asyncio.sleep(0)
        return await super().commit(batch._replace(checks=()))


class LastWriteWins(GoodHost):
    """Answers rightly, and lets the loser's bytes in."""

    async def commit(self, batch: Batch) -> Committed | Conflict:
        outcome = await super().commit(batch)
        if isinstance(outcome, Conflict) and len(batch.puts) == 2:
            self.store.apply(Batch(batch.id, (), batch.puts[:1]))
        return outcome


class RefusesBatchesThatOnlyCheck(GoodHost):
    async def commit(self, batch: Batch) -> Committed | Conflict:
        if not batch.puts and not batch.deletes:
            raise InvalidInput("nothing to write")
        return await super().commit(batch)


class FailsToDeleteWhatIsAbsent(GoodHost):
    async def commit(self, batch: Batch) -> Committed | Conflict:
        self._open()
        if any(key not in self.store.entries for key in batch.deletes):
            raise StoreError("no such key")
        return await super().commit(batch)


class NeverDeletes(GoodHost):
    async def commit(self, batch: Batch) -> Committed | Conflict:
        return await super().commit(batch._replace(deletes=()))


class DeletesLeaveAnEmptyValue(GoodHost):
    async def commit(self, batch: Batch) -> Committed | Conflict:
        there = tuple(Put(key, b"") for key in batch.deletes if key in self.store.entries)
        return await super().commit(batch._replace(puts=batch.puts + there, deletes=()))


class TakesHundredKeys(GoodHost):
    async def commit(self, batch: Batch) -> Committed | Conflict:
        return await super().commit(batch._replace(puts=batch.puts[:100]))


class CutsValues(GoodHost):
    async def commit(self, batch: Batch) -> Committed | Conflict:
        return await super().commit(batch._replace(puts=tuple(Put(k, v[:65_535]) for k, v in batch.puts)))


class StripsValues(GoodHost):
    async def commit(self, batch: Batch) -> Committed | Conflict:
        return await super().commit(batch._replace(puts=tuple(Put(k, bytes(v).rstrip(b"\0")) for k, v in batch.puts)))


class KeepsTextOnly(GoodHost):
    async def commit(self, batch: Batch) -> Committed | Conflict:
        puts = tuple(Put(k, bytes(v).decode(errors="replace").encode()) for k, v in batch.puts)
        return await super().commit(batch._replace(puts=puts))


class LosesEmptyValues(GoodHost):
    async def get(self, keys: Iterable[str]) -> list[Entry | None]:
        return [entry if entry is not None and entry.value else None for entry in await super().get(keys)]


class ReturnsViews(GoodHost):
    async def get(self, keys: Iterable[str]) -> list[Entry | None]:
        found = await super().get(keys)
        return [entry and entry._replace(value=memoryview(entry.value)) for entry in found]  # type: ignore[arg-type]


class _Aliasing(MemoryStore):
    def apply(self, batch: Batch) -> Committed | Conflict:
        outcome = super().apply(batch)
        if isinstance(outcome, Committed):
            for key, value in batch.puts:
                self.entries[key] = Entry(key, value, batch.id)
        return outcome


class KeepsTheCallersBuffer(GoodHost):
    def __init__(self, store: MemoryStore) -> None:
        super().__init__(store)
        store.__class__ = _Aliasing

    async def get(self, keys: Iterable[str]) -> list[Entry | None]:
        return [entry and entry._replace(value=bytes(entry.value)) for entry in await super().get(keys)]


class AnswersInItsOwnOrder(GoodHost):
    async def get(self, keys: Iterable[str]) -> list[Entry | None]:
        return await super().get(sorted(keys))


class LeavesAbsentOut(GoodHost):
    async def get(self, keys: Iterable[str]) -> list[Entry | None]:
        return [entry for entry in await super().get(keys) if entry is not None]


class AnswersEachKeyOnce(GoodHost):
    async def get(self, keys: Iterable[str]) -> list[Entry | None]:
        return await super().get(dict.fromkeys(keys))


class NeedsALength(GoodHost):
    async def get(self, keys: Iterable[str]) -> list[Entry | None]:
        return (await super().get(keys))[: len(keys)]  # type: ignore[arg-type]


class ReadsHundredKeys(GoodHost):
    async def get(self, keys: Iterable[str]) -> list[Entry | None]:
        wanted = list(keys)
        return [*await super().get(wanted[:100]), *[None] * (len(wanted) - 100)]


class ReturnsTuples(GoodHost):
    async def get(self, keys: Iterable[str]) -> list[Entry | None]:
        return [entry and tuple(entry) for entry in await super().get(keys)]  # type: ignore[misc]


class _Listing(GoodHost):
    """``pick`` gets every entry of the store, sorted, and answers what list answers."""

    def pick(self, entries: list[Entry], prefix: str, after: str, limit: int) -> list[Entry]:
        raise NotImplementedError

    async def list(self, prefix: str, after: str = "", limit: int = 500) -> list[Entry]:
        return self.pick(await super().list("", "", 1_000_000), prefix, after, limit)


class ListsUnsorted(_Listing):
    def pick(self, entries: list[Entry], prefix: str, after: str, limit: int) -> list[Entry]:
        found = [entry for entry in entries if entry.key.startswith(prefix) and entry.key > after]
        return sorted(found, key=lambda entry: self.store.keys.index(entry.key) ^ 1)[:limit]


class ListsByLocale(_Listing):
    def pick(self, entries: list[Entry], prefix: str, after: str, limit: int) -> list[Entry]:
        found = [entry for entry in entries if entry.key.startswith(prefix) and entry.key > after]
        return sorted(found, key=lambda entry: (entry.key.lower(), entry.key))[:limit]


class ListsDescending(_Listing):
    def pick(self, entries: list[Entry], prefix: str, after: str, limit: int) -> list[Entry]:
        return [entry for entry in reversed(entries) if entry.key.startswith(prefix) and entry.key > after][:limit]


class ListsFromAfterOn(_Listing):
    def pick(self, entries: list[Entry], prefix: str, after: str, limit: int) -> list[Entry]:
        return [entry for entry in entries if entry.key.startswith(prefix) and entry.key >= after][:limit]


class ListsBeyondThePrefix(_Listing):
    def pick(self, entries: list[Entry], prefix: str, after: str, limit: int) -> list[Entry]:
        return [entry for entry in entries if entry.key >= prefix and entry.key > after][:limit]


class ListsBelowThePrefixOnly(_Listing):
    def pick(self, entries: list[Entry], prefix: str, after: str, limit: int) -> list[Entry]:
        return [e for e in entries if e.key.startswith(prefix) and e.key > after and e.key != prefix][:limit]


class ListsLikeSql(_Listing):
    def pick(self, entries: list[Entry], prefix: str, after: str, limit: int) -> list[Entry]:
        def like(key: str) -> bool:
            return len(key) >= len(prefix) and all(p in ("_", c) for p, c in zip(prefix, key, strict=False))

        return [entry for entry in entries if like(entry.key) and entry.key > after][:limit]


class ListsWithAShortPrefix(_Listing):
    def pick(self, entries: list[Entry], prefix: str, after: str, limit: int) -> list[Entry]:
        if len(prefix) > 50:
            return []
        return [entry for entry in entries if entry.key.startswith(prefix) and entry.key > after][:limit]


class ListsThousandAtMost(_Listing):
    def pick(self, entries: list[Entry], prefix: str, after: str, limit: int) -> list[Entry]:
        found = [entry for entry in entries if entry.key.startswith(prefix) and entry.key > after]
        return found[: min(limit, 1_000)]


class ListsOneTooMany(_Listing):
    def pick(self, entries: list[Entry], prefix: str, after: str, limit: int) -> list[Entry]:
        return [entry for entry in entries if entry.key.startswith(prefix) and entry.key > after][: limit + 1]


class ListsPagesOneShort(_Listing):
    def pick(self, entries: list[Entry], prefix: str, after: str, limit: int) -> list[Entry]:
        found = [entry for entry in entries if entry.key.startswith(prefix) and entry.key > after]
        return found[: limit - 1] if limit == 7 else found[:limit]


class ListsOldVersions(GoodHost):
    async def list(self, prefix: str, after: str = "", limit: int = 500) -> list[Entry]:
        return [entry._replace(version="0" * 16) for entry in await super().list(prefix, after, limit)]


class SeesOnlyItsOwn(GoodHost):
    def __init__(self, store: MemoryStore) -> None:
        super().__init__(MemoryStore())


class ForgetsDeletionsAtClose(GoodHost):
    def __init__(self, store: MemoryStore) -> None:
        super().__init__(store)
        self.gone: list[Entry] = []

    async def commit(self, batch: Batch) -> Committed | Conflict:
        gone = [self.store.entries[key] for key in batch.deletes if key in self.store.entries]
        self.gone.extend(gone)
        return await super().commit(batch)

    async def close(self) -> None:
        for entry in self.gone:
            self.store.apply(Batch(entry.version, (), (Put(entry.key, entry.value),)))
        self.gone.clear()
        await super().close()


class _Careless(GoodHost):
    """Leaves out the checks of limits that ``skip`` says."""

    skip = ""

    async def commit(self, batch: Batch) -> Committed | Conflict:
        return self.commit_now(batch)

    def commit_now(self, batch: Batch) -> Committed | Conflict:
        self._open()
        can = self.capabilities
        if self.skip != "form":
            for key in (*batch.deletes, *(put.key for put in batch.puts)):
                if not key.isascii() or not key.isprintable() or " " in key or not key:
                    raise InvalidInput("bad key")
        if self.skip != "key" and any(len(put.key) > can.max_key for put in batch.puts):
            raise InvalidInput(f"over max_key={can.max_key}")
        if self.skip != "value" and any(len(put.value) > can.max_value for put in batch.puts):
            raise InvalidInput(f"over max_value={can.max_value}")
        if self.skip != "bytes" and sum(len(put.value) for put in batch.puts) > can.max_batch_bytes:
            raise InvalidInput(f"over max_batch_bytes={can.max_batch_bytes}")
        touched = [*batch.deletes, *(put.key for put in batch.puts)]
        if self.skip != "count" and len(touched) > can.max_batch_keys:
            raise InvalidInput(f"over max_batch_keys={can.max_batch_keys}")
        if self.skip != "twice" and len(set(touched)) < len(touched):
            raise InvalidInput("twice")
        return self.store.apply(batch)


class TakesAnyKey(_Careless):
    skip = "form"


class TakesLongKeys(_Careless):
    skip = "key"


class TakesLargeValues(_Careless):
    skip = "value"


class TakesLargeBatches(_Careless):
    skip = "bytes"


class TakesManyKeys(_Careless):
    skip = "count"


class TakesAKeyTwice(_Careless):
    skip = "twice"


class NamesNoLimit(GoodHost):
    async def commit(self, batch: Batch) -> Committed | Conflict:
        try:
            return await super().commit(batch)
        except InvalidInput:
            raise InvalidInput("too large") from None


class WritesBeforeItRefuses(GoodHost):
    async def commit(self, batch: Batch) -> Committed | Conflict:
        self._open()
        for put in batch.puts:
            if put.key == "k/ok":
                self.store.apply(Batch(batch.id, (), (put,)))
        return await super().commit(batch)


class RefusesWithAnotherError(GoodHost):
    async def commit(self, batch: Batch) -> Committed | Conflict:
        try:
            return await super().commit(batch)
        except InvalidInput as error:
            raise ValueError(str(error)) from None


class WorksWhenClosed(GoodHost):
    async def close(self) -> None:
        return


class FailsToCloseTwice(GoodHost):
    async def close(self) -> None:
        self._open()
        await super().close()


class ReadsNothingWhenClosed(GoodHost):
    async def get(self, keys: Iterable[str]) -> list[Entry | None]:
        wanted = list(keys)
        return await super().get(wanted) if wanted else []


class RaisesItsOwnWhenClosed(GoodHost):
    async def list(self, prefix: str, after: str = "", limit: int = 500) -> list[Entry]:
        try:
            return await super().list(prefix, after, limit)
        except ClosedError:
            raise ConnectionError("no connection") from None


class TellsSeconds(GoodHost):
    def now_ms(self) -> int:
        return super().now_ms() // 1000


class TellsFractions(GoodHost):
    def now_ms(self) -> int:
        return super().now_ms() + 0.5  # type: ignore[return-value]


class DrawsOnce(GoodHost):
    def entropy(self, n: int) -> bytes:
        return (bytes(range(256)) * (n // 256 + 1))[:n]


class DrawsSixteen(GoodHost):
    def entropy(self, n: int) -> bytes:
        return super().entropy(min(n, 16))


class DrawsText(GoodHost):
    def entropy(self, n: int) -> bytes:
        return super().entropy(n).hex()[:n].encode()


class SleepsMilliseconds(GoodHost):
    async def sleep(self, seconds: float) -> None:
        await super().sleep(seconds / 1000)


class RefusesToSleepBackwards(GoodHost):
    async def sleep(self, seconds: float) -> None:
        if seconds < 0:
            raise ValueError("negative")
        await super().sleep(seconds)


class SleepsOnWhenCancelled(GoodHost):
    async def sleep(self, seconds: float) -> None:
        try:
            await asyncio.sleep(seconds)
        except BaseException:  # what must not be done
            return


class NeverSleeps(GoodHost):
    async def sleep(self, seconds: float) -> None:
        return


def _saying(called: str, /, **changes: Any) -> type[GoodHost]:
    class Saying(GoodHost):
        def __init__(self, store: MemoryStore) -> None:
            super().__init__(store)
            self.capabilities = replace(SMALL, **changes)

    Saying.__name__ = called
    return Saying


class ChangesItsMind(GoodHost):
    async def commit(self, batch: Batch) -> Committed | Conflict:
        self.capabilities = replace(self.capabilities, max_value=self.capabilities.max_value - 1)
        return await super().commit(batch)


class HasNoThreads(GoodHost):
    run_in_thread = None  # type: ignore[assignment]


class ThreadsSwallow(GoodHost):
    async def run_in_thread(self, fn: Callable[..., object], *args: object) -> object:
        try:
            return await super().run_in_thread(fn, *args)
        except Exception:
            return None


class HonoursNoChecks(GoodHost):
    """Says so, and then writes a batch with checks as if it had none."""

    def __init__(self, store: MemoryStore) -> None:
        super().__init__(store)
        self.capabilities = replace(SMALL, conditional=False)

    async def commit(self, batch: Batch) -> Committed | Conflict:
        return await super().commit(batch._replace(checks=()))


MUTANTS: dict[type[GoodHost], str] = {
    IgnoresChecks: "check_of_an_absent_key",
    ChecksTheFirstOnly: "every_check_counts",
    TakesAbsentForAnyVersion: "check_of_a_version",
    ChecksThatItIsThere: "check_of_a_version",
    AppliesHalfThenChecks: "every_check_counts",
    DeletesOnConflict: "every_check_counts",
    NamesNoKeyInConflict: "check_of_an_absent_key",
    NamesEveryKeyInConflict: "every_check_counts",
    RaisesOnConflict: "check_of_an_absent_key",
    CountsItsVersions: "version_is_the_batch",
    KeepsVersionOfSameBytes: "same_bytes_are_a_new_version",
    TouchesWhatItChecks: "checks_of_other_keys",
    ChecksThenWritesLater: "one_winner_of_a_race",
    LastWriteWins: "one_winner_of_a_race",
    RefusesBatchesThatOnlyCheck: "a_batch_that_only_checks",
    FailsToDeleteWhatIsAbsent: "puts_overwrite_and_deletes_remove",
    NeverDeletes: "puts_overwrite_and_deletes_remove",
    DeletesLeaveAnEmptyValue: "a_recreated_key_is_another",
    TakesHundredKeys: "many_keys_in_one_batch",
    CutsValues: "large_values_are_kept",
    StripsValues: "any_bytes_are_kept",
    KeepsTextOnly: "any_bytes_are_kept",
    LosesEmptyValues: "any_bytes_are_kept",
    ReturnsViews: "get_answers_in_order",
    KeepsTheCallersBuffer: "values_are_copied",
    AnswersInItsOwnOrder: "get_answers_in_order",
    LeavesAbsentOut: "get_answers_in_order",
    AnswersEachKeyOnce: "get_answers_in_order",
    NeedsALength: "get_answers_in_order",
    ReadsHundredKeys: "get_takes_many_keys",
    ReturnsTuples: "get_answers_in_order",
    ListsUnsorted: "list_is_in_ascii_order",
    ListsByLocale: "list_is_in_ascii_order",
    ListsDescending: "list_is_in_ascii_order",
    ListsFromAfterOn: "list_goes_on_after",
    ListsBeyondThePrefix: "list_keeps_to_its_prefix",
    ListsBelowThePrefixOnly: "list_keeps_to_its_prefix",
    ListsLikeSql: "list_takes_prefixes_literally",
    ListsWithAShortPrefix: "list_takes_prefixes_literally",
    ListsThousandAtMost: "list_is_never_cut_short",
    ListsOneTooMany: "list_is_paged",
    ListsPagesOneShort: "list_is_paged",
    ListsOldVersions: "version_is_the_batch",
    SeesOnlyItsOwn: "handles_share_a_store",
    ForgetsDeletionsAtClose: "a_closed_store_keeps_its_data",
    TakesAnyKey: "keys_have_a_form",
    TakesLongKeys: "keys_have_a_length",
    TakesLargeValues: "values_have_a_size",
    TakesLargeBatches: "batches_have_a_size",
    TakesManyKeys: "batches_have_a_size",
    TakesAKeyTwice: "a_key_once_per_batch",
    NamesNoLimit: "values_have_a_size",
    WritesBeforeItRefuses: "values_have_a_size",
    RefusesWithAnotherError: "keys_have_a_form",
    WorksWhenClosed: "closed_is_closed",
    FailsToCloseTwice: "closed_is_closed",
    ReadsNothingWhenClosed: "closed_is_closed",
    RaisesItsOwnWhenClosed: "closed_is_closed",
    TellsSeconds: "the_clock_is_sane",
    TellsFractions: "the_clock_is_sane",
    DrawsOnce: "entropy_is_fresh",
    DrawsSixteen: "entropy_is_fresh",
    DrawsText: "entropy_is_fresh",
    SleepsMilliseconds: "sleep_returns",
    RefusesToSleepBackwards: "sleep_returns",
    SleepsOnWhenCancelled: "sleep_can_be_cancelled",
    NeverSleeps: "sleep_can_be_cancelled",
    _saying("SaysNoName", name=""): "capabilities_are_well_formed",
    _saying("SaysUnknownDurability", durability="forever"): "capabilities_are_well_formed",
    _saying("SaysMaybe", conditional=1): "capabilities_are_well_formed",
    _saying("SaysShortKeys", max_key=100): "capabilities_are_well_formed",
    _saying("SaysInlineOverValue", inline_limit=300_001): "capabilities_are_well_formed",
    _saying("SaysBatchUnderValue", max_batch_bytes=299_999): "capabilities_are_well_formed",
    ChangesItsMind: "capabilities_are_well_formed",
    HasNoThreads: "threads_run_functions",
    ThreadsSwallow: "threads_run_functions",
    SaysThatAllOwnersLive: "owners_are_known",
    ForgetsToLetGo: "owners_are_known",
    NowIgnoresChecks: "a_commit_without_a_wait",
    NowAndThenWritesBefore: "a_commit_without_a_wait",
    SaysNowAndHasNoSuchMethod: "a_commit_without_a_wait",
    HonoursNoChecks: "checks_are_refused_where_they_cannot_hold",
}
"""A broken host, and the case that must find it (others may as well)."""


@pytest.mark.parametrize(("host", "case"), MUTANTS.items(), ids=lambda value: getattr(value, "__name__", value))
def test_a_broken_promise_is_found(host: type[GoodHost], case: str) -> None:
    """The case that is about the promise fails, and its message says more than the name of an exception."""
    (result,) = suite(host, only=[case])
    assert result.outcome == "failed", result
    assert len(result.message) > 25, result.message


def test_every_case_has_a_host_that_fails_it() -> None:
    """A check that can't fail is a defect: no case is without its mutant."""
    found = set(MUTANTS.values())
    for host, of in {
        IgnoresChecks: {"delete_put_and_check_together", "no_update_is_lost"},
        ChecksThenWritesLater: {"no_update_is_lost"},
    }.items():
        found |= set(failed(suite(host, only=of)))
    assert {case.name for case in CASES} <= found


def test_a_good_host_passes_the_whole_suite() -> None:
    """What the mutants are derived from fails nothing, so each of them is found for what it changes."""
    results = suite(GoodHost)
    assert failed(results) == [], format_results(results)
    assert [r.case for r in results if r.outcome == "skipped"] == ["checks_are_refused_where_they_cannot_hold"]


def test_a_careless_host_without_a_gap_passes_the_limits() -> None:
    """The mutants of limits break one limit each and no other."""
    assert failed(suite(_Careless)) == []


def test_cases_adapt_to_a_host_without_conditional_commits() -> None:
    """Cases that need checks are skipped with the reason; the case that wants checks refused is run."""
    results = suite(_saying("Unconditional", conditional=False))
    assert failed(results) == [], format_results(results)
    skipped = {result.case: result.message for result in results if result.outcome == "skipped"}
    assert "conditional=False" in skipped["one_winner_of_a_race"]
    assert "checks_are_refused_where_they_cannot_hold" not in skipped


def test_a_bare_host_will_do() -> None:
    """A maker may give a Host: what needs a second handle is skipped and says how to have it run."""

    async def maker() -> MemoryHost:
        return MemoryHost()

    results = asyncio.run(run_conformance(maker, only=["handles_share_a_store", "get_answers_in_order"]))
    assert [result.outcome for result in results] == ["passed", "skipped"]
    assert "open() and destroy()" in results[1].message


def test_it_runs_without_an_event_loop_of_its_own() -> None:
    """The suite is plain coroutines: without ``gather`` they can be stepped by hand, as a Worker's test does."""

    async def maker() -> Any:
        return _Store(GoodHost)

    timed = {"sleep_returns", "sleep_can_be_cancelled"}  # asyncio's own timers
    work = run_conformance(maker, skip_reasons=dict.fromkeys(timed, "needs asyncio"))
    with pytest.raises(StopIteration) as ended:
        work.send(None)
    results: list[Result] = ended.value.value
    assert failed(results) == [], format_results(results)
    assert {r.case for r in results if r.outcome == "skipped"} >= timed


def test_everything_is_closed_and_destroyed() -> None:
    """After each case, failed ones included, every handle is closed and every store destroyed once."""
    opened: list[MemoryHost] = []
    destroyed: list[Any] = []

    class Counted(_Store):
        async def open(self) -> Any:
            opened.append(await super().open())
            return opened[-1]

        async def destroy(self) -> None:
            destroyed.append(self)

    made: list[Counted] = []

    async def maker() -> Any:
        made.append(Counted(IgnoresChecks))
        return made[-1]

    asyncio.run(run_conformance(maker, gather=asyncio.gather))
    assert made == destroyed
    assert len(opened) >= len(made) > 30
    assert all(host._closed for host in opened)


def test_choosing_cases() -> None:
    """``only`` and ``skip_reasons`` take names of cases, show the reason, and refuse a name that is not one."""
    results = suite(GoodHost, only=["the_clock_is_sane", "entropy_is_fresh"], skip_reasons={"entropy_is_fresh": "slow"})
    assert results == [
        Result("the_clock_is_sane", "passed"),
        Result("entropy_is_fresh", "skipped", "slow"),
    ]
    assert format_results(results).endswith("1 passed, 0 failed, 1 skipped")
    with pytest.raises(ValueError, match="no case"):
        suite(GoodHost, only=["the_clock_is_wrong"])


def test_a_failing_case_raises_for_pytest() -> None:
    """``check_case`` raises AssertionError with the case's name and what to mend, whatever the host raised."""

    async def maker() -> Any:
        return _Store(RaisesOnConflict)

    case = next(case for case in CASES if case.name == "check_of_an_absent_key")
    with pytest.raises(AssertionError, match=r"check_of_an_absent_key: the host raised StoreError ERR_STORE: somebody"):
        asyncio.run(check_case(case, maker))


def test_each_case_says_a_behaviour() -> None:
    """A case has a unique name and a sentence that tells a host's author what is expected."""
    assert len({case.name for case in CASES}) == len(CASES)
    assert all(case.behaviour.endswith(".") and len(case.behaviour) > 40 for case in CASES)
