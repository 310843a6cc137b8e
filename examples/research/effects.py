"""What surrounds each step's work: a line in the effects log, a pace, and failures injected on purpose.

The log is how a reader checks what really ran, whatever the history claims: a line is appended when a step's function
begins, and when it ends or makes up a failure, each by one write, so a SIGKILL loses none. It is written where
``RESEARCH_EFFECTS`` points, and not at all without it.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypedDict

from alkaline_edge import StepInfo

VARIABLE = "RESEARCH_EFFECTS"


class Conduct(TypedDict):
    """How the steps of a run behave: at least ``pace`` seconds each, and ``flaky`` of them fail at first."""

    pace: float
    flaky: float
    seed: int


class InjectedFailure(ConnectionError):
    """A transient failure that the agent makes up, to show its retries."""


@asynccontextmanager
async def effect(info: StepInfo, conduct: Conduct) -> AsyncIterator[None]:
    """Wrap the work of one attempt of a step."""
    _append(info, "begin")
    if conduct["pace"]:
        await asyncio.sleep(conduct["pace"])
    if fails(info.command_id, info.attempt, conduct):
        _append(info, "failed")
        raise InjectedFailure(f"injected: attempt {info.attempt} finds no connection")
    yield
    _append(info, "end")


def fails(command: str, attempt: int, conduct: Conduct) -> bool:
    """Whether this attempt fails, drawn from the seed, the step's place in its run and the attempt.

    The place is the idempotency key without the run's random id: the same attempts fail in every run of a seed, and
    again in the next process when this one is killed. A third attempt never fails.
    """
    if attempt > 2:
        return False
    drawn = hashlib.sha256(f"{conduct['seed']} {command} {attempt}".encode()).digest()
    return int.from_bytes(drawn[:8], "big") / 2**64 < conduct["flaky"]


def _append(info: StepInfo, phase: str) -> None:
    path = os.environ.get(VARIABLE)
    if not path:
        return
    line = {
        "phase": phase,
        "step": info.step,
        "command": info.command_id,
        "attempt": info.attempt,
        "key": info.idempotency_key,
        "pid": os.getpid(),
        "at": time.time_ns() // 1_000_000,
    }
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(handle, json.dumps(line).encode() + b"\n")
    finally:
        os.close(handle)
