"""The bell that a driver sleeps by: rung by whatever ends or arrives, and by the host's clock."""

from __future__ import annotations

import asyncio

from ..host import Host
from . import effects


class Bell:
    """One for each driver, which alone waits for it."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._waiter: asyncio.Future[None] | None = None
        self._alarm: asyncio.Future[None] | None = None
        self._alarm_at = 0

    def ring(self) -> None:
        """Something has ended or arrived: go on. Nobody hears it who does not wait."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def wait(self, at_ms: int, now: int) -> None:
        """Until it rings, at ``at_ms`` (ms since 1970) or a little before at the latest."""
        self._waiter = asyncio.get_running_loop().create_future()
        self._set_alarm(at_ms, now)
        await self._waiter

    def _set_alarm(self, at_ms: int, now: int) -> None:
        """An alarm that rings earlier is kept, since a new one costs more."""
        if self._alarm is not None and not self._alarm.done():
            if self._alarm_at <= at_ms:
                return
            self._alarm.cancel()
        self._alarm_at = at_ms
        self._alarm = asyncio.ensure_future(self._host.sleep(max(0.0, (at_ms - now) / 1000)))
        self._alarm.add_done_callback(self._rang)

    def _rang(self, alarm: asyncio.Future[None]) -> None:
        if not alarm.cancelled():
            alarm.exception()  # retrieved: a host that is gone shows itself at the next call
        if alarm is self._alarm:
            self.ring()

    async def silence(self) -> None:
        """Set no alarm any more."""
        if self._alarm is not None:
            await effects.stop([self._alarm])
