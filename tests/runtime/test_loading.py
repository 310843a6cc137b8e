"""Loading: a history that is not whole, or not the one that the run's record knows, is never gone on with."""

from __future__ import annotations

import pytest

from alkaline_edge import (
    StoreError,
)
from alkaline_edge.codec import Codec, pack
from tests.support import drive
from tests.travellers import ran, suspended


@pytest.mark.parametrize("damage", ["all", "the last", "gap", "swap", "edit", "tail"])
def test_a_damaged_history_is_found(damage: str) -> None:
    """A gap, a swap, an edit, a lost end, or nothing at all: ERR_STORE, and nothing runs."""

    async def test() -> None:
        process = await suspended()
        record = await process.runtime.get_execution("a")
        entries = process.host.store.entries
        keys = sorted(k for k in entries if k.startswith(f"h/{record.run}/"))
        if damage == "gap":
            del entries[keys[2]]
        elif damage == "tail":
            del entries[keys[-1]]
        elif damage == "all":
            for key in keys:
                del entries[key]
        elif damage == "the last":  # no commit behind it tells: the record does
            entry = entries[keys[-1]]
            edited = Codec().decode(entry.value)
            entries[keys[-1]] = entry._replace(value=pack([edited[0], edited[1] + 1, *edited[2:]]))
        elif damage == "swap":
            a, b = entries[keys[1]], entries[keys[2]]
            entries[keys[1]], entries[keys[2]] = a._replace(value=b.value), b._replace(value=a.value)
        else:
            entry = entries[keys[1]]
            entries[keys[1]] = entry._replace(value=entry.value[:-1] + bytes([entry.value[-1] ^ 1]))
        process.host.store.keys = sorted(entries)
        await process.crash()
        ran.clear()
        with pytest.raises(StoreError, match=r"restore it|Restore it"):
            await (await process.runtime.resume("a")).result()
        assert ran == []
        await process.runtime.close()

    drive(test)
