"""Which boards a store has: for who looks at them from outside, and drives none."""

from __future__ import annotations

from .. import keys
from ..arguments import expect, whole
from ..runtime.store import Store


async def names(store: Store, after: str, limit: int) -> tuple[list[str], str | None]:
    """The names of up to ``limit`` boards behind ``after``, and where the next page begins, None behind the last one.

    Costs a read for each, whatever is on it.
    """
    whole(limit, "limit", 1, 1_000)
    expect(after, str, "after", "what an earlier page gave, or empty")
    found: list[str] = []
    behind = keys.behind_board(after) if after else ""
    while len(found) < limit:
        entries = await store.host.list(keys.BOARDS, behind, 1)
        if not entries:
            return found, None
        found.append(entries[0].key.removeprefix(keys.BOARDS).split("/")[0])
        behind = keys.behind_board(found[-1])
    return found, found[-1]
