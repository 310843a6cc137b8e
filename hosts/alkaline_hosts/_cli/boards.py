"""``alkaline board``: tasks that people and agents share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

import click

from alkaline_edge.board import Board, Task, TaskPage
from alkaline_edge.board.showing import columns, graph, line
from alkaline_edge.board.states import STATES
from alkaline_edge.errors import InvalidInput, NotFound

from .._http.json import from_json
from . import output
from .addresses import Address
from .moving import asking
from .rooms import Room
from .shell import AS_JSON, on_store, reported

_PAGE = 500


@click.group("board")
def board() -> None:
    """Look at the tasks of a board, and change them.

    Workers claim and do them in processes of yours: see docs/board.md.
    """


def _page(store: Address, board: str, state: str | None, assignee: str | None, after: str, limit: int) -> TaskPage:
    """Some tasks of a store, or of a server."""
    if not store.is_server:
        page: TaskPage = _room(board).read(store, lambda there: there.list(state, assignee, after, limit))
        return page
    given = asking(store, lambda server: server.tasks(board, state, assignee, after, limit))
    return TaskPage([Task.from_map(each) for each in given["tasks"]], given["after"])


@board.command("view")
@click.option("--graph", "as_graph", is_flag=True, help="What depends on what, in place of the columns.")
@click.option("--all", "archived", is_flag=True, help="With archived tasks.")
@AS_JSON
@reported
@on_store("BOARD")
def view(store: Address, board: str, as_graph: bool, archived: bool, as_json: bool) -> None:
    """Show a whole board: its columns, or what depends on what."""

    tasks = list[Task]()
    further: str | None = ""
    while further is not None:
        page = _page(store, board, None, None, further, _PAGE)
        tasks += [task for task in page if archived or task.state != "archived"]
        further = page.after
    others: dict[str, Task] = {}
    if as_graph and not store.is_server:
        others = _room(board).read(store, lambda there: _of_other_boards(there, tasks))
    if as_json:
        output.print_json([task.to_map() for task in tasks])
    elif tasks:
        for text in (graph(tasks, others) if as_graph else columns(tasks)).splitlines():
            output.say(text)
    else:
        output.note("no tasks")


async def _of_other_boards(there: Board, tasks: list[Task]) -> dict[str, Task]:
    """The parents that are on other boards, without those that were purged."""
    found: dict[str, Task] = {}
    for ref in sorted({parent for task in tasks for parent, _ in task.parents if "/" in parent}):
        with suppress(NotFound):
            found[ref] = await there.get(ref)
    return found


@board.command("list")
@click.option("--state", type=click.Choice(tuple(STATES)), help="Only tasks in this state, in the order of claims.")
@click.option("--assignee", help="With --state: only this one's.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 1_000))
@click.option("--after", default="", help="Go on behind this place, which an earlier page gave.")
@AS_JSON
@reported
@on_store("BOARD")
def list_(
    store: Address, board: str, state: str | None, assignee: str | None, limit: int, after: str, as_json: bool
) -> None:
    """List tasks, a line each."""
    page = _page(store, board, state, assignee, after, limit)
    if as_json:
        output.print_json({"tasks": [task.to_map() for task in page], "after": page.after})
        return
    for task in page:
        output.say(f"[{task.state}] {line(task)}")
    if page.after is not None:
        output.note(f"more: --after {page.after}")
    if not len(page):
        output.note("no tasks")


@board.command("show")
@AS_JSON
@reported
@on_store("BOARD", "TASK")
def show(store: Address, board: str, task: str, as_json: bool) -> None:
    """Show one task, with what was said of it."""

    async def look(there: Board) -> tuple[Task, Sequence[Any]]:
        return await there.get(task), await there.comments(task, limit=100)

    found, said = _room(board).read(store, look)
    if as_json:
        comments = [{"number": each.number, "at": each.at, "by": each.by, "text": each.text} for each in said]
        output.print_json({**found.to_map(), "said": comments})
        return
    output.say(f"[{found.state}] {line(found)}")
    for name in ("body", "parents", "result", "summary", "failure", "block", "workflow", "run", "spent", "attempts"):
        value = getattr(found, name)
        if value not in (None, "", [], [0, 0]):
            output.say(f"{name}: {output.plain(value)}")
    for each in said:
        output.say(f"{output.time_of(each.at)} {each.by or ''}: {each.text}")


@board.command("events")
@click.option("--after", default=0, type=click.IntRange(0), help="Go on behind the event of this number.")
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1, 1_000))
@AS_JSON
@reported
@on_store("BOARD")
def events(store: Address, board: str, after: int, limit: int, as_json: bool) -> None:
    """Show what happened on a board, an event a line."""
    found = _room(board).read(store, lambda there: there.events(after, limit))
    names = ("number", "at", "kind", "task", "by", "detail")
    if as_json:
        output.print_json([{name: getattr(each, name) for name in names} for each in found])
        return
    for each in found:
        output.say(f"{each.number} {output.time_of(each.at)} {each.kind} {each.task} {output.plain(each.detail)}")


@board.command("create")
@click.option("--body", metavar="JSON", help="What is to be done.")
@click.option("--id", "id", help="Its id; a random one without.")
@click.option("--key", help="The same key makes one task, however often it is sent.")
@click.option(
    "--parent", "parents", multiple=True, help="A task that has to be done first; OTHER/TASK of another board."
)
@click.option("--priority", default=0, show_default=True, type=int)
@click.option("--assignee", help="Whose it is; anybody's without.")
@click.option("--workflow", help="Claiming it starts a run of this workflow.")
@click.option("--input", "given", metavar="JSON", help="The input of the run.")
@click.option("--triage", is_flag=True, help="Somebody has to accept it first.")
@AS_JSON
@reported
@on_store("BOARD", "TITLE")
def create(
    store: Address, board: str, title: str, body: str | None, given: str | None, as_json: bool, **settings: Any
) -> None:
    """Make a task."""
    values = [None if text is None else from_json(text, what, python=True) for text, what in
              ((body, "--body"), (given, "--input"))]  # fmt: skip
    made = _room(board).write(store, lambda there: there.create(title, values[0], input=values[1], **settings))
    _said(made, as_json)


def _verb(name: str, help: str, does: Callable[..., Awaitable[Any]], *words: str) -> None:
    """A command that does something with a task, and says where that left it."""

    @board.command(name, help=help)
    @AS_JSON
    @reported
    @on_store("BOARD", "TASK", *words)
    def command(store: Address, board: str, task: str, as_json: bool, **given: str) -> None:
        found = _room(board).change(
            store, lambda there: there.get(task), lambda there: does(there, task, *given.values())
        )
        if found is not None:
            _said(found, as_json)
        else:
            output.print_json({"task": task, "purged": True}) if as_json else output.say(f"{task}: purged")


_verb("accept", "Let a task out of triage.", Board.accept)
_verb("approve", "A task in review is done.", Board.approve)
_verb("request-changes", "A task in review goes back, with TEXT.", Board.request_changes, "TEXT")
_verb("comment", "Say TEXT of a task.", Board.comment, "TEXT")
_verb("assign", "Give a task to WHOM.", Board.assign, "WHOM")
_verb("block", "Hold a task up, and say why.", lambda there, task, why: there.block(task, reason=why), "REASON")
_verb("unblock", "Let a blocked task go on, with an ANSWER.", Board.unblock, "ANSWER")
_verb(
    "link",
    "Make TASK wait until PARENT is done; OTHER/TASK of another board.",
    lambda there, task, parent: there.link(parent, task),
    "PARENT",
)
_verb("unlink", "TASK waits for PARENT no longer.", lambda there, task, parent: there.unlink(parent, task), "PARENT")
_verb("reclaim", "Take a task away from whoever holds it.", Board.reclaim)
_verb("cancel", "Withdraw a task; its run is cancelled.", Board.cancel)
_verb("reopen", "Let a task that failed or was cancelled be tried again.", Board.reopen)
_verb("archive", "Put a task that has ended out of sight.", Board.archive)
_verb("purge", "Delete an archived task and all that it has.", Board.purge)
_verb("top-up", "Add TOKENS to a task's budget.", lambda there, task, n: there.top_up(task, _whole(n)), "TOKENS")


def _room(name: str) -> Room[Board]:
    return Room("boards", lambda runtime: Board(runtime, name, by="alkaline"))


def _whole(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 17):
        raise InvalidInput(f"TOKENS is a whole number, not {text[:60]!r}")
    return int(text)


def _said(task: Task, as_json: bool) -> None:
    if as_json:
        output.print_json(task.to_map())
    else:
        output.say(f"[{task.state}] {line(task)}")
