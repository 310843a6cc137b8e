"""What a conformance case stands on: fresh stores, handles to them, and commits that say what went wrong."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, NamedTuple, Protocol, cast

from ..errors import AlkalineError
from ..host import Batch, Check, Committed, Conflict, Entry, Host, Put


class Store(Protocol):
    """A store that outlives its handles. ``settle()``, if there is one, is awaited after a write and before a read.

    A host that sees its own writes late (``read_your_writes=False``) waits in ``settle`` until it sees them.
    """

    async def open(self) -> Host:
        """Another handle to this store."""
        ...

    async def destroy(self) -> None:
        """The case is over: drop the store and what it holds. Its handles are closed already."""
        ...


Maker = Callable[[], Awaitable["Host | Store"]]
"""Gives a fresh, empty store at each call: a Store, or a bare Host where a second handle to it can't be had."""
Gather = Callable[..., Awaitable[Iterable[Any]]]
"""Awaits several awaitables at once and returns their results in order, such as ``asyncio.gather``."""


class Skipped(Exception):
    """The case does not apply to this host; the message says why."""


async def one_by_one(*work: Awaitable[Any]) -> list[Any]:
    """A ``gather`` for hosts without an event loop: no race, one after the other."""
    return [await each for each in work]


@dataclass(frozen=True, slots=True)
class Case:
    """One behaviour that a host must have, and how it is tried. ``name`` is what ``run_conformance`` knows it by.

    ``run`` raises where the host lacks it. ``needs``: fields of Capabilities that must be true for it to apply.
    """

    name: str
    behaviour: str
    run: Callable[[Stage], Awaitable[None]]
    needs: tuple[str, ...] = ()


class Result(NamedTuple):
    """What became of one case. ``outcome`` is passed, failed or skipped; ``message`` says what to fix, or why."""

    case: str
    outcome: str
    message: str = ""

    @property
    def name(self) -> str:
        """The name of the case."""
        return self.case

    @property
    def ok(self) -> bool:
        """Nothing to mend: passed, or skipped because it does not apply."""
        return self.outcome != "failed"


