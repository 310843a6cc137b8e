"""What else is to be done at a time than to wake a run: schedules that are due, say.

A chore has a timer among those of the runs, so whatever wakes runs does chores as well: ``run_due``, ``serve``, a
Durable Object's alarm, a page's timer, whoever waits for a result. What doing one means is handed in by kind, by what
stands above the runtime; where a kind was not handed in, its chores are left for other processes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from .. import keys
from ..errors import ERR_STORE, AlkalineError, UnreadableValue
from ..structs import NamedTuple
from . import reporting
from .fleet import Trials
from .store import Store
from .telling import Changes

T = TypeVar("T")


class Done(NamedTuple):
    """What came of a chore. ``started``: ids of runs that it started; ``moved``: its timer stands elsewhere now."""

    started: list[str]
    moved: bool


Do = Callable[[str], Awaitable[Done]]
"""Does what is due of the chore of that name. It may be called at any time, by several processes at once, and again."""


class Chores:
    """The kinds of chores that this runtime does."""

    def __init__(self, store: Store, changes: Changes, attend: Callable[[], Awaitable[None]]) -> None:
        self._store, self._changes = store, changes
        self.attend = attend
        """Wake what is due, chores and runs, without waiting for it, unless the runtime serves, which does."""
        self._kinds: dict[str, Do] = {}
        self._keepers: dict[str, Any] = {}
        self._trials = Trials()
        self._wanted: set[str] = set()

    def add(self, kind: str, do: Do) -> None:
        """From here on this runtime does chores of ``kind``, by ``do``: the one that was handed in last."""
        self._kinds[kind] = do
        self._changes.changed()

    def keeper(self, kind: str, make: Callable[[], T]) -> T:
        """What was made for ``kind`` in this runtime, by ``make`` the first time."""
        if kind not in self._keepers:
            self._keepers[kind] = make()
        kept: T = self._keepers[kind]
        return kept

    def changed(self) -> None:
        """A chore's timer was moved: whoever waits for the next one looks again."""
        self._changes.changed()

    def mark(self) -> int:
        """Where the count of changes stands: taken before a look, and handed to ``wait``."""
        return self._changes.mark()

    async def wait(self, seconds: float, mark: int) -> None:
        """Until something has changed since ``mark``, or ``seconds`` have passed."""
        await self._changes.wait(seconds, mark)

    def want(self, id: str) -> None:
        """Do the chore at the next look, whatever its timer says: what it waited for has happened."""
        self._wanted.add(id)
        self._changes.changed()

    def wanted(self) -> list[str]:
        """The chores that are to be done whatever their timers say."""
        return [id for id in sorted(self._wanted) if self.may_do(id)]

    def may_do(self, id: str) -> bool:
        """Whether the chore can be done here, and did not fail so short a time ago that it is not tried again yet."""
        return keys.chore_of(id)[0] in self._kinds and self._trials.ripe(id, self._store.host.now_ms())

    async def do(self, id: str) -> Done | None:
        """Do the chore; None where it could not be done. A store that does not answer is ERR_STORE, as everywhere."""
        kind, name = keys.chore_of(id)
        self._wanted.discard(id)
        try:
            done = await self._kinds[kind](name)
        except AlkalineError as error:
            if error.code == ERR_STORE and not isinstance(error, UnreadableValue):
                raise
            self._failed(id, error)
            return None
        except Exception as error:
            self._failed(id, error)
            return None
        self._trials.forget(id)
        return done

    def _failed(self, id: str, error: Exception) -> None:
        self._trials.failed(id, self._store.host.now_ms())
        reporting.chore_failed(*keys.chore_of(id), error)
