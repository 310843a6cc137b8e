"""What a Redis must be set to, and what is said of one that would lose runs."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff

from alkaline_edge.errors import StoreError
from alkaline_edge.host import Batch, Check, Committed, Put
from alkaline_hosts._redis.settings import CLASSES, weaknesses

from .conftest import until
from .redis_server import RedisServer, SentinelServer
from .test_redis import Owning, by_url

Start = Callable[..., RedisServer]
PUT = Batch(f"{1:016x}", puts=(Put("a", b"1"),))
SECOND = Batch("2" * 16, puts=(Put("a", b"2"),))


def words(options: str) -> list[str]:
    return options.split()


async def refusal(host: Any) -> str:
    """What every storage call says, the same each time. The host is closed."""
    said = set()
    for call in (lambda: host.get(["a"]), lambda: host.list(""), lambda: host.commit(PUT)):
        with pytest.raises(StoreError) as caught:
            await call()
        assert type(caught.value) is StoreError
        said.add(str(caught.value))
    await host.close()
    (text,) = said
    return text


async def has_replica(server: RedisServer) -> bool:
    return server.ask("INFO", "replication")["connected_slaves"] == 1


async def accepted(host: Any) -> None:
    assert isinstance(await host.commit(PUT), Committed)
    assert [entry.value for entry in await host.list("")] == [b"1"]
    await host.close()


WEAK = [
    ("--appendonly no", "volatile", "appendonly is no"),
    ("--appendonly no --save 900 1", "volatile", "appendonly is no"),
    ("--maxmemory 100mb --maxmemory-policy allkeys-lru", "volatile", "maxmemory-policy is allkeys-lru"),
    ("--maxmemory 100mb --maxmemory-policy allkeys-random", "volatile", "maxmemory-policy is allkeys-random"),
    ("--appendfsync everysec", "weak", "appendfsync is everysec"),
    ("--appendfsync no", "process", "appendfsync is no"),
    ("--no-appendfsync-on-rewrite yes", "process", "no-appendfsync-on-rewrite is not no"),
]


@pytest.mark.parametrize(("options", "keeps", "said"), WEAK)
def test_a_server_that_loses_commits_is_refused(options: str, keeps: str, said: str, redis_of: Start) -> None:
    """The error names the setting, the command that mends it, and the opt-in; each of the two then lets it pass."""
    server = redis_of(*words(options))

    async def main() -> None:
        # What is replicated wants a replica as well, so it has a test of its own.
        for asked in CLASSES[CLASSES.index(keeps) + 1 : -1]:  # type: ignore[arg-type]  # one of them
            text = await refusal(by_url(server.url, durability=asked))
            assert said in text
            assert f"{asked} durability was asked for" in text
            assert f"RedisHost(client, durability={keeps!r}), or ?durability={keeps} in the URL" in text
        assert await refusal(by_url(server.url)) == text, "disk is what is asked for where nothing is said"
        assert server.ask("DBSIZE") == 0
        host = by_url(server.url, durability=keeps)
        assert host.capabilities.durability == keeps
        assert host.capabilities.notes
        await accepted(host)
        (remedy,) = re.findall(r"CONFIG SET [\w-]+ \w+", text)
        server.ask(*remedy.split())
        await accepted(by_url(server.url))

    asyncio.run(main())


def test_every_weakness_is_named_at_once(redis_of: Start) -> None:
    """Whoever mends one does not learn of the next afterwards."""
    server = redis_of(*words("--appendfsync everysec --maxmemory 100mb --maxmemory-policy allkeys-lfu"))

    async def main() -> None:
        text = await refusal(by_url(server.url))
        assert "appendfsync is everysec" in text
        assert "maxmemory-policy is allkeys-lfu" in text
        assert "durability='volatile'" in text
        assert "durability='volatile'" in await refusal(by_url(server.url, durability="weak"))

    asyncio.run(main())


@pytest.mark.parametrize("options", ["--maxmemory-policy allkeys-lru", "--maxmemory 1gb --maxmemory-policy noeviction"])
def test_a_policy_that_evicts_nothing(options: str, redis_of: Start) -> None:
    """Without maxmemory no policy matters."""
    asyncio.run(accepted(by_url(redis_of(*words(options)).url)))


def test_a_policy_that_evicts_what_expires_leaves_runs_alone(redis_of: Start) -> None:
    """volatile-lru: under pressure other keys go, and every one of ours stays."""
    server = redis_of(*words("--maxmemory 12mb --maxmemory-policy volatile-lru"))

    async def main() -> None:
        host = by_url(server.url)
        puts = tuple(Put(f"k/{n:03}", bytes(1000)) for n in range(500))
        await host.commit(Batch(f"{1:016x}", puts=puts))
        client = redis.asyncio.Redis(port=server.port)
        for n in range(30):
            async with client.pipeline(transaction=False) as pipe:
                for m in range(50):
                    pipe.set(f"cache:{n}:{m}", bytes(16_000), ex=3600)
                await pipe.execute()
        evicted = (await client.info("stats"))["evicted_keys"]
        await client.aclose()
        assert evicted > 500, "nothing was under pressure: this run of the test showed nothing"
        assert len(await host.list("k/", limit=1000)) == 500
        await host.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("rights", "said", "keeps"),
    [
        ("+@all -config", "CONFIG GET is refused", "weak"),
        ("+@all -config -info", "INFO is refused", "volatile"),
        ("+@all -info", "INFO is refused", "volatile"),
    ],
)
def test_settings_that_are_hidden(rights: str, said: str, keeps: str, redis_of: Start) -> None:
    """What can't be read is not believed: managed services often refuse CONFIG."""
    server = redis_of()
    server.ask("ACL", "SETUSER", "agent", "on", ">secret", "~*", "&*", *rights.split())
    url = server.url.replace("//", "//agent:secret@")

    async def main() -> None:
        text = await refusal(by_url(url))
        assert said in text
        assert f"durability={keeps!r}" in text
        assert "secret" not in text
        await accepted(by_url(url, durability=keeps))

    asyncio.run(main())


