"""What a run has to do next, kept as it changes: a turn of its driver costs what happened in it, not what there is."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from heapq import heapify, heappop, heappush

from .commands import AwaitSignal, Command, RunStep, StartTimer

_LEAST = 64
"""As many a queue holds before it looks for what is dead."""
_NEVER = 2**63


class Queue:
    """Commands by a time, soonest first, those of the same time in the order of their coming.

    A command is dropped when it is met and no longer among ``alive``, or has another time by now.
    """

    __slots__ = ("_alive", "_count", "_full", "_heap")

    def __init__(self, alive: Mapping[str, Command]) -> None:
        self._alive = alive
        self._heap: list[tuple[int, int, RunStep | StartTimer]] = []
        self._count = 0
        """How many were ever pushed: it orders those of one time, and keeps the heap from comparing commands."""
        self._full = _LEAST
        """At this length the dead are dropped: twice what was alive the last time, so each push pays for a few."""

    def __bool__(self) -> bool:
        return bool(self._heap)

    def push(self, command: RunStep | StartTimer) -> None:
        """Add a command."""
        self._count += 1
        heappush(self._heap, (_time(command), self._count, command))
        if len(self._heap) >= self._full:  # what was withdrawn long before its time is dropped now and then
            self._heap = [item for item in self._heap if self._valid(item)]
            heapify(self._heap)
            self._full = max(_LEAST, 2 * len(self._heap))

    def first(self) -> tuple[int, int, RunStep | StartTimer] | None:
        """The soonest: its time, its number, and itself."""
        heap = self._heap
        while heap:
            if self._valid(heap[0]):
                return heap[0]
            heappop(heap)
        return None

    def pop(self) -> None:
        """Take the first away."""
        heappop(self._heap)

    def _valid(self, item: tuple[int, int, RunStep | StartTimer]) -> bool:
        time, _, command = item
        return self._alive.get(command.id) is command and _time(command) == time


def _time(command: RunStep | StartTimer) -> int:
    return command.deadline_ms if isinstance(command, StartTimer) else command.not_before_ms


class Agenda:
    """For the driver of a machine whose open commands are ``commands``."""

    __slots__ = ("_commands", "_dates", "_delays", "_misdated", "_right_until", "fresh", "stopped")

    def __init__(self, commands: Mapping[str, Command]) -> None:
        self._commands = commands
        # Three queues, since the order within each stays as it is however the run's clock and the host's differ.
        self._dates = Queue(commands)
        """Timers that are due at a date of the world's clock, which is the host's."""
        self._delays = Queue(commands)
        """Those that are due some time after the recorded time at which they began."""
        self._misdated = Queue(commands)
        """Of these, those that began by a clock that was ahead: by the host's they are due earlier by as much."""
        self._right_until = _NEVER
        """Recorded time as far as it is believed: what began later is misdated. Nothing is, as long as no clock was
        found to be ahead."""
        self.fresh: deque[Command] = deque()
        """What nobody has begun: commands in the order of issue, and steps that are to be tried again."""
        self.stopped: list[str] = []
        """Ids of steps that were withdrawn."""
        for command in commands.values():
            self.add(command)

    def add(self, command: Command) -> None:
        """The handler asks for it, or asks for it again."""
        kind = command.__class__
        if kind is StartTimer:
            self._add_timer(command)  # type: ignore[arg-type]
        elif kind is not AwaitSignal:
            self.fresh.append(command)

    def _add_timer(self, timer: StartTimer) -> None:
        if timer.is_date:
            self._dates.push(timer)
        else:
            (self._misdated if self.is_misdated(timer) else self._delays).push(timer)

    def is_misdated(self, timer: StartTimer) -> bool:
        """Whether it is a delay that began by a clock that was ahead."""
        return timer.begun_ms > self._right_until and not timer.is_date

    def misdate(self, right_until: int | None) -> None:
        """Delays that began behind ``right_until``, in recorded time, did so by a clock that was ahead; None: none."""
        self._right_until = _NEVER if right_until is None else right_until
        self._dates, self._delays, self._misdated = (Queue(self._commands) for _ in range(3))
        for command in self._commands.values():
            if isinstance(command, StartTimer):
                self._add_timer(command)

    @property
    def waits_misdated(self) -> bool:
        """Whether a delay waits that began by a clock that was ahead."""
        return self._misdated.first() is not None

    def backs_off(self, now: int) -> bool:
        """Whether a step waits for its next attempt at ``now``, ms of recorded time."""
        return any(isinstance(each, RunStep) and each.not_before_ms > now for each in self._commands.values())

    @property
    def timers(self) -> bool:
        """Whether there may be a timer that waits."""
        return bool(self._dates._heap or self._delays._heap or self._misdated._heap)  # asked at each turn

    def is_open(self, key: str, command: Command) -> bool:
        """Whether the handler still asks for it."""
        return self._commands.get(key) is command

    def take(self, timer: StartTimer) -> None:
        """``timer``, which is due first, is fired."""
        (self._dates if timer.is_date else self._misdated if self.is_misdated(timer) else self._delays).pop()

    def next_timer(self, ahead: int) -> tuple[int, StartTimer] | None:
        """When the timer that is due first is due by the host's clock, and it.

        ``ahead``: by how many ms the run's clock is ahead of the host's. A date is one by the host's clock, and so is
        the end of a delay that began before the run's was ahead.
        """
        found: tuple[int, int, StartTimer] | None = None
        for queue, late in ((self._delays, 0), (self._misdated, ahead), (self._dates, 0)):
            first = queue.first() if queue else None
            if first is not None and (found is None or (first[0] - late, first[0]) < found[:2]):
                found = (first[0] - late, first[0], first[2])  # type: ignore[assignment]  # a StartTimer
        return None if found is None else (found[0], found[2])
