"""Deleting runs that ended long ago, a bounded number at a time; what is to be read later goes to an archive first."""

from __future__ import annotations

from typing import Any

from .. import keys
from ..arguments import expect
from ..errors import AlkalineError, ConflictError, InvalidInput, NotFound, StoreError, UnreadableValue
from ..host import Host
from ..limits import check_seconds
from ..names import check_id
from ..runs import FINISHED, ExecutionRecord
from ..structs import dataclass
from . import bundling, listing, moving
from .fleet import Fleet
from .frozen import Freezer
from .lease import Leases, require
from .moved import DELETING
from .store import Store

LIMIT = 500
"""Runs that one call looks at, unless it is told otherwise."""


@dataclass(frozen=True, slots=True)
class Purged:
    """What a purge did. ``runs``: ids of those that are gone, or would be; ``kept``: by id, why others are still here
    that were old enough; ``after``: where the next call goes on, None behind the last run."""

    runs: list[str]
    kept: dict[str, str]
    after: str | None


class Purger:
    """Deletes runs of one runtime's store."""

    def __init__(self, store: Store, leases: Leases, fleet: Fleet, archive: Host | None) -> None:
        self._store, self._fleet, self._freezer = store, fleet, Freezer(store, leases, fleet)
        self._archive: Store | None = None
        if archive is not None:
            require(archive)
            if archive is store.host:
                raise InvalidInput("purge(archive=) is another store than the one that is purged")
            self._archive = Store(archive, store.codec)

    async def page(
        self, status: str | None, workflow: str | None, age: Any, dry_run: bool, after: str, limit: int
    ) -> Purged:
        """See ``Runtime.purge``."""
        if status is not None and status not in list(FINISHED):  # what is given may have no hash
            raise InvalidInput(f"runs that are purged are {', '.join(sorted(FINISHED))}; status is one of them or None")
        expect(dry_run, bool, "purge(dry_run=)", "True or False")
        least = round(check_seconds(age, "purge(older_than=)") * 1000)
        page = await listing.page(self._store, status, workflow, None, after, limit)
        gone: list[str] = []
        kept = {id: str(error) for id, error in page.unreadable.items()}
        now = self._store.host.now_ms()
        for record in page.items:
            if not record.finished or now - record.updated_at < least:
                continue
            why = await self._purge(record, dry_run)
            if why is None:
                gone.append(record.id)
            elif why:
                kept[record.id] = why
        return Purged(gone, kept, page.after)

    async def _purge(self, record: ExecutionRecord, dry_run: bool) -> str | None:
        """Purge one run. Why it is kept, or None; "" for one that others have purged."""
        try:
            await _check_task(self._store, record)
            await moving.check_deletable(self._store, record)
            if dry_run:
                return None
            if self._archive is not None and record.moved_to != DELETING:  # else it was archived before
                await self._keep(record, self._archive)
            await moving.delete(self._store, self._fleet, record.id)
        except NotFound:
            return ""
        except AlkalineError as error:
            if isinstance(error, StoreError) and not isinstance(error, UnreadableValue):
                raise
            return str(error)
        return None

    async def _keep(self, record: ExecutionRecord, archive: Store) -> None:
        """Store the run in the archive, unless it is there. Cut off, it is done again before anything is deleted."""
        id = record.id
        if not _is_there(await archive.find(id), record):
            await bundling.import_(archive, await bundling.export(self._store, self._freezer, id, False), "copy")
        if not _is_there(await archive.find(id), record):
            raise ConflictError(f"the archive has another run {id!r}: purge to another archive, or delete it there")


def _is_there(found: ExecutionRecord | None, record: ExecutionRecord) -> bool:
    if found is None or found.moved_to is not None:
        return False
    return (found.run, found.generation, found.head) == (record.run, record.generation, record.head)


async def _check_task(store: Store, record: ExecutionRecord) -> None:
    """ERR_CONFLICT while a task of a board has yet to take over how the run ended."""
    board, sign, task = str(record.attributes.get(keys.TASK, "")).partition(":")
    if not sign:
        return
    try:
        entry = (await store.host.get([keys.board(check_id(board), "t", check_id(task))]))[0]
    except InvalidInput:
        return  # an attribute of the user's own
    found = None if entry is None else store.opened(entry)
    if isinstance(found, dict) and record.id in (found.get("run"), found.get("stopping")):
        raise ConflictError(
            f"task {task!r} of board {board!r} has not taken over how run {record.id!r} ended: drive the board first, "
            "by serve or run_due of a runtime with that Board",
            id=record.id,
        )
