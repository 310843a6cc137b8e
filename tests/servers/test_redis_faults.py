"""Answers that are lost, a Redis that is killed, and workers that are killed."""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff

from alkaline_edge import Runtime, workflow
from alkaline_edge.errors import StoreError, UnknownOutcome
from alkaline_edge.host import Batch, Check, Committed, Conflict, Put
from alkaline_hosts.redis import RedisHost

from .redis_proxy import Loss, Proxy
from .redis_server import RedisServer
from .test_postgres_faults import test_workers_that_are_killed_repeat_no_committed_step as workers_that_are_killed
from .test_redis import Owning, by_resp2_client, by_url

Start = Callable[..., RedisServer]


def by_retrying_client(url: str, name: str = "alkaline") -> Any:
    """A client that sends again by itself, as ``redis.asyncio.Redis(host=...)`` does in newer versions."""
    retry = Retry(ExponentialBackoff(cap=0.1, base=0.01), 10)
    return Owning(redis.asyncio.Redis.from_url(url, retry=retry, retry_on_error=[redis.TimeoutError]), name)


each_way = pytest.mark.parametrize(
    "client", [by_url, by_retrying_client, by_resp2_client], ids=lambda client: client.__name__
)


def batch(id: int, **parts: Any) -> Batch:
    return Batch(f"{id:016x}", **{name: tuple(part) for name, part in parts.items()})


def once(at: int, loss: Loss) -> Callable[[int], Loss | None]:
    return lambda n: loss if n == at else None


@each_way
@pytest.mark.parametrize("loss", ["before", "after"])
def test_a_connection_that_is_cut_in_a_commit_is_unknown(client: Any, loss: Loss, redis_of: Start) -> None:
    """The client gets an error, sends nothing again, and the entry's version says whose it is.

    redis-py's own way, which sends it again, would call one's own success a conflict.
    """
    server = redis_of()

    async def main() -> None:
        direct = by_url(server.url)
        await direct.commit(batch(1, puts=[Put("a", b"1")]))
        async with Proxy(server.port, once(1, loss)) as proxy:
            host = client(proxy.url)
            second = batch(2, checks=[Check("a", f"{1:016x}")], puts=[Put("a", b"2")])
            server.ask("CONFIG", "RESETSTAT")
            with pytest.raises(UnknownOutcome):
                await host.commit(second)
            sent = server.ask("INFO", "commandstats").get("cmdstat_evalsha", {"calls": 0})["calls"]
            assert (proxy.commits, sent) == (1, 0 if loss == "before" else 1)
            (entry,) = await host.get(["a"])
            assert entry.version == (second.id if loss == "after" else f"{1:016x}")
            again = await host.commit(second)
            assert again == (Conflict(("a",)) if loss == "after" else Committed(second.id))
            await host.close()
        await direct.close()

    asyncio.run(main())


@each_way
@pytest.mark.parametrize("lost", [b"\nINFO", b"\nCONFIG", b"\nHMGET"])
def test_a_connection_that_is_cut_in_a_read(client: Any, lost: bytes, redis_of: Start) -> None:
    """It is read again, once; where that is lost too, nothing is unknown: nothing was written."""
    server = redis_of()

    async def main() -> None:
        direct = by_url(server.url)
        await direct.commit(batch(1, puts=[Put("a", b"1")]))
        async with Proxy(server.port, once(1, "after"), lost) as proxy:
            host = client(proxy.url)
            assert [entry.value for entry in await host.get(["a"])] == [b"1"]
            assert proxy.lost == 1
            await host.close()
        async with Proxy(server.port, lambda n: "after", lost) as proxy:
            host = client(proxy.url)
            call = host.get(["a"]) if lost == b"\nHMGET" else host.commit(batch(2, puts=[Put("a", b"2")]))
            with pytest.raises(StoreError) as caught:
                await call
            assert type(caught.value) is StoreError
            assert proxy.lost == 2
            await host.close()
        assert [entry.value for entry in await direct.get(["a"])] == [b"1"]
        await direct.close()

    asyncio.run(main())


