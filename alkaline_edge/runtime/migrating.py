"""Going on upon another host: everything that a store holds, copied as it is."""

from __future__ import annotations

from ..arguments import expect
from ..codec import Codec
from ..errors import ConflictError
from ..host import Host
from .copying import put_in_batches
from .store import Store


async def migrate(source: Host, target: Host, through: Store | None = None) -> int:
    """Copy every key of ``source`` to ``target``, and return how many. Repeating it after an interruption is safe.

    ``through``: the store of a runtime that goes on upon the target, for its codec; None otherwise. No runtime may be
    writing to ``source``. A target that holds anything else is ERR_CONFLICT, before anything is
    written.
    """
    for host, what in ((source, "source"), (target, "target")):
        expect(host, Host, f"migrate({what}=)", "a host")
    expect(through, (Store, type(None)), "migrate(through=)", "a Store")
    store = Store(target, through.codec if through is not None else Codec())
    reader = Store(source, store.codec)
    foreign = set(await store.keys_under("")) - set(await reader.keys_under(""))
    if foreign:
        raise ConflictError(
            f"the target holds {len(foreign)} keys that the source does not have; migrate into an empty store",
            keys=len(foreign),
        )
    copied, after = 0, ""
    while True:
        entries = await source.list("", after, 200)
        await put_in_batches(store, {entry.key: entry.value for entry in entries})
        copied += len(entries)
        if len(entries) < 200:
            return copied
        after = entries[-1].key
