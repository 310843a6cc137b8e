"""What a store holds beside its runs, as callers see it: schedules and boards. Looking drives nothing."""

from __future__ import annotations

from typing import Any

from alkaline_edge.board import claiming, listing
from alkaline_edge.board.moment import Moment
from alkaline_edge.board.tasks import Task, check_board
from alkaline_edge.names import check_name
from alkaline_edge.runtime.store import Store
from alkaline_edge.triggers.triggers import page_of


async def schedules(store: Store, after: str, limit: int) -> dict[str, Any]:
    """See ``RunVerbs.schedules``."""
    page = await page_of(store, after, limit)
    return {"schedules": [each.to_map() for each in page], "after": page.after}


async def boards(store: Store, after: str, limit: int) -> dict[str, Any]:
    """See ``RunVerbs.boards``."""
    names, further = await listing.names(store, after, limit)
    found = []
    for name in names:
        moment = Moment(store, name)
        await moment.open()
        found.append({"name": name, **moment.head.to_map()})
    return {"boards": found, "after": further}


async def tasks(
    store: Store, board: str, state: str | None, assignee: str | None, after: str, limit: int
) -> dict[str, Any]:
    """See ``RunVerbs.tasks``."""
    who = None if assignee is None else check_name(assignee, "assignee")
    page, further = await claiming.page(store, check_board(board), state, who, after, limit)
    return {"tasks": [_shown(task) for task in page], "after": further}


def _shown(task: Task) -> dict[str, Any]:
    """A task without the token of its claim, which lets whoever has it act for its holder."""
    held = task.to_map()
    if held.get("claim") is not None:
        held["claim"] = {name: value for name, value in held["claim"].items() if name != "token"}
    return held
