"""Going through a whole store: sealing it anew under the current key, or for the first time."""

from __future__ import annotations

from collections.abc import Sequence

from .. import keys
from ..arguments import expect, whole
from ..codec import Codec
from ..errors import AlkalineError, ConflictError, InvalidInput, StoreError
from ..host import Batch, Check, Conflict, Entry, Put
from ..structs import NamedTuple
from .host import SealedHost, parts_of
from .layout import is_sealed

PAGE = 50
"""Keys that are read at once, and at most so many are written in one batch."""
SHOWN = 20
"""Places that an error names."""
TRIES = 20
"""How often a batch is read and written again when others write the same keys."""


class Swept(NamedTuple):
    """What a sweep did: of ``seen`` values it wrote ``written``; the others were as they should be, and opened.

    ``held`` of them are under an older key still: records of runs that are being driven. Their owners write them anew.
    ``after`` is where the next call goes on, None once the end of the store was reached.
    """

    seen: int
    written: int
    held: int
    after: str | None


async def reseal(host: SealedHost, *, after: str = "", limit: int | None = None) -> Swept:
    """Seal every value that an older key of the keyring sealed with the current one, and open all others.

    Runtimes may go on meanwhile, as long as all of them seal with the current key: each write checks that the value is
    still the one that was read, and the record of a run that an owner holds is left to the owner, which would lose the
    run otherwise. It may be interrupted and called again at any time. A call that went through the whole store, wrote
    nothing and found nothing held says that no value needs the older keys any more.

    ``limit``: values to look at in this call, for an invocation that may not last; go on with ``after=`` of the result.
    StoreError once the end (or the limit) was reached, if some values did not open: they are as they were, the rest is
    done. ``detail`` holds ``places`` (the first of them), ``refused``, and the fields of the result.
    """
    return await _Sweep(host, plain_too=False).run(after, limit)


async def seal_store(host: SealedHost, *, after: str = "", limit: int | None = None) -> Swept:
    """Seal a store that was written without sealing, in place. From then on plain values in it are refused.

    It takes whatever plain values are there for the truth. No runtime may be writing to the store, sealed or not; one
    that reads without the seal finds values that it can't read. Interrupted, it is called again before anything else.
    What the storage keeps of overwritten values (a log, free pages, backups) is still plain: compact or delete that.

    ``limit``, ``after`` and errors are those of ``reseal``. A plain value that begins as a sealed one does and does not
    open is such an error as well: copy the store with ``migrate`` into an empty, sealed one instead.
    """
    return await _Sweep(host, plain_too=True).run(after, limit)


class _Sweep:
    """One call: what it has seen and done so far."""

    def __init__(self, host: SealedHost, plain_too: bool) -> None:
        if not isinstance(host, SealedHost):
            raise InvalidInput(f"give it the SealedHost of the store, not a {type(host).__name__}")
        self._can = can = host.capabilities
        if not can.checks:
            raise StoreError(f"{can.name} can't check a value before it writes: copy the store with migrate instead")
        self._host, self._sealer = parts_of(host)
        self._plain_too = plain_too
        self._codec = Codec()
        self._seen = self._written = 0
        self._held: set[str] = set()
        self._refused: list[StoreError] = []

    async def run(self, after: str, limit: int | None) -> Swept:
        """Page by page."""
        expect(after, str, "after", "what an earlier call gave, or empty")
        if limit is not None:
            whole(limit, "limit", 0)
        ended = False
        while not ended and (limit is None or self._seen < limit):
            page = PAGE if limit is None else min(PAGE, limit - self._seen)
            entries = await self._host.list("", after, page)
            for chunk in _chunks(entries, self._can.max_batch_bytes // 2, self._can.max_batch_keys):
                await self._renew(chunk)
            self._seen += len(entries)
            after, ended = entries[-1].key if entries else after, len(entries) < page
        swept = Swept(self._seen, self._written, len(self._held), None if ended else after)
        if self._refused:
            raise StoreError(
                f"{len(self._refused)} of {self._seen} values did not open and were left as they were, the first: "
                f"{self._refused[0]} ({self._written} were sealed anew)",
                places=[error.detail["place"] for error in self._refused[:SHOWN]],
                refused=len(self._refused),
                **swept._asdict(),
            )
        return swept

    async def _renew(self, entries: list[Entry]) -> None:
        """Write what has to be; what somebody else changed meanwhile is read again: it may be current now, or gone."""
        for _ in range(TRIES):
            stale = await self._stale(entries)
            if not stale:
                return
            checks = tuple(Check(entry.key, entry.version) for entry, _ in stale)
            puts = await self._sealer.seal([Put(entry.key, value) for entry, value in stale])
            outcome = await self._host.commit(Batch(self._host.entropy(8).hex(), checks, puts))
            if not isinstance(outcome, Conflict):
                self._written += len(stale)
                return
            entries = [e for e in await self._host.get([entry.key for entry, _ in stale]) if e is not None]
        raise ConflictError(
            f"somebody who seals with an older key wrote {TRIES} times between reading and writing: give every runtime "
            "the keyring with the new current key first, then call this again"
        )

    async def _stale(self, entries: list[Entry]) -> list[tuple[Entry, bytes]]:
        """The entries to write anew, each with its plain value. What did not open is noted."""
        found: list[tuple[Entry, bytes]] = []
        for entry, value in zip(entries, await self._sealer.try_open(entries), strict=True):
            if self._plain_too and not is_sealed(entry.value):
                found.append((entry, entry.value))
            elif isinstance(value, StoreError):
                self._refused.append(value)
            elif not self._sealer.is_current(entry.value):
                if self._is_held(entry.key, value):
                    self._held.add(entry.key)
                else:
                    found.append((entry, value))
        return found

    def _is_held(self, key: str, value: bytes) -> bool:
        """Whether it is the record of a run with a live owner: writing it would take the run from under its steps."""
        if not key.startswith(keys.RECORDS):
            return False
        try:
            record = self._codec.decode(value)
        except AlkalineError:
            return False  # it holds a type that was registered elsewhere: a result, so nobody drives it any more
        return record.get("owner") is not None and record.get("lease_until", 0) > self._host.now_ms()


def _chunks(entries: Sequence[Entry], most_bytes: int, most_keys: int) -> list[list[Entry]]:
    """``entries`` in pieces that fit into a batch."""
    chunks: list[list[Entry]] = []
    size = 0
    for entry in entries:
        if not chunks or size + len(entry.value) > most_bytes or len(chunks[-1]) >= most_keys:
            chunks.append([])
            size = 0
        chunks[-1].append(entry)
        size += len(entry.value)
    return chunks
