"""What every host in a Cloudflare Worker shares: raw bindings, the clock, entropy and sleep."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

from alkaline_edge.errors import InvalidInput

from .._system import System


def raw_binding(binding: Any, method: str, what: str) -> Any:
    """The JavaScript object behind ``binding``, which has ``method``.

    The Workers SDK hands out wrappers that convert every argument and result, at several times the cost of the raw
    object. InvalidInput where there is no such method.
    """
    for _ in range(3):
        inner = getattr(binding, "__dict__", {})
        wrapped = inner.get("_binding", inner.get("_ctx"))
        if wrapped is None:
            break
        binding = wrapped
    if getattr(binding, method, None) is None:
        raise InvalidInput(f"expected {what}, which has a method {method}(); got a {type(binding).__name__}")
    return binding


def text_of(error: BaseException) -> str:
    """What a JavaScript error says."""
    return str(error)


POOL = 512
"""Random bytes that are fetched at once."""


class Allowance:
    """How much one invocation may ask of a service: counts, says when little is left, and knows what is too much.

    ``limit`` is None for no limit. A tenth of it is the reserve, or 20 where that is more: for ending in good order.
    """

    def __init__(self, limit: int | None) -> None:
        self.limit, self.used = limit, 0
        self._reserve = 0 if limit is None else min(limit // 2, max(20, limit // 10))
        self._when_low: Callable[[], None] | None = None

    def when_low(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` once, as soon as no more than the reserve is left."""
        self._when_low = callback

    def has(self, number: int) -> bool:
        """Whether so many still fit."""
        return self.limit is None or self.used + number <= self.limit

    def use(self, number: int) -> None:
        """Count so many."""
        self.used += number
        if self._when_low is not None and not self.has(self._reserve):
            callback, self._when_low = self._when_low, None
            callback()


class WorkerPlatform(System):
    """Clock, entropy, sleep and the closed state of a host in a Worker."""

    _name = "this host"

    def __init__(self) -> None:
        self._when_closed = f"{self._name} is closed; make another one from its binding"
        self._random, self._drawn = b"", 0

    def now_ms(self) -> int:
        """The Worker's clock, ms since 1970 UTC. In production it moves only when I/O has happened."""
        return time.time_ns() // 1_000_000  # not by way of another method: a step asks several times

    def entropy(self, n: int) -> bytes:
        """The platform's secure random bytes. Outside of a request, at import for instance, the platform refuses.

        A call into the platform costs as much as a short statement, so small draws share one. What it gave is kept in
        this host, which no memory snapshot holds: one is taken where the platform refuses.
        """
        if n > POOL // 8:
            return os.urandom(n)
        start = self._drawn
        if start + n > len(self._random):
            self._random, start = os.urandom(POOL), 0
        self._drawn = start + n
        return self._random[start : start + n]

    async def sleep(self, seconds: float) -> None:
        """Return after about ``seconds``, if the Worker lives that long.

        The time counts from the last I/O, as a Worker's clock does. Where that clock goes on in between, as the workerd
        of 2024 has it locally, it is shorter by what was computed since.
        """
        await super().sleep(seconds)

    async def close(self) -> None:
        """Refuse what is asked from now on. Calling it twice is allowed; the binding stays for others."""
        await super().close()
