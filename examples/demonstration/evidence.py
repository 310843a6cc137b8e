"""What the histories and the effects logs prove, as checks that a reader can follow."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from alkaline_edge.events import AttemptFailed, Spent, StepCharged, StepCompleted

from .agents import Agent, Effect, History, Kill


class Check(NamedTuple):
    """One claim with what was expected and what was found."""

    claim: str
    expected: str
    found: str

    @property
    def holds(self) -> bool:
        """Whether they are the same."""
        return self.expected == self.found


class Twice(NamedTuple):
    """An attempt that began more than once: in flight at ``kill`` (1 is the first), and begun again afterwards."""

    step: str
    attempt: int
    kill: int
    ended: bool
    """Its first execution had ended or failed, and only the commit was missing."""


def attempts(effects: list[Effect]) -> Counter[tuple[str, int]]:
    """How often each attempt of each step began."""
    return Counter((one.command, one.attempt) for one in effects if one.phase == "begin")


def begun_again(effects: list[Effect], kills: list[Kill]) -> list[str]:
    """Names of steps that began in a later process although they were committed at a kill. Nothing may be here."""
    order = list(dict.fromkeys(one.pid for one in effects))
    again = []
    for kill in kills:
        later = order[order.index(kill.pid) + 1 :] if kill.pid in order else order
        again += [
            one.step for one in effects if one.phase == "begin" and one.pid in later and one.command in kill.committed
        ]
    return again


def ran_twice(effects: list[Effect], kills: list[Kill]) -> list[Twice]:
    """The attempts that began again after a kill, and whether the first execution had ended."""
    found = []
    for number, kill in enumerate(kills, 1):
        mine = [one for one in effects if one.pid == kill.pid and one.command not in kill.committed]
        begun = {(one.command, one.attempt): one for one in mine if one.phase == "begin"}
        ended = {(one.command, one.attempt) for one in mine if one.phase != "begin"}
        others = {(one.command, one.attempt) for one in effects if one.phase == "begin" and one.pid != kill.pid}
        found += [Twice(one.step, one.attempt, number, key in ended) for key, one in begun.items() if key in others]
    return found


def charged(history: History) -> int:
    """The sum of all charges in a history, in tokens."""
    return sum(one.event.tokens for one in history.events if isinstance(one.event, (StepCharged, Spent)))


def checks(agent: Agent, history: History, other: Agent, uninterrupted: History) -> list[Check]:
    """Everything that the demo claims, compared."""
    effects = agent.effects()
    completed = [one.event for one in history.events if isinstance(one.event, StepCompleted)]
    failed = [one.event for one in history.events if isinstance(one.event, AttemptFailed)]
    begun = attempts(effects)
    twice = ran_twice(effects, agent.kills)
    names = [event.name for event in completed]
    other_names = sorted(uninterrupted.committed.values())
    return [
        Check("committed steps executed again", "0", str(len(begun_again(effects, agent.kills)))),
        Check(
            "executions = committed + failed + lost",
            f"{len(completed)} + {len(failed)} + {len(twice)} = {begun.total()}",
            f"{len(completed)} + {len(failed)} + {begun.total() - len(completed) - len(failed)} = {begun.total()}",
        ),
        Check("steps committed twice", "0", str(len(completed) - len({event.id for event in completed}))),
        Check("same steps as the run left alone", str(len(other_names)), _same(sorted(names), other_names)),
        Check("tokens in the history = in the record", str(charged(history)), _tokens(history)),
        Check("tokens = those of the run left alone", str(charged(uninterrupted)), str(charged(history))),
        Check("report = that of the run left alone", digest(other.report), digest(agent.report)),
        Check("agent processes still running", "0", str(agent.running + other.running)),
    ]


def _same(names: list[str], expected: list[str]) -> str:
    return str(len(names)) if names == expected else f"{len(names)}, not the same ones"


def _tokens(history: History) -> str:
    return str(history.record.spent["tokens"])


def digest(path: Path) -> str:
    """The beginning of a file's SHA-256, and its size in bytes."""
    if not path.exists():
        return "no file"
    data = path.read_bytes()
    return f"{hashlib.sha256(data).hexdigest()[:12]}, {len(data)} B"
