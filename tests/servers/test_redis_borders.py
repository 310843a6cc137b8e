"""The limits of the Redis host, on a real server."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from functools import partial

import pytest

from alkaline_edge.host import Host

from . import borders
from .redis_server import RedisServer
from .test_redis import by_url

WHAT = {"batches": borders.batches, "a run": partial(borders.there_and_back, seed=2)}


@pytest.mark.parametrize("what", WHAT)
def test_limits(what: str, redis_always: RedisServer) -> None:
    """What is at a limit goes in and comes out whole, what is above is refused; a long history moves there and back."""

    async def main() -> None:
        act: Callable[[Host], Awaitable[None]] = WHAT[what]
        host = by_url(redis_always.url, uuid.uuid4().hex)
        try:
            await act(host)
        finally:
            await host.close()

    asyncio.run(main())
