"""The Redis host over the clients that people have, on a real server."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from typing import Any

import pytest
import redis.asyncio

from alkaline_edge import Runtime, workflow
from alkaline_edge.host import Host
from alkaline_edge.testing import CASES, Case, check_case
from alkaline_hosts.opening import open_host
from alkaline_hosts.redis import RedisHost

from .conftest import until
from .redis_server import RedisServer


class Owning(RedisHost):
    """A host that closes its client with it, as a program would."""

    def __init__(self, client: Any, name: str = "alkaline", **options: Any) -> None:
        super().__init__(client, name=name, **options)
        self.client = client

    async def close(self) -> None:
        await super().close()
        await self.client.aclose()


def by_url(url: str, name: str = "alkaline", **options: Any) -> Host:
    query = "&".join(f"{key}={value}" for key, value in {"name": name, **options}.items())
    return open_host(f"{url}?{query}")


def by_default_client(url: str, name: str = "alkaline", **options: Any) -> Host:
    return Owning(redis.asyncio.Redis.from_url(url), name, **options)


def by_decoding_client(url: str, name: str = "alkaline", **options: Any) -> Host:
    return Owning(redis.asyncio.Redis.from_url(url, decode_responses=True), name, **options)


def by_resp2_client(url: str, name: str = "alkaline", **options: Any) -> Host:
    return Owning(redis.asyncio.Redis.from_url(url, protocol=2), name, **options)


def by_blocking_pool(url: str, name: str = "alkaline", **options: Any) -> Host:
    pool = redis.asyncio.BlockingConnectionPool.from_url(url, max_connections=3, protocol=3)
    return Owning(redis.asyncio.Redis.from_pool(pool), name, **options)


Client = Callable[..., Host]
CLIENTS = [by_url, by_default_client, by_decoding_client, by_resp2_client, by_blocking_pool]
each_client = pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.__name__)


class Store:
    """A name of its own on the one server."""

    def __init__(self, url: str, client: Client) -> None:
        self.url, self.client, self.name = url, client, uuid.uuid4().hex

    async def open(self) -> Host:
        return self.client(self.url, self.name)

    async def destroy(self) -> None:
        pass


@each_client
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_conformance(client: Client, case: Case, redis_always: RedisServer) -> None:
    """The host passes the case, or says by its capabilities why the case does not apply."""

    async def maker() -> Store:
        return Store(redis_always.url, client)

    asyncio.run(check_case(case, maker, gather=asyncio.gather))


async def draft(topic: str) -> str:
    return f"a draft about {topic}"


@workflow(name="publish", version=1)
async def publish(ctx: Any, topic: str) -> str:
    text = await ctx.step(draft, topic)
    await ctx.sleep(0.05)
    decision = await ctx.wait_for_signal("approval")
    large = await ctx.step("large", lambda: "x" * 300_000)  # above the inline limit: a key of its own
    return f"{text}, approved by {decision} at {len(large)}"


@each_client
def test_a_whole_run(client: Client, redis_always: RedisServer) -> None:
    """Started in one process, waiting over a timer, signalled from another, ended in a third; and deleted."""

    async def main() -> None:
        name = uuid.uuid4().hex
        host = client(redis_always.url, name)
        async with Runtime(host, workflows=[publish], lease=1.0) as runtime:
            run = await runtime.start("publish", "Redis", id="r", attributes={"team": "a"})
            await run.settle()
            assert (await runtime.get_execution("r")).status == "suspended"
        await host.close()
        host = client(redis_always.url, name)
        async with Runtime(host) as outside:
            await outside.signal("r", "approval", "Ada", dedupe="once")
            await outside.signal("r", "approval", "Bob", dedupe="once")
        await host.close()
        host = client(redis_always.url, name)
        async with Runtime(host, workflows=[publish], lease=1.0) as runtime:
            serving = asyncio.ensure_future(runtime.serve())

            async def completed() -> bool:
                return (await runtime.get_execution("r")).status == "completed"

            await until(completed)
            record = await runtime.get_execution("r")
            assert record.result == "a draft about Redis, approved by Ada at 300000"
            page = await runtime.list_executions(status="completed", attributes={"team": "a"})
            assert [each.id for each in page] == ["r"]
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)
            await runtime.delete("r")
        assert [entry.key for entry in await host.list("") if not entry.key.startswith(("d/", "m/"))] == []
        await host.close()

    asyncio.run(main())
