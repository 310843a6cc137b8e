"""The limits of the Postgres host, on a real server."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

import pytest

from alkaline_edge.host import Host

from . import borders
from .test_postgres import by_asyncpg

WHAT = {"batches": partial(borders.batches, values=4), "a run": partial(borders.there_and_back, seed=1)}


@pytest.mark.parametrize("what", WHAT)
def test_limits(what: str, database: str) -> None:
    """What is at a limit goes in and comes out whole, what is above is refused; a long history moves there and back."""

    async def main() -> None:
        act: Callable[[Host], Awaitable[None]] = WHAT[what]
        host = await by_asyncpg(database)
        try:
            await act(host)
        finally:
            await host.close()

    asyncio.run(main())
