"""What the verbs over runs do: ``RunsApi``, on a runtime. No I/O, and nothing here asks who is calling."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from datetime import datetime
from hashlib import sha256
from typing import Any

from alkaline_edge import Runtime, keys
from alkaline_edge.budget import Budget
from alkaline_edge.errors import AlkalineError, InvalidInput, UnknownOutcome
from alkaline_edge.events import Event
from alkaline_edge.failures import describe, revive
from alkaline_edge.lifecycle import Published
from alkaline_edge.redaction import redact
from alkaline_edge.runs import ExecutionRecord
from alkaline_edge.runtime.handing import Local

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
        return {**shown(record), "stuck": None if record.finished else self._why(record.id)}

    def _why(self, id: str) -> dict[str, Any] | None:
        """What keeps a run from going on in this process."""
        error: BaseException | None = self._runtime.stuck.get(id) or self._runtime.crashed.get(id)
        if error is None:
            return None
        code, text = getattr(error, "code", None), redact(str(error))
        return {
            "code": code if isinstance(code, str) else None,
            "message": text if isinstance(error, AlkalineError) else f"{type(error).__name__}: {text}",
        }

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
        found: dict[str, Any] = {"runs": [self._shown(record) for record in page], "after": page.after}
        if page.unreadable:
            found["unreadable"] = sorted(page.unreadable)
        return found

    async def events(self, id: str, after: int = 0) -> list[dict[str, Any]]:
        """As RunVerbs.events."""
        history = await self._runtime.history(id)
        return [_shown_event(n, each.commit, each.at, each.event) for n, each in enumerate(history) if n >= after]

    async def stream(self, id: str, after: str = "") -> AsyncGenerator[dict[str, Any], None]:
        """As RunVerbs.stream."""
        following = self._runtime.follow(id, after, live=True)
        try:
            async for one in following:
                if isinstance(one, Published):
                    yield {"kind": "Published", **{name: getattr(one, name) for name in _OF_PUBLISHED}}
                else:
                    yield {"place": one.place, **_shown_event(one.number, one.commit, one.at, one.event)}
        finally:
            await following.aclose()

    async def signal(self, id: str, name: str, payload: Any = None, dedupe: str | None = None) -> None:
        """As RunVerbs.signal."""
        self._touch(id)
        await self._runtime.signal(id, name, payload, dedupe)

    async def top_up(self, id: str, amounts: Mapping[str, Any], key: str | None = None) -> None:
        """As RunVerbs.top_up."""
        if not isinstance(amounts, Mapping) or not amounts or amounts.keys() - {"tokens", "usd", "seconds"}:
            raise InvalidInput('a top-up is {"tokens": 1000, "usd": 0.5, "seconds": 60}, or a part of it')
        self._touch(id)
        tokens, seconds = _whole(amounts.get("tokens", 0)), amounts.get("seconds", 0)
        await self._runtime.top_up(id, tokens, amounts.get("usd"), seconds, key)

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
                f"run {id!r} did not answer the update {name!r} within {WAIT_SECONDS:.0f} seconds, or before the "
                "server stopped; it is recorded, and the run takes it when a runtime goes on with it",
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

    async def retry(self, id: str) -> None:
        """As RunVerbs.retry."""
        self._touch(id)
        await self._runtime.retry(id)

    async def delete(self, id: str) -> None:
        """As RunVerbs.delete."""
        await self._runtime.delete(id)

    async def purge(
        self,
        older_than: int,
        status: str | None = None,
        workflow: str | None = None,
        dry_run: bool = False,
        after: str = "",
        limit: int = 500,
    ) -> dict[str, Any]:
        """As RunVerbs.purge."""
        purged = await self._runtime.purge(older_than, status, workflow, dry_run, after, limit)
        return {"runs": purged.runs, "kept": purged.kept, "after": purged.after}

    async def fork(self, id: str, at: int, edit: dict[str, Any] | None = None) -> dict[str, Any]:
        """As RunVerbs.fork."""
        return await self.status((await self._runtime.fork(id, at, edit)).id)

    async def health(self) -> dict[str, Any]:
        """As RunVerbs.health."""
        runtime, now, owners, left = self._runtime, self._runtime.host.now_ms(), dict[str, dict[str, int]](), 0
        for record in await runtime.list_executions("running", limit=1_000):
            if record.owner is None or record.lease_until < now:
                left += 1
                continue
            held = owners.setdefault(sha256(record.owner.encode()).hexdigest()[:8], {"runs": 0, "lease_until": 0})
            held["runs"] += 1
            held["lease_until"] = max(held["lease_until"], record.lease_until)
        timers = await runtime.host.list(keys.TIMERS, "", 1)
        return {
            "store": await Local(runtime).identity(),
            "now": now,
            "workflows": runtime.registry.listed(),
            "serving": runtime.fleet.serving,
            "owners": owners,
            "left": left,
            "oldest_due": keys.timer_of(timers[0].key)[0] if timers else None,
            "stuck": {id: self._why(id) for id in [*runtime.stuck, *runtime.crashed]},
        }

    async def schedules(self, after: str = "", limit: int = 50) -> dict[str, Any]:
        """As RunVerbs.schedules."""
        from . import beside  # only who asks for it needs it: a Worker pays for each import at its start

        return await beside.schedules(self._runtime.store, after, limit)

    async def boards(self, after: str = "", limit: int = 50) -> dict[str, Any]:
        """As RunVerbs.boards."""
        from . import beside  # as above

        return await beside.boards(self._runtime.store, after, limit)

    async def tasks(
        self, board: str, state: str | None = None, assignee: str | None = None, after: str = "", limit: int = 50
    ) -> dict[str, Any]:
        """As RunVerbs.tasks."""
        from . import beside  # as above

        return await beside.tasks(self._runtime.store, board, state, assignee, after, limit)

    async def bundle(self, id: str) -> bytes:
        """As RunVerbs.bundle."""
        return await self._runtime.export(id)


_OF_PUBLISHED = ("at", "name", "command", "attempt", "topic", "data")


def _shown_event(number: int, commit: int, at: int, event: Event) -> dict[str, Any]:
    """An event of a history as callers see it."""
    held = event._asdict()
    del held["kind"]
    return {"n": number, "commit": commit, "at": at, "kind": type(event).__name__, **held}


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
    known = ("tokens", "usd", "seconds", "on_exceeded", "warn")
    if not isinstance(given, Mapping) or not given or given.keys() - {*known}:
        raise InvalidInput('budget is {"tokens": 1000, "usd": 0.5}, or has some of ' + ", ".join(known))
    return Budget(**{**given, "tokens": _whole(given.get("tokens"))})


def _whole(number: Any) -> Any:
    """JSON has one kind of number: 1e3 and 1000.0 are whole."""
    return int(number) if isinstance(number, float) and number.is_integer() else number
