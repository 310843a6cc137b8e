"""Telling: lifecycle events to listeners, charges to the meter, and word of any change to whoever waits for one.

A waiter takes a mark *before* it looks at the store, and waits for whatever came behind that mark. So a notice that
arrives between its look and its wait is not lost, however long the look takes.
"""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

from .. import events as ev
from .. import lifecycle
from ..calling import is_awaitable
from ..codec import Codec
from ..errors import InvalidInput
from ..events import Event
from ..interrupts import ends_the_process
from ..runs import ExecutionRecord, Status
from ..structs import Protocol
from .store import Store

Listener = Callable[[lifecycle.LifecycleEvent], Any]


class Meter(Protocol):
    """Told of every recorded charge."""

    def record(self, execution: str, tokens: int, label: str, usd: float = 0.0) -> None:
        """``tokens`` and ``usd`` were charged to the run ``execution``.

        ``label`` is that of ctx.spend, or the step's name. A meter without ``usd`` is told of the tokens alone.
        """
        ...


STATUSES = 10_000
"""How many runs' statuses are remembered."""
_OF_ONE = (
    lifecycle.StepFinished, lifecycle.StepRetrying, lifecycle.LogLine, lifecycle.Emission, lifecycle.SignalArrived,
    lifecycle.RunResumed, lifecycle.RunSuspended, lifecycle.RunCompleted, lifecycle.RunFailed,
    lifecycle.RunWasCancelled,
)  # fmt: skip
"""What happens to a run and concerns nobody who waits for another one."""
_of_host: WeakKeyDictionary[Any, WeakSet[Changes]] = WeakKeyDictionary()
"""Runtimes on one host object: the host tells them nothing of each other's commits, so they do."""


