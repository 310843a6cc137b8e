"""A small interpreter: it turns the bodies of a program into workflows, and its nodes into what the handler does.

Whatever a handler sees goes into its trace, and the trace's checksum goes into the arguments of every step: a replay
that sees the same in another order asks for other steps, and is refused.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from zlib import crc32

from alkaline_edge import (
    AlkalineError,
    Budget,
    BudgetExceeded,
    Context,
    Retry,
    StepInfo,
    StepOutcomeUnknown,
    Workflow,
    in_thread,
    workflow,
)

from .programs import DEAR, Body, Node, Program
from .timeline import PROCESS

if TYPE_CHECKING:
    from .world import World


class Hopeless(Exception):
    """What the program says that fails."""


class Playing:
    """One pass through a body: the handler's local state."""

    def __init__(self, program: Program, ctx: Context, given: dict[str, Any], patched: bool) -> None:
        self.program, self.ctx, self.given, self.is_patched = program, ctx, given, patched
        self.trace = given.get("trace", 0)
        self.emitted, self.spent = given.get("emitted", 0), given.get("spent", 0)
        self.marks: dict[str, int] = dict(given.get("marks", {}))
        self.updated: list[str] = list(given.get("updated", []))

    def saw(self, *what: Any) -> None:
        """Add to the trace."""
        self.trace = crc32(repr(what).encode(), self.trace)

    async def play(self, node: Node) -> Any:
        """What the node comes to."""
        self.saw(node.id)
        value = await getattr(self, f"do_{node.kind}")(node)
        self.saw(node.id, crc32(repr(value).encode()))
        return value

    # --- leaves ------------------------------------------------------------------------------------------------------
    async def _step(self, node: Node, name: str, fn: Any = None, place: int = 0, **options: Any) -> Any:
        return await self.ctx.step(name, fn or act, node.id, place, self.trace, **options)

    async def do_step(self, node: Node) -> Any:
        args, options = node.args, dict[str, Any]()
        if args.get("fails"):
            options["retry"] = Retry(max_attempts=args["fails"] + 1, backoff=args.get("backoff", 0))
        if args.get("cost"):
            options["cost"] = args["cost"]
        if args.get("timeout"):
            options["timeout"] = args["timeout"]
        limited_now = _world().sharing.limit
        if limited_now:  # a place that was lost stops a step, and a store that fails refuses one: it is tried again
            options["retry"] = Retry(max_attempts=500, backoff=args.get("backoff", 0) or 1, cap=90, retryable=_passes)
        try:
            value = await self._step(node, f"s{node.id}", limited if limited_now else act, **options)
        except TimeoutError:
            if not args.get("timeout"):
                raise
            return "slow"
        self.spent += args.get("cost", 0)
        return value

    async def do_undo(self, node: Node) -> Any:
        return await self._step(node, f"c{node.id}", compensate=undo)

    async def do_blocking(self, node: Node) -> Any:
        return await self._step(node, f"b{node.id}", block_in_thread if node.args["thread"] else block)

    async def do_once(self, node: Node) -> Any:
        try:
            return await self._step(node, f"o{node.id}", at_most_once=True)
        except StepOutcomeUnknown:
            return "unknown"
        except ConnectionError:
            return "refused"

    async def do_loop(self, node: Node) -> Any:
        return [await self._step(node, f"l{node.id}", place=n) for n in range(node.args["times"])]

    async def do_sleep(self, node: Node) -> Any:
        await self.ctx.sleep(node.args["seconds"])
        return "slept"

    async def do_turns(self, node: Node) -> Any:
        for _ in range(node.args["times"]):
            await asyncio.sleep(0)
        return "turned"

    async def do_wait(self, node: Node) -> Any:
        return ["signal", await self.ctx.wait_for_signal("s")]

    async def do_late(self, node: Node) -> Any:
        begun = round(self.ctx.now().timestamp() * 1000)
        default = ["late", begun + node.args["seconds"] * 1000]
        return await self.ctx.wait_for_signal(f"r{node.id}", timeout=node.args["seconds"], default=default)

    async def do_spend(self, node: Node) -> Any:
        self.ctx.spend(node.args["tokens"], f"p{node.id}")
        self.spent += node.args["tokens"]
        return "spent"

    async def do_dear(self, node: Node) -> Any:
        try:
            value = await self._step(node, f"d{node.id}", cost=DEAR)
        except BudgetExceeded:
            return "too dear"
        self.spent += DEAR
        return value

    async def do_hitch(self, node: Node) -> Any:
        if node.args.get("dear"):  # it fails until the budget is topped up
            value = await self._step(node, f"h{node.id}", cost=DEAR)
            self.spent += DEAR
            return value
        return await self._step(node, f"h{node.id}", hitch)

    async def do_emit(self, node: Node) -> Any:
        self.ctx.emit("e", self.emitted)
        self.emitted += 1
        return "emitted"

    async def do_mark(self, node: Node) -> Any:
        self.marks["mark"] = node.id
        self.ctx.set_attributes(mark=node.id)
        return "marked"

    async def do_draw(self, node: Node) -> Any:
        self.saw(self.ctx.uuid(), self.ctx.random(), self.ctx.now())
        return "drawn"

    async def do_patched(self, node: Node) -> Any:
        if self.is_patched and self.ctx.patched(f"patch-{node.id}"):
            return [await self._step(node, f"n{node.id}", place=2)]
        return [await self._step(node, f"s{node.id}")]

    async def do_queue(self, node: Node) -> Any:
        queue: asyncio.Queue[int] = asyncio.Queue(1)

        async def put() -> None:
            for n in range(3):
                await queue.put(n)

        task = asyncio.get_running_loop().create_task(put())
        found = [await queue.get() for _ in range(3)]
        await task
        return found

    # --- branches ----------------------------------------------------------------------------------------------------
    async def do_seq(self, node: Node) -> Any:
        return [await self.play(kid) for kid in node.kids]

    async def do_all(self, node: Node) -> Any:
        return await self.ctx.all(*map(self.play, node.kids), limit=node.args.get("limit") or None)

    async def do_gather(self, node: Node) -> Any:
        return list(await asyncio.gather(*map(self.play, node.kids)))

    async def do_group(self, node: Node) -> Any:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self.play(kid)) for kid in node.kids]
        return [task.result() for task in tasks]

    async def do_map(self, node: Node) -> Any:
        return await self.ctx.map(self.play, node.kids, limit=node.args.get("limit") or None)

    async def do_rooms(self, node: Node) -> Any:
        room = asyncio.Semaphore(1)

        async def inside(kid: Node) -> Any:
            async with room:
                return await self.play(kid)

        return list(await asyncio.gather(*map(inside, node.kids)))

    async def do_race(self, node: Node) -> Any:
        return list(await self.ctx.race(**{f"k{n}": self.play(kid) for n, kid in enumerate(node.kids)}))

    async def do_within(self, node: Node) -> Any:
        try:
            async with asyncio.timeout(node.args["seconds"]):
                return ["in", await self.play(node.kids[0])]
        except TimeoutError:
            return ["out"]

    async def do_attempt(self, node: Node) -> Any:
        try:
            if not node.args["fails"]:
                return ["went", await self.play(node.kids[0])]
            async with asyncio.TaskGroup() as group:
                group.create_task(self.play(node.kids[0]))
                group.create_task(self._fail(node))
        except* (Hopeless, Exception):
            pass
        return ["failed"]

    async def _fail(self, node: Node) -> None:
        await self._step(node, f"f{node.id}", hopeless)

    async def do_cleanup(self, node: Node) -> Any:
        try:
            return await self.play(node.kids[0])
        finally:
            await self.play(node.kids[1])

    def _child(self, node: Node) -> Any:
        depth = self.given.get("depth", 0) + 1
        policy = "abandon" if node.args["abandon"] else "cancel"
        return self.ctx.child(f"w{node.args['body']}", {"depth": depth}, on_parent_close=policy)

    async def do_child(self, node: Node) -> Any:
        if self.given.get("depth", 0) >= 2:
            return "deep"
        return ["child", await self._child(node)]

    async def do_leave(self, node: Node) -> Any:
        if self.given.get("depth", 0) >= 2:
            return "deep"
        key, value = await self.ctx.race(child=self._child(node), timer=self.ctx.sleep(node.args["seconds"]))
        return [key, value]

    # --- from outside ------------------------------------------------------------------------------------------------
    def listen(self) -> None:
        """Answer queries and updates."""
        self.ctx.on_query("trace", lambda: self.trace)
        self.ctx.on_update("note", self._note, _refuse)

    async def _note(self, payload: dict[str, Any]) -> Any:
        self.saw("update", payload["n"])
        self.updated.append(payload["n"])
        if payload["step"]:
            await self.ctx.step(f"u{payload['n']}", act, 0, 0, self.trace)
        return [payload["n"], "y" * payload["fill"]]


