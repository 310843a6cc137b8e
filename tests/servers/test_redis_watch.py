"""Notices of other hosts' commits over Redis: heard, missed, and not sent where nobody waits."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from typing import Any

import pytest
import redis.asyncio

from alkaline_edge import Runtime, workflow
from alkaline_edge.host import Batch, Check, Conflict, Host, Put
from alkaline_edge.runtime import waking
from alkaline_hosts import redis as redis_host
from alkaline_hosts._redis import subscription as _redis_listening
from alkaline_hosts._servers import listening as _listening

from .conftest import until
from .redis_server import RedisServer
from .test_redis import Owning, by_url, each_client

Make = Callable[..., Host]


def put(n: int, *keys: str) -> Batch:
    return Batch(f"{n:016x}", puts=tuple(Put(key, b"") for key in keys))


class Heard:
    """How often a host's watch has called."""

    def __init__(self, host: Any) -> None:
        self.count = 0
        self.stop = host.watch(self)
        self.sleeping = asyncio.ensure_future(host.sleep(60))

    def __call__(self) -> None:
        self.count += 1

    async def more_than(self, count: int) -> int:
        async def more() -> bool:
            return self.count > count

        await until(more)
        return self.count

    def end(self) -> None:
        self.stop()
        self.sleeping.cancel()


def listeners(server: RedisServer, name: str) -> int:
    return int(server.ask("PUBSUB", "NUMSUB", f"{{{name}}}:notices")[1])


