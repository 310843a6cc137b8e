"""What goes to logging, logger ``alkaline_edge``: where an error was raised, which no history holds, and what is stuck.

Live alone: a replay raises nothing anew. What a handler or a caller gets to see is told at INFO: ``result()`` raises a
run's failure from what was raised here. Where this process serves, nobody may be waiting: there a run's failure is a
WARNING. That a run is stuck, or could not be driven, is an ERROR.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from ..errors import AlkalineError

if TYPE_CHECKING:
    from .runtime import Runtime

_log = logging.getLogger("alkaline_edge")
KEPT, MANY = 50, 1_000
"""How many errors are kept with their frames, and how many reasons of stuck runs."""


def step_failed(id: str, name: str, attempt: int, error: BaseException, again: bool) -> None:
    """An attempt of a step raised; ``again``: another one follows."""
    if _log.isEnabledFor(logging.INFO):
        what = "failed and is tried again" if again else "failed"
        _log.info("run %s: attempt %d of step %r %s", id, attempt, name, what, exc_info=error)


def update_failed(id: str, error: BaseException) -> None:
    """The handler of an update raised."""
    _log.info("run %s: an update failed", id, exc_info=error)


def run_failed(runtime: Runtime, id: str, error: BaseException | None) -> None:
    """The handler of a run raised: kept for ``result()``, as far as there is room."""
    _log.log(logging.WARNING if runtime.serving else logging.INFO, "run %s failed", id, exc_info=error)
    if error is not None:
        runtime.raised[id] = error
        while len(runtime.raised) > KEPT:
            del runtime.raised[next(iter(runtime.raised))]


def run_crashed(id: str, error: BaseException) -> None:
    """What is no error that a run may end with ended its driver."""
    _log.error("run %s could not be driven: a defect, or an error that is no Exception", id, exc_info=error)


def run_is_stuck(runtime: Runtime, id: str, error: AlkalineError) -> None:
    """The run can't go on here. It is tried again and again: the same reason is told once."""
    if runtime.told_stuck.get(id) == str(error):
        return
    runtime.told_stuck[id] = str(error)
    while len(runtime.told_stuck) > MANY:
        del runtime.told_stuck[next(iter(runtime.told_stuck))]
    _log.error("run %s is stuck: %s: %s", id, error.code, error)
