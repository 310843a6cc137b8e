"""What a control plane does: it asks servers, side by side, and puts together what they answer. It keeps nothing.

A server that does not answer, or refuses, is told of by its name; what the others answer stands beside it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, NamedTuple

from alkaline_edge import hand_over
from alkaline_edge.errors import AlkalineError, InvalidInput, NotFound
from alkaline_edge.runs import FINISHED, STATUSES

Server = Any
"""A ``Remote``: every verb of the API. What may be asked of it is in ``_http/verbs.py``."""
PAGE, MOST = 500, 10_000
"""Runs that are asked for at a time, and in all of one server."""
AT_ONCE = 8
"""So many runs of one server are changed side by side."""
BULK = ("cancel", "pause", "resume", "retry")
"""What is done to each run that matches; ``purge`` is the servers' own."""
LATE_MS = 5_000


class Chosen(NamedTuple):
    """Which runs are meant. ``servers``: those of these alone; empty means all."""

    status: str | None = None
    workflow: str | None = None
    servers: tuple[str, ...] = ()


class Plane:
    """Several servers by their names."""

    def __init__(self, servers: Mapping[str, Server]) -> None:
        self.servers = dict(servers)

    async def close(self) -> None:
        """Let go of connections."""
        for server in self.servers.values():
            await server.close()

    def _named(self, names: Iterable[str]) -> dict[str, Server]:
        unknown = sorted(set(names) - self.servers.keys())
        if unknown:
            raise NotFound(f"there is no server {', '.join(unknown)[:200]}; there are {', '.join(self.servers)}")
        chosen = set(names) or self.servers.keys()
        return {name: server for name, server in self.servers.items() if name in chosen}

    async def _each(
        self, servers: Mapping[str, Server], ask: Callable[[str, Server], Awaitable[Any]]
    ) -> tuple[dict[str, Any], dict[str, str]]:
        """What each server answers, and by name why one does not."""
        found: dict[str, Any] = {}
        down: dict[str, str] = {}

        async def one(name: str, server: Server) -> None:
            try:
                found[name] = await ask(name, server)
            except AlkalineError as error:
                down[name] = f"{error.code}: {error}"

        await asyncio.gather(*(one(name, server) for name, server in servers.items()))
        return {name: found[name] for name in servers if name in found}, down

    # --- looking ---------------------------------------------------------------------------------------------------
    async def health(self) -> dict[str, Any]:
        """How each store and whoever answers for it are: "servers" by name, and "down", why one does not answer.

        Each has what ``RunVerbs.health`` has, and "late", by how many ms its first timer is overdue.
        """

        async def ask(name: str, server: Server) -> dict[str, Any]:
            health = await server.health()
            due, now = health.get("oldest_due"), health.get("now")
            late = max(0, now - due) if isinstance(due, int) and isinstance(now, int) else 0
            return {**health, "late": late if late > LATE_MS else 0}

        servers, down = await self._each(self.servers, ask)
        return {"servers": servers, "down": down}

    async def runs(self, chosen: Chosen, limit: int = 200) -> dict[str, Any]:
        """One list of all servers' runs, the newest first: "runs", each with its "server", and "counts" by state."""
        found, down, cut = await self._all(chosen)
        found.sort(key=lambda run: (-run["updated_at"], run["server"], run["id"]))
        counts: dict[str, int] = {}
        for run in found:
            counts[run["status"]] = counts.get(run["status"], 0) + 1
        return {"runs": found[:limit], "total": len(found), "counts": counts, "down": down, "cut": cut}

    async def _all(self, chosen: Chosen) -> tuple[list[dict[str, Any]], dict[str, str], list[str]]:
        if chosen.status is not None and chosen.status not in STATUSES:
            raise InvalidInput(f"status is one of {', '.join(STATUSES)}, not {chosen.status[:40]!r}")
        cut: list[str] = []

        async def ask(name: str, server: Server) -> list[dict[str, Any]]:
            runs: list[dict[str, Any]] = []
            after: str | None = ""
            while after is not None and len(runs) < MOST:
                page = await server.runs(chosen.status, chosen.workflow, after, PAGE)
                runs += [{**run, "server": name} for run in page["runs"]]
                after = page["after"]
            if after is not None:
                cut.append(name)
            return runs

        servers, down = await self._each(self._named(chosen.servers), ask)
        return [run for runs in servers.values() for run in runs], down, sorted(cut)

    # --- operating -------------------------------------------------------------------------------------------------
    async def bulk(self, verb: str, chosen: Chosen, dry_run: bool, reason: str | None = None) -> dict[str, Any]:
        """Do a verb to every run that matches: "runs" has each with its "outcome", "done" or why not.

        With ``dry_run`` nothing is done, and "runs" are those that it would be done to. ERR_INVALID_INPUT, before
        anything is done: an unknown verb or status, or no filter at all. "down": servers whose runs were not reached.
        """
        if verb not in BULK:
            raise InvalidInput(f"what is done to many runs is {', '.join(BULK)} or purge, not {verb[:40]!r}")
        if chosen.status is None and chosen.workflow is None:
            raise InvalidInput(f"say which runs to {verb}: by status, by workflow, or both")
        found, down, cut = await self._all(chosen)
        wanted = [run for run in found if _is_for(verb, run)]
        many = asyncio.Semaphore(AT_ONCE)

        async def one(run: dict[str, Any]) -> dict[str, Any]:
            told = {name: run[name] for name in ("server", "id", "workflow", "status")}
            if dry_run:
                return told
            server = self.servers[run["server"]]
            more = {"reason": reason} if verb == "cancel" else {}
            async with many:
                try:
                    await getattr(server, verb)(run["id"], **more)
                except AlkalineError as error:
                    return {**told, "outcome": f"{error.code}: {error}"}
            return {**told, "outcome": "done"}

        done = await asyncio.gather(*(one(run) for run in wanted))
        return {"verb": verb, "dry_run": dry_run, "runs": done, "down": down, "cut": cut}

    async def purge(self, chosen: Chosen, older_than: int, dry_run: bool) -> dict[str, Any]:
        """Delete runs that ended ``older_than`` seconds ago: "runs" by server, "kept" with why, and "down"."""
        if chosen.status is not None and chosen.status not in FINISHED:
            raise InvalidInput(f"a purge is of runs that have ended: {', '.join(sorted(FINISHED))}")

        async def ask(name: str, server: Server) -> dict[str, Any]:
            runs: list[str] = []
            kept: dict[str, str] = {}
            after: str | None = ""
            while after is not None:
                page = await server.purge(older_than, chosen.status, chosen.workflow, dry_run, after, PAGE)
                runs += page["runs"]
                kept |= page["kept"]
                after = page["after"]
            return {"runs": runs, "kept": kept}

        servers, down = await self._each(self._named(chosen.servers), ask)
        return {"verb": "purge", "dry_run": dry_run, "servers": servers, "down": down}

    async def hand(self, id: str, source: str, target: str) -> dict[str, Any]:
        """Hand a run from one server to another. Interrupted, it is done again, as ``hand_over`` says."""
        if source == target:
            raise InvalidInput("source and target are the same server")
        servers = self._named((source, target))
        place = await hand_over(servers[source], id, servers[target])
        return {"run": id, "server": target, "commits": place.length, "status": place.status}


def _is_for(verb: str, run: Mapping[str, Any]) -> bool:
    """Whether a verb is meant for a run in that state."""
    if verb == "retry":
        return bool(run["status"] == "failed")
    if verb == "resume":
        return bool(run["status"] == "paused")
    return run["status"] not in FINISHED and not (verb == "pause" and run["status"] == "paused")
