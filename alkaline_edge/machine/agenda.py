"""What a run has to do next, kept as it changes: a turn of its driver costs what happened in it, not what there is."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from heapq import heapify, heappop, heappush

from .commands import AwaitSignal, Command, RunStep, StartTimer

_LEAST = 64


class Queue:
    """Commands by a time, soonest first, those of the same time in the order of their coming.

    A command is dropped when it is met and no longer among ``alive``, or has another time by now.
    """

    __slots__ = ("_alive", "_count", "_full", "_heap")

    def __init__(self, alive: Mapping[str, Command]) -> None:
        self._alive = alive
        self._heap: list[tuple[int, int, RunStep | StartTimer]] = []
        self._count, self._full = 0, _LEAST

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

    __slots__ = ("_commands", "_dates", "_delays", "fresh", "stopped")

    def __init__(self, commands: Mapping[str, Command]) -> None:
        self._commands = commands
        self._dates, self._delays = Queue(commands), Queue(commands)
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
            (self._dates if command.is_date else self._delays).push(command)  # type: ignore[union-attr, arg-type]
        elif kind is not AwaitSignal:
            self.fresh.append(command)

    @property
    def timers(self) -> bool:
        """Whether there may be a timer that waits."""
        return bool(self._dates or self._delays)

    def is_open(self, key: str, command: Command) -> bool:
        """Whether the handler still asks for it."""
        return self._commands.get(key) is command

    def next_timer(self, ahead: int) -> tuple[int, StartTimer] | None:
        """When the timer that is due first is due by the host's clock, which the run's is ``ahead`` of; and it."""
        date = self._dates.first() if self._dates else None
        delay = self._delays.first() if self._delays else None
        if delay is None or (date is not None and (date[0], date[0]) < (delay[0] - ahead, delay[0])):
            return None if date is None else (date[0], date[2])  # type: ignore[return-value]  # a StartTimer
        return delay[0] - ahead, delay[2]  # type: ignore[return-value]  # a StartTimer
