"""Telling: lifecycle events to listeners, charges to the meter, and word of any change to whoever waits for one.

A waiter takes a mark *before* it looks at the store, and waits for whatever came behind that mark. So a notice that
arrives between its look and its wait is not lost, however long the look takes.
"""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Protocol
from weakref import WeakKeyDictionary, WeakSet

from .. import events as ev
from .. import lifecycle
from ..codec import Codec
from ..errors import InvalidInput
from ..events import Event
from ..runs import ExecutionRecord, Status
from .store import Store

Listener = Callable[[lifecycle.LifecycleEvent], Any]


class Meter(Protocol):
    """Told of every recorded charge."""

    def record(self, execution: str, tokens: int, label: str) -> None:
        """``tokens`` were charged to the run ``execution``; ``label`` is that of ctx.spend, or the step's name."""
        ...


STATUSES = 10_000
"""How many runs' statuses are remembered."""
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
        self._waiting: dict[asyncio.Future[None], None] = {}
        self._ended = False
        self._ends: dict[asyncio.Future[None], None] = {}

    def mark(self) -> int:
        """Where the count stands: take it before looking, and hand it to ``wait``."""
        return self._count

    def changed(self) -> None:
        """Wake whoever waits for a change here, and in other runtimes on this host."""
        self._wake()
        for other in self._siblings if len(self._siblings) > 1 else ():
            if other is not self:
                other._heard()

    def _wake(self) -> None:
        self._count += 1
        waiting, self._waiting = self._waiting, {}
        _resolve(waiting)

    def _heard(self) -> None:
        self.foreign = True
        self.on_foreign()
        self._wake()

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

    def end(self) -> None:
        """The runtime is being closed: nobody waits any longer, for a change or for a run."""
        self._ended = True
        ends, self._ends = self._ends, {}
        _resolve(ends)
        self._wake()

    async def wait(self, seconds: float, since: int, event: asyncio.Event | None = None) -> None:
        """Until something has changed since the mark ``since``, ``event`` is set, or ``seconds`` have passed."""
        if self._count != since or self._ended or (event is not None and event.is_set()):
            await asyncio.sleep(0)  # others have their turn, also where changes come without a pause
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[future] = None
        waits: list[asyncio.Future[Any]] = [future, asyncio.ensure_future(self._store.host.sleep(seconds))]
        if event is not None:
            waits.append(asyncio.ensure_future(event.wait()))
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._waiting.pop(future, None)
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
        self._statuses: dict[str, Status] = {}
        self._spoken: deque[Awaitable[Any]] = deque()
        self._speaking: asyncio.Task[None] | None = None

    @property
    def has_listeners(self) -> bool:
        """Whether somebody hears what is told; otherwise no event need be made."""
        return bool(self._listeners)

    def tell(self, event: lifecycle.LifecycleEvent) -> None:
        """Tell listeners, and whoever waits for a change. One that raises does not harm the run: it is reported."""
        for listener in list(self._listeners):
            try:
                answer = listener(_own(event))
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                _report("an on_event listener", error)
            else:
                if inspect.isawaitable(answer):
                    self._await(answer)
        self.changes.changed()

    def saw(self, record: ExecutionRecord) -> None:
        """Remember a run's status for ``Run.status``; the oldest are forgotten."""
        self._statuses.pop(record.id, None)
        self._statuses[record.id] = record.status
        while len(self._statuses) > STATUSES:
            self._statuses.pop(next(iter(self._statuses)))

    def status_of(self, id: str) -> Status | None:
        """The run's status as it was last seen here; None if it was not."""
        return self._statuses.get(id)

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
            except (KeyboardInterrupt, asyncio.CancelledError):
                raise
            except BaseException as error:
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
                _measure(self._meter, id, event.tokens, event.label)
            elif isinstance(event, ev.StepCharged):
                _measure(self._meter, id, event.tokens, names.get(event.id, event.id))


def _measure(meter: Meter, id: str, tokens: int, label: str) -> None:
    """Tell the meter of one charge. One that raises does not harm the run: the charge is recorded."""
    try:
        meter.record(id, tokens, label)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        _report("the meter", error)


def _report(who: str, error: BaseException) -> None:
    asyncio.get_running_loop().call_exception_handler({"message": f"alkaline_edge: {who} raised", "exception": error})


_PLAIN = Codec()


def _own(event: lifecycle.LifecycleEvent) -> lifecycle.LifecycleEvent:
    """The event with data that only one listener has: what it changes there, nobody else sees."""
    match event:
        case lifecycle.Emission():
            return lifecycle.Emission(event.id, event.at, event.topic, _PLAIN.apart(event.data))
        case lifecycle.RunCompleted():
            return lifecycle.RunCompleted(event.id, event.at, _PLAIN.apart(event.result))
        case lifecycle.RunFailed():
            return lifecycle.RunFailed(event.id, event.at, _PLAIN.apart(event.failure))
        case lifecycle.LogLine():
            fields = _PLAIN.apart(event.fields)
            return lifecycle.LogLine(event.id, event.at, event.level, event.message, fields)
    return event
