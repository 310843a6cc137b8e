"""What goes to logging, logger ``alkaline_edge``: where an error was raised, which no history holds, and what is stuck.

Live alone: a replay raises nothing anew. What a handler or a caller gets to see is told at INFO: ``result()`` raises a
run's failure from what was raised here. Where this process serves, nobody may be waiting: there a run's failure is a
WARNING. That a run is stuck, or could not be driven, is an ERROR.
"""

from __future__ import annotations

import logging

from ..errors import AlkalineError, StoreError

_log = logging.getLogger("alkaline_edge")
KEPT, MANY = 50, 1_000
"""How many errors are kept with their frames, and how many reasons of stuck runs."""


class Reports:
    """What one runtime has reported: each reason once, and the newest errors for ``result()``."""

    def __init__(self) -> None:
        self._told: dict[str, str] = {}
        self._raised: dict[str, BaseException] = {}

    def run_failed(self, id: str, error: BaseException | None, serving: bool) -> None:
        """The handler of a run raised: kept for ``result()``, as far as there is room."""
        _log.log(logging.WARNING if serving else logging.INFO, "run %s failed", id, exc_info=error)
        if error is not None:
            self._raised[id] = error
            while len(self._raised) > KEPT:
                del self._raised[next(iter(self._raised))]

    def raised_by(self, id: str) -> BaseException | None:
        """What the handler of a run raised in this process, if that is still kept."""
        return self._raised.get(id)

    def forget(self, id: str) -> None:
        """The run was deleted: its error, and the frames behind that, are wanted by nobody any more."""
        self._raised.pop(id, None)
        self._told.pop(id, None)

    def run_is_stuck(self, id: str, error: AlkalineError) -> None:
        """The run can't go on here. It is tried again and again: the same reason is told once."""
        if self._told.get(id) == str(error):
            return
        self._told[id] = str(error)
        while len(self._told) > MANY:
            del self._told[next(iter(self._told))]
        _log.error("run %s is stuck: %s: %s", id, error.code, error)


def step_failed(id: str, name: str, attempt: int, error: BaseException, again: bool) -> None:
    """An attempt of a step raised; ``again``: another one follows."""
    if _log.isEnabledFor(logging.INFO):
        what = "failed and is tried again" if again else "failed"
        _log.info("run %s: attempt %d of step %r %s", id, attempt, name, what, exc_info=error)


def step_lingers(id: str, name: str) -> None:
    """A step goes on though it was told to stop."""
    _log.warning(
        "step %r of run %r goes on though it was told to stop, and nothing of it is recorded; the run's lease "
        "is kept until it runs out",
        name,
        id,
    )


def completed_for_nobody(name: str, error: AlkalineError) -> None:
    """A step whose completion would have counted, though nobody waited for it, is not recorded."""
    _log.warning("step %r completed after nobody waited for it: %s", name, error)


def update_failed(id: str, error: BaseException) -> None:
    """The handler of an update raised."""
    _log.info("run %s: an update failed", id, exc_info=error)


def run_crashed(id: str, error: BaseException) -> None:
    """What is no Exception came out of the host, or ended this process: the run waits for its next owner."""
    name = type(error).__name__
    _log.error("run %s: %s ended its driver, and the run waits for its next owner", id, name, exc_info=error)


def chore_failed(kind: str, name: str, error: Exception) -> None:
    """Something that was due besides the runs could not be done here: it is tried again, less and less often."""
    trace = None if isinstance(error, AlkalineError) else error
    _log.error("%s %s can't go on here: %s", kind, name, str(error) or type(error).__name__, exc_info=trace)


def set_apart(key: str, why: str) -> None:
    """Something in the store can't be read, and all the rest goes on without it."""
    _log.error("%s can't be read and is left alone: %s", key, why)


def unexpected(id: str, error: BaseException) -> StoreError:
    """What becomes of an error that is none of ours, raised while a run was read, replayed or driven."""
    _log.error("run %r could not be driven", id, exc_info=error)
    stuck = StoreError(
        f"run {id!r} could not be read or driven: {type(error).__name__} came out of where no error may; it is left as "
        "it was, and the traceback is in the log. Resume it once the cause is mended, or fork or restore it",
        id=id,
        error=type(error).__name__,
    )
    stuck.__cause__ = error
    return stuck