def _passes(error: BaseException) -> bool:
    return isinstance(error, (AlkalineError, ConnectionError))


def _refuse(payload: dict[str, Any]) -> None:
    if payload["refuse"]:
        1 / 0  # noqa: B018  # what a validator of the user's raises


def _world() -> World:
    process = PROCESS.get()
    assert process is not None
    return process.world  # type: ignore[attr-defined, no-any-return]  # each process of a schedule has one


async def act(node_id: int, place: int, trace: int, info: StepInfo) -> str:
    """A step: its effect is noted outside; then it takes its time, and fails as often as its node says."""
    world = _world()
    node = world.node(node_id)
    world.did(info, (node_id, place, trace), once=node is not None and node.kind == "once")
    args = node.args if node is not None else {}
    if args.get("lasts"):
        await asyncio.sleep(args["lasts"])
    if info.attempt <= args.get("fails", 0) and info.step[0] in "so":
        raise ConnectionError(f"attempt {info.attempt}")
    return world.value(node_id, place)


async def limited(node_id: int, place: int, trace: int, info: StepInfo) -> str:
    """As ``act``, where only so many run at a time."""
    found: str = await _world().sharing.limited(lambda: act(node_id, place, trace, info))
    return found


def block(node_id: int, place: int, trace: int, info: StepInfo) -> str:
    """A step that is no coroutine: nothing else of its process runs meanwhile."""
    world = _world()
    node = world.node(node_id)
    world.did(info, (node_id, place, trace))
    process = PROCESS.get()
    if node is not None and node.args.get("lasts") and process is not None and not process.in_thread:
        process.block(node.args["lasts"])
    return world.value(node_id, place)