class Changes:
    """Counts what changed, and wakes whoever waits for the count to move.

    What others commit to the store is heard of where its host tells (``attend``): ``on_foreign`` is called then.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self.foreign = False
        """Others have committed to the store since serve last looked: there may be requests."""
        self.on_foreign: Callable[[], None] = lambda: None
        self._unwatch: Callable[[], Any] | None = None
        self._siblings: WeakSet[Changes] = WeakSet()
        self._count = 0
        self._wide = 0
        """Where the count stood at the last change that may concern anybody."""
        self._last: dict[str, int] = {}
        """Where it stood at the last change of one run."""
        self._timed: set[str] = set()
        """Runs that have just been suspended until a time, and are still driven."""
        self._waiting: dict[asyncio.Future[None], None] = {}
        self._waiting_for: dict[str, dict[asyncio.Future[None], None]] = {}
        self._ended = False
        self._ends: dict[asyncio.Future[None], None] = {}

    def mark(self) -> int:
        """Where the count stands: take it before looking, and hand it to ``wait``."""
        return self._count

    def now_ms(self) -> int:
        """The host's clock."""
        return self._store.host.now_ms()

    def changed(self, run: str | None = None) -> None:
        """Wake whoever waits for a change here, and in other runtimes on this host.

        With ``run``, the id of a run: only whoever waits for that one, or for any change.
        """
        self._wake(run)
        for other in self._siblings if len(self._siblings) > 1 else ():
            if other is not self:
                other._heard(run)

    def told(self, event: lifecycle.LifecycleEvent) -> None:
        """That happened. Whoever waits for another run looks again where it may have to see to that one's timer."""
        timed = isinstance(event, lifecycle.RunSuspended) and event.wake_at is not None
        if timed:
            self._timed.add(event.id)
        self.changed(event.id if isinstance(event, _OF_ONE) and not timed else None)

    def let_go(self, run: str) -> None:
        """The run is driven here no more."""
        timed = run in self._timed
        self._timed.discard(run)
        self.changed(None if timed else run)

    def _wake(self, run: str | None) -> None:
        self._count += 1
        waiting, self._waiting = self._waiting, {}
        if run is None:
            self._wide = self._count
            self._last.clear()
            for some in self._waiting_for.values():
                waiting.update(some)
            self._waiting_for.clear()
        else:
            if len(self._last) >= STATUSES:
                self._wide = self._count  # whoever has looked by now looks again before it waits
                self._last.clear()
            self._last[run] = self._count
            waiting.update(self._waiting_for.pop(run, {}))
        _resolve(waiting)

    def _heard(self, run: str | None = None) -> None:
        self.foreign = True
        self.on_foreign()
        self._wake(run)

    def attend(self) -> None:
        """Hear what others commit to the store, where its present host tells."""
        self.look_away()
        host = self._store.host
        watch = getattr(host, "watch", None)
        self._unwatch = watch(self._heard) if watch is not None else None
        self._siblings = _of_host.setdefault(host, WeakSet())
        self._siblings.add(self)

    def look_away(self) -> None:
        """Hear no more of what others commit."""
        if self._unwatch is not None:
            self._unwatch()
        self._siblings.discard(self)

    def end(self) -> None:
        """The runtime is being closed: nobody waits any longer, for a change or for a run."""
        self._ended = True
        ends, self._ends = self._ends, {}
        _resolve(ends)
        self._wake(None)

    def _moved(self, since: int, run: str | None) -> bool:
        return (self._count if run is None else max(self._wide, self._last.get(run, 0))) > since

    async def wait(
        self, seconds: float, since: int, event: asyncio.Event | None = None, run: str | None = None
    ) -> None:
        """Until something has changed since the mark ``since``, ``event`` is set, or ``seconds`` have passed.

        With ``run``: until something has that may concern whoever waits for that run.
        """
        if self._moved(since, run) or self._ended or (event is not None and event.is_set()):
            await asyncio.sleep(0)  # others have their turn, also where changes come without a pause
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting = self._waiting if run is None else self._waiting_for.setdefault(run, {})
        waiting[future] = None
        waits: list[asyncio.Future[Any]] = [future, asyncio.ensure_future(self._store.host.sleep(seconds))]
        if event is not None:
            waits.append(asyncio.ensure_future(event.wait()))
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.pop(future, None)
            if run is not None and not waiting and self._waiting_for.get(run) is waiting:
                del self._waiting_for[run]
            await _cancel(waits)

    async def wait_for(self, tasks: Sequence[asyncio.Future[Any]], seconds: float | None = None) -> None:
        """Until one of ``tasks`` is done, ``seconds`` have passed, or the runtime is being closed."""
        if self._ended:
            return
        end: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._ends[end] = None
        waits: list[asyncio.Future[Any]] = [end]
        if seconds is not None:
            waits.append(asyncio.ensure_future(self._store.host.sleep(seconds)))
        try:
            await asyncio.wait([*tasks, *waits], return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._ends.pop(end, None)
            await _cancel(waits)


def _resolve(futures: Iterable[asyncio.Future[None]]) -> None:
    for future in futures:
        if not future.done():
            future.set_result(None)


async def _cancel(waits: list[asyncio.Future[Any]]) -> None:
    for wait in waits:
        wait.cancel()
    await asyncio.gather(*waits, return_exceptions=True)


class Teller:
    """Listeners and the meter. ``on_event`` may be a plain function, or one whose answer is to be awaited."""

    def __init__(self, on_event: Listener | None, meter: Meter | None, changes: Changes) -> None:
        for name, given in (("on_event", on_event), ("meter.record", getattr(meter, "record", meter))):
            if given is not None and not callable(given):
                raise InvalidInput(f"{name} is a function to call, not a {type(given).__name__}")
        self._listeners: list[Listener] = [] if on_event is None else [on_event]
        self._meter = meter
        self.changes = changes
        self.followed: dict[str, list[Callable[[], None]]] = {}
        """By run, who is to be called after each of its commits here."""
        self._statuses: dict[str, tuple[Status, str, str]] = {}
        """By id, the run's status, its workflow and its random id."""
        self._takes_usd = meter is not None and _takes_usd(meter)
        self._spoken: deque[Awaitable[Any]] = deque()
        self._speaking: asyncio.Task[None] | None = None

    @property
    def has_listeners(self) -> bool:
        """Whether somebody hears what is told; otherwise no event need be made."""
        return bool(self._listeners)

    def tell(self, event: lifecycle.LifecycleEvent) -> None:
        """Tell listeners, and whoever waits for a change. One that raises does not harm the run: it is reported."""
        if self._listeners and event.id in self._statuses:
            lifecycle.belongs(event, *self._statuses[event.id][1:])
        for listener in list(self._listeners):
            try:
                answer = listener(_own(event))
            except BaseException as error:
                if ends_the_process(error):
                    raise
                _report("an on_event listener", error)
            else:
                if is_awaitable(answer):
                    self._await(answer)
        self.changes.told(event)

    def saw(self, record: ExecutionRecord) -> None:
        """Remember a run's status for ``Run.status``; the oldest are forgotten."""
        self._statuses.pop(record.id, None)
        self._statuses[record.id] = (record.status, record.workflow, record.run)
        while len(self._statuses) > STATUSES:
            self._statuses.pop(next(iter(self._statuses)))

    def status_of(self, id: str) -> Status | None:
        """The run's status as it was last seen here; None if it was not."""
        seen = self._statuses.get(id)
        return None if seen is None else seen[0]

    def recorded(self, id: str) -> None:
        """Call whoever follows the run: a commit of it is durable."""
        for call in self.followed.get(id, ()):
            call()

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Call ``listener`` with every lifecycle event from here on; the answer unsubscribes it."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def _await(self, answer: Awaitable[Any]) -> None:
        """Await what an async listener answered: one after the other, so that it hears the events in their order."""
        self._spoken.append(answer)
        if self._speaking is None or self._speaking.done():
            self._speaking = asyncio.ensure_future(self._speak())

    async def _speak(self) -> None:
        while self._spoken:
            try:
                await self._spoken.popleft()
            except asyncio.CancelledError:
                raise
            except BaseException as error:
                if ends_the_process(error):
                    raise
                _report("an on_event listener", error)

    def silence(self) -> asyncio.Future[Any] | None:
        """What is still to be awaited of async listeners; None where nothing is."""
        return None if self._speaking is None or self._speaking.done() else self._speaking

    def meter_charges(self, id: str, events: Sequence[Event]) -> None:
        """Tell the meter what was charged."""
        if self._meter is None:
            return
        names = {event.id: event.name for event in events if isinstance(event, ev.StepCompleted)}
        for event in events:
            if isinstance(event, ev.Spent):
                self._measure(self._meter, id, event.tokens, event.micros, event.label)
            elif isinstance(event, ev.StepCharged):
                self._measure(self._meter, id, event.tokens, event.micros, names.get(event.id, event.id))

    def _measure(self, meter: Meter, id: str, tokens: int, micros: int, label: str) -> None:
        """Tell the meter of one charge. One that raises does not harm the run: the charge is recorded."""
        try:
            if self._takes_usd:
                meter.record(id, tokens, label, usd=micros / 1_000_000)
            else:
                meter.record(id, tokens, label)
        except BaseException as error:
            if ends_the_process(error):
                raise
            _report("the meter", error)


def _takes_usd(meter: Meter) -> bool:
    """Whether a meter takes the money as well: one that was written for 0.1 does not."""
    try:
        inspect.signature(meter.record).bind("", 0, "", usd=0.0)
    except (TypeError, ValueError):
        return False
    return True


def _report(who: str, error: BaseException) -> None:
    asyncio.get_running_loop().call_exception_handler({"message": f"alkaline_edge: {who} raised", "exception": error})


_PLAIN = Codec()
_DATA = {"emission": "data", "published": "data", "completed": "result", "failed": "failure", "log": "fields"}
"""By kind, the field that holds values."""


def _own(event: lifecycle.LifecycleEvent) -> lifecycle.LifecycleEvent:
    """The event with data that only one listener has: what it changes there, nobody else sees."""
    name = _DATA.get(event.kind)
    if name is not None:
        held = {each: getattr(event, each) for each in event.__slots__}
        held[name] = _PLAIN.apart(held[name])
        return type(event)(*held.values())
    return event


def end_of(record: ExecutionRecord) -> lifecycle.LifecycleEvent:
    """The last event of a run that ended in another process."""
    failure = record.failure or {}
    if record.status == "completed":
        return lifecycle.RunCompleted(record.id, record.updated_at, record.result, record.workflow, record.run)
    if record.status == "cancelled":
        reason = (failure.get("detail") or {}).get("reason")
        return lifecycle.RunWasCancelled(record.id, record.updated_at, reason, record.workflow, record.run)
    return lifecycle.RunFailed(record.id, record.updated_at, failure, record.workflow, record.run)
