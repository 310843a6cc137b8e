"""The verbs over runs, once for every door: HTTP, a Durable Object's RPC, ``Remote`` and the shell. Pure: no I/O.

``RunVerbs`` and ``MoveVerbs`` say what each takes and promises, and ``routes`` how it goes over HTTP; what it does is
the method of that name in ``runs.RunsApi`` or ``moves.MovesApi``. The doors have no verbs of their own: they inherit
these, and do them in their own way.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from datetime import datetime
from typing import Any

from alkaline_edge.errors import InvalidInput
from alkaline_edge.parts import Place


async def perform(behaviour: Any, verb: str, given: dict[str, Any]) -> Any:
    """What ``behaviour`` does for a verb."""
    method = getattr(behaviour, verb)
    arguments = given.pop("args", ())
    if arguments:
        return await method(*given.values(), *arguments)  # the others stand in the order of the path, which is its own
    return await method(**given)


class RunVerbs:
    """What can be asked of runs: the same methods on a ``Remote``, on a Durable Object over RPC, and behind ``/runs``.

    Every method raises what the runtime raises, by its code: ERR_NOT_FOUND where there is no such run.
    """

    async def _do(self, verb: str, /, **given: Any) -> Any:
        """Do a verb, or have it done; ``given`` are its parameters, all of them."""
        raise NotImplementedError

    def _stream(self, verb: str, /, **given: Any) -> AsyncGenerator[dict[str, Any], None]:
        """As ``_do``, for a verb that gives one value after the other."""
        raise InvalidInput(f"{verb} gives one value after the other: ask for it over HTTP, by fetch")

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
        """Start a run; its record. With ``settle``, once it is finished or suspended (over HTTP, a minute at most).

        ``workflow``: a name that is known there. ``input``: a value, over HTTP one that JSON has. ``id``: its own, or
        a random one; an id in use is ERR_CONFLICT, unless ``on_conflict`` is "join". ``attributes``: what it is found
        by. ``start_at``: not before, ISO 8601 with its offset. ``budget``: a part of {"tokens": 1000, "usd": 0.5,
        "seconds": 60, "on_exceeded": "pause", "warn": 0.8}.
        """
        found: dict[str, Any] = await self._do(
            "start", workflow=workflow, input=input, id=id, settle=settle, on_conflict=on_conflict,
            attributes=attributes, start_at=start_at, budget=budget,
        )  # fmt: skip
        return found

    async def status(self, id: str) -> dict[str, Any]:
        """The run's record, and under "stuck" what keeps it from going on in the process that answers."""
        found: dict[str, Any] = await self._do("status", id=id)
        return found

    async def runs(
        self,
        status: str | None = None,
        workflow: str | None = None,
        after: str = "",
        limit: int = 50,
        attributes: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """A page of at most ``limit`` records by id, under "runs", and "after", where the next one begins, or None.

        Only those in that ``status``, of that ``workflow`` and with all those ``attributes``, behind ``after``.
        """
        found: dict[str, Any] = await self._do(
            "runs", status=status, workflow=workflow, after=after, limit=limit, attributes=attributes
        )
        return found

    async def events(self, id: str, after: int = 0) -> list[dict[str, Any]]:
        """The history behind its first ``after`` events: number, commit, time in ms, kind and what the event holds."""
        found: list[dict[str, Any]] = await self._do("events", id=id, after=after)
        return found

    async def stream(self, id: str, after: str = "") -> AsyncGenerator[dict[str, Any], None]:
        """The history's events as ``events`` gives them, each new one once it is recorded, until the run's end.

        Each has its "place"; ``after`` a place, only what stands behind it. Between them, with the kind
        "Published" and without a "place", what steps publish while they run in the process that is asked. A run that
        continues as new is followed into its present history. ERR_CONFLICT where the run was handed over. A ``Remote``
        comes back for the rest where the connection is lost; over RPC it is asked by ``fetch``, which streams.
        """
        async for event in self._stream("stream", id=id, after=after):
            yield event

    async def signal(self, id: str, name: str, payload: Any = None, dedupe: str | None = None) -> None:
        """Send a signal; it is durable when this returns. The same ``dedupe`` key counts once in the run's life."""
        await self._do("signal", id=id, name=name, payload=payload, dedupe=dedupe)

    async def top_up(self, id: str, amounts: Mapping[str, Any], key: str | None = None) -> None:
        """Raise the limits of the run's budget by ``amounts``; a run that waits for that goes on where it stood.

        One that has failed for it does so once it is tried again, by ``retry``.
        ``amounts``: {"tokens": 1000, "usd": 0.5, "seconds": 60} or a part. The same ``key`` counts once.
        """
        await self._do("top_up", id=id, amounts=amounts, key=key)

    async def query(self, id: str, name: str, *args: Any) -> Any:
        """What the run's query handler ``name`` returns for ``args``. What it raises is a StepError."""
        return await self._do("query", id=id, name=name, args=args)

    async def update(self, id: str, name: str, payload: Any = None) -> Any:
        """Send an update and return its reply; what its handler raises is raised here.

        Over HTTP, UnknownOutcome (ERR_STORE) where there is none within a minute: it is recorded all the same.
        """
        return await self._do("update", id=id, name=name, payload=payload)

    async def cancel(self, id: str, reason: str | None = None) -> None:
        """Ask for the run's end: it cleans up, and is cancelled. ``reason`` is kept in its history."""
        await self._do("cancel", id=id, reason=reason)

    async def pause(self, id: str) -> None:
        """Ask for a pause: what is in flight ends, and nothing new starts until ``resume``."""
        await self._do("pause", id=id)

    async def resume(self, id: str) -> None:
        """Go on after a pause, or after code was mended. ERR_CONFLICT where another live owner holds the run."""
        await self._do("resume", id=id)

    async def retry(self, id: str) -> None:
        """Try a run that has failed again, from the step that it failed of. ERR_CONFLICT where it can't be, and why."""
        await self._do("retry", id=id)

    async def delete(self, id: str) -> None:
        """Delete a run and all that belongs to it. One that has not ended must be cancelled first: ERR_CONFLICT."""
        await self._do("delete", id=id)

    async def purge(
        self,
        older_than: int,
        status: str | None = None,
        workflow: str | None = None,
        dry_run: bool = False,
        after: str = "",
        limit: int = 500,
    ) -> dict[str, Any]:
        """Delete runs that ended ``older_than`` whole seconds ago or earlier, of a ``status`` and ``workflow``.

        Looks at ``limit`` runs at most, behind ``after``. "runs" are the ids of those that went, or with ``dry_run``
        would go, "kept" says by id why others could not, and "after" where the next call goes on, or None.
        """
        found: dict[str, Any] = await self._do(
            "purge", older_than=older_than, status=status, workflow=workflow, dry_run=dry_run, after=after, limit=limit
        )
        return found

    async def fork(self, id: str, at: int, edit: dict[str, Any] | None = None) -> dict[str, Any]:
        """A new run with the first ``at`` commits of this one's history; its record. It is paused until ``resume``.

        ``edit`` maps command ids to other step results, and "input" to another input. ERR_INVALID_INPUT for an ``at``
        beyond the history, or an id that is not in that part of it.
        """
        found: dict[str, Any] = await self._do("fork", id=id, at=at, edit=edit)
        return found

    async def health(self) -> dict[str, Any]:
        """How the store and whoever answers for it are: for those who watch over several.

        "store" is its random name and "now" its clock, ms since 1970; "workflows" what is run there, and "serving"
        whether that process takes up runs. "owners" has, by a short digest, each who drives runs: how many, and until
        when its lease is; "left" how many running runs have no owner any more. "oldest_due" is the time of the first
        timer that waits, or None, and "stuck" says by run what keeps it from going on there. At most 1,000 running
        runs are looked at.
        """
        found: dict[str, Any] = await self._do("health")
        return found

    async def schedules(self, after: str = "", limit: int = 50) -> dict[str, Any]:
        """A page of at most ``limit`` schedules by id, under "schedules", and "after", where the next begins, or None.

        Each is as it is stored: "due" is its next tick, ms since 1970, or None, and "when" says which follow.
        """
        found: dict[str, Any] = await self._do("schedules", after=after, limit=limit)
        return found

    async def boards(self, after: str = "", limit: int = 50) -> dict[str, Any]:
        """A page of at most ``limit`` boards, under "boards", and "after", where the next one begins, or None.

        Each has its "name", and what it counts: tasks by state under "counts", and its limits and budget.
        """
        found: dict[str, Any] = await self._do("boards", after=after, limit=limit)
        return found

    async def tasks(
        self, board: str, state: str | None = None, assignee: str | None = None, after: str = "", limit: int = 50
    ) -> dict[str, Any]:
        """A page of at most ``limit`` tasks of a board, under "tasks", and "after", where the next one begins, or None.

        All of them by id; or those of a ``state``, and of an ``assignee`` in it, in the order of claims. The token of
        a claim is not shown. A board that is not there has none.
        """
        found: dict[str, Any] = await self._do(
            "tasks", board=board, state=state, assignee=assignee, after=after, limit=limit
        )
        return found

    async def bundle(self, id: str) -> bytes:
        """The whole run as it stands, to read: for ``replay.inspect``, ``diff`` and ``check``, or an archive."""
        found: bytes = await self._do("bundle", id=id)
        return found


class MoveVerbs:
    """What ``sync`` and ``hand_over`` want of a side of a move (a ``Peer``), and whole runs as bundles.

    Each of them may be repeated.
    """

    async def _do(self, verb: str, /, **given: Any) -> Any:
        """Do a verb, or have it done; ``given`` are its parameters, all of them."""
        raise NotImplementedError

    async def identity(self) -> str:
        """The store's own random name."""
        found: str = await self._do("identity")
        return found

    async def place(self, id: str) -> Place | None:
        """Where the run's history stands there; None without one."""
        found: Place | None = await self._do("place", id=id)
        return found

    async def digests(self, id: str, generation: int) -> bytes:
        """The digest of every commit of a history, one after the other."""
        found: bytes = await self._do("digests", id=id, generation=generation)
        return found

    async def part(self, id: str, at: Place | None) -> bytes:
        """The next part for a store that stands at ``at``; empty when that store has it all."""
        found: bytes = await self._do("part", id=id, at=at)
        return found

    async def accept(self, part: bytes) -> Place:
        """Store a part; where the copy stands then."""
        found: Place = await self._do("accept", part=part)
        return found

    async def freeze(self, id: str, name: str, store: str) -> bytes:
        """Stop the run there, on its way to the store ``store``, which people call ``name``; the letter for it."""
        found: bytes = await self._do("freeze", id=id, name=name, store=store)
        return found

    async def take_over(self, letter: bytes) -> Place:
        """Activate the run there; where it stands then."""
        found: Place = await self._do("take_over", letter=letter)
        return found

    async def confirm(self, id: str, store: str) -> None:
        """Note there that the store has taken the run over."""
        await self._do("confirm", id=id, store=store)

    async def renounce(self, letter: bytes, to: str) -> bytes:
        """Take the hand-over of ``letter`` over no more; the letter that takes the run back to the store ``to``."""
        found: bytes = await self._do("renounce", letter=letter, to=to)
        return found

    async def reclaim(self, id: str, lost: str) -> Place:
        """Go on there with a run that was handed over to the store ``lost``, which is gone for good."""
        found: Place = await self._do("reclaim", id=id, lost=lost)
        return found

    async def export(self, id: str, handoff: bool = False) -> bytes:
        """The whole run as a bundle; with ``handoff`` it is frozen there, and goes on where it is imported."""
        found: bytes = await self._do("export", id=id, handoff=handoff)
        return found

    async def import_(self, bundle: bytes, mode: str = "copy") -> str:
        """Store a bundle's run there; its id. "copy": paused until it is resumed; "take_over": it may go on at once."""
        found: str = await self._do("import_", bundle=bundle, mode=mode)
        return found