@pytest.mark.parametrize("connections", [1, 2, 5])
def test_more_at_once_than_a_pool_has_connections(connections: int, redis_of: Start) -> None:
    """redis-py's pool raises then; the host waits for its turn."""
    server = redis_of()

    async def main() -> None:
        client = redis.asyncio.Redis(port=server.port, max_connections=connections)
        host = Owning(client)
        done = await asyncio.gather(*(host.commit(batch(n, puts=[Put(f"k/{n:03}", b"")])) for n in range(1, 101)))
        assert all(isinstance(outcome, Committed) for outcome in done)
        assert len(await host.list("k/")) == 100
        assert server.ask("INFO", "clients")["connected_clients"] <= connections + 1
        await host.close()

    asyncio.run(main())


def test_an_answer_that_does_not_come_is_unknown(redis_of: Start) -> None:
    """The client's timeout ends the wait, and its connection: a late answer is not taken for the next command's."""
    server = redis_of()

    async def main() -> None:
        direct = by_url(server.url)
        await direct.commit(batch(1, puts=[Put("a", b"1")]))
        async with Proxy(server.port, once(1, "mute")) as proxy:
            host = Owning(redis.asyncio.Redis(port=proxy.port, socket_timeout=0.3, max_connections=1))
            with pytest.raises(UnknownOutcome, match="Timeout"):
                await host.commit(batch(2, puts=[Put("a", b"2")]))
            assert [entry.version for entry in await host.get(["a"])] == [f"{2:016x}"]
            await host.close()
        await direct.close()

    asyncio.run(main())


def test_a_commit_that_lands_late_is_fenced(redis_of: Start) -> None:
    """Held back on its way until another has committed: its checks fail, and it changes nothing."""
    server = redis_of()

    async def main() -> None:
        direct = by_url(server.url)
        await direct.commit(batch(1, puts=[Put("a", b"1")]))
        async with Proxy(server.port, once(1, "late")) as proxy:
            host = by_retrying_client(proxy.url)
            with pytest.raises(UnknownOutcome):
                await host.commit(batch(2, checks=[Check("a", f"{1:016x}")], puts=[Put("a", b"late"), Put("b", b"")]))
            assert proxy.held.is_set()
            await direct.commit(batch(3, checks=[Check("a", f"{1:016x}")], puts=[Put("a", b"3")]))
            server.ask("CONFIG", "RESETSTAT")
            proxy.release()
            async with asyncio.timeout(10):
                while "cmdstat_evalsha" not in server.ask("INFO", "commandstats"):
                    await asyncio.sleep(0.02)
            assert [entry and entry.value for entry in await direct.get(["a", "b"])] == [b"3", None]
            await host.close()
        await direct.close()

    asyncio.run(main())


@each_way
def test_a_client_that_is_killed_in_a_commit(client: Any, redis_of: Start) -> None:
    """CLIENT KILL while the server holds its writes back: not known from outside, and nothing is there."""
    server = redis_of()

    async def main() -> None:
        host = client(server.url)
        await host.commit(batch(1, puts=[Put("a", b"1")]))
        server.ask("CLIENT", "PAUSE", "60000", "WRITE")
        commit = asyncio.ensure_future(host.commit(batch(2, puts=[Put("a", b"2")])))
        async with asyncio.timeout(10):
            while server.ask("INFO", "clients")["blocked_clients"] != 1:
                await asyncio.sleep(0.02)
        assert server.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes") >= 1
        with pytest.raises(UnknownOutcome):
            await commit
        server.ask("CLIENT", "UNPAUSE")
        assert [entry.value for entry in await host.get(["a"])] == [b"1"]
        assert await host.commit(batch(3, puts=[Put("a", b"3")])) == Committed(f"{3:016x}")
        await host.close()

    asyncio.run(main())


def test_a_commit_that_is_cancelled_leaves_no_answer_behind(redis_of: Start) -> None:
    """On the only connection of a pool, what is asked next gets its own answer."""
    server = redis_of()

    async def main() -> None:
        host = Owning(redis.asyncio.Redis(port=server.port, max_connections=1))
        await host.commit(batch(1, puts=[Put("a", b"1")]))
        server.ask("CLIENT", "PAUSE", "60000", "WRITE")
        commit = asyncio.ensure_future(host.commit(batch(2, puts=[Put("a", b"2")])))
        async with asyncio.timeout(10):
            while server.ask("INFO", "clients")["blocked_clients"] != 1:
                await asyncio.sleep(0.02)
        commit.cancel()
        assert isinstance((await asyncio.gather(commit, return_exceptions=True))[0], asyncio.CancelledError)
        server.ask("CLIENT", "UNPAUSE")
        entries = await host.get(["a", "b"])
        assert [entry and entry.key for entry in entries] == ["a", None]
        await host.close()

    asyncio.run(main())


