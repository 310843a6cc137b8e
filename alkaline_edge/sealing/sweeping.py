"""Going through a whole store: sealing it anew under the current key, or for the first time."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import ConflictError, InvalidInput, StoreError
from ..host import Batch, Check, Conflict, Entry, Put
from ..records import NamedTuple
from .host import SealedHost, parts_of
from .layout import is_sealed
from .sealer import Sealer

PAGE = 50
"""Keys that are read at once, and at most so many are written in one batch."""
SHOWN = 20
"""Places that an error names."""
TRIES = 20
"""How often a batch is read and written again when others write the same keys."""


class Swept(NamedTuple):
    """What a sweep did: of ``seen`` values it wrote ``written``; the others were as they should be, and opened.

    ``after`` is where the next call goes on, None once the end of the store was reached.
    """

    seen: int
    written: int
    after: str | None


async def reseal(host: SealedHost, *, after: str = "", limit: int | None = None) -> Swept:
    """Seal every value that an older key of the keyring sealed with the current one, and open all others.

    Runtimes may go on meanwhile, as long as all of them seal with the current key: each write checks that the value is
    still the one that was read. A run whose record is written anew reads its history again. It may be interrupted and
    called again at any time; a call that writes nothing says that no value needs the older keys any more.

    ``limit``: values to look at in this call, for an invocation that may not last; go on with ``after=`` of the result.
    StoreError once the end (or the limit) was reached, if some values did not open: they are as they were, the rest is
    done. ``detail`` holds ``places`` (the first of them), ``refused``, ``seen``, ``written`` and ``after``.
    """
    return await _sweep(host, after, limit, plain_too=False)


async def seal_store(host: SealedHost, *, after: str = "", limit: int | None = None) -> Swept:
    """Seal a store that was written without sealing, in place. From then on plain values in it are refused.

    It takes whatever plain values are there for the truth. No runtime may be writing to the store, sealed or not; one
    that reads without the seal finds values that it can't read. Interrupted, it is called again before anything else.
    What the storage keeps of overwritten values (a log, free pages, backups) is still plain: compact or delete that.

    ``limit``, ``after`` and errors are those of ``reseal``. A plain value that begins as a sealed one does and does not
    open is such an error as well: copy the store with ``migrate`` into an empty, sealed one instead.
    """
    return await _sweep(host, after, limit, plain_too=True)


async def _sweep(host: SealedHost, after: str, limit: int | None, plain_too: bool) -> Swept:
    if not isinstance(host, SealedHost):
        raise InvalidInput(f"give it the SealedHost of the store, not a {type(host).__name__}")
    can = host.capabilities
    if not can.checks:
        raise StoreError(f"{can.name} can't check a value before it writes: copy the store with migrate instead")
    inner, _ = parts_of(host)
    seen = written = 0
    refused: list[StoreError] = []
    ended = False
    while not ended and (limit is None or seen < limit):
        page = min(PAGE, PAGE if limit is None else limit - seen)
        entries = await inner.list("", after, page)
        for chunk in _chunks(entries, can.max_batch_bytes // 2, can.max_batch_keys):
            written += await _renew(host, chunk, plain_too, refused)
        seen += len(entries)
        after, ended = entries[-1].key if entries else after, len(entries) < page
    swept = Swept(seen, written, None if ended else after)
    if refused:
        raise StoreError(
            f"{len(refused)} of {seen} values did not open and were left as they were, the first: {refused[0]} "
            f"({written} were sealed anew)",
            places=[error.detail["place"] for error in refused[:SHOWN]],
            refused=len(refused),
            **swept._asdict(),
        )
    return swept


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


async def _renew(host: SealedHost, entries: list[Entry], plain_too: bool, refused: list[StoreError]) -> int:
    """Write what is not sealed with the current key, and return how many that were.

    What somebody else changed meanwhile is read again: it may be current now, or gone.
    """
    inner, sealer = parts_of(host)
    for _ in range(TRIES):
        stale = await _stale(sealer, entries, plain_too, refused)
        if not stale:
            return 0
        checks = tuple(Check(entry.key, entry.version) for entry, _ in stale)
        puts = await sealer.seal([Put(entry.key, value) for entry, value in stale])
        outcome = await inner.commit(Batch(inner.entropy(8).hex(), checks, puts))
        if not isinstance(outcome, Conflict):
            return len(stale)
        entries = [entry for entry in await inner.get([entry.key for entry, _ in stale]) if entry is not None]
    raise ConflictError(
        f"somebody who seals with an older key wrote {TRIES} times between reading and writing: give every runtime the "
        "keyring with the new current key first, then call this again"
    )


async def _stale(
    sealer: Sealer, entries: list[Entry], plain_too: bool, refused: list[StoreError]
) -> list[tuple[Entry, bytes]]:
    """The entries to write anew, each with its plain value; what did not open goes to ``refused``."""
    found: list[tuple[Entry, bytes]] = []
    for entry, value in zip(entries, await sealer.try_open(entries), strict=True):
        if plain_too and not is_sealed(entry.value):
            found.append((entry, entry.value))
        elif isinstance(value, StoreError):
            refused.append(value)
        elif not sealer.is_current(entry.value):
            found.append((entry, value))
    return found
