"""What ``make demo`` runs: the research agent, killed again and again, and what that cost.

Two agents work on the same question, each in a process and a directory of its own. One is left alone. The other is
killed with SIGKILL at random moments and started again. At the end its history, its effects log and its report are
compared with those of the first. Exit code 1 if anything differs from what it should be.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import re
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

try:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
except ImportError:
    sys.exit("the demo draws with rich: pip install 'alkaline-edge[demo]'")

from demonstration import evidence, show
from demonstration.agents import Agent, History, Kill, approve, in_flight, kill_after
from research_agent import QUESTION, WAITING

APPROVER = "the demo"
LIMIT = 180
"""Seconds after which the demo gives up: something hangs."""


class DemoFailed(Exception):
    """An agent did not do what it should; the message holds what it said."""


class Stage:
    """Says what happens: bars where the output is a terminal, lines where it is not."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._progress = Progress(
            TextColumn("{task.description:<14}"), BarColumn(40), MofNCompleteColumn(), TextColumn("steps"),
            TimeElapsedColumn(), TextColumn("{task.fields[note]}", style="dim"),
            console=console, disable=not console.is_terminal, transient=True,
        )  # fmt: skip
        self._tasks: dict[str, tuple[int, Agent]] = {}
        self._last: dict[str, int] = {}

    def say(self, text: str) -> None:
        """One line of what happened."""
        self.console.print(text, highlight=False, no_wrap=True, overflow="ellipsis")

    def note(self, name: str, text: str) -> None:
        """What an agent is doing, beside its bar."""
        self._progress.update(self._tasks[name][0], note=text)  # type: ignore[arg-type]  # rich's TaskID is an int

    async def watch(self, agents: dict[str, Agent]) -> None:
        """Show how far each agent is, until cancelled. Reads their stores beside them, and never writes."""
        for name, agent in agents.items():
            self._tasks[name] = (self._progress.add_task(name, total=None, note=""), agent)
        with self._progress:
            while True:
                for name in agents:
                    await self._look(name)
                await asyncio.sleep(0.1)

    async def _look(self, name: str) -> None:
        task, agent = self._tasks[name]
        history = await agent.history()
        if history is None:
            return
        done, total = len(history.committed), history.planned
        self._progress.update(task, completed=done, total=total)  # type: ignore[arg-type]  # as above
        if total and not self.console.is_terminal:
            quarter = done * 4 // total
            if quarter > self._last.get(name, 0):
                self._last[name] = quarter
                self.say(f"  {name}: {done} of {total} steps committed")


def moments(random_: random.Random, kills: int, sections: int) -> list[int]:
    """After how many committed steps to kill: one in each equal part of the way, so that they spread over it."""
    first, last = 4, sections  # indexing and outlining come on top: the run is longer than this
    width = (last - first) / max(1, kills)
    return [int(first + width * (n + random_.random())) for n in range(kills)]


async def torment(agent: Agent, stage: Stage, name: str, kills: list[int]) -> None:
    """Kill the agent after each of ``kills`` committed steps, bring it to its approval, and kill it once more."""

    def at_once(_: Agent) -> bool:
        return True

    def working(watched: Agent) -> bool:
        return any(one.pid == watched.starts[-1] for one in in_flight(watched.effects()))

    def writing(watched: Agent) -> bool:
        return any(one.step == "write report" for one in in_flight(watched.effects()))

    agent.launch()
    for number, steps in enumerate(kills):
        ready: Callable[[Agent], bool] = working if number % 2 == 0 else at_once
        kill = await kill_after(agent, steps, ready)
        if kill is None:
            break
        tell(stage, name, agent, kill)
        agent.launch()
    if await agent.exit_code() != WAITING:
        raise DemoFailed(f"the agent did not come to its approval: {(agent.directory / 'output.txt').read_text()}")
    stage.say("The agent waits for a human, and no process of it is running. The approval is sent to its store.")
    stage.note(name, "approved")
    await approve(agent, APPROVER)
    agent.launch()
    kill = await kill_after(agent, 0, writing)
    if kill is not None:
        tell(stage, name, agent, kill)
        agent.launch()
    if await agent.exit_code() != 0:
        raise DemoFailed(f"the agent failed: {(agent.directory / 'output.txt').read_text()}")
    stage.note(name, "done")


def tell(stage: Stage, name: str, agent: Agent, kill: Kill) -> None:
    """Report one kill."""
    flying = ", ".join(one.step for one in kill.in_flight[:2]) or "nothing"
    more = f" and {len(kill.in_flight) - 2} more" if len(kill.in_flight) > 2 else ""
    stage.say(
        f"[red]kill -9[/red] {len(agent.kills)}: {len(kill.committed)} steps committed, in flight: {flying}{more}"
    )
    stage.note(name, f"killed {len(agent.kills)} times")


