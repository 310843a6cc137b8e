"""What the groups of commands share that look at one room of a store: its boards, budgets, schedules, rules."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

from alkaline_edge import Runtime
from alkaline_edge.errors import InvalidInput

from .addresses import Address
from .shell import reading, writing

T = TypeVar("T")


class Room(Generic[T]):
    """A part of a store, which ``made`` makes of a runtime. ``words`` names what is in it, for errors.

    What a server shows of it is for the commands to ask; the rest is looked at and changed in the store itself.
    """

    def __init__(self, words: str, made: Callable[[Runtime], T]) -> None:
        self._words, self._made = words, made

    def read(self, store: Address, look: Callable[[T], Awaitable[Any]]) -> Any:
        """What ``look`` returns of the room, on a store opened read-only."""
        return reading(self._local(store), self._with(look))

    def write(self, store: Address, does: Callable[[T], Awaitable[Any]]) -> Any:
        """What ``does`` returns, which may change the room; the store comes into being with it."""
        return writing(self._local(store), self._with(does))

    def change(self, store: Address, look: Callable[[T], Awaitable[Any]], does: Callable[[T], Awaitable[Any]]) -> Any:
        """As ``write``, once ``look`` has found what it is about: a store that is not there is not created."""
        self.read(store, look)
        return self.write(store, does)

    def _with(self, work: Callable[[T], Awaitable[Any]]) -> Callable[[Runtime], Any]:
        async def done(runtime: Runtime) -> Any:
            return await work(self._made(runtime))

        return done

    def _local(self, store: Address) -> Address:
        if store.is_server:
            raise InvalidInput(
                f"a server lists {self._words} at most, the rest is done in their store: name that in place of a URL"
            )
        return store
