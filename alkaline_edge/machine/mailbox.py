"""The mailbox of a run: signals that have come and who waits for them, and what answers queries and updates."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from ..codec import Codec
from ..errors import InvalidInput, NotFound
from ..failures import describe, revive


class Mailbox:
    """What others have sent to the run, and what the handler has registered to answer them."""

    __slots__ = (
        "_codec",
        "answered",
        "buffered",
        "entries",
        "open",
        "queries",
        "reading",
        "update_count",
        "updates",
        "waiters",
    )  # fmt: skip

    def __init__(self, codec: Codec, carried: Iterable[list[Any]]) -> None:
        self._codec = codec
        self.buffered: dict[str, deque[Any]] = {}
        """Payloads that nobody has taken, by the signal's name."""
        self.waiters: dict[str, deque[str]] = {}
        """Ids of the commands that wait, by the signal's name, first come first served."""
        self.entries: set[str] = set()
        """Inbox entries that the history knows: none is consumed twice."""
        self.queries: dict[str, Callable[..., Any]] = {}
        self.updates: dict[str, tuple[Callable[..., Any], Callable[..., Any] | None]] = {}
        self.update_count = 0
        self.answered: set[str] = set()
        """Entries of the updates whose replies are recorded."""
        self.open: dict[str, str] = {}
        """Updates that came and have no reply yet: the name, by the entry."""
        self.reading = False
        """A query or a validator runs: it may only read."""
        for entry, name, payload in carried:
            self.entries.add(entry)
            self.buffered.setdefault(name, deque()).append(payload)

    def reply(self, entry: str) -> None:
        """The reply to an update is recorded."""
        self.answered.add(entry)
        self.open.pop(entry, None)

    def carried(self) -> list[list[Any]]:
        """Signals nobody has taken: [entry, name, payload]. Entries that were consumed keep their own ids seen."""
        return [["", name, payload] for name, queue in self.buffered.items() for payload in queue]

    def query(self, name: str, args: tuple[Any, ...]) -> Any:
        """Call the query handler ``name``. It must be a plain function that only reads."""
        if name not in self.queries:
            known = ", ".join(sorted(self.queries)) or "none"
            raise NotFound(f"the run has no query {name!r}; it has: {known}", query=name)
        self.reading = True
        try:
            value = raising_exceptions(self._codec, self.queries[name], *self._codec.apart(args))
            if hasattr(value, "__await__"):
                value.close()
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


def raising_exceptions(codec: Codec, fn: Callable[..., Any], *args: Any) -> Any:
    """``fn(*args)``; what it raises that would end the caller's task, loop or process comes as an error of its name."""
    try:
        return fn(*args)
    except KeyboardInterrupt:
        raise
    except (StopIteration, StopAsyncIteration) as error:
        raise revive(describe(error, codec)) from error
    except Exception:
        raise
    except BaseException as error:
        raise revive(describe(error, codec)) from error