def test_a_server_that_has_forgotten_the_scripts(redis_of: Start) -> None:
    """SCRIPT FLUSH: the next commit and list say them anew, and each is applied once."""
    server = redis_of()

    async def main() -> None:
        host = by_url(server.url)
        for n in range(1, 6):
            server.ask("SCRIPT", "FLUSH")
            checks = [Check("n", None if n == 1 else f"{n - 1:016x}")]
            assert await host.commit(batch(n, checks=checks, puts=[Put("n", b"%d" % n)])) == Committed(f"{n:016x}")
            server.ask("SCRIPT", "FLUSH")
            assert [entry.value for entry in await host.list("n")] == [b"%d" % n]
        await host.close()

    asyncio.run(main())


def test_a_server_that_is_busy_with_another_script(redis_of: Start) -> None:
    """Nothing was done, so the commit is sent again until it is taken."""
    server = redis_of("--lua-time-limit", "1")

    async def main() -> None:
        host = by_url(server.url)
        await host.commit(batch(1, puts=[Put("a", b"1")]))
        loop = "local t = redis.call('TIME') repeat local n = redis.call('TIME') until n[1] - t[1] >= 2"
        busy = asyncio.ensure_future(asyncio.to_thread(server.ask, "EVAL", loop, "0"))
        async with asyncio.timeout(10):
            while True:
                try:
                    await asyncio.to_thread(server.ask, "PING")
                except redis.ResponseError:
                    break
        with pytest.raises(redis.ResponseError, match="BUSY"):
            server.ask("PING")
        second = batch(2, checks=[Check("a", f"{1:016x}")], puts=[Put("a", b"2")])
        assert await host.commit(second) == Committed(second.id)
        assert not isinstance(await busy, Exception)
        await host.close()

    asyncio.run(main())


# --- the kernel ------------------------------------------------------------------------------------------------------
ran: list[str] = []


async def effect(n: int) -> int:
    ran.append(f"s{n}")
    return n


@workflow(name="three", version=1)
async def three(ctx: Any) -> int:
    total = 0
    for n in range(3):
        total += await ctx.step(f"s{n}", effect, n)
    await ctx.sleep(0.01)
    return total + await ctx.wait_for_signal("more")


async def run_three(url: str, name: str) -> int:
    """Its result, over a client that would send again by itself; the signal is of the same runtime."""
    host = by_retrying_client(url, name)
    async with Runtime(host, workflows=[three], lease=2.0) as runtime:
        run = await runtime.start("three", id="r")
        await run.signal("more", 4)
        result = await run.result(timeout=30)
        assert (await runtime.get_execution("r")).attempt == 1
    await host.close()
    return result


@pytest.mark.parametrize("loss", ["before", "after", "mute"])
def test_the_kernel_finds_out_what_became_of_any_commit(loss: Loss, redis_always: RedisServer) -> None:
    """Each commit of a run in turn is lost, or its answer: the run completes, and each step has run once."""

    async def main() -> None:
        async with Proxy(redis_always.port) as proxy:
            await run_three(proxy.url, uuid.uuid4().hex)
            commits = proxy.commits
        assert commits >= 6
        for at in range(1, commits + 1):
            ran.clear()
            async with Proxy(redis_always.port, once(at, loss)) as proxy:
                url = f"{proxy.url}?socket_timeout=0.3"
                assert await run_three(url, uuid.uuid4().hex) == 7
                if not proxy.lost:  # what ends in one turn of the clock shares a commit, so that it may need fewer
                    assert at > proxy.commits >= 6
            assert Counter(ran) == Counter(["s0", "s1", "s2"]), f"commit {at}, lost {loss}"

    asyncio.run(main())


