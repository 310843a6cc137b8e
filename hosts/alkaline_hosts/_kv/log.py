"""A store on Cloudflare KV for one writer: a log of immutable keys, read once and held in memory.

    <prefix>base/<position>-<digest>      all entries as they were after that position
    <prefix>log/<position>-<batch id>     one commit, which names the digest of the one before it
    <prefix>val/<batch id>-<n>            a value too large for the log

A commit is one put of a key that was never written before, so it is atomic, stays under one write per second and key,
and nothing of it can be stale but its absence. No key is read that was not listed: KV remembers for a minute or more
that a key was absent.

What KV can't give is a fence. Two writers write different keys at one position: the next to open the store finds
both and refuses to go on. A reader can't know what it does not see; a resume token (position and digest) tells it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from hashlib import sha256
from typing import TypeVar

from alkaline_edge.errors import StoreError, UnknownOutcome
from alkaline_edge.host import Batch, Committed, Conflict, Entry

from .._ranges import among
from .format import Commit, Held, State, decode_commit, decode_state, parse_token, position_in, slim
from .namespace import MAX_VALUE, Counted

T = TypeVar("T")
Entries = list[Entry]
Found = list[Entry | None]
Names = list[str]
Wanted = list[tuple[str, Held | None]]

SPILL_BYTES = 4096
"""Values above this many bytes are keys of their own, read when they are asked for."""
CHECKPOINT_COMMITS, MOST_COMMITS = 100, 400
"""Commits after which all entries are written anew in one key, so that a store is opened with few reads: the first
number where they are as many bytes as a quarter of the entries, so that a large store is not written over and over,
and at the second number anyhow."""
AT_ONCE = 6
"""Reads and deletes in flight: a Worker has six connections."""
RETRY_SECONDS = 1.1
"""How long to wait before a key is written again: KV takes one write per second and key."""


class KVLog:
    """The store. It is read at the first call, and again after ``forget``."""

    def __init__(self, kv: Counted, prefix: str, resume: str | None, sleep: Callable[[float], Awaitable[None]]) -> None:
        self._kv, self._prefix, self._sleep = kv, prefix, sleep
        self._resume = parse_token(resume) if resume else (0, "")
        self._state: State | None = None
        self._pending: Commit | None = None
        self._turn = asyncio.Lock()

    @property
    def token(self) -> str:
        """Position and digest of the last commit that is known."""
        state = self._state
        position, digest = self._resume if state is None else (state.position, state.digest.hex())
        return f"kv1.{position}.{digest or bytes(16).hex()}"

    # --- the three callbacks ---------------------------------------------------------------------------------------
    async def get(self, keys: Iterable[str]) -> Found:
        """As Host.get, from memory but for large values."""
        async with self._turn:
            state = await self._current()
            return await self._entries([(key, state.entries.get(key)) for key in keys])

    async def list(self, prefix: str, after: str, limit: int) -> Entries:
        """As Host.list, from memory but for large values."""
        async with self._turn:
            state = await self._current()
            wanted: Wanted = [(key, state.entries[key]) for key in among(state.keys, prefix, after, limit)]
            return [entry for entry in await self._entries(wanted) if entry is not None]

    async def commit(self, batch: Batch) -> Committed | Conflict:
        """As Host.commit; the checks are held against what this writer knows."""
        async with self._turn:
            state = await self._current()
            failed = [key for key, version in batch.checks if _version(state, key) != version]
            if failed:
                return Conflict(tuple(failed))
            if not batch.puts and not batch.deletes:
                return Committed(batch.id)
            places = await self._spill(batch)
            commit = Commit(state.position + 1, batch.id, state.digest, slim(batch, places), [*batch.deletes])
            await self._write(state, commit.encode())
            if _wants_checkpoint(state):
                await self._checkpoint(state)
            return Committed(batch.id)

    async def forget(self) -> None:
        """Read the store again at the next call, and see at least what is known now."""
        async with self._turn:
            if self._state is not None:
                await self._current()
                self._resume = (self._state.position, self._state.digest.hex())
                self._state = None

    # --- reading the store -----------------------------------------------------------------------------------------
    async def _current(self) -> State:
        """The state, read once; a commit whose answer was lost is written again first."""
        if self._state is None:
            self._state = await self._load()
        if self._pending is not None:
            await self._sleep(RETRY_SECONDS)
            await self._write(self._state, self._pending)
        return self._state

    async def _load(self) -> State:
        bases = await self._kv.keys(f"{self._prefix}base/")
        logs = await self._kv.keys(f"{self._prefix}log/")
        state = State()
        if bases:
            newest = max(bases, key=position_in)
            if sum(position_in(name) == position_in(newest) for name in bases) > 1:
                raise _forked(position_in(newest))
            state = decode_state(newest, await self._listed(newest))
        fresh = self._order(state, logs)
        raws = await _some_at_once(self._listed, fresh)
        digests = {state.position: state.digest}
        for name, raw in zip(fresh, raws, strict=True):
            commit = decode_commit(position_in(name), raw)
            if commit.before != state.digest:
                raise _forked(commit.position)
            state.apply(commit, name)
            digests[state.position] = state.digest
        self._believe(state, digests)
        return state

    def _order(self, state: State, logs: Names) -> Names:
        """The commits behind ``state`` in order; an error where KV shows a gap or a fork."""
        covered = set(state.covered)
        fresh = sorted(name for name in logs if position_in(name) > state.position)
        for name in logs:
            if state.since < position_in(name) <= state.position and name not in covered:
                raise _forked(position_in(name))
        for place, name in enumerate(fresh, state.position + 1):
            found = position_in(name)
            if found < place:
                raise _forked(found)
            if found > place:
                raise _stale(f"commit {place} is not listed and commit {found} is")
        return fresh

    def _believe(self, state: State, digests: dict[int, bytes]) -> None:
        """An error where the resume token knows better."""
        position, digest = self._resume
        if position > state.position:
            raise _stale(f"the resume token knows of commit {position}, and KV shows {state.position}")
        if position and position in digests and digests[position].hex() != digest:
            raise StoreError(
                f"the resume token and the store disagree about commit {position}: another store, or two writers",
                reason="forked",
            )

    async def _listed(self, name: str) -> bytes:
        raw = await self._kv.get(name)
        if raw is None:
            raise _stale("a key is listed and can't be read")
        return raw

    async def _entries(self, wanted: Wanted) -> Found:
        large = [held.place for _, held in wanted if held is not None and held.place]
        values = dict(zip(large, await _some_at_once(self._listed, large), strict=True))
        return [
            None if held is None else Entry(key, values[held.place] if held.place else held.value, held.version)
            for key, held in wanted
        ]

    # --- writing it ------------------------------------------------------------------------------------------------
    async def _spill(self, batch: Batch) -> Names:
        """Write the large values of ``batch`` to keys of their own; the name of each, empty for a small one."""
        places = [
            f"{self._prefix}val/{batch.id}-{n}" if len(put.value) > SPILL_BYTES else ""
            for n, put in enumerate(batch.puts)
        ]
        large = {place: bytes(put.value) for place, put in zip(places, batch.puts, strict=True) if place}
        try:
            await _some_at_once(lambda place: self._kv.put(place, large[place]), list(large))
        except StoreError:
            raise
        except Exception as error:
            raise UnknownOutcome(f"Cloudflare KV did not take a large value: {error}") from None
        return places

    async def _write(self, state: State, commit: Commit) -> None:
        name = f"{self._prefix}log/{commit.position:010d}-{commit.id}"
        self._pending = commit
        try:
            await self._kv.put(name, commit.raw)
        except StoreError:
            raise
        except Exception as error:
            raise UnknownOutcome(f"Cloudflare KV did not confirm a commit: {error}") from None
        self._pending = None
        state.apply(commit, name)

    async def _checkpoint(self, state: State) -> None:
        """Write all entries in one key. A failure changes nothing: the log goes on, and the next commit tries again."""
        raw = state.encode()
        name = f"{self._prefix}base/{state.position:010d}-{sha256(raw).hexdigest()[:16]}"
        if len(raw) > MAX_VALUE or not self._kv.room_for(1):
            return
        try:
            await self._kv.put(name, raw)
        except Exception:
            return
        fresh = decode_state(name, raw)
        state.base, state.since, state.covered = name, fresh.since, fresh.covered
        state.log, state.unused = [], []
        state.base_bytes, state.log_bytes = len(raw), 0

    async def sweep(self) -> int:
        """Delete what the checkpoint before the last has made superfluous; return how many keys KV took.

        What the last one has made superfluous stays: a reader elsewhere may see a delete before it sees the checkpoint.
        """
        async with self._turn:
            state = await self._current()
            kept = {state.base, *state.covered, *state.unused, *(held.place for held in state.entries.values())}
            superfluous = [
                name
                for kind in ("log", "base", "val")
                for name in await self._kv.keys(f"{self._prefix}{kind}/")
                if name not in kept and (kind == "val" or position_in(name) <= state.since)
            ]
            return sum(await _some_at_once(self._delete, superfluous))

    async def _delete(self, name: str) -> bool:
        """Whether KV took the delete; what it did not take is found by the next sweep."""
        try:
            await self._kv.delete(name)
        except Exception:
            return False
        return True


def _wants_checkpoint(state: State) -> bool:
    grown = 4 * state.log_bytes >= state.base_bytes
    return len(state.log) >= (CHECKPOINT_COMMITS if grown else MOST_COMMITS)


def _version(state: State, key: str) -> str | None:
    held = state.entries.get(key)
    return None if held is None else held.version


async def _some_at_once(work: Callable[[str], Awaitable[T]], names: Sequence[str]) -> list[T]:
    """The results in order, a few in flight at a time; one that fails ends it when its neighbours are done."""
    done: list[T] = []
    for start in range(0, len(names), AT_ONCE):
        part = await asyncio.gather(*map(work, names[start : start + AT_ONCE]), return_exceptions=True)
        for outcome in part:
            if isinstance(outcome, BaseException):
                raise outcome
            done.append(outcome)
    return done


def _stale(what: str) -> StoreError:
    return StoreError(
        f"Cloudflare KV shows an old state here: {what}. Nothing was read or written; try again in a minute or later",
        reason="stale",
    )


def _forked(position: int) -> StoreError:
    return StoreError(
        f"two writers wrote commit {position} of this store in Cloudflare KV, which has no way to stop them. Give each "
        "writer a prefix of its own, or use KVHost(coordinator=...); then decide which history to keep",
        reason="forked",
        position=position,
    )
