"""Payloads of requests that are too large for an entry of the inbox: blobs of the run until it reads them.

Such a blob holds ``[entry id, payload]``, so it is one request's own, and is deleted with it. Outside of a store, in
bundles and letters, a request has its payload within it.
"""

from __future__ import annotations

from typing import Any

from .. import keys
from ..codec import BlobRef
from .store import Store


def fitted(store: Store, run: str, entry: list[Any]) -> tuple[bytes, dict[str, bytes]]:
    """The bytes of an inbox entry ``[id, kind, name, payload, accepted]``, and the blob keys to put before it."""
    data, blobs = store.codec.encode_whole(entry, "payload"), dict[str, bytes]()
    if len(data) > store.limits.inline_limit:
        id, kind, name, payload, *rest = entry
        ref = store._chunked(store.codec.encode_whole([id, payload]), run, blobs)
        data = store.codec.encode([id, kind, name, ref, *rest])
    return data, blobs


async def read(store: Store, run: str, payload: Any) -> Any:
    """The payload of an entry, read from blobs where it stands there."""
    return (await store.blob(run, payload))[1] if type(payload) is BlobRef else payload


async def whole(store: Store, run: str, raw: bytes) -> bytes:
    """The bytes of an entry with its payload within it, for another store."""
    entry = store.codec.decode(raw)
    if type(entry[3]) is not BlobRef:
        return raw
    entry[3] = await read(store, run, entry[3])
    return store.codec.encode_whole(entry)


async def drop(store: Store, run: str, payload: Any) -> None:
    """Delete what a request that was read, or counts no more, has left in blobs. Cut off, it goes with the run."""
    if type(payload) is BlobRef:
        await store.purge((keys.chunks(run, payload.digest),))
