"""What the verbs over runs do: ``RunsApi``, on a runtime. No I/O, and nothing here asks who is calling."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from alkaline_edge.budget import Budget
from alkaline_edge.errors import AlkalineError, InvalidInput, UnknownOutcome
from alkaline_edge.failures import describe, redact, revive
from alkaline_edge.runs import ExecutionRecord
from alkaline_edge.runtime import Runtime

from .patience import WAIT_SECONDS, Patience, without_end
from .verbs import RunVerbs

PUBLIC = (
    "id", "workflow", "version", "status", "attempt", "spent", "cursor_length", "waiting", "wake_at", "parent", "depth",
    "attributes", "created_at", "updated_at", "result", "failure", "generation", "moved_to",
)  # fmt: skip
"""The fields of a record that are shown: not its owner and not the random id in its keys."""


def shown(record: ExecutionRecord) -> dict[str, Any]:
    """A record as callers see it."""
    return {name: getattr(record, name) for name in PUBLIC}


class RunsApi(RunVerbs):
    """What the verbs over runs do, on one runtime. Each returns plain values and raises what the runtime raises.

    ``touched`` takes the ids of the runs that were set in motion, where it is given. ``patience``: how long ``start``
    with ``settle`` and ``update`` wait.
    """

    def __init__(self, runtime: Runtime, touched: set[str] | None = None, patience: Patience = without_end) -> None:
        self._runtime, self._touched, self._patience = runtime, touched, patience

    async def start(
        self,
        workflow: str,
        input: Any = None,
        id: str | None = None,
        settle: bool = False,
        on_conflict: str = "reject",
        attributes: dict[str, Any] | None = None,
        start_at: str | datetime | None = None,
        budget: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """As RunVerbs.start."""
        run = await self._runtime.start(
            workflow, input, id, on_conflict, attributes, _time(start_at), budget=_budget(budget)
        )
        self._touch(run.id)
        if settle:
            await self._patience(run.settle())
        return await self.status(run.id)

    def _touch(self, id: str) -> None:
        if self._touched is not None:
            self._touched.add(id)

    async def status(self, id: str) -> dict[str, Any]:
        """As RunVerbs.status."""
        return self._shown(await self._runtime.get_execution(id))

    def _shown(self, record: ExecutionRecord) -> dict[str, Any]:
        runtime, stuck = self._runtime, None
        error: BaseException | None = runtime.stuck.get(record.id) or runtime.crashed.get(record.id)
        if error is not None and not record.finished:
            code, text = getattr(error, "code", None), redact(str(error))
            stuck = {
                "code": code if isinstance(code, str) else None,
                "message": text if isinstance(error, AlkalineError) else f"{type(error).__name__}: {text}",
            }
        return {**shown(record), "stuck": stuck}

    async def runs(
        self,
        status: str | None = None,
        workflow: str | None = None,
        after: str = "",
        limit: int = 50,
        attributes: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """As RunVerbs.runs."""
        page = await self._runtime.list_executions(status, workflow, attributes, after=after, limit=limit)
        return {"runs": [self._shown(record) for record in page], "after": page.after}

    async def events(self, id: str, after: int = 0) -> list[dict[str, Any]]:
        """As RunVerbs.events."""
        found = []
        for number, (commit, at, event) in enumerate(await self._fields(id)):
            if number >= after:
                held = event._asdict()
                del held["kind"]
                found.append({"n": number, "commit": commit, "at": at, "kind": type(event).__name__, **held})
        return found

    async def _fields(self, id: str) -> list[tuple[int, int, Any]]:
        return [(item.commit, item.at, item.event) for item in await self._runtime.history(id)]

    async def signal(self, id: str, name: str, payload: Any = None, dedupe: str | None = None) -> None:
        """As RunVerbs.signal."""
        self._touch(id)
        await self._runtime.signal(id, name, payload, dedupe)

    async def query(self, id: str, name: str, *args: Any) -> Any:
        """As RunVerbs.query. What it raises is made fit for callers elsewhere."""
        try:
            return await self._runtime.query(id, name, *args)
        except AlkalineError:
            raise
        except Exception as error:
            raise revive(describe(error, self._runtime.codec)) from error

    async def update(self, id: str, name: str, payload: Any = None) -> Any:
        """As RunVerbs.update."""
        self._touch(id)
        answered, reply = await self._patience(self._runtime.update(id, name, payload))
        if not answered:
            raise UnknownOutcome(
                f"run {id!r} did not answer the update {name!r} within {WAIT_SECONDS:.0f} seconds; it is recorded, and "
                "the run takes it when a runtime goes on with it",
                id=id,
            )
        return reply

    async def cancel(self, id: str, reason: str | None = None) -> None:
        """As RunVerbs.cancel."""
        self._touch(id)
        await self._runtime.cancel(id, reason)

    async def pause(self, id: str) -> None:
        """As RunVerbs.pause."""
        self._touch(id)
        await self._runtime.pause(id)

    async def resume(self, id: str) -> None:
        """As RunVerbs.resume."""
        self._touch(id)
        await self._runtime.resume(id)

    async def delete(self, id: str) -> None:
        """As RunVerbs.delete."""
        await self._runtime.delete(id)


def _time(given: str | datetime | None) -> datetime | None:
    if given is None or isinstance(given, datetime):
        return given
    try:
        found = datetime.fromisoformat(given)
    except (TypeError, ValueError):
        found = None
    if found is None or found.tzinfo is None:
        raise InvalidInput("start_at is a time with its offset, such as 2026-11-26T15:00:00Z")
    return found


def _budget(given: Any) -> Budget | None:
    if given is None or isinstance(given, Budget):
        return given
    if not isinstance(given, Mapping) or not given or given.keys() - {"tokens", "usd"}:
        raise InvalidInput('budget is {"tokens": 1000, "usd": 0.5}, or one of the two')
    return Budget(**given)
