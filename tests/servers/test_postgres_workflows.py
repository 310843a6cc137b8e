"""A class written for Cloudflare's Workflows on a real Postgres: a second runtime goes on with it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from alkaline_edge import Runtime
from alkaline_hosts import open_host
from alkaline_hosts.cloudflare_workflows import workflow_of
from tests.hosts.test_cloudflare_workflows import EXPECTED, shop

__all__ = ["shop"]


@pytest.fixture
def order(shop: Any) -> Any:
    """The class that tests run on memory, on files and in workerd too."""
    return workflow_of(shop.Order)


def test_a_class_runs_unchanged_and_another_runtime_ends_it(database: str, order: Any) -> None:
    """The event comes in through a runtime that knows no workflow; what was recorded is not run again."""

    async def test() -> None:
        host = open_host(database)
        async with Runtime(host, workflows=[order]) as first:
            run = await first.start(order, {"amount": 21}, id="one")
            with pytest.raises(TimeoutError):
                await run.result(timeout=1)
            before = [event.event for event in await first.history("one")]
        await host.close()
        host = open_host(database)
        async with Runtime(host) as sender:
            await sender.signal("one", "decision", {"by": "ann"})
        await host.close()
        host = open_host(database)
        async with Runtime(host, workflows=[order]) as second:
            assert await (await second.resume("one")).result(timeout=30) == EXPECTED
            assert [event.event for event in await second.history("one")][: len(before)] == before
        await host.close()

    asyncio.run(test())
