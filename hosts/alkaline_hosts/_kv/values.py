"""Large values in Cloudflare KV, everything else in a coordinator that can commit on conditions.

    in the coordinator, for every entry:  one byte, 0: the value follows, 1: the KV key of the value follows
    in KV:                                <prefix>large/<13 digits of ms>-<batch id>-<n>

A KV key is written once, before the commit that refers to it, and holds the bytes that its batch put: nothing stale
can be read but its absence, which is an error to try again after.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import replace

from alkaline_edge.errors import StoreError, UnknownOutcome
from alkaline_edge.host import Batch, Committed, Conflict, Entry, Host, Put

from .namespace import MAX_VALUE, Counted

HERE, IN_KV = b"\0", b"\1"
PAGE = 500
Entries = list[Entry]


class LargeValues:
    """Three callbacks over a coordinator and KV."""

    def __init__(self, kv: Counted, coordinator: Host, prefix: str, large: int) -> None:
        self._kv, self._coordinator, self._prefix = kv, coordinator, f"{prefix}large/"
        front = coordinator.capabilities
        self._large = min(large, front.max_value - 1)
        self.capabilities = replace(
            front,
            name=f"Cloudflare KV in front of which is {front.name}",
            threads=False,
            max_value=MAX_VALUE,
            max_batch_bytes=max(MAX_VALUE, front.max_batch_bytes // 2),
            notes=(*front.notes, f"Values above {self._large} bytes are in Cloudflare KV."),
        )

    async def get(self, keys: Iterable[str]) -> list[Entry | None]:
        """As Host.get: one read of the coordinator, and one of KV for each large value."""
        found = await self._coordinator.get(keys)
        filled = iter(await self._filled([entry for entry in found if entry is not None]))
        return [None if entry is None else next(filled) for entry in found]

    async def list(self, prefix: str, after: str, limit: int) -> Entries:
        """As Host.list."""
        return await self._filled(await self._coordinator.list(prefix, after, limit))

    async def commit(self, batch: Batch) -> Committed | Conflict:
        """As Host.commit: large values first, then everything else at once in the coordinator."""
        names = {
            put.key: f"{self._prefix}{self._coordinator.now_ms():013d}-{batch.id}-{n}"
            for n, put in enumerate(batch.puts)
            if len(put.value) > self._large
        }
        try:
            await asyncio.gather(*(self._kv.put(names[k], bytes(value)) for k, value in batch.puts if k in names))
        except StoreError:
            raise
        except Exception as error:
            raise UnknownOutcome(f"Cloudflare KV did not take a large value: {error}") from None
        puts = tuple(
            Put(key, IN_KV + names[key].encode() if key in names else HERE + value) for key, value in batch.puts
        )
        # The values of a batch that conflicts stay for the next sweep: KV refuses to delete what it has just written.
        return await self._coordinator.commit(batch._replace(puts=puts))

    async def sweep(self, older_than: float) -> int:
        """Delete values written more than ``older_than`` seconds ago that no entry refers to; return how many."""
        before_ms = self._coordinator.now_ms() - round(older_than * 1000)
        names = {name for name in await self._kv.keys(self._prefix) if self._written_at(name) < before_ms}
        after = ""
        while names:
            page = await self._coordinator.list("", after, PAGE)
            names -= {entry.value[1:].decode() for entry in page if entry.value[:1] == IN_KV}
            if len(page) < PAGE:
                break
            after = page[-1].key
        return await self._delete(names)

    def _written_at(self, name: str) -> int:
        return int(name[len(self._prefix) :].split("-", 1)[0])

    async def _delete(self, names: Iterable[str]) -> int:
        """Delete what may go, as far as KV takes it: what stays is found by the next sweep."""
        outcomes = await asyncio.gather(*(self._kv.delete(name) for name in names), return_exceptions=True)
        return sum(not isinstance(outcome, BaseException) for outcome in outcomes)

    async def _filled(self, entries: Entries) -> Entries:
        return [*await asyncio.gather(*(self._fill(entry) for entry in entries))]

    async def _fill(self, entry: Entry) -> Entry:
        tag, rest = entry.value[:1], entry.value[1:]
        if tag == HERE:
            return entry._replace(value=rest)
        if tag != IN_KV:
            raise StoreError(
                f"the entry {entry.key!r} was not written through a KVHost with this coordinator; use the store "
                "through one of the two, not through both"
            )
        value = await self._kv.get(rest.decode())
        if value is None:
            raise StoreError(
                f"the large value of {entry.key!r} is not visible in Cloudflare KV here yet; try again in a minute",
                reason="stale",
            )
        return entry._replace(value=value)
