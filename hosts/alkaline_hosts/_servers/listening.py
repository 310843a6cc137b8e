"""Hearing of other hosts' commits, on a connection of its own, which is made again and again when it is lost."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable
from typing import Protocol

AGAIN = 0.1
"""Seconds before the first attempt to listen again; doubled for each one up to LONGEST."""
LONGEST = 5.0
TOGETHER = 0.02
"""Seconds within which several notices make one call."""


class Source(Protocol):
    """Where notices come from."""

    @property
    def listens(self) -> bool:
        """Whether a connection can be spared for ``listen``."""
        ...

    async def listen(self, channel: str, ready: Callable[[], None], heard: Callable[[str], None]) -> None:
        """Hear the payloads of ``channel`` until the connection is lost; ``ready`` once nothing is missed any more."""
        ...


class Listening:
    """Calls ``callbacks`` when another host than ``own`` may have committed something that is waited for.

    Once more each time that it begins to listen: what came before, it has not heard.
    """

    def __init__(self, source: Source, channel: str, own: str) -> None:
        self._source, self._channel, self._own = source, channel, own
        self._callbacks: dict[object, Callable[[], None]] = {}
        self._task: asyncio.Task[None] | None = None
        self._called = 0.0
        self._call: asyncio.TimerHandle | None = None
        self._wait = AGAIN

    def add(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Have ``callback`` called from now on; the answer ends that."""
        entry = object()
        self._callbacks[entry] = callback

        def unsubscribe() -> None:
            self._callbacks.pop(entry, None)
            if not self._callbacks:
                self._stop()

        return unsubscribe

    def begin(self) -> None:
        """Listen in the background, if there is somebody to call and a connection to spare. For a running loop."""
        if self._task is None and self._callbacks and self._source.listens:
            self._task = asyncio.ensure_future(self._listen())

    async def close(self) -> None:
        """Stop, and wait until the connection is let go."""
        self._callbacks.clear()
        task = self._task
        self._stop()
        if task is not None:
            await asyncio.gather(task, return_exceptions=True)

    def _stop(self) -> None:
        if self._call is not None:
            self._call.cancel()
        if self._task is not None:
            self._task.cancel()
        self._task = self._call = None

    async def _listen(self) -> None:
        while True:
            with contextlib.suppress(Exception):  # whatever it was, those who wait look by themselves meanwhile
                await self._source.listen(self._channel, self._ready, self._heard)
            await asyncio.sleep(self._wait * random.uniform(0.5, 1))  # noqa: S311  # keeps many from coming back at once
            self._wait = min(LONGEST, 2 * self._wait)

    def _ready(self) -> None:
        self._wait = AGAIN
        self._soon()

    def _heard(self, payload: str) -> None:
        if payload != self._own:
            self._soon()

    def _soon(self) -> None:
        """Call now, or together with what else comes within a moment of the last call."""
        if self._call is None:
            loop = asyncio.get_running_loop()
            self._call = loop.call_at(max(loop.time(), self._called + TOGETHER), self._tell)

    def _tell(self) -> None:
        self._call = None
        self._called = asyncio.get_running_loop().time()
        for callback in list(self._callbacks.values()):
            callback()
