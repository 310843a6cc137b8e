"""Writing what was made elsewhere: a whole history and its large values, in batches that the host takes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .. import keys
from ..host import Conflict
from ..runs import ExecutionRecord
from . import segments
from .store import Store
from .write import Write


async def put_run(
    store: Store,
    record: ExecutionRecord,
    commits: Sequence[bytes],
    blobs: Iterable[bytes],
    fence: dict[str, str | None] | None = None,
) -> bool:
    """Write a history and its large values; False as soon as ``fence`` does not hold."""
    name = keys.history(record.run, record.generation)
    puts: dict[str, bytes] = {}
    for blob in blobs:
        store._chunked(blob, record.run, puts)
    place = keys.segment if store.limits.segment_commits else keys.commit
    for first, count in segments.lengths(commits, store.limits):
        puts[place(name, first)] = b"".join(commits[first : first + count])
    return await put_in_batches(store, puts, fence)


async def put_in_batches(store: Store, puts: dict[str, bytes], fence: dict[str, str | None] | None = None) -> bool:
    """Put keys in batches that the host takes. Repeating it is harmless. False as soon as ``fence`` does not hold."""
    write = Write(dict(fence or {}))
    size = 0
    for key, value in puts.items():
        full = len(write.puts) >= min(200, store.limits.max_batch_keys)
        if write.puts and (full or size + len(value) > store.limits.max_batch_bytes // 2):
            if isinstance(await store.commit(write), Conflict):
                return False
            write, size = Write(dict(fence or {})), 0
        write.puts[key] = value
        size += len(value) + len(key)
    return not write.puts or not isinstance(await store.commit(write), Conflict)
