"""How long runs are kept that have ended: rules in the store, by which ``purge`` is called time and again.

A rule is a chore, so whatever wakes runs keeps it: ``run_due``, ``serve``, a Durable Object's alarm. A look purges a
page of runs and notes how far that was, so a rule goes on where a process died, and no look costs more than a page.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from . import keys, stored
from .arguments import expect
from .errors import ConflictError, InvalidInput, NotFound
from .host import Conflict, Entry, Host
from .limits import CLOCKS_DIFFER_MS, check_seconds
from .names import check_id, check_workflow_name
from .runs import FINISHED
from .runtime.chores import Done
from .runtime.lease import require
from .runtime.purging import LIMIT, Purged
from .runtime.runtime import Runtime
from .runtime.write import Write
from .structs import dataclass, field

__all__ = ["Purged", "Retention", "Rule"]

KIND = "retention"
EVERY_SECONDS = 3_600.0
MAX_RULES = 100
_TRIES = 8
_KEPT = 20
"""Runs that could not be purged and are named in a rule."""


@dataclass(slots=True)
class Rule:
    """The rule ``name`` as it stands, since ``updated_at``. Times are ms since 1970, lengths ms.

    Runs of a ``status`` and a ``workflow``, None for any, are purged once they ended ``older_than`` ago, and with
    ``archive`` are stored elsewhere before. That is looked after ``every`` so often, next at ``due``; ``after`` is how
    far the present time round is. ``purged``: how many runs have gone so far; ``kept``: some that were old enough and
    could not, and why. ``version_tag``: the store's version of it.
    """

    name: str
    older_than: int
    status: str | None = None
    workflow: str | None = None
    every: int = round(EVERY_SECONDS * 1000)
    archive: bool = False
    due: int = 0
    after: str = ""
    purged: int = 0
    kept: dict[str, str] = field(default_factory=dict)
    updated_at: int = 0
    version_tag: str = ""

    def to_map(self) -> dict[str, Any]:
        """What is stored."""
        return stored.to_map(self)

    @classmethod
    def from_map(cls, values: Any, version_tag: str) -> Rule:
        """The rule of a stored map; ERR_STORE for what is none. ``version_tag``: the store's version of it."""
        return stored.from_map(cls, values, version_tag, "a rule of retention in the store is damaged: set it anew")

    def timer(self) -> str:
        """The key of its timer."""
        return keys.timer(self.due, keys.chore(KIND, self.name))

    def went(self, purged: Purged, now: int) -> None:
        """A page was looked at: the next one is looked at at once, and behind the last one there is a pause."""
        if not self.after:
            self.kept = {}
        self.purged += len(purged.runs)
        self.kept = dict([*self.kept.items(), *purged.kept.items()][:_KEPT])
        self.after = purged.after or ""
        self.due = now if self.after else now + self.every
        self.updated_at = now


