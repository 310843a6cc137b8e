"""A schedule as it is stored, and what follows from it and the clock alone: ``turn`` decides, and does no I/O."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal
from zlib import crc32

from .. import stored
from ..errors import StoreError
from ..structs import dataclass, field
from .timing import Timing, iso_of, timing_of

Overlap = Literal["skip", "buffer", "allow", "cancel"]
OVERLAPS: tuple[Overlap, ...] = ("skip", "buffer", "allow", "cancel")
"""What becomes of a tick while a run of an earlier one goes on. It is left out; it waits, and later ones are left out;
it is started beside the other; or the other is cancelled, and it starts once that has ended."""
ScheduleStatus = Literal["active", "paused", "ended"]
MAX_ASKED = 100
"""Starts by hand, and ranges to be filled, that may wait."""
_AT_ONCE = 1_000
"""Ticks that one commit decides upon at most."""
_LEAST_LOOK_MS, _LONGEST_LOOK_MS = 1_000, 60_000
"""How often a run that another tick waits for is looked at, where nobody tells of its end."""


@dataclass(slots=True)
class Schedule:
    """A schedule as the store knows it. Times are ms since 1970, lengths ms.

    ``id``, ``workflow``, ``input``, ``overlap``, ``catch_up``, ``jitter``, ``ends_at``, ``max_runs`` and ``attributes``
    are what ``Triggers.create`` was given. ``status`` is where it stands, since it was made at ``created_at`` and
    changed last at ``updated_at``; ``version_tag`` is the store's version of it. ``due``: the next tick, None without
    one; ``wake``: when there is something to do next. ``started``: how many runs its ticks have started, ``skipped``:
    ticks left out since an earlier run went on; ``missed``: the first of those that were left out last as longer ago
    than ``catch_up``. ``fired``: the last tick that was decided upon. ``running``: runs of it that are not known to
    have ended. ``waiting``: the run that a tick waits to start, ``waiting_since`` since when it waits.
    """

    id: str
    when: Timing
    workflow: str
    input: Any = None
    overlap: Overlap = "skip"
    catch_up: int = 86_400_000
    jitter: int = 0
    ends_at: int | None = None
    max_runs: int | None = None
    attributes: dict[str, Any] = field(default_factory=dict)
    budget: list[Any] | None = None
    """Tokens and micro-dollars of each run, each None for no limit; None: the workflow's own."""
    status: ScheduleStatus = "active"
    due: int | None = None
    wake: int | None = None
    fired: int | None = None
    started: int = 0
    skipped: int = 0
    missed: int | None = None
    running: list[str] = field(default_factory=list)
    waiting: str | None = None
    waiting_since: int = 0
    asked: list[str] = field(default_factory=list)
    """Runs that somebody asked for, whatever the clock says."""
    filling: list[list[Any]] = field(default_factory=list)
    """Ranges of the past whose ticks are to be started: [the last one done, the last one, whether side by side]."""
    created_at: int = 0
    updated_at: int = 0
    version_tag: str = ""

    def to_map(self) -> dict[str, Any]:
        """What is stored."""
        return {**stored.to_map(self), "when": self.when.to_list()}

    @classmethod
    def from_map(cls, values: Any, version_tag: str = "") -> Schedule:
        """The schedule of a stored map; ERR_STORE for what is none. What a newer version added is left out.

        ``version_tag``: the store's version of it.
        """
        damaged = "a schedule in the store is damaged: restore it, or delete it"
        try:
            read = {**values, "when": timing_of(values["when"])}
        except (TypeError, KeyError, IndexError):
            raise StoreError(damaged) from None
        made = stored.from_map(cls, read, version_tag, damaged)
        if made.overlap not in OVERLAPS or made.status not in ("active", "paused", "ended"):
            raise StoreError(f"schedule {made.id!r} in the store is damaged or newer: upgrade, or restore it")
        return made

    @property
    def next(self) -> datetime | None:
        """The next tick as an aware datetime, None without one."""
        return None if self.due is None else datetime.fromtimestamp(self.due / 1000, UTC)

    def run_of(self, tick: int) -> str:
        """The id of the run of a tick: whoever starts it, it is this one."""
        return f"{self.id}@{iso_of(tick)}"

    def rings_at(self, tick: int) -> int:
        """When a tick is started: later by a part of ``jitter`` that is the same in every process."""
        return tick + (crc32(self.run_of(tick).encode()) % (self.jitter + 1) if self.jitter else 0)

    # --- what follows ----------------------------------------------------------------------------------------------
    def go_on(self, after: int) -> None:
        """The next tick is the first one behind ``after``; behind the end there is none, and the schedule has ended."""
        begun = self.started + (self.waiting is not None)
        self.due = self.when.after(after) if self.max_runs is None or begun < self.max_runs else None
        if self.due is not None and self.ends_at is not None and self.due > self.ends_at:
            self.due = None
        if self.due is None and self.status == "active":
            self.status = "ended"

    def set_wake(self, now: int) -> None:
        """Say when there is something to do next."""
        times: list[int] = []
        if self.asked:
            times.append(now)
        if self.status != "paused":
            if self.due is not None and self.status == "active":
                times.append(self.rings_at(self.due))
            if self.waiting is not None or (self.filling and not self.filling[0][2]):
                pause = min(_LONGEST_LOOK_MS, max(_LEAST_LOOK_MS, (now - self.waiting_since) // 4))
                times.append(now + pause if self.running else now)
            elif self.filling:
                times.append(now)
        self.wake = min(times, default=None)

    def turn(self, now: int) -> Turn:
        """Decide what is due at ``now``, up to the first run that is to be started, and remember that it was.

        ``running`` holds those that go on. What changed is to be committed, with the run; of one that can't be started
        since it is there already, as if it had been.
        """
        start = self._by_hand()
        if start is None and self.status != "paused" and self.waiting is not None and not self.running:
            start, self.waiting = self.waiting, None
            self._count(start)
        for _ in range(_AT_ONCE):
            if start is not None or self.status != "active" or self.due is None or self.rings_at(self.due) > now:
                break
            start = self._tick(now)
        if start is None and self.status != "paused" and self.filling:
            start = self._fill()
        in_the_way = list(self.running) if self.overlap == "cancel" and self.waiting is not None else []
        return Turn(start, in_the_way)

    def _by_hand(self) -> str | None:
        if not self.asked:
            return None
        start = self.asked.pop(0)
        self._follow(start)
        return start

    def _tick(self, now: int) -> str | None:
        tick = self.due
        assert tick is not None
        if now - self.rings_at(tick) > self.catch_up:
            self.missed = tick
            self.fired = tick
            self.go_on(max(tick, now - self.catch_up - self.jitter - 1))
            return None
        self.fired = tick
        start = self.run_of(tick)
        if self.running and self.overlap != "allow":
            if self.overlap == "skip" or (self.overlap == "buffer" and self.waiting is not None):
                self.skipped += 1
            else:
                self.skipped += self.waiting is not None
                self.waiting, self.waiting_since = start, now
            self.go_on(tick)
            return None
        self._count(start)
        self.go_on(tick)
        return start

    def _fill(self) -> str | None:
        done, last, beside = self.filling[0]
        if self.running and not beside:
            return None
        tick = self.when.after(done)
        if tick is None or tick > last:
            del self.filling[0]
            return self._fill() if self.filling else None
        self.filling[0] = [tick, last, beside]
        start = self.run_of(tick)
        if not beside:
            self.running.append(start)
            self.waiting_since = 0
        return start

    def _count(self, run: str) -> None:
        self.started += 1
        self._follow(run)

    def _follow(self, run: str) -> None:
        """What comes later waits for this run, where anything does."""
        if self.overlap != "allow":
            self.running.append(run)
            del self.running[:-MAX_ASKED]


@dataclass(frozen=True, slots=True)
class Turn:
    """What a schedule asks for: a run to start in the same commit, and runs to cancel once that is done."""

    start: str | None
    cancel: list[str]