@each_client
def test_what_others_wait_for_is_heard_and_ones_own_is_not(
    client: Make, redis_always: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another host's request in an inbox calls; one's own does not; two watchers of one host both hear."""
    monkeypatch.setattr(_listening, "TOGETHER", 0.0)  # else several notices make one call

    async def main() -> None:
        name = uuid.uuid4().hex
        host, other = client(redis_always.url, name), client(redis_always.url, name)
        first, second = Heard(host), Heard(host)
        begun = await first.more_than(0)
        for n in range(5):
            await host.commit(put(n + 1, f"i/r/own{n}"))
        # What was sent is heard in order, so an own notice that counted would be behind `begun` by now.
        await other.commit(put(9, "i/r/a1"))
        assert await first.more_than(begun) == begun + 1
        assert second.count == first.count
        second.stop()
        await other.commit(put(10, "i/r/a2"))
        assert await first.more_than(begun + 1) > second.count
        first.end()
        second.end()
        await host.close()
        await other.close()

    asyncio.run(main())


def test_only_what_somebody_may_wait_for_is_told(redis_always: RedisServer) -> None:
    """A step, a lease and a timer that is not due are no notice; nor is a batch that met a conflict."""

    async def main() -> None:
        name = uuid.uuid4().hex
        host = by_url(redis_always.url, name)
        now = host.now_ms()
        client = redis.asyncio.Redis(port=redis_always.port)
        pubsub = client.pubsub()
        await pubsub.subscribe(f"{{{name}}}:notices")
        assert (await pubsub.get_message(timeout=10))["type"] == "subscribe"
        silent = ["h/r/a1", "r/r", "x/s/running/w/r", "x/w/w/r", f"t/{now + 60_000:013d}/r", "g/r", "d/r/1"]
        await host.commit(put(1, *silent))
        lost = Batch(f"{2:016x}", checks=(Check(silent[0], None),), puts=(Put("i/r/a0", b""),))
        assert isinstance(await host.commit(lost), Conflict)
        for n, key in enumerate(["i/r/a1", "u/r/e", f"t/{now:013d}/r", "x/s/completed/w/r", "x/s/failed/w/r"]):
            await host.commit(put(n + 3, key))
        await client.publish(f"{{{name}}}:notices", "end")
        heard = []
        while (message := await pubsub.get_message(timeout=10)) is not None and message["data"] != b"end":
            heard.append(message["data"])
        assert len(heard) == 5
        assert len(set(heard)) == 1
        await pubsub.aclose()
        await client.aclose()
        await host.close()

    asyncio.run(main())


@each_client
def test_a_subscription_that_is_lost_comes_back(client: Make, redis_always: RedisServer) -> None:
    """The server ends it: the watcher is called once for what it may have missed, and hears again."""

    async def main() -> None:
        name = uuid.uuid4().hex
        host, other = client(redis_always.url, name), client(redis_always.url, name)
        heard = Heard(host)
        count = await heard.more_than(0)
        for _ in range(2):
            assert redis_always.ask("CLIENT", "KILL", "TYPE", "pubsub") >= 1
            count = await heard.more_than(count)
        await other.commit(put(1, "i/r/a1"))
        await heard.more_than(count)
        heard.end()
        await host.close()
        await other.close()

    asyncio.run(main())


def test_a_server_that_comes_back_is_heard_again(redis_of: Callable[..., RedisServer]) -> None:
    """Killed and started: the watcher is called, and hears what comes then."""
    server = redis_of()

    async def main() -> None:
        host, other = by_url(server.url), by_url(server.url)
        heard = Heard(host)
        count = await heard.more_than(0)
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)
        count = await heard.more_than(count)
        await other.commit(put(1, "i/r/a1"))
        await heard.more_than(count)
        heard.end()
        await host.close()
        await other.close()

    asyncio.run(main())


def test_a_silent_connection_is_asked_whether_it_is_there(
    redis_of: Callable[..., RedisServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It answers, and stays; one that does not answer is given up, and another one made."""
    monkeypatch.setattr(_redis_listening, "PULSE", 0.2)
    server = redis_of()

    async def main() -> None:
        host, other = by_url(server.url), by_url(server.url)
        heard = Heard(host)
        count = await heard.more_than(0)
        server.ask("CONFIG", "RESETSTAT")

        async def asked() -> bool:
            return bool(server.ask("INFO", "commandstats").get("cmdstat_ping", {"calls": 0})["calls"] > 3)

        await until(asked)
        assert heard.count == count, "a connection that answered was given up"
        server.ask("CLIENT", "PAUSE", "900", "ALL")
        count = await heard.more_than(count)
        await other.commit(put(1, "i/r/a1"))
        await heard.more_than(count)
        heard.end()
        await host.close()
        await other.close()

    asyncio.run(main())


@each_client
@pytest.mark.parametrize("how", ["unsubscribe", "close"])
def test_the_connection_is_let_go(client: Make, how: str, redis_always: RedisServer) -> None:
    """After the last watcher has gone, or the host is closed, nobody listens."""

    async def main() -> None:
        name = uuid.uuid4().hex
        host = client(redis_always.url, name)
        heard = Heard(host)
        await heard.more_than(0)
        assert listeners(redis_always, name) == 1
        if how == "unsubscribe":
            heard.end()
            heard.stop()  # twice is allowed
        else:
            async with asyncio.timeout(10):
                await host.close()
        heard.sleeping.cancel()

        async def nobody() -> bool:
            return listeners(redis_always, name) == 0

        await until(nobody)
        await host.close()

    asyncio.run(main())


@workflow(name="asks", version=1)
async def asks(ctx: Any) -> Any:
    return await ctx.wait_for_signal("answer")


async def signalled(host: Any, other: Any, listening: Callable[[], bool] = lambda: True) -> None:
    """A run waits at one host, and is signalled by a process that does not run it. Both are closed.

    ``listening``: what the signal waits for.
    """
    async with Runtime(host, workflows=[asks]) as runtime, Runtime(other) as outside:
        run = await runtime.start("asks", id="r")
        await run.settle()
        result = asyncio.ensure_future(run.result(timeout=30))

        async def begun() -> bool:
            return listening()

        await until(begun)
        await outside.signal("r", "answer", 42)
        assert await result == 42
    await host.close()
    await other.close()


def test_the_only_connection_of_a_pool_is_not_taken(redis_always: RedisServer) -> None:
    """A pool of one: commits go on, nothing listens, and a signal is found by looking."""

    async def main() -> None:
        name = uuid.uuid4().hex
        pool = redis.asyncio.BlockingConnectionPool.from_url(redis_always.url, max_connections=1)
        host = Owning(redis.asyncio.Redis.from_pool(pool), name)
        await signalled(host, by_url(redis_always.url, name))
        assert listeners(redis_always, name) == 0

    asyncio.run(main())


@each_client
def test_a_signal_arrives_by_its_notice(
    client: Make, redis_always: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a day between two looks, the run gets its signal all the same."""
    monkeypatch.setattr(waking, "POLL_SECONDS", 86_400.0)

    async def main() -> None:
        name = uuid.uuid4().hex
        host, other = client(redis_always.url, name), client(redis_always.url, name)
        await signalled(host, other, lambda: listeners(redis_always, name) == 1)

    asyncio.run(main())


def test_a_signal_arrives_without_its_notice(redis_always: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Notices are lost: the run is woken by looking."""
    monkeypatch.setattr(redis_host, "is_awaited", lambda batch, now_ms: False)

    async def main() -> None:
        name = uuid.uuid4().hex
        await signalled(by_url(redis_always.url, name), by_url(redis_always.url, name))

    asyncio.run(main())