def test_a_replica_is_refused(redis_of: Start) -> None:
    """Whatever durability is asked for, and also where it may be written to."""
    primary, replica = redis_of(), redis_of()
    replica.ask("REPLICAOF", "127.0.0.1", str(primary.port))
    for writable in ("no", "yes"):
        replica.ask("CONFIG", "SET", "replica-read-only", "no" if writable == "yes" else "yes")
        for durability in CLASSES:
            assert "is a replica" in asyncio.run(refusal(by_url(replica.url, durability=durability)))


@pytest.mark.slow
def test_a_client_that_fails_over_is_weak(redis_of: Start, tmp_path: Path) -> None:
    """Sentinel's client of a primary that has a replica; a client of the primary alone is none."""
    primary, replica = (redis_of("--repl-diskless-sync-delay", "0") for _ in range(2))
    replica.ask("REPLICAOF", "127.0.0.1", str(primary.port))

    async def main(sentinel: SentinelServer) -> None:
        await until(lambda: has_replica(primary))
        watching = Sentinel([("127.0.0.1", sentinel.port)])
        text = await refusal(Owning(watching.master_for("ours")))
        assert "a failover loses what the replica lacks" in text
        assert "durability='weak'" in text
        await accepted(Owning(watching.master_for("ours"), durability="weak"))
        await accepted(by_url(primary.url, name="other"))
        await follows_a_failover(watching, sentinel, primary, replica)
        for each in watching.sentinels:
            await each.aclose()

    with SentinelServer(tmp_path / "sentinel", primary.port) as sentinel:
        asyncio.run(main(sentinel))


async def follows_a_failover(
    watching: Sentinel, sentinel: SentinelServer, primary: RedisServer, replica: RedisServer
) -> None:
    """A host goes on where the replica has become the primary, and finds there what that had received."""
    host = Owning(watching.master_for("ours"), "followed", durability="weak")
    await host.commit(PUT)

    async def received() -> bool:
        return replica.ask("EXISTS", "{followed}:values", "{followed}:keys") == 2

    await until(received)

    async def begun() -> bool:
        try:
            return bool(sentinel.ask("SENTINEL", "FAILOVER", "ours"))
        except redis.ResponseError:  # it has not looked at the replica yet
            return False

    await until(begun)

    async def promoted() -> bool:  # until then the old primary takes commits too, which are lost: so it is weak
        return [node.ask("ROLE")[0] for node in (primary, replica)] == ["slave", "master"]

    await until(promoted, 40)

    async def taken() -> bool:
        try:
            await host.commit(SECOND._replace(checks=(Check("a", PUT.id),)))
            return True  # committed, or a conflict with itself where the answer was lost before
        except StoreError:  # while the client still has the old address
            return False

    await until(taken)
    assert "2" * 16 in replica.ask("HGET", "{followed}:values", "a")
    await host.close()


def test_what_a_server_does_not_say_is_not_believed() -> None:
    """Of servers that speak the protocol and have other settings, nothing is taken for granted."""
    known = {"aof_enabled": "1", "appendfsync": "always", "no-appendfsync-on-rewrite": "no", "maxmemory": "0"}
    assert weaknesses(known, False) == []
    for name in ("aof_enabled", "appendfsync", "no-appendfsync-on-rewrite", "maxmemory"):
        assert len(weaknesses({key: value for key, value in known.items() if key != name}, False)) == 1
    assert [each.durability for each in weaknesses({}, False)] == ["volatile"]
    assert weaknesses({**known, "connected_slaves": "0"}, True) == []
    assert [each.durability for each in weaknesses({**known, "connected_slaves": "1"}, True)] == ["weak"]


def test_settings_are_read_again_after_a_lost_connection(redis_of: Start) -> None:
    """A server that comes back with other settings is refused then."""
    server = redis_of()

    async def main() -> None:
        host = Owning(redis.asyncio.Redis(port=server.port, retry=Retry(NoBackoff(), 0)))
        await host.commit(PUT)
        assert host.settings["appendfsync"] == "always"
        await asyncio.to_thread(server.kill)  # in a thread, so that the loop sees the connection close
        with pytest.raises(StoreError, match="could not be reached"):
            await host.commit(PUT)
        server.options = ("--appendfsync", "everysec")
        server.start()
        assert "appendfsync is everysec" in await refusal(host)

    asyncio.run(main())
