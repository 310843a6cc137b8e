"""A run's clock: the host's, except that it never goes back behind what the run's history has recorded.

Where the host's clock is behind that (it was ahead for a moment, or has been set back), the run's clock goes on from
the recorded time at the pace of the host's. So ten seconds are ten seconds, however wrong the recorded time is; the
difference is kept in the record, for whoever takes the run up next. Delays that began before that, by the recorded
time, are not of that clock, and end by the host's. Where a clock is known of the run that was written down before and
is not in the future, it is taken that the recorded time was ahead, and otherwise that the host's clock may be behind:
then its catching up ends the difference. Nothing of this is seen by a replay: deadlines
are recorded time plus a delay, and the recorded time of a timer that fired is not before its deadline.

Who takes up a run whose recorded time lies in the future finds out when that was really: after the last clock that was
written down and is not in the future. Timers count from there, so they may be early by what passed between the two.
"""

from __future__ import annotations

from .. import events as ev
from .. import keys
from ..history import Cursor
from ..host import Host
from ..limits import CLOCKS_DIFFER_MS
from ..machine.agenda import Agenda
from ..machine.commands import StartTimer
from ..machine.execution import Execution
from ..runs import ExecutionRecord
from .store import Store


async def note(store: Store, record: ExecutionRecord, recorded: int, now: int) -> None:
    """The run is taken up at ``now``: write down the clock, and by how much ``recorded`` time was ahead of it."""
    if recorded - record.ahead > now + CLOCKS_DIFFER_MS:
        seen = await _seen(store, record, now)
        if not record.ahead:
            record.ahead_since = 0 if seen is None else now
        record.ahead = recorded - (now if seen is None else seen)
        record.doubted_since = 0 if record.ahead_since else now
    elif _proven(record, recorded, now):
        record.ahead_since, record.doubted_since = record.doubted_since, 0
    record.clocks = [*[at for at in record.clocks if at <= now][-1:], now]


def _proven(record: ExecutionRecord, recorded: int, now: int) -> bool:
    """Whether this clock, of which it was not known if it was behind, has gone on for so long that it was right."""
    return bool(record.doubted_since) and proven_at(record) <= now < recorded


def proven_at(record: ExecutionRecord) -> int:
    """From when on, in ms since 1970, it is taken that not this clock was wrong but the recorded time."""
    return record.doubted_since + record.ahead // 2


async def _seen(store: Store, record: ExecutionRecord, now: int) -> int | None:
    """The newest time at which something of the run was written, as far as that is not after ``now``.

    None where all that is known lies in the future: then it may as well be this clock that is behind.
    """
    for at in reversed(record.clocks):
        if at <= now:
            return at
    for generation in range(record.generation, max(-1, record.generation - 2), -1):
        cursor, newest = Cursor(), -1
        for raw in await store.commits(keys.history(record.run, generation)):
            cursor.advance(raw, store.codec)
            if cursor.time_ms <= now:
                newest = cursor.time_ms
        if newest >= 0:
            return newest
    return record.created_at if record.created_at <= now else None


class RunClock:
    """``record`` says by how many ms the run's clock was ahead of the host's when it was written, and since when."""

    def __init__(self, host: Host, machine: Execution, agenda: Agenda, record: ExecutionRecord) -> None:
        self._host, self._machine, self._agenda, self._record = host, machine, agenda, record
        self._ahead = record.ahead
        if self._ahead:
            agenda.misdate(record.ahead_since)

    @property
    def ahead(self) -> int:
        """By how many ms the run's clock is ahead of the host's; 0 as soon as the host's has caught up.

        Where a clock is known to have been far ahead, no delay waits any more either that began by it: it would be late
        by that otherwise.
        """
        return self._look(self._host.now_ms())

    def now_ms(self) -> int:
        """The run's time, ms since 1970."""
        now = self._host.now_ms()
        if now >= self._machine.now_ms and not self._ahead:
            return now
        return now + self._look(now)

    def _look(self, now: int) -> int:
        over = self._machine.now_ms - now
        if over > self._ahead:
            if not self._ahead:
                far, known = over > CLOCKS_DIFFER_MS, any(at <= now for at in self._record.clocks)
                self._record.ahead_since = now if far and known else 0
                self._record.doubted_since = now if far and not known else 0
                self._agenda.misdate(self._record.ahead_since)
            self._ahead = over
        elif _proven(self._record, self._machine.now_ms, now):
            self._record.ahead_since, self._record.doubted_since = self._record.doubted_since, 0
            self._agenda.misdate(self._record.ahead_since)
        elif self._ahead and over <= 0 and not (self._record.ahead_since and self._waits_misdated()):
            self._ahead = self._record.ahead_since = self._record.doubted_since = 0
            self._agenda.misdate(None)
        return self._ahead

    def _waits_misdated(self) -> bool:
        return self._agenda.waits_misdated or self._agenda.backs_off(self._machine.now_ms)

    def on_host(self, run_ms: int) -> int:
        """When the host's clock gets to a moment of the run's."""
        return run_ms - self.ahead

    def due_at(self, timer: StartTimer) -> int:
        """When a timer is due by the host's clock. A date is one by that clock; a delay counts from its beginning."""
        return timer.deadline_ms - (self.ahead if self._agenda.is_misdated(timer) else 0)

    def due_timer(self) -> StartTimer | None:
        """The timer that is due first, if one is. Recorded time never lags behind a deadline it fired."""
        if not self._agenda.timers:
            return None
        now = self._host.now_ms()
        first = self._agenda.next_timer(self._look(now))
        return first[1] if first is not None and first[0] <= now else None

    def take_due(self, most: int, room: int) -> list[ev.TimerFired]:
        """What is recorded of the timers that are due first, all of one moment: ``most``, and about ``room`` bytes."""
        taken: list[ev.TimerFired] = []
        ahead, at = self.ahead, None
        while (first := self._agenda.next_timer(ahead)) is not None and at in (None, first[0]) and len(taken) < most:
            at, timer = first
            room -= len(timer.id) + 8
            if taken and room < 0:
                break
            taken.append(ev.TimerFired(ev.TIMER_FIRED, timer.id))
            self._agenda.take(timer)
        return taken

    def next_look_at(self) -> int | None:
        """When to look at the clock again, by the host's, to find out whether it is right; None where that is known."""
        return proven_at(self._record) if self.ahead and self._record.doubted_since else None

    def next_timer_at(self) -> int | None:
        """When the first timer is due by the host's clock; None where none waits."""
        first = self._agenda.next_timer(self.ahead) if self._agenda.timers else None
        return None if first is None else first[0]
