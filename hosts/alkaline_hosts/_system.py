"""What a host on an operating system has of it: the clock, entropy, sleep and threads; and that it may be closed."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from typing import TypeVar

from alkaline_edge.errors import ClosedError

T = TypeVar("T")


class System:
    """Clock, entropy, sleep and the closed state of a host. A host whose platform has another one says so itself."""

    _closed = False
    _when_closed = "this host is closed; make another one"
    """What a caller is told then."""

    def now_ms(self) -> int:
        """The system's clock, ms since 1970 UTC."""
        return time.time_ns() // 1_000_000

    def entropy(self, n: int) -> bytes:
        """``n`` bytes of the system's secure entropy."""
        return os.urandom(n)

    async def sleep(self, seconds: float) -> None:
        """Return after about ``seconds`` real seconds."""
        await asyncio.sleep(seconds)

    async def close(self) -> None:
        """Refuse what is asked from now on, with ERR_CLOSED. Calling it twice is allowed."""
        self._closed = True

    def _open(self) -> None:
        """ERR_CLOSED once the host is closed: the first line of everything that asks the store."""
        if self._closed:
            raise ClosedError(self._when_closed)


class Threaded(System):
    """A System that can have threads; ``capabilities`` says whether it has."""

    async def run_in_thread(self, fn: Callable[..., T], *args: object) -> T:
        """What ``fn(*args)`` returns or raises, run in a thread: for sync steps."""
        return await asyncio.to_thread(fn, *args)
