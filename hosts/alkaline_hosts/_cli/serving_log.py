"""What ``alkaline serve`` writes to its log: where it listens, what its runs tell, and what else logs in this process.

A line an entry, on stderr; names and messages come from anywhere, so what is not printable is shown as an escape.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

from alkaline_edge import lifecycle

from .output import safe

FORMS = ("human", "json")
LEVELS = ("debug", "info", "warning", "error")
_log = logging.getLogger("alkaline_edge.serve")
_runs = logging.getLogger("alkaline_edge.runs")
_OF = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "warn": logging.WARNING,
       "error": logging.ERROR, "critical": logging.ERROR}  # fmt: skip


class _Lines(logging.Formatter):
    """A message is one line whatever is in it; a trace keeps its own."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # logging's name
        return safe(super().formatMessage(record))

    def formatException(self, ei: object) -> str:  # noqa: N802  # logging's name
        text = super().formatException(ei)  # type: ignore[arg-type]  # what logging gives
        return "\n".join(safe(line) for line in text.splitlines())


class _Json(logging.Formatter):
    """An object a line: time, level, logger, message, and where it is of a run, that and its fields."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        made = {"time": at, "level": record.levelname.lower(), "logger": record.name, "message": record.getMessage()}
        made.update({name: getattr(record, name) for name in ("run", "workflow", "fields") if hasattr(record, name)})
        if record.exc_info:
            made["exception"] = self.formatException(record.exc_info)
        return json.dumps(made, default=repr)


def begin(level: str, form: str = "human") -> None:
    """Log to stderr from ``level`` on, unless the workflows' module has set logging up in its own way."""
    handler = logging.StreamHandler(sys.stderr)
    human = _Lines("%(asctime)s %(levelname)s %(name)s: %(message)s")
    handler.setFormatter(human if form == "human" else _Json())
    logging.basicConfig(level=_OF[level], handlers=[handler])
    for noisy in ("asyncio", "httpx", "httpcore", "uvicorn"):
        logging.getLogger(noisy).setLevel(max(_OF[level], logging.WARNING))


def listening(url: str, store: str, workflows: list[str]) -> None:
    """The first line: where, for what, and what it can run."""
    _log.info("listening on %s for %s; %s", url, store, f"runs {', '.join(workflows)}" if workflows else "runs nothing")


def left_behind(error: BaseException) -> None:
    """A task or a callback that a step has left to the loop raised what ends a process."""
    _log.error(
        "a task or callback that a step made raised %s; it ends nothing but itself",
        type(error).__name__,
        exc_info=error,
    )


def told(event: lifecycle.LifecycleEvent) -> None:
    """A lifecycle event: what a handler logs, and how runs begin and end. Failures have their trace beside it."""
    of = {"run": event.id}
    match event:
        case lifecycle.LogLine():
            fields = "".join(f" {name}={value!r}" for name, value in event.fields.items())
            level = _OF.get(event.level.lower(), logging.INFO)
            of_line = {**of, "fields": event.fields}
            _runs.log(level, "run %s: %s%s", event.id, event.message, fields, extra=of_line)
        case lifecycle.RunStarted():
            _runs.info("run %s of %s started", event.id, event.workflow, extra={**of, "workflow": event.workflow})
        case lifecycle.RunCompleted():
            _runs.info("run %s completed", event.id, extra=of)
        case lifecycle.RunWasCancelled():
            _runs.info("run %s was cancelled%s", event.id, f": {event.reason}" if event.reason else "", extra=of)
        case lifecycle.BudgetWarned():
            _runs.warning("run %s has spent %s of %s %s", event.id, event.used, event.limit, event.unit, extra=of)
        case lifecycle.RunPaused():
            _runs.info("run %s is paused", event.id, extra=of)
        case lifecycle.RunSuspended():
            _runs.debug("run %s waits for %s", event.id, ", ".join(event.waiting) or "its time", extra=of)
        case _:
            pass
