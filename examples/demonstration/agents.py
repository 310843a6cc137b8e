"""The research agent as a process of its own, watched through its store and its effects log, and killed."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from research.effects import VARIABLE

from alkaline_edge import ExecutionRecord, NotFound, Recorded, Runtime
from alkaline_edge.events import Emitted, StepCompleted
from alkaline_hosts.file import FileHost

RUN = "research"
POLL = 0.003
"""Seconds between two looks at the effects log."""
AGENT = Path(__file__).resolve().parent.parent / "research_agent.py"


class Effect(NamedTuple):
    """A line of the effects log: a step's function began or ended in process ``pid``, at ``at`` ms since 1970."""

    phase: str
    step: str
    command: str
    attempt: int
    pid: int
    at: int


class History(NamedTuple):
    """A run as its store has it now."""

    record: ExecutionRecord
    events: list[Recorded]

    @property
    def committed(self) -> dict[str, str]:
        """Names of the steps whose results are committed, by command id."""
        return {one.event.id: one.event.name for one in self.events if isinstance(one.event, StepCompleted)}

    @property
    def planned(self) -> int | None:
        """How many steps the agent said it would take, once it has."""
        plans = [one.event.data for one in self.events if isinstance(one.event, Emitted) and one.event.topic == "plan"]
        return int(plans[-1]["steps"]) if plans else None


@dataclass
class Kill:
    """One SIGKILL: which process, when, what was committed by then, and which steps were in flight."""

    pid: int
    at: int
    committed: dict[str, str]
    in_flight: list[Effect] = field(default_factory=list)


@dataclass
class Agent:
    """One run in a directory of its own, carried by one process after the other."""

    directory: Path
    arguments: list[str]
    process: subprocess.Popen[bytes] | None = None
    kills: list[Kill] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    _host: FileHost | None = None
    _log_end: int = 0
    _effects: list[Effect] = field(default_factory=list)

    @property
    def store(self) -> Path:
        """The file that holds the run."""
        return self.directory / "agent.alkaline"

    @property
    def report(self) -> Path:
        """Where the agent writes its report."""
        return self.directory / "report.md"

    def launch(self, *extra: str) -> None:
        """Start the next process of this run."""
        command = [sys.executable, str(AGENT), "ask", "--store", str(self.store), "--report", str(self.report)]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("OPENAI_")}
        environment[VARIABLE] = str(self.directory / "effects.jsonl")
        with (self.directory / "output.txt").open("ab") as output:
            self.process = subprocess.Popen(  # noqa: S603  # our own program, with our own arguments
                [*command, *self.arguments, *extra], stdout=output, stderr=output, env=environment
            )
        self.starts.append(self.process.pid)

    @property
    def running(self) -> bool:
        """Whether its process is alive."""
        return self.process is not None and self.process.poll() is None

    def stop(self) -> None:
        """Kill what is left of it, and reap it."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    async def exit_code(self) -> int:
        """Wait for its process to end by itself."""
        assert self.process is not None
        return await asyncio.to_thread(self.process.wait)

    async def kill(self) -> Kill:
        """SIGKILL, then write down what the store and the log say before anything else happens."""
        assert self.process is not None
        history = await self.history()
        self.process.kill()
        self.process.wait()
        history = await self.history() or history
        done = Kill(self.process.pid, max((one.at for one in self.effects()), default=0), {})
        if history is not None:
            done.committed = history.committed
            done.at = max(done.at, history.events[-1].at)
        done.in_flight = [
            one for one in in_flight(self.effects()) if one.pid == done.pid and one.command not in done.committed
        ]
        self.kills.append(done)
        return done

    def effects(self) -> list[Effect]:
        """All that the log holds by now."""
        path = self.directory / "effects.jsonl"
        if path.exists() and path.stat().st_size > self._log_end:
            with path.open("rb") as log:
                log.seek(self._log_end)
                data = log.read()
            whole = data[: data.rfind(b"\n") + 1]
            self._log_end += len(whole)
            for line in whole.splitlines():
                raw: dict[str, Any] = json.loads(line)
                self._effects.append(Effect(*(raw[name] for name in Effect._fields)))
        return self._effects

    async def history(self) -> History | None:
        """The run as a reader beside its writer sees it; None before it is recorded."""
        try:
            if self._host is None:
                self._host = FileHost(self.store, read_only=True)
            runtime = Runtime(self._host)
            return History(await runtime.get_execution(RUN), await runtime.history(RUN))
        except NotFound:
            return None

    async def close(self) -> None:
        """Stop its process and let go of the store."""
        self.stop()
        if self._host is not None:
            await self._host.close()


def in_flight(effects: list[Effect]) -> list[Effect]:
    """Attempts that began and have not ended: the last line of their step is a begin."""
    last = {one.command: one for one in effects}
    return [one for one in last.values() if one.phase == "begin"]


async def kill_after(agent: Agent, steps: int, ready: Callable[[Agent], bool]) -> Kill | None:
    """Let the agent commit ``steps`` steps, then wait for ``ready`` and kill it; None if it ended before that."""
    while agent.running:
        history = await agent.history()
        if history is not None and len(history.committed) >= steps:
            break
        await asyncio.sleep(10 * POLL)
    while agent.running:
        if ready(agent):
            return await agent.kill()
        await asyncio.sleep(POLL)
    return None


async def approve(agent: Agent, by: str) -> None:
    """Send the human's signal from this process. Nothing of the agent is running: its store is free to write to."""
    host = FileHost(agent.store)
    try:
        async with Runtime(host) as runtime:
            await runtime.signal(RUN, "approval", {"approved": True, "by": by}, dedupe="approval")
    finally:
        await host.close()
