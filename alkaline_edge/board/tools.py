"""The verbs of a board as plain functions for agents: names, docstrings and plain values, as tool schemas want them.

What one raises is an AlkalineError whose message says what to do: hand it to the model.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any, get_type_hints

from .board import Board
from .claims import Claim
from .tasks import Task, shown_block

Tool = Callable[..., Awaitable[Any]]
_COMMENTS = 30


def tools_for(board: Board, claim: Claim | None = None) -> dict[str, Tool]:
    """By name, what an agent may do on ``board``; with a ``claim`` also what whoever holds that task may."""

    async def show(id: str) -> dict[str, Any]:
        """Show a task, or board/id on another board: its state, what it waits for, its result, its last comments."""
        task = await board.get(id)
        said = await board.comments(id, max(0, task.comments - _COMMENTS), _COMMENTS)
        return {**shown(task), "comments": [{"by": each.by, "text": each.text} for each in said]}

    async def list_tasks(state: str = "ready", limit: int = 20) -> list[dict[str, Any]]:
        """List tasks of a state, in the order in which they are claimed."""
        return [shown(task) for task in await board.list(state, limit=limit)]

    async def create(
        title: str,
        body: str = "",
        parents: list[str] | None = None,
        assignee: str | None = None,
        key: str | None = None,
    ) -> dict[str, Any]:
        """Make a task. It waits until its parents are done: ids, or board/id for tasks of other boards.

        The same key makes one task, however often it is called.
        """
        return shown(await board.create(title, body, parents=parents or [], assignee=assignee, key=key))

    async def link(parent: str, child: str) -> dict[str, Any]:
        """Make the child wait until the parent is done, which may be another board's: board/id."""
        return shown(await board.link(parent, child))

    async def comment(id: str, text: str) -> dict[str, Any]:
        """Say something of a task."""
        return shown(await board.comment(id, text))

    async def unblock(id: str, answer: str) -> dict[str, Any]:
        """Let a blocked task go on, with an answer."""
        return shown(await board.unblock(id, answer))

    found: dict[str, Tool] = {
        "show": show, "list_tasks": list_tasks, "create": create, "link": link, "comment": comment, "unblock": unblock,
    }  # fmt: skip
    return found if claim is None else found | _of_holder(claim)


def tools_by_token(board: Board) -> dict[str, Tool]:
    """As ``tools_for``, for agents of which nothing is kept between two calls, such as the clients of an MCP server.

    ``claim`` hands out a task with the token of its claim, and the verbs of whoever holds it take both.
    """

    async def claim(worker: str, assignee: str | None = None, review: bool = False) -> dict[str, Any]:
        """Take the task to be done next; `given` is what its parents came to. Its other verbs want its id and claim."""
        found = await board.claim(worker, assignees=[assignee], review=review)
        if found is None:
            return {"claimed": False}
        return {"claimed": True, "claim": found.token, "given": found.parents, **shown(found.task)}

    return tools_for(board) | {"claim": claim} | {name: _held(board, name, each) for name, each in _VERBS.items()}


def _held(board: Board, name: str, verb: Tool) -> Tool:
    """A verb of a claim as a function of the task's id and the claim's token besides."""

    async def held(id: str, claim: str, **given: Any) -> Any:
        return await _of_holder(await board.held(id, claim))[name](**given)

    hints = {"id": str, "claim": str, **get_type_hints(verb)}
    both = [inspect.Parameter(each, inspect.Parameter.POSITIONAL_OR_KEYWORD) for each in ("id", "claim")]
    held.__name__, held.__doc__, held.__annotations__ = name, verb.__doc__, hints
    held.__signature__ = inspect.Signature([*both, *inspect.signature(verb).parameters.values()])  # type: ignore[attr-defined]
    return held


def _of_holder(claim: Claim) -> dict[str, Tool]:
    async def complete(result: Any = None, summary: str = "") -> str:
        """Your task is done: give its result, and say in a sentence what you did."""
        await claim.complete(result, summary)
        return "done"

    async def block(kind: str, reason: str) -> str:
        """You can't go on with your task: kind is needs_input, capability or transient. Say why."""
        await claim.block(kind, reason)
        return "blocked"

    async def wait_for(ids: list[str], reason: str = "") -> str:
        """Your task needs other tasks done first: name them. You get it back when they are."""
        await claim.block("dependency", reason, on=tuple(ids))
        return "waits"

    async def request_review(summary: str, result: Any = None, reviewer: str | None = None) -> str:
        """Your task is done, and somebody is to look at it."""
        await claim.request_review(summary, result, reviewer)
        return "in review"

    async def request_changes(text: str) -> str:
        """As a reviewer: say what is to be done better."""
        await claim.request_changes(text)
        return "sent back"

    async def progress(note: str = "") -> str:
        """Say that your task goes on."""
        await claim.heartbeat(progress=True)
        if note:
            await claim.comment(note)
        return "noted"

    return {
        "complete": complete, "block": block, "wait_for": wait_for, "request_review": request_review,
        "request_changes": request_changes, "progress": progress,
    }  # fmt: skip


_VERBS = _of_holder(None)  # type: ignore[arg-type]
"""The verbs of a claim, for their signatures."""


def shown(task: Task) -> dict[str, Any]:
    """What an agent is told of a task."""
    found = {
        "id": task.id,
        "title": task.title,
        "state": task.state,
        "body": task.body,
        "assignee": task.assignee,
        "worker": None if task.claim is None else task.claim["worker"],
        "parents": [parent for parent, _ in task.parents],
        "blocked": shown_block(task),
        "result": task.result,
        "summary": task.summary,
        "failure": (task.failure or {}).get("message"),
    }
    return {name: item for name, item in found.items() if item not in (None, "", [])}
