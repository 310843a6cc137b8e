"""The fleet: which runs are driven here, which are asleep in memory, and which can't go on here.

``take_up`` is the one door to driving a run: it begins a task, unless one is under way or there is no room. What that
task does is ``owning``'s matter, which is handed in: nothing here reads or writes a history.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from ..errors import ERR_STORE, AlkalineError, UnreadableValue
from ..machine.execution import Execution
from ..runs import ExecutionRecord
from ..structs import Protocol, dataclass
from ..workflows import Registry
from . import reporting
from .loading import Loaded
from .store import Store
from .telling import Changes

LEAST_PAUSE_MS, LONGEST_PAUSE_MS = 1_000, 3_600_000
"""How long a run that can't go on here is left alone: twice as long each time, up to an hour."""
_DEPTH = 64
"""So many ancestors are looked at: a chain of parents is no longer."""


class Driven(Protocol):
    """What drives a run, as the fleet knows it."""

    @property
    def record(self) -> ExecutionRecord:
        """The run's record, as this owner wrote it last."""
        ...

    @property
    def machine(self) -> Execution:
        """The run's machine."""
        ...

    def poke(self) -> None:
        """Something may have come into the inbox: look."""
        ...


@dataclass(slots=True)
class Asleep:
    """A suspended run that is kept in memory, as of ``record``: waking it needs no replay."""

    record: ExecutionRecord
    loaded: Loaded

    @property
    def machine(self) -> Execution:
        """The machine, at the end of the history."""
        return self.loaded.machine


class Trials:
    """Runs that could not go on here: how often that was found, and when each may be tried again.

    Code does not change within a process, so this is for what passes by itself. Another process tries at once.
    """

    def __init__(self) -> None:
        self._failed: dict[str, tuple[int, int]] = {}

    def failed(self, id: str, now: int) -> None:
        """The run was tried at ``now`` (ms since 1970), in vain."""
        times, _ = self._failed.get(id, (0, 0))
        self._failed[id] = (times + 1, now + min(LONGEST_PAUSE_MS, LEAST_PAUSE_MS << min(times, 20)))

    def ripe(self, id: str, now: int) -> bool:
        """Whether the run may be tried."""
        return self._failed.get(id, (0, 0))[1] <= now

    def forget(self, id: str) -> None:
        """The run went on."""
        self._failed.pop(id, None)


Own = Callable[[str, Any, "ExecutionRecord | None"], Coroutine[Any, Any, None]]
"""Drives a run: its id, its driver if it has one already, and its record if that was just read."""