async def undisturbed(agent: Agent) -> None:
    """The run to compare with: one process, from the start to the end."""
    agent.launch("--approve-as", APPROVER)
    if await agent.exit_code() != 0:
        raise DemoFailed(f"the uninterrupted agent failed: {(agent.directory / 'output.txt').read_text()}")


async def demonstrate(options: argparse.Namespace, console: Console, directory: Path) -> bool:
    """The whole demo; whether everything held."""
    arguments = ["--sections", str(options.steps), "--pace", str(options.pace), "--seed", str(options.seed)]
    agents = {}
    for name in ("killed", "left alone"):
        (directory / name.replace(" ", "-")).mkdir()
        agents[name] = Agent(directory / name.replace(" ", "-"), arguments)
    killed, alone = agents.values()
    stage = Stage(console)
    console.print(f"[bold]{QUESTION}[/bold]", highlight=False)
    stage.say("Two agents read this Python's own sources for it. One is left alone, the other is killed on the way.\n")
    watching = asyncio.ensure_future(stage.watch(agents))
    try:
        await asyncio.sleep(0)  # the bars exist from here on
        drawn = moments(random.Random(options.seed), options.kills, options.steps)
        work = asyncio.gather(torment(killed, stage, "killed", drawn), undisturbed(alone))
        await asyncio.wait_for(asyncio.shield(_first_error(work, watching)), LIMIT)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        history, uninterrupted = await killed.history(), await alone.history()
        assert history is not None
        assert uninterrupted is not None
        return conclude(console, killed, history, alone, uninterrupted)
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        for agent in agents.values():
            await agent.close()


async def _first_error(work: asyncio.Future[Any], watching: asyncio.Future[None]) -> None:
    """Until the work is done; what goes wrong with the watching ends the demo too."""
    await asyncio.wait((work, watching), return_when=asyncio.FIRST_COMPLETED)
    if watching.done() and not work.done():
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        watching.result()
    await work


def conclude(console: Console, killed: Agent, history: History, alone: Agent, uninterrupted: History) -> bool:
    """Print the tables; whether every check holds."""
    found = evidence.checks(killed, history, alone, uninterrupted)
    console.print()
    console.print(show.timeline(console, killed, history))
    console.print()
    console.print(show.kills(killed, evidence.ran_twice(killed.effects(), killed.kills)))
    console.print()
    console.print(show.results(found))
    held = all(check.holds for check in found)
    console.print()
    return held


def main(arguments: list[str] | None = None) -> int:
    """Run the demo; its exit code."""
    parser = argparse.ArgumentParser(description="Kill the research agent on its way, and see what that costs.")
    parser.add_argument("--steps", type=int, default=200, help="sections to read; other steps come on top")
    parser.add_argument("--kills", type=int, default=5, help="how often to kill it, besides once in its last step")
    parser.add_argument("--pace", type=float, default=0.1, help="seconds that every step takes at least")
    parser.add_argument("--seed", type=int, default=None, help="draws the moments of the kills and the failures")
    parser.add_argument("--keep", metavar="DIRECTORY", help="keep stores, logs and reports there")
    parser.add_argument("--picture", metavar="FILE", help="draw what the terminal shows as an SVG file")
    options = parser.parse_args(arguments)
    if options.seed is None:
        options.seed = int.from_bytes(os.urandom(2), "big")
    console = Console(width=None if sys.stdout.isatty() else 100, record=bool(options.picture))
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="alkaline-demo-") as temporary:
        directory = Path(options.keep or temporary)
        directory.mkdir(parents=True, exist_ok=True)
        try:
            held = asyncio.run(demonstrate(options, console, directory))
        except (DemoFailed, TimeoutError) as error:
            console.print(str(error) or f"the demo gave up after {LIMIT} seconds", highlight=False, markup=False)
            return 1
        except KeyboardInterrupt:
            console.print("stopped; no agent is left running")
            return 130
        if options.keep:
            console.print(f"Stores, logs and reports are in {options.keep}.", highlight=False)
    seconds = round(time.monotonic() - begun)
    verdict = "Everything holds" if held else "Something does not hold"
    console.print(f"{verdict}, after {seconds} seconds with seed {options.seed}.", highlight=False)
    if options.picture:
        drawn = console.export_svg(title="make demo")
        no_fonts = re.sub(r"@font-face {.*?}\s*", "", drawn, flags=re.DOTALL)  # those that it has are elsewhere
        Path(options.picture).write_text(no_fonts, "utf-8")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
