"""The mailbox of a run: signals that have come and who waits for them, and what answers queries and updates."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from inspect import iscoroutine
from typing import Any

from ..calling import is_awaitable
from ..codec import Codec
from ..errors import InvalidInput, NotFound
from ..failures import describe, revive
from ..interrupts import ends_the_process


class Mailbox:
    """What others have sent to the run, and what the handler has registered to answer them."""

    __slots__ = (
        "_arrived",
        "_buffered",
        "_codec",
        "answered",
        "entries",
        "handed",
        "open",
        "queries",
        "reading",
        "update_count",
        "updates",
        "waiters",
    )  # fmt: skip

    def __init__(self, codec: Codec, carried: Iterable[list[Any]]) -> None:
        self._codec = codec
        self._buffered: dict[str, deque[tuple[int, Any]]] = {}
        """Payloads that nobody has taken, by the signal's name, each with its number in the order of arrival."""
        self._arrived = 0
        """How many signals have come. Their numbers put one back to its place whose waiter was cancelled: see
        ``take_back``."""
        self.handed: dict[str, int] = {}
        """Commands whose signal has come and who have not gone on yet, with its number."""
        self.waiters: dict[str, deque[str]] = {}
        """Ids of the commands that wait, by the signal's name, first come first served."""
        self.entries: set[str] = set()
        """Inbox entries that the history knows: none is consumed twice."""
        self.queries: dict[str, Callable[..., Any]] = {}
        """What answers, by name. No history holds them: a replay lets the handler set them again."""
        self.updates: dict[str, tuple[Callable[..., Any], Callable[..., Any] | None]] = {}
        """What handles an update, and what may refuse it, by name. An update that was recorded has passed."""
        self.update_count = 0
        """Updates that were applied: the n-th has the scope ``un.``, so that its commands have the same ids again."""
        self.answered: set[str] = set()
        """Entries of the updates whose replies are recorded."""
        self.open: dict[str, str] = {}
        """Updates that came and have no reply yet: the name, by the entry."""
        self.reading = False
        """A query or a validator runs: it may only read."""
        for entry, name, payload in carried:
            self.entries.add(entry)
            self.keep(name, payload)

    # --- signals ---------------------------------------------------------------------------------------------------
    def keep(self, name: str, payload: Any) -> None:
        """A signal came that nobody waits for."""
        self._arrived += 1
        self._buffered.setdefault(name, deque()).append((self._arrived, payload))

    def hand_over(self, id: str) -> None:
        """A signal came, and the command ``id`` waits for it."""
        self._arrived += 1
        self.handed[id] = self._arrived

    def take_back(self, name: str, id: str, payload: Any) -> None:
        """Who was handed a signal is cancelled before it could take it: it stands where it would have stood."""
        number, place = self.handed[id], 0
        queue = self._buffered.setdefault(name, deque())
        while place < len(queue) and queue[place][0] < number:  # the few that came with it and were put back
            place += 1
        queue.insert(place, (number, payload))

    def is_kept(self, name: str) -> bool:
        """Whether there is a signal that nobody has taken."""
        return bool(self._buffered.get(name))

    def take(self, name: str) -> Any:
        """The oldest that nobody has taken."""
        return self._buffered[name].popleft()[1]

    def kept(self, name: str) -> list[Any]:
        """Those that nobody has taken, oldest first."""
        return [payload for _, payload in self._buffered.get(name, ())]

    def reply(self, entry: str) -> None:
        """The reply to an update is recorded."""
        self.answered.add(entry)
        self.open.pop(entry, None)

    def carried(self) -> list[list[Any]]:
        """Signals nobody has taken: [entry, name, payload]. Entries that were consumed keep their own ids seen."""
        return [["", name, payload] for name, queue in self._buffered.items() for _, payload in queue]

    def query(self, name: str, args: tuple[Any, ...]) -> Any:
        """Call the query handler ``name``. It must be a plain function that only reads."""
        if name not in self.queries:
            known = ", ".join(sorted(self.queries)) or "none"
            raise NotFound(f"the run has no query {name!r}; it has: {known}", query=name)
        self.reading = True
        try:
            value = raising_exceptions(self._codec, self.queries[name], *_copied(self._codec, args, name))
            if is_awaitable(value):
                if iscoroutine(value):
                    value.close()  # or Python says of it that it was never awaited
                raise InvalidInput(f"the query {name!r} is async; a query only reads: make it a plain function")
            return self._codec.through(value, "query result")
        finally:
            self.reading = False

    def validate(self, name: str, payload: Any) -> None:
        """Raise what refuses the update: NotFound, or what its validator raised."""
        if name not in self.updates:
            known = ", ".join(sorted(self.updates)) or "none"
            raise NotFound(f"the run takes no update {name!r}; it takes: {known}", update=name)
        _, validator = self.updates[name]
        if validator is not None:
            self.reading = True
            try:
                raising_exceptions(self._codec, validator, self._codec.apart(payload))  # it may change it
            finally:
                self.reading = False


def _copied(codec: Codec, args: tuple[Any, ...], name: str) -> tuple[Any, ...]:
    try:
        return codec.apart(args)  # type: ignore[no-any-return]  # a tuple stays one
    except RecursionError:
        raise InvalidInput(f"an argument of the query {name!r} is nested too deep, or holds itself") from None


def raising_exceptions(codec: Codec, fn: Callable[..., Any], *args: Any) -> Any:
    """``fn(*args)``; what it raises that would end the caller's task, loop or process comes as an error of its name."""
    try:
        return fn(*args)
    except (StopIteration, StopAsyncIteration) as error:
        raise revive(describe(error, codec)) from error
    except Exception:
        raise
    except BaseException as error:
        if ends_the_process(error):
            raise
        raise revive(describe(error, codec)) from error