class Stage:
    """Handed to each case. Everything that it opened is closed and destroyed by ``clear``."""

    def __init__(self, maker: Maker, gather: Gather | None = None) -> None:
        self.gather = gather or one_by_one
        self.races = gather is not None
        self._maker = maker
        self._stores: dict[int, Store] = {}
        self._handles: list[Host] = []
        self._ids = 0

    async def host(self) -> Host:
        """A handle to a fresh and empty store."""
        made = await self._maker()
        if hasattr(made, "destroy"):
            store = cast("Store", made)
            host = await store.open()
            self._stores[id(host)] = store
        else:
            host = cast("Host", made)  # type: ignore[redundant-cast]  # mypy narrows by hasattr, pyright does not
        self._handles.append(host)
        return host

    async def another(self, host: Host) -> Host:
        """One more handle to the store of ``host``."""
        store = self._stores.get(id(host))
        if store is None:
            raise Skipped("the maker gives a bare host; return a Store with open() and destroy() to test this")
        other = await store.open()
        self._handles.append(other)
        self._stores[id(other)] = store
        return other

    async def clear(self) -> None:
        """Close every handle and destroy every store."""
        try:
            for host in self._handles:
                await host.close()
        finally:
            stores = {id(store): store for store in self._stores.values()}
            self._handles.clear()
            self._stores.clear()
            for store in stores.values():
                await store.destroy()

    def new_id(self) -> str:
        """A batch id: 16 lowercase hexadecimal digits, another one each time, the same ones in every run."""
        self._ids += 1
        return sha256(b"%d" % self._ids).hexdigest()[:16]

    def batch(
        self,
        puts: Mapping[str, bytes] | None = None,
        *,
        deletes: Iterable[str] = (),
        checks: Mapping[str, str | None] | None = None,
    ) -> Batch:
        """A batch with a new id."""
        return Batch(
            self.new_id(),
            tuple(Check(*check) for check in (checks or {}).items()),
            tuple(Put(*put) for put in (puts or {}).items()),
            tuple(deletes),
        )

    async def commit(
        self,
        host: Host,
        puts: Mapping[str, bytes] | None = None,
        *,
        deletes: Iterable[str] = (),
        checks: Mapping[str, str | None] | None = None,
    ) -> Committed | Conflict:
        """Commit, then give the host time to see it."""
        batch = self.batch(puts, deletes=deletes, checks=checks)
        outcome = await host.commit(batch)
        if isinstance(outcome, Committed):
            assert outcome.version == batch.id, (
                f"commit returned Committed({outcome.version!r}) for the batch {batch.id!r}: return the batch's id"
            )
        else:
            assert isinstance(outcome, Conflict), (
                f"commit returned {type(outcome).__name__}: return Committed or Conflict, and raise for anything else"
            )
        await self.settle(host)
        return outcome

    async def write(self, host: Host, puts: Mapping[str, bytes] | None = None, **rest: Any) -> str:
        """A commit that must succeed; returns its batch id."""
        outcome = await self.commit(host, puts, **rest)
        assert isinstance(outcome, Committed), (
            f"commit returned {outcome!r} for a batch whose checks all hold: a check compares the key's version with "
            "the id of the batch that put it last, and None with an absent key"
        )
        return outcome.version

    async def refuse(self, host: Host, failing: Iterable[str], puts: Mapping[str, bytes], **rest: Any) -> None:
        """A commit that must be a conflict on some of ``failing``."""
        expected = set(failing)
        outcome = await self.commit(host, puts, **rest)
        assert isinstance(outcome, Conflict), (
            f"a batch with a failing check was committed: compare every check before anything is written "
            f"(failing: {sorted(expected)})"
        )
        assert outcome.keys, "Conflict.keys is empty: name at least one key whose check failed"
        assert set(outcome.keys) <= expected, (
            f"Conflict.keys names {sorted(outcome.keys)}, but only the checks of {sorted(expected)} fail"
        )

    async def rejected(self, host: Host, batch: Batch, error: type[AlkalineError], what: str, named: str = "") -> None:
        """``host`` must refuse the batch with ``error``, naming ``named``, and write none of it."""
        try:
            outcome = await host.commit(batch)
        except error as refused:
            message = str(refused)
        except Exception as other:
            raise AssertionError(
                f"{what}: raised {type(other).__name__} ({other}), expected {error.__name__}; call "
                "alkaline_edge.limits.check_batch(batch, self.capabilities) before anything is written"
            ) from other
        else:
            raise AssertionError(
                f"{what}: returned {type(outcome).__name__}, expected {error.__name__}; call "
                "alkaline_edge.limits.check_batch(batch, self.capabilities) before anything is written"
            )
        assert named in message, f"{what}: the message does not name the limit {named}: {message}"
        await self.settle(host)
        readable = [put.key for put in batch.puts if put.key.isascii() and put.key.isprintable() and len(put.key) < 100]
        written = [entry.key for entry in await host.get(readable[:50]) if entry is not None]
        assert not written, f"{what}: the batch was refused, yet {written} were written: check the whole batch first"

    async def settle(self, host: Host) -> None:
        """Let the store see what was written, where it needs that."""
        settle = getattr(self._stores.get(id(host)), "settle", None)
        if settle is not None:
            await settle()

    async def entry(self, host: Host, key: str) -> Entry | None:
        """The one entry of ``key``."""
        found = await host.get([key])
        assert len(found) == 1, f"get of one key returned {len(found)} items: one per key, None where absent"
        return found[0]

    async def value(self, host: Host, key: str) -> bytes | None:
        """The value of ``key``, None where absent."""
        entry = await self.entry(host, key)
        return None if entry is None else entry.value

    async def keys(self, host: Host, prefix: str, after: str = "", limit: int = 500) -> list[str]:
        """The keys of a listing."""
        return [entry.key for entry in await host.list(prefix, after, limit)]
