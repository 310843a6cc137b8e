"""A small team of agents on a task board: a planner, workers, a checker and a writer, each a loop of its own.

    python examples/team/team.py                  in memory
    python examples/team/team.py ./team.alkaline  in a file; or postgresql://..., redis://...

Nothing here depends on where it runs: in a tab, ``await work(IndexedDBHost(...), "...")`` does the same. The agents'
models are small functions, so that the program says the same each time; one service that they ask is down at first.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from alkaline_edge import Budget, Context, Runtime, workflow
from alkaline_edge.board import Board, BoardEvent, Claim
from alkaline_edge.board.showing import columns, graph
from alkaline_edge.host import Host
from alkaline_hosts import open_host

FACTS = {"wind": "12 knots from the west", "rain": "none before noon", "tide": "high at 14:20"}


async def plan(question: str) -> list[str]:
    """Which parts a question has."""
    return [part for part in FACTS if part in question]


@workflow(budget=Budget(tokens=1_000))
async def planner(ctx: Context, question: str) -> list[str]:
    """A run, so that what the model has planned is asked once, whatever dies."""
    parts: list[str] = await ctx.step("plan", plan, question, cost=120)
    return parts


class Team:
    """What each member does with a task that it has claimed."""

    def __init__(self) -> None:
        self.down = {"rain"}

    async def look_up(self, claim: Claim) -> str:
        """A worker: asks a service, which may be down."""
        part = claim.task.title
        await claim.spend(50)
        if part in self.down:
            self.down.discard(part)
            raise ConnectionError(f"the {part} service does not answer")
        await claim.comment(f"found out about the {part}")
        return FACTS[part]

    async def check(self, claim: Claim) -> str:
        """The checker: looks at what the workers have found."""
        missing = [id for id, found in claim.parents.items() if not found]
        return f"{len(claim.parents)} findings, {len(missing)} missing"

    async def write(self, claim: Claim) -> None:
        """The writer: puts it together, and has it reviewed."""
        found = [text for id, text in sorted(claim.parents.items()) if not id.endswith(".check")]
        await claim.request_review("please look", "; ".join(found), reviewer="editor")

    async def edit(self, claim: Claim) -> None:
        """The editor: wants it shorter the first time."""
        if claim.task.comments:
            await claim.complete(summary="good")
        else:
            await claim.request_changes("say who it is for")


async def work(host: Host, question: str, say: Any = print) -> str:
    """Plan, work, check, write and edit, until the answer is there."""
    async with Runtime(host, workflows=[planner]) as runtime:
        board, team = Board(runtime, "team", by="planner"), Team()
        run = await runtime.start(planner, question, id="plan", on_conflict="join")
        goal = await board.swarm(
            question, await run.result(), key=question, workers="worker", checker="checker", writer="writer"
        )
        say(graph(await board.list(limit=100)))
        ended = False

        async def notice(event: BoardEvent) -> None:
            if event.kind in ("fail", "request_changes"):
                say(f"{event.kind}: {event.detail['text']}")

        async def watch() -> None:
            nonlocal ended
            while not ended:
                await board.deliver("watcher", notice)
                ended = (await board.get(goal.id)).ended
                await host.sleep(0.01)

        def over() -> bool:
            return ended

        jobs = [
            board.work(team.look_up, worker=f"worker {n}", assignees=["worker"], until=over, poll=0.01) for n in (1, 2)
        ]
        jobs += [board.work(team.check, worker="checker", assignees=["checker"], until=over, poll=0.01)]
        jobs += [board.work(team.write, worker="writer", assignees=["writer"], until=over, poll=0.01)]
        jobs += [board.work(team.edit, worker="editor", assignees=["editor"], review=True, until=over, poll=0.01)]
        await asyncio.gather(watch(), *jobs)
        say(columns(await board.list(limit=100)))
        return str((await board.get(goal.id)).result)


async def main() -> None:
    """On the store that the command line names."""
    host = open_host(sys.argv[1] if len(sys.argv) > 1 else None)
    try:
        print(await work(host, "is there wind, rain and a tide for sailing?"))
    finally:
        await host.close()


if __name__ == "__main__":
    asyncio.run(main())