@in_thread
def block_in_thread(node_id: int, place: int, trace: int, info: StepInfo) -> str:
    """As ``block``, in a thread where the host has them."""
    return block(node_id, place, trace, info)


async def hopeless(node_id: int, place: int, trace: int, info: StepInfo) -> None:
    """A step that fails for good."""
    _world().did(info, (node_id, place, trace))
    raise Hopeless("by the program")


async def hitch(node_id: int, place: int, trace: int, info: StepInfo) -> str:
    """A step that fails until what it needs is mended."""
    world = _world()
    world.did(info, (node_id, place, trace))
    if not world.mended:
        raise Hopeless("by the program")
    return world.value(node_id, place)


async def undo(value: str) -> str:
    """What compensates an "undo" step, given its result."""
    world = _world()
    node = world.node(int(value[1 : value.index(".")]))
    if node is not None and node.args.get("undoing"):
        await asyncio.sleep(node.args["undoing"])
    return "undone"


def workflows(program: Program, patched: bool, newer: bool) -> list[Workflow]:
    """What a process has registered. ``patched``: the new code of "patched" nodes; ``newer``: version 2 as well."""
    found = [_workflow(program, n, body, patched) for n, body in enumerate(program.bodies)]
    if newer:
        found += [replace(one, version=2) for one in found]
    return found


def _workflow(program: Program, n: int, body: Body, patched: bool) -> Workflow:
    budget = Budget(tokens=program.budget) if program.budget is not None and n == 0 else None

    @workflow(name=f"w{n}", budget=budget, recursive=body.recursive)
    async def flow(ctx: Context, given: dict[str, Any]) -> Any:
        playing = Playing(program, ctx, given, patched)
        playing.listen()
        done = [*given.get("done", []), await playing.play(body.root)]
        if len(done) < body.generations:
            ctx.continue_as_new(
                {**given, "done": done, "emitted": playing.emitted, "spent": playing.spent, "marks": playing.marks,
                 "trace": playing.trace, "updated": playing.updated},
                carry_signals=body.carry,
            )  # fmt: skip
        if body.doomed:
            raise Hopeless("by the program")
        return {
            "done": done, "emitted": playing.emitted, "spent": playing.spent, "marks": playing.marks,
            "updated": playing.updated, "trace": playing.trace, "depth": given.get("depth", 0),
        }  # fmt: skip

    return flow
