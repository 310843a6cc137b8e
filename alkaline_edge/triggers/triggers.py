"""``Triggers``: the verbs over schedules, and the chore that starts what is due, in one commit with the schedule."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

from .. import keys
from ..arguments import expect, whole
from ..budget import Budget, check_plain, micros
from ..errors import ConflictError, InvalidInput, NotFound
from ..host import Conflict
from ..lifecycle import LifecycleEvent, RunCompleted, RunFailed, RunWasCancelled
from ..limits import CLOCKS_DIFFER_MS, check_seconds
from ..names import check_attributes, check_id, check_workflow_name
from ..runs import FINISHED
from ..runtime import requests
from ..runtime.chores import Done
from ..runtime.runtime import Runtime
from ..runtime.store import Store
from ..runtime.write import Write
from ..structs import dataclass
from ..workflows import Workflow
from .schedule import MAX_ASKED, OVERLAPS, Overlap, Schedule
from .timing import Timing, check_timing, ms_of

_Ids = list[str]
KIND = "schedule"
MAX_SCHEDULE_ID = 120
"""Characters of a schedule's id: behind it stands the time of a tick, and both are a run's id."""
MAX_BYTES = 64 * 1024
"""Bytes of a schedule with its input: it is written with each tick."""
_STARTS = 50
"""Runs that one look at a schedule starts; what is left is due at once."""
_TRIES = 8
_ENDS = (RunCompleted, RunFailed, RunWasCancelled)


@dataclass(frozen=True, slots=True)
class SchedulePage:
    """Some schedules by id, the ``items``, and where the next page begins; ``after`` is None behind the last one."""

    items: list[Schedule]
    after: str | None

    def __iter__(self) -> Iterator[Schedule]:
        """The schedules."""
        return iter(self.items)

    def __len__(self) -> int:
        """How many schedules this page has."""
        return len(self.items)


async def page_of(store: Store, after: str, limit: int) -> SchedulePage:
    """See ``Triggers.list``. Of a store, by who looks and drives nothing."""
    whole(limit, "limit", 1, 1_000)
    expect(after, str, "after", "what an earlier page gave, or empty")
    entries = await store.host.list(keys.SCHEDULES, keys.schedule(after) if after else "", limit)
    items = [Schedule.from_map(store.opened(entry), entry.version) for entry in entries]
    return SchedulePage(items, items[-1].id if len(items) == limit else None)


class Triggers:
    """The schedules in a runtime's store. Making one is all it takes for that runtime to drive them.

    A tick starts one run, whose id is the schedule's and the tick's time, ``nightly@2026-11-27T03:00:00Z``, and which
    has the attribute ``schedule``. It is recorded in one commit with the schedule. So any number of processes may drive
    a store, and any of them may die at any time: a tick is started once, or, where that id is taken, not again.

    Every verb is ERR_NOT_FOUND for a schedule that is not there, ERR_CONFLICT where others change it all the time, and
    ERR_INVALID_INPUT for what can't be; then nothing is stored.
    """

    def __init__(self, runtime: Runtime) -> None:
        expect(runtime, Runtime, "Triggers(runtime=)", "a Runtime")
        self._runtime = runtime
        self._awaited: dict[str, str] = {}
        """By run: the schedule that waits for its end, as far as it was seen here."""
        runtime.chores.add(KIND, self._do)
        runtime.listen(self._heard)

    # --- verbs -----------------------------------------------------------------------------------------------------
    async def create(
        self,
        id: str,
        workflow: str | Workflow,
        when: Timing,
        input: Any = None,
        *,
        overlap: Overlap = "skip",
        catch_up: float | timedelta = 86_400,
        jitter: float | timedelta = 0,
        ends_at: datetime | None = None,
        max_runs: int | None = None,
        attributes: dict[str, Any] | None = None,
        budget: Budget | None = None,
        on_conflict: str = "reject",
    ) -> Schedule:
        """Store a schedule; its first tick is the first one from now on. Its runs get ``input``.

        ``overlap``: what becomes of a tick while a run of an earlier one goes on: ``skip`` leaves it out, ``buffer``
        lets one wait, ``allow`` starts it beside the other, ``cancel`` cancels the other and starts once that has
        ended. ``catch_up``: for how many seconds a tick that nobody was there for may still be started. ``jitter``: up
        to how many seconds later a tick is started. ``ends_at``: no tick behind it; ``max_runs``:
        no more than so many. ``attributes`` and ``budget``: of its runs. An id that is in use is ERR_CONFLICT, or with
        ``on_conflict`` the schedule that is there: ``join`` leaves it as it is, ``replace`` gives it these settings.
        """
        if on_conflict not in ("reject", "join", "replace"):
            raise InvalidInput(f'on_conflict is "reject", "join" or "replace", not {on_conflict!r}')
        made = self._checked(
            id, workflow, when, input, overlap, catch_up, jitter, ends_at, max_runs, attributes, budget
        )
        now = self._runtime.host.now_ms()
        made.created_at = made.updated_at = now
        made.go_on(now)
        if made.due is None:
            raise InvalidInput(
                f"schedule {id!r} would never tick: its end lies before its first tick; nothing was stored"
            )
        if await self._put(made, None, now):
            return made
        if on_conflict == "reject":
            raise ConflictError(
                f'there is a schedule {id!r} already; choose another id, or pass on_conflict="join" or "replace"', id=id
            )
        if on_conflict == "join":
            return await self.get(id)

        def replace(found: Schedule, now: int) -> None:
            for name in ("when", "workflow", "input", "overlap", "catch_up", "jitter", "ends_at", "max_runs",
                         "attributes", "budget"):  # fmt: skip
                setattr(found, name, getattr(made, name))
            found.status = "active" if found.status == "ended" else found.status
            found.go_on(now)

        return await self._change(id, replace)

    async def get(self, id: str) -> Schedule:
        """The schedule as it stands in the store."""
        found = await self._find(check_id(id, "a schedule's id"))
        if found is None:
            raise NotFound(f"there is no schedule {id!r} in this store; list() shows what is there", id=id)
        return found

    async def list(self, after: str = "", limit: int = 50) -> SchedulePage:
        """A page of up to ``limit`` schedules, by id; pass ``page.after`` on for the next one, until it is None."""
        return await page_of(self._runtime.store, after, limit)

    async def pause(self, id: str) -> Schedule:
        """No tick is started until ``resume``, and what was due meanwhile is left out. Its runs go on."""

        def pause(found: Schedule, now: int) -> None:
            if found.status == "active":
                found.status = "paused"

        return await self._change(id, pause)

    async def resume(self, id: str) -> Schedule:
        """Tick again, from the next tick on. One that has ended stays so."""

        def resume(found: Schedule, now: int) -> None:
            if found.status == "paused":
                found.status = "active"
                found.go_on(now)

        return await self._change(id, resume)

    async def end(self, id: str) -> Schedule:
        """Never tick again, and start nothing that waits. The schedule stays to be looked at; its runs go on."""

        def end(found: Schedule, now: int) -> None:
            found.status, found.due, found.waiting, found.asked, found.filling = "ended", None, None, [], []

        return await self._change(id, end)

    async def delete(self, id: str) -> None:
        """Delete the schedule; its runs stay. One of the same id does not start ticks again that were started."""
        for _ in range(_TRIES):
            found = await self.get(id)
            write = Write({keys.schedule(id): found.version_tag}, {}, {keys.schedule(id), *_timer_of(found)})
            if not isinstance(await self._runtime.store.commit(write), Conflict) or await self._find(id) is None:
                return
        raise _contended(id)

    async def trigger(self, id: str, dedupe: str | None = None) -> str:
        """Start a run now, whatever the clock and ``overlap`` say, also of a schedule that is paused or has ended.

        Returns the run's id. The wish is durable when this returns; the run is started at once where its workflow is
        registered, and otherwise by a process that has it. The same ``dedupe`` key starts one run.
        """
        if dedupe is not None:
            check_id(dedupe, "a dedupe key")
        run = f"{id}@now:{dedupe or self._runtime.host.entropy(6).hex()}"
        check_id(run, "a schedule's id with a dedupe key")

        def ask(found: Schedule, now: int) -> None:
            if run not in found.asked:
                found.asked.append(run)
            if len(found.asked) > MAX_ASKED:
                raise InvalidInput(
                    f"{MAX_ASKED} runs of schedule {id!r} wait to be started already; nothing was stored"
                )

        await self._change(id, ask)
        await self._at_once(id)
        return run

    async def backfill(self, id: str, start: datetime, end: datetime, *, overlap: str = "buffer") -> Schedule:
        """Start the ticks from ``start`` to ``end``, both included, as if they were due; those started already are not.

        ``overlap``: ``buffer`` for one after the other, ``allow`` for all side by side. They do not count for
        ``max_runs``. It is durable when this returns, and goes on wherever schedules are driven.
        """
        if overlap not in ("buffer", "allow"):
            raise InvalidInput(f'backfill(overlap=) is "buffer" or "allow", not {overlap!r}')
        first, last = ms_of(start, "backfill(start=)"), ms_of(end, "backfill(end=)")
        if last < first:
            raise InvalidInput("backfill wants a start that is not behind its end")

        def fill(found: Schedule, now: int) -> None:
            found.filling.append([first - 1, last, overlap == "allow"])
            if len(found.filling) > MAX_ASKED:
                raise InvalidInput(
                    f"{MAX_ASKED} ranges of schedule {id!r} wait to be filled already; nothing was stored"
                )

        await self._change(id, fill)
        await self._at_once(id)
        return await self.get(id)

    # --- what is due -----------------------------------------------------------------------------------------------
    async def _do(self, name: str) -> Done:
        """The chore: start what is due. Everything is decided anew from what is stored, so anybody may do it again."""
        started: list[str] = []
        moved = False
        for _ in range(_STARTS):
            found = await self._find(name)
            now = self._runtime.host.now_ms()
            if found is None or found.wake is None:
                break
            await self._forget_ended(found)
            if found.wake > now and not self._is_ahead(found, now) and not self._may_go_on(found):
                break
            run = await self._turn(found, now)
            if run is None:
                continue  # others were quicker: look again
            moved = True
            started += [run] if run else []
            if not run and (found.wake is None or found.wake > now):
                break
        return Done(started, moved)

    async def _turn(self, found: Schedule, now: int) -> str | None:
        """One commit: what was decided, with the run that it starts, whose id is returned; "" where it starts none.

        None: nothing was committed, since others have changed the schedule.
        """
        before, version = set(_timer_of(found)), found.version_tag
        if self._is_ahead(found, now) and found.due is not None:
            found.go_on(now)  # its next tick was reckoned by a clock that was ahead
        turn = found.turn(now)
        found.updated_at = now
        found.set_wake(now)
        write = self._write(found, before, version, now)
        if turn.start is None:
            outcome = await self._runtime.store.commit(write)
            if isinstance(outcome, Conflict):
                return None
            await self._cancel(turn.cancel)
            return ""
        definition = self._runtime.registry.newest(found.workflow)
        budget = None
        if found.budget is not None:
            tokens, money = found.budget
            budget = Budget(tokens, None if money is None else money / 1_000_000)
        attributes = {**found.attributes, "schedule": found.id}
        _, new = await self._runtime.owner.start(definition, found.input, turn.start, attributes, None, budget, write)
        if new:
            if found.overlap != "allow" or found.filling:
                self._awaited[turn.start] = found.id
            return turn.start
        now_stored = await self._find(found.id)
        if now_stored is None or now_stored.version_tag != version:
            return None
        # The run is there: the tick was started before, by a schedule of that id or by hand.
        again = self._write(found, before, version, now)
        return None if isinstance(await self._runtime.store.commit(again), Conflict) else ""

    async def _forget_ended(self, found: Schedule) -> None:
        """Take the runs that have ended, or are there no more, out of ``running``."""
        if not found.running:
            return
        store = self._runtime.store
        records, damaged = await store.unreadable.records(found.running)
        going_on = {record.id for record in records if record.status not in FINISHED} | damaged.keys()
        for run in [*found.running]:
            if run in going_on:
                self._awaited[run] = found.id
            else:
                found.running.remove(run)
                self._awaited.pop(run, None)

    def _may_go_on(self, found: Schedule) -> bool:
        """Whether what a run held up can go on now."""
        return not found.running and (found.waiting is not None or bool(found.filling)) and found.status != "paused"

    def _is_ahead(self, found: Schedule, now: int) -> bool:
        """Whether the schedule was written last by a clock that was ahead, so that its next tick is too far away."""
        return found.updated_at > now + CLOCKS_DIFFER_MS

    async def _cancel(self, runs: _Ids) -> None:
        """Ask for the end of runs that a tick waits for. It is repeated at each look: a process may die before this."""
        for run in runs:
            with suppress(ConflictError, NotFound):  # it has ended meanwhile
                if await requests.first(self._runtime.store, run, "cancel") is None:
                    await self._runtime.cancel(run, "its schedule's next tick is due")

    def _heard(self, event: LifecycleEvent) -> None:
        """A run that a schedule waits for has ended here: that schedule goes on at the next look."""
        if isinstance(event, _ENDS) and (schedule := self._awaited.pop(event.id, None)) is not None:
            self._runtime.chores.want(keys.chore(KIND, schedule))

    async def _at_once(self, id: str) -> None:
        """Do what was asked for, where the workflow is here."""
        if self._runtime.registry.listed():
            await self._runtime.chores.do(keys.chore(KIND, id))

    # --- the store -------------------------------------------------------------------------------------------------
    async def _find(self, id: str) -> Schedule | None:
        entry = (await self._runtime.host.get([keys.schedule(id)]))[0]
        return None if entry is None else Schedule.from_map(self._runtime.store.opened(entry), entry.version)

    async def _change(self, id: str, change: Callable[[Schedule, int], None]) -> Schedule:
        """Read, change, commit; again where others were quicker."""
        check_id(id, "a schedule's id")
        for _ in range(_TRIES):
            found, now = await self.get(id), self._runtime.host.now_ms()
            before = set(_timer_of(found))
            change(found, now)
            found.updated_at = now
            if await self._put(found, before, now):
                return found
        raise _contended(id)

    async def _put(self, schedule: Schedule, before: set[str] | None, now: int) -> bool:
        schedule.set_wake(now)
        write = self._write(schedule, before or set(), None if before is None else schedule.version_tag, now)
        if len(write.puts[keys.schedule(schedule.id)]) > MAX_BYTES:
            raise InvalidInput(
                f"schedule {schedule.id!r} with its input is over {MAX_BYTES} bytes, and it is written at each tick: "
                "give the input's place instead; nothing was stored",
                limit=MAX_BYTES,
            )
        outcome = await self._runtime.store.commit(write)
        if isinstance(outcome, Conflict):
            return False
        schedule.version_tag = outcome.version
        self._runtime.chores.changed()
        return True

    def _write(self, schedule: Schedule, before: set[str], version: str | None, now: int) -> Write:
        store, key = self._runtime.store, keys.schedule(schedule.id)
        write = Write({key: version}, {key: store.codec.encode(schedule.to_map(), "schedule")})
        write.index(before, set(_timer_of(schedule)), store.codec.encode(now))
        return write

    def _checked(
        self,
        id: str,
        workflow: str | Workflow,
        when: Timing,
        input: Any,
        overlap: Overlap,
        catch_up: float | timedelta,
        jitter: float | timedelta,
        ends_at: datetime | None,
        max_runs: int | None,
        attributes: dict[str, Any] | None,
        budget: Budget | None,
    ) -> Schedule:
        """A schedule of what was given, none of which can fail later."""
        if len(check_id(id, "a schedule's id")) > MAX_SCHEDULE_ID:
            raise InvalidInput(f"a schedule's id has {MAX_SCHEDULE_ID} characters at most, since its runs' ids hold it")
        name = workflow.name if isinstance(workflow, Workflow) else check_workflow_name(workflow)
        if overlap not in OVERLAPS:
            raise InvalidInput(f"overlap is one of {', '.join(OVERLAPS)}, not {overlap!r}")
        if max_runs is not None:
            whole(max_runs, "max_runs", 1)
        check_attributes({**(attributes or {}), "schedule": id})
        expect(budget, (Budget, type(None)), "budget", "a Budget, such as Budget(tokens=1000), or None")
        check_plain(budget, "a schedule")
        return Schedule(
            id, check_timing(when), name, self._runtime.codec.through(input, "input"), overlap,
            round(check_seconds(catch_up, "catch_up") * 1000), round(check_seconds(jitter, "jitter") * 1000),
            None if ends_at is None else ms_of(ends_at, "ends_at"), max_runs, dict(attributes or {}),
            None if budget is None else [budget.tokens, None if budget.usd is None else micros(budget.usd)],
        )  # fmt: skip


def _timer_of(schedule: Schedule) -> list[str]:
    """The key of the schedule's timer, if it has one."""
    return [] if schedule.wake is None else [keys.timer(schedule.wake, keys.chore(KIND, schedule.id))]


def _contended(id: str) -> ConflictError:
    return ConflictError(f"schedule {id!r} was changed by others {_TRIES} times in a row; call again", id=id)
