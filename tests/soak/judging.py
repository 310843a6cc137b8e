"""What pages and processes were told of, compared with what their store holds in the end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from tests.servers.soak_worker import SIGNALS, Evidence

from .table import Row


class Found(NamedTuple):
    """A run of ``tests.servers.soak_worker.soak``, or one like it, as the store has it."""

    status: str
    waiting: str
    result: Any
    steps: Sequence[str]
    """The names of those that are recorded."""


def judge(lines: Iterable[str], records: Mapping[str, Found], row: Row) -> None:
    """Count what the lines say was acknowledged, and what of it is not there, into ``row``."""
    said = [line.split() for line in lines]
    evidence = Evidence([" ".join(words) for words in said if words[0] in ("begin", "done", "stuck")])
    told = {words[1] for words in said if words[0] == "started"}
    row.repeated += evidence.repeated - len(evidence.again)
    row.again += len(evidence.again)
    row.runs += len(told)
    row.signals += len({tuple(words[1:3]) for words in said if words[0] == "sent"})
    row.lost += len(told - records.keys())
    for id in told | records.keys() | {run for run, _ in evidence.done}:
        acknowledged = {name for run, name in evidence.done if run == id}
        row.commits += len(acknowledged) + (id in told)
        found = records.get(id)
        row.lost += len(acknowledged - set(found.steps if found else ()))
        if found is not None:
            _judge_run(id, found, row)
    row.wrong += [f"a committed step was run again: {line}" for line in evidence.again]
    row.wrong += [f"a run could not go on: {line}" for line in evidence.stuck]
    row.wrong += [f"a page said: {' '.join(words)}" for words in said if words[0] == "wrong"]


def _judge_run(id: str, found: Found, row: Row) -> None:
    if found.status != "completed":
        row.wrong.append(f"{id} is {found.status}, waiting {found.waiting}")
        return
    row.doubled += len(found.result) - len(set(found.result))
    row.signals_lost += SIGNALS - len(set(found.result))
    if found.result != list(range(SIGNALS)):
        row.wrong.append(f"{id} got the signals {found.result}")