# --- the server is killed --------------------------------------------------------------------------------------------
async def killed_under_load(server: RedisServer, durability: str) -> tuple[int, int, int]:
    """Writers commit until the server is killed, and it is started again, twice over.

    How many commits were acknowledged, how many of these are there afterwards, and how many outcomes were unknown.
    """
    acknowledged: list[str] = []
    unknown, killed = 0, False

    async def write(host: RedisHost, writer: str, count: int) -> None:
        nonlocal unknown
        for n in range(1_000_000):
            key = f"k/{writer}/{count}/{n:06}"
            try:
                await host.commit(Batch(uuid.uuid4().hex[:16], (Check(key, None),), (Put(key, b"v" * 100),)))
            except StoreError as error:
                unknown += isinstance(error, UnknownOutcome)
                if killed:
                    return  # before that it was a disk that took too long: on with the next key
            else:
                acknowledged.append(key)

    for count in range(3):
        hosts: list[Any] = [by_url(server.url, durability=durability) for _ in range(4)]
        writers = [asyncio.ensure_future(write(host, f"{h}{w}", count)) for h, host in enumerate(hosts) for w in "abcd"]
        before = len(acknowledged)
        async with asyncio.timeout(30):
            while len(acknowledged) < before + 500:
                await asyncio.sleep(0.01)
        killed = True
        await asyncio.to_thread(server.kill)
        await asyncio.gather(*writers)
        await asyncio.to_thread(server.start)
        killed = False
        for host in hosts:
            await host.close()
    host = by_url(server.url, durability=durability)
    found = await host.get(acknowledged)
    await host.close()
    return len(acknowledged), sum(entry is not None for entry in found), unknown


def test_a_server_that_is_killed_keeps_what_it_acknowledged(redis_of: Start) -> None:
    """Three SIGKILLs under the load of sixteen writers: every acknowledged commit is there."""
    acknowledged, kept, unknown = asyncio.run(killed_under_load(redis_of(), "disk"))
    print(f"acknowledged {acknowledged}, kept {kept}, unknown {unknown}")
    assert acknowledged >= 1_500
    assert kept == acknowledged
    assert unknown > 0, "no kill met a commit in flight: this run of the test showed less than it says"


def test_the_settings_that_are_refused_lose_what_was_acknowledged(redis_of: Start) -> None:
    """The same with the settings that Redis comes with: nothing is left. So the test above can fail."""
    acknowledged, kept, _ = asyncio.run(killed_under_load(redis_of("--appendonly", "no"), "volatile"))
    print(f"acknowledged {acknowledged}, kept {kept}")
    assert acknowledged >= 1_500
    assert kept == 0


RUNS, STEPS = 8, 30
lines: dict[str, list[int]] = defaultdict(list)


async def note(name: str, n: int) -> None:
    lines[name].append(n)
    await asyncio.sleep(0.02)


@workflow(name="chain", version=1)
async def chain(ctx: Any, name: str) -> str:
    for n in range(STEPS):
        await ctx.step(f"s{n}", note, name, n)
    return name


def test_runs_go_on_when_the_server_comes_back(redis_of: Start) -> None:
    """Killed and started again while runs are under way: they complete, and no committed step runs again."""
    server = redis_of()
    lines.clear()

    async def main() -> None:
        host = by_url(server.url)
        async with Runtime(host, workflows=[chain], lease=2.0) as runtime:
            for n in range(RUNS):
                await runtime.start("chain", f"r{n}", id=f"r{n}")
            serving = asyncio.ensure_future(runtime.serve())
            for share in (0.2, 0.5):
                async with asyncio.timeout(60):
                    while sum(map(len, lines.values())) < RUNS * STEPS * share:
                        await asyncio.sleep(0.02)
                await asyncio.to_thread(server.kill)
                await asyncio.to_thread(server.start)
                assert not serving.done()
            async with asyncio.timeout(60):
                while True:
                    records = [await runtime.get_execution(f"r{n}") for n in range(RUNS)]
                    if all(record.status == "completed" for record in records):
                        break
                    await asyncio.sleep(0.1)
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)
        await host.close()
        for name, steps in lines.items():
            assert steps == sorted(steps), f"{name} ran a committed step again: {steps}"
            assert set(steps) == set(range(STEPS))

    asyncio.run(main())


@pytest.mark.slow
def test_workers_that_are_killed_repeat_no_committed_step(redis_always: RedisServer, tmp_path: Path) -> None:
    """Four processes on one Redis race to start and run the same runs, and owners are killed: none goes back."""
    workers_that_are_killed(f"{redis_always.url}?name={uuid.uuid4().hex}", tmp_path)