class Fleet:
    """The tables, and the tasks that drive runs. ``own`` drives one; it is set where all is put together."""

    def __init__(self, store: Store, registry: Registry, changes: Changes) -> None:
        self._store, self._registry, self._changes = store, registry, changes
        self.own: Own
        self.keep_asleep = 1_000
        self.closing = self.draining = self.serving = False
        self.concurrency: int | None = None
        """How many runs are driven at once while this process serves; None for any number."""
        self.drivers: dict[str, Driven] = {}
        self.asleep: dict[str, Asleep] = {}
        """The one that was driven last stands last: the oldest make room."""
        self.stuck: dict[str, AlkalineError] = {}
        """What keeps a run from going on with this code or this store, until it is tried again."""
        self.crashed: dict[str, BaseException] = {}
        """What is no error of the kernel's, and ended a driver."""
        self.trials = Trials()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._making: dict[str, asyncio.Future[None]] = {}
        """Runs whose first commit is under way: ours once it lands, to be driven by whoever makes them."""
        self._again: set[str] = set()
        self._held: dict[str, int] = {}
        self._wanted: set[str] = set()
        """Of those that are held: what was driven, or was to be."""
        changes.on_foreign = self._heard

    # --- driving ---------------------------------------------------------------------------------------------------
    def take_up(self, id: str, driver: Driven | None = None, record: ExecutionRecord | None = None) -> None:
        """Own and drive a run in the background, unless that is under way or there is no room for it.

        ``record``: as it was just read. Whether it still holds shows when the lease is taken.
        """
        made = driver is None and id in self._making
        if made or self.is_held(id):
            self._wanted.add(id)
        if made or self.closing or (self.stops(id) and driver is None):
            return
        if id in self._tasks:
            if id in self.drivers:
                self.drivers[id].poke()
            return
        if driver is None and self.room() <= 0:
            return
        if driver is not None:
            self.drivers[id] = driver  # it holds the lease: close hands it back even if the task never began
        self._begin(id, self.own(id, driver, record))

    def take_up_if_known(self, id: str) -> None:
        """Take a run up in the background, if its workflow is registered here."""
        if self.is_held(id) or id in self._making:
            self._wanted.add(id)
        elif id in self._tasks:
            self._poked_later(id)
        elif self.room() > 0:
            self._begin(id, self._take_up_if_known(id))

    async def begin_making(self, id: str) -> None:
        """A run is about to be made: until ``made`` nobody else takes it up here, nor makes one of that id.

        It may be in the store long before whoever makes it is told so, and who found it there would drive it twice.
        """
        while (other := self._making.get(id)) is not None:
            await asyncio.wait([other])
        self._making[id] = asyncio.get_running_loop().create_future()

    def made(self, id: str) -> None:
        """It was made and is driven, or was not: whoever wanted it meanwhile has a turn."""
        self._making.pop(id).set_result(None)
        if id in self._wanted and not self.is_held(id):
            self._wanted.discard(id)
            if id not in self._tasks:
                self.take_up_if_known(id)
        self._changes.changed()  # who looked meanwhile found it active

    async def _take_up_if_known(self, id: str) -> None:
        record = await self._store.unreadable.record(id)
        if record is not None and self._registry.knows(record.workflow, record.version):
            await self.own(id, None, record)

    def _poked_later(self, id: str) -> None:
        """The run's task is between two drivers: look again when it has ended, once, however often it was poked."""
        if id in self._again:
            return

        def again(_: asyncio.Task[None]) -> None:
            self._again.discard(id)
            if not self.closing:
                self.take_up_if_known(id)

        self._again.add(id)
        self._tasks[id].add_done_callback(again)

    def _begin(self, id: str, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks[id] = task
        self.crashed.pop(id, None)

        def ended(task: asyncio.Task[None]) -> None:
            if self._tasks.get(id) is task:
                del self._tasks[id]
            if not task.cancelled() and task.exception() is not None:
                self._crash(id, task.exception())
                self._changes.changed()
            self._changes.let_go(id)

        task.add_done_callback(ended)

    def _crash(self, id: str, error: BaseException | None) -> None:
        """What is no error of the kernel's ended a driver: whoever waits for the run is told."""
        if isinstance(error, AlkalineError):
            self.leave_alone(id, error)
        elif error is not None:
            self.crashed[id] = error
            reporting.run_crashed(id, error)

    def poke(self, id: str) -> None:
        """Something came into the run's inbox: look, or take the run up if it can be run here."""
        driver = self.drivers.get(id)
        if driver is not None:
            driver.poke()
        elif id not in self.stuck:
            self.take_up_if_known(id)

    def _heard(self) -> None:
        """Others have committed to the store: any run may have got a request. Serve looks for all of them at once."""
        for driver in () if self.serving else list(self.drivers.values()):
            driver.poke()

    def drain(self) -> None:
        """Start nothing more; what is in flight ends."""
        self.draining = True
        for driver in list(self.drivers.values()):
            driver.poke()

    def hold(self, id: str) -> None:
        """As ``drain``, for one run, until ``release``. Nothing of that is durable: a crash leaves the run as it is."""
        self._held[id] = self._held.get(id, 0) + 1
        if id in self._tasks:
            self._wanted.add(id)
        if id in self.drivers:
            self.drivers[id].poke()

    def release(self, id: str) -> None:
        """The run may be driven here again, and is, if it was or was to be."""
        self._held[id] -= 1
        if self._held[id] == 0:
            del self._held[id]
            if id in self._wanted:
                self._wanted.discard(id)
                self.take_up_if_known(id)

    def is_held(self, id: str) -> bool:
        """Whether that run alone is to stop."""
        return id in self._held

    def stops(self, id: str) -> bool:
        """Whether nothing more of the run is started here."""
        return self.draining or id in self._held

    async def stop(self, seconds: float) -> None:
        """Cancel every task, and wait until it has ended, ``seconds`` at most."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=seconds)

    # --- what is driven --------------------------------------------------------------------------------------------
    def room(self) -> float:
        """How many more runs may be driven here."""
        if self.closing or self.draining:
            return 0
        return float("inf") if self.concurrency is None else self.concurrency - len(self._tasks)

    def active(self) -> list[str]:
        """Ids of runs that are being driven or taken up."""
        return list(self._tasks)

    def is_active(self, id: str) -> bool:
        """Whether the run is being driven, taken up or made."""
        return id in self._tasks or id in self._making

    async def wait_for(self, id: str, seconds: float | None) -> None:
        """Until the run is not being driven any more, or ``seconds`` have passed."""
        await self._changes.wait_for([self._tasks.get(id) or self._making[id]], seconds)

    async def settle(self, id: str) -> None:
        """Until the run, and what it started here, is finished or suspended, or this runtime is being closed."""
        while not self.closing:
            own = self._tasks.get(id) or self._making.get(id)
            busy: list[asyncio.Future[None]] = [own] if own else []
            if own is None:  # while it goes on, nobody need look through all that are driven here
                busy += [task for other, task in self._tasks.items() if self._descends(other, id)]
            if not busy:
                return
            await self._changes.wait_for(busy)

    def _descends(self, id: str, ancestor: str) -> bool:
        seen = 0
        current: str | None = id
        while current is not None and seen < _DEPTH:
            if current == ancestor:
                return True
            here = self.drivers.get(current) or self.asleep.get(current)
            current = here.record.parent if here is not None else None
            seen += 1
        return False

    def in_memory(self, id: str) -> Driven | Asleep | None:
        """The run as it is driven or asleep here."""
        return self.drivers.get(id) or self.asleep.get(id)

    # --- what is asleep --------------------------------------------------------------------------------------------
    def put_to_sleep(self, record: ExecutionRecord, loaded: Loaded) -> None:
        """Keep a suspended run in memory. The oldest make room."""
        self.asleep[record.id] = Asleep(record, loaded)
        while len(self.asleep) > self.keep_asleep:
            self.let_go(next(iter(self.asleep)))

    def wake(self, record: ExecutionRecord) -> Loaded | None:
        """What is in memory of a run whose record is ``record``; None where its history has to be read."""
        asleep = self.asleep.pop(record.id, None)
        if asleep is not None and asleep.record.version_tag != record.version_tag:
            asleep.machine.set_aside()
            return None
        return None if asleep is None else asleep.loaded

    def let_go(self, id: str) -> None:
        """Keep the run in memory no longer, if it is asleep there."""
        asleep = self.asleep.pop(id, None)
        if asleep is not None:
            asleep.machine.set_aside()

    # --- what can't go on ------------------------------------------------------------------------------------------
    def may_try(self, record: ExecutionRecord) -> bool:
        """Whether the run can be driven by this process, as far as is known: its code is here, and it is not stuck."""
        if record.moved_to is not None or not self._registry.knows(record.workflow, record.version):
            return False
        return not self.is_held(record.id) and not self.is_left_alone(record.id)

    def is_left_alone(self, id: str) -> bool:
        """Whether the run could not go on here, so short a time ago that it is not tried again yet."""
        return id in self.stuck and not self.trials.ripe(id, self._store.host.now_ms())

    def leave_alone(self, id: str, error: AlkalineError) -> None:
        """The run can't go on here, as ``error`` says: it is not tried again before a while, longer each time."""
        self.stuck[id] = error
        self.trials.failed(id, self._store.host.now_ms())

    def unstick(self, damaged: bool = True) -> None:
        """Forget that an error of the store had stopped runs here: it may have passed.

        ``damaged``: also that something can't be read, which passes only where somebody has mended it.
        """
        for id, error in list(self.stuck.items()):
            if error.code == ERR_STORE and (damaged or not isinstance(error, UnreadableValue)):
                del self.stuck[id]

    def unstick_what_is_ripe(self) -> None:
        """Forget an error of the store that stopped a run here so long ago that the run is to be tried again."""
        for id, error in list(self.stuck.items()):
            if error.code == ERR_STORE and not isinstance(error, UnreadableValue) and not self.is_left_alone(id):
                del self.stuck[id]