class Retention:
    """The rules of a runtime's store. Making one is all it takes for that runtime to keep them.

    ``archive``: an open host, to which runs go by rules that say so; a process without one leaves those rules to
    others. What is purged, and what is not, is said by ``Runtime.purge``.
    """

    def __init__(self, runtime: Runtime, archive: Host | None = None) -> None:
        expect(runtime, Runtime, "Retention(runtime=)", "a Runtime")
        if archive is not None:
            require(archive)
        self._runtime, self._archive = runtime, archive
        runtime.chores.add(KIND, self._do)

    async def set(
        self,
        name: str,
        older_than: float | timedelta,
        *,
        status: str | None = None,
        workflow: str | None = None,
        every: float | timedelta = EVERY_SECONDS,
        archive: bool = False,
    ) -> Rule:
        """Make a rule, or change the one of that ``name``; its first look is at once.

        ``older_than``: purge runs that ended so many seconds ago. ``status``: completed, failed or cancelled, and
        ``workflow``: the name of one; None for all. ``every``: seconds between two times round. ``archive``: store
        them in the archive first. ERR_INVALID_INPUT for what can't be, and for more than 100 rules.
        """
        check_id(name, "a rule's name")
        if status is not None and status not in list(FINISHED):  # what is given may have no hash
            raise InvalidInput(f"a rule's status is one of {', '.join(sorted(FINISHED))}, or None for all of them")
        if workflow is not None:
            check_workflow_name(workflow)
        expect(archive, bool, "set(archive=)", "True or False")
        made = Rule(
            name, round(check_seconds(older_than, "set(older_than=)") * 1000), status, workflow,
            round(check_seconds(every, "set(every=)", 1.0) * 1000), archive,
        )  # fmt: skip
        if len(await self.list()) >= MAX_RULES and await self._find(name) is None:
            raise InvalidInput(f"a store has at most {MAX_RULES} rules of retention; delete one first")
        for _ in range(_TRIES):
            found = await self._find(name)
            made.due = made.updated_at = self._runtime.host.now_ms()
            made.purged = 0 if found is None else found.purged
            if await self._put(made, found):
                return made
        raise _contended(name)

    async def list(self) -> list[Rule]:
        """Every rule, by name."""
        entries = await self._runtime.host.list(keys.RULES, "", MAX_RULES)
        return [self._opened(entry) for entry in entries]

    async def delete(self, name: str) -> None:
        """There is no such rule any more: what it purged stays gone. ERR_NOT_FOUND where there is none."""
        for _ in range(_TRIES):
            found = await self._find(check_id(name, "a rule's name"))
            if found is None:
                raise NotFound(f"there is no rule of retention {name!r} in this store; list() shows what is there")
            write = Write({keys.rule(name): found.version_tag}, {}, {keys.rule(name), found.timer()})
            if not isinstance(await self._runtime.store.commit(write), Conflict) or await self._find(name) is None:
                return
        raise _contended(name)

    async def _do(self, name: str) -> Done:
        """The chore: purge a page. Anybody may do it again: what is gone is gone, and the place is checked."""
        found, now = await self._find(name), self._runtime.host.now_ms()
        if found is None or (found.due > now and found.updated_at <= now + CLOCKS_DIFFER_MS):
            return Done([], False)
        if found.archive and self._archive is None:
            raise NotFound(
                f"rule {name!r} wants an archive, and this process has none: Retention(runtime, archive=...)"
            )
        archive = self._archive if found.archive else None
        purged = await self._runtime.purge(
            found.older_than / 1000, found.status, found.workflow, False, found.after, LIMIT, archive
        )
        before = Rule.from_map(found.to_map(), found.version_tag)
        found.went(purged, self._runtime.host.now_ms())
        await self._put(found, before)  # a conflict: another process has looked at the same page, or the rule changed
        return Done([], True)

    # --- the store -------------------------------------------------------------------------------------------------
    async def _find(self, name: str) -> Rule | None:
        entry = (await self._runtime.host.get([keys.rule(name)]))[0]
        return None if entry is None else self._opened(entry)

    def _opened(self, entry: Entry) -> Rule:
        return Rule.from_map(self._runtime.store.opened(entry), entry.version)

    async def _put(self, rule: Rule, before: Rule | None) -> bool:
        """Store the rule with its timer, unless others have changed it meanwhile."""
        store, key = self._runtime.store, keys.rule(rule.name)
        write = Write({key: None if before is None else before.version_tag}, {key: store.codec.encode(rule.to_map())})
        written = store.codec.encode(self._runtime.host.now_ms())
        write.index(set() if before is None else {before.timer()}, {rule.timer()}, written)
        if isinstance(await store.commit(write), Conflict):
            return False
        self._runtime.chores.changed()
        return True


def _contended(name: str) -> ConflictError:
    return ConflictError(f"rule {name!r} was changed by others {_TRIES} times in a row; call again")
