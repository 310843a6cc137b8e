"""A run's clock: the host's, except that it never goes back behind what the run's history has recorded.

Where the host's clock is behind that (it was ahead for a moment, or has been set back), the run's clock goes on from
the recorded time at the pace of the host's. So ten seconds are ten seconds, however wrong the recorded time is; the
difference is kept in the record, for whoever takes the run up next. Nothing of this is seen by a replay: deadlines
are recorded time plus a delay, and the recorded time of a timer that fired is not before its deadline.

Who takes up a run whose recorded time lies in the future finds out when that was really: after the last clock that was
written down and is not in the future. Timers count from there, so they may be early by what passed between the two.
"""

from __future__ import annotations

from .. import keys
from ..history import Cursor
from ..host import Host
from ..machine.agenda import Agenda
from ..machine.commands import StartTimer
from ..machine.execution import Execution
from ..runs import ExecutionRecord
from .store import Store

CLOCKS_DIFFER_MS = 60_000
"""By how much the clocks of the processes that share a store may differ."""


async def note(store: Store, record: ExecutionRecord, recorded: int, now: int) -> None:
    """The run is taken up at ``now``: write down the clock, and by how much ``recorded`` time was ahead of it."""
    if recorded - record.ahead > now + CLOCKS_DIFFER_MS:
        record.ahead = recorded - await _seen(store, record, now)
    record.clocks = [*[at for at in record.clocks if at <= now][-1:], now]


async def _seen(store: Store, record: ExecutionRecord, now: int) -> int:
    """The newest time at which something of the run was written, as far as that is not after ``now``."""
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
    return record.created_at if record.created_at <= now else now


class RunClock:
    """``ahead``: by how many ms the run's clock was ahead of the host's when the record was written."""

    def __init__(self, host: Host, machine: Execution, agenda: Agenda, ahead: int) -> None:
        self._host, self._loop, self._agenda, self._ahead = host, machine.loop, agenda, ahead

    @property
    def ahead(self) -> int:
        """By how many ms the run's clock is ahead of the host's; 0 as soon as the host's has caught up."""
        return self._look(self._host.now_ms())

    def now_ms(self) -> int:
        """The run's time, ms since 1970."""
        now = self._host.now_ms()
        if now >= self._loop.now_ms:
            self._ahead = 0
            return now
        return now + self._look(now)

    def _look(self, now: int) -> int:
        recorded = self._loop.now_ms
        self._ahead = 0 if now >= recorded else max(self._ahead, recorded - now)
        return self._ahead

    def on_host(self, run_ms: int) -> int:
        """When the host's clock gets to a moment of the run's."""
        return run_ms - self.ahead

    def due_at(self, timer: StartTimer) -> int:
        """When a timer is due by the host's clock. A date is one by that clock; a delay counts from its beginning."""
        return timer.deadline_ms if timer.is_date else timer.deadline_ms - self.ahead

    def due_timer(self) -> StartTimer | None:
        """The timer that is due first, if one is. Recorded time never lags behind a deadline it fired."""
        if not self._agenda.timers:
            return None
        now = self._host.now_ms()
        first = self._agenda.next_timer(self._look(now))
        return first[1] if first is not None and first[0] <= now else None

    def next_timer_at(self) -> int | None:
        """When the first timer is due by the host's clock; None where none waits."""
        first = self._agenda.next_timer(self.ahead) if self._agenda.timers else None
        return None if first is None else first[0]
