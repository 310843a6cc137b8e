"""The Redis host in a Redis Cluster: one slot, wherever it is."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio

from alkaline_edge.errors import StoreError, UnknownOutcome
from alkaline_edge.host import Batch, Check, Committed, Host, Put
from alkaline_edge.testing import CASES, Case, check_case

from .conftest import until
from .ports import free_port
from .redis_server import RedisServer
from .test_redis import Owning, Store, by_default_client
from .test_redis_settings import has_replica
from .test_redis_watch import Heard, signalled

SLOTS = 16_384


@contextlib.contextmanager
def cluster(directory: Path, primaries: int, others: int = 0) -> Iterator[list[RedisServer]]:
    """Primaries that share the slots, then nodes that have none."""
    with contextlib.ExitStack() as stack:
        found, buses = [], [free_port() for _ in range(primaries + others)]
        for bus in buses:
            options = ("--cluster-enabled", "yes", "--cluster-port", str(bus), "--cluster-node-timeout", "2000")
            found.append(stack.enter_context(RedisServer(directory / str(bus), *options)))
        for n, node in enumerate(found):
            if n < primaries:
                node.ask("CLUSTER", "ADDSLOTSRANGE", n * SLOTS // primaries, (n + 1) * SLOTS // primaries - 1)
            node.ask("CLUSTER", "MEET", "127.0.0.1", found[0].port, buses[0])
        deadline = time.monotonic() + 30
        while any("cluster_state:ok" not in node.ask("CLUSTER", "INFO") for node in found):
            assert time.monotonic() < deadline, "the cluster did not form"
            time.sleep(0.05)
        yield found


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[RedisServer]]:
    """Three primaries without replicas."""
    with cluster(tmp_path_factory.mktemp("cluster"), 3) as found:
        yield found


def by_cluster(url: str, name: str = "alkaline", **options: Any) -> Host:
    return Owning(redis.asyncio.RedisCluster.from_url(url), name, **options)


def by_decoding_cluster(url: str, name: str = "alkaline", **options: Any) -> Host:
    client = redis.asyncio.RedisCluster.from_url(url, decode_responses=True, protocol=2)
    return Owning(client, name, **options)


@pytest.mark.parametrize("client", [by_cluster, by_decoding_cluster])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_conformance(client: Any, case: Case, nodes: list[RedisServer]) -> None:
    """The host passes the case, on whichever node its name lies."""

    async def maker() -> Store:
        return Store(nodes[0].url, client)

    asyncio.run(check_case(case, maker, gather=asyncio.gather))


def batch(id: int, **parts: Any) -> Batch:
    return Batch(f"{id:016x}", **{name: tuple(part) for name, part in parts.items()})


def owner_of(nodes: list[RedisServer], name: str) -> tuple[int, RedisServer, RedisServer]:
    """The slot of a store, the node that has it, and another one."""
    slot = nodes[0].ask("CLUSTER", "KEYSLOT", f"{{{name}}}:values")
    mine = [n for n, node in enumerate(nodes) if node.ask("CLUSTER", "COUNTKEYSINSLOT", slot)]
    (n,) = mine
    return slot, nodes[n], nodes[(n + 1) % 3]


@pytest.mark.parametrize("client", [by_cluster, by_decoding_cluster])
def test_a_slot_that_moves_is_followed(client: Any, nodes: list[RedisServer]) -> None:
    """While it moves, a commit is refused and nothing is written; then commits and reads go to the new node."""

    async def main() -> None:
        name = uuid.uuid4().hex
        host = client(nodes[0].url, name)
        await host.commit(batch(1, puts=[Put("a", b"1")]))
        slot, source, target = owner_of(nodes, name)
        ids = {node: node.ask("CLUSTER", "MYID") for node in (source, target)}
        target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[source])
        source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[target])
        keys = [f"{{{name}}}:{part}" for part in ("values", "keys")]
        second = batch(2, checks=[Check("a", f"{1:016x}")], puts=[Put("a", b"2")])
        source.ask("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", keys[0])
        with pytest.raises(StoreError, match="nothing was written"):
            await asyncio.wait_for(host.commit(second), 20)
        source.ask("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", keys[1])
        for node in (target, source, *nodes):
            node.ask("CLUSTER", "SETSLOT", slot, "NODE", ids[target])
        assert await host.commit(second) == Committed(second.id)
        assert [entry.value for entry in await host.list("")] == [b"2"]
        assert owner_of(nodes, name)[1] is target
        await host.close()

    asyncio.run(main())


def test_a_connection_that_is_cut_in_a_commit_is_unknown(nodes: list[RedisServer]) -> None:
    """CLIENT KILL while the node holds its writes back; nothing is sent again, and the next commit is taken."""

    async def main() -> None:
        name = uuid.uuid4().hex
        host = by_cluster(nodes[0].url, name)
        await host.commit(batch(1, puts=[Put("a", b"1")]))
        node = owner_of(nodes, name)[1]
        node.ask("CLIENT", "PAUSE", "60000", "WRITE")
        commit = asyncio.ensure_future(host.commit(batch(2, puts=[Put("a", b"2")])))
        async with asyncio.timeout(10):
            while node.ask("INFO", "clients")["blocked_clients"] != 1:
                await asyncio.sleep(0.02)
        node.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        with pytest.raises(UnknownOutcome):
            await commit
        node.ask("CLIENT", "UNPAUSE")
        assert [entry.value for entry in await host.get(["a"])] == [b"1"]
        await host.commit(batch(3, puts=[Put("a", b"3")]))
        await host.close()

    asyncio.run(main())


@pytest.mark.slow
def test_a_node_that_is_lost(tmp_path: Path) -> None:
    """Its replica takes over: disk was refused, weak goes on there once the client has found it."""
    with cluster(tmp_path, 1, others=1) as (primary, replica):
        replica.ask("CLUSTER", "REPLICATE", primary.ask("CLUSTER", "MYID"))

        async def main() -> None:
            await until(lambda: has_replica(primary))
            await until(lambda: knows(primary, replica))
            with pytest.raises(StoreError, match="follows failovers"):
                await closing(by_cluster(primary.url), lambda host: host.commit(batch(1, puts=[Put("a", b"1")])))
            host = by_cluster(primary.url, durability="weak")
            await host.commit(batch(1, puts=[Put("a", b"1")]))
            await until(lambda: same_offset(primary, replica))
            await asyncio.to_thread(primary.kill)
            replica.ask("CLUSTER", "FAILOVER", "TAKEOVER")
            outcomes: list[Any] = []

            async def taken() -> bool:
                try:
                    outcomes.append(await host.commit(batch(2, puts=[Put("a", b"2")])))
                except StoreError as error:
                    outcomes.append(error)
                return isinstance(outcomes[-1], Committed)

            await until(taken)
            assert [entry.value for entry in await host.list("")] == [b"2"]
            await host.close()

        asyncio.run(main())


async def knows(primary: RedisServer, replica: RedisServer) -> bool:
    return str(replica.port) in str(primary.ask("CLUSTER", "SLOTS"))


async def closing(host: Any, call: Callable[[Any], Awaitable[Any]]) -> Any:
    try:
        return await call(host)
    finally:
        await host.close()


async def same_offset(primary: RedisServer, replica: RedisServer) -> bool:
    offsets = [node.ask("INFO", "replication")["master_repl_offset"] for node in (primary, replica)]
    return offsets[0] == offsets[1]


def test_a_client_that_knows_no_cluster(nodes: list[RedisServer]) -> None:
    """A plain client at a node that does not have the slot: refused, with what it was told."""

    async def main() -> None:
        name = uuid.uuid4().hex
        host = by_cluster(nodes[0].url, name)
        await host.commit(batch(1, puts=[Put("a", b"1")]))
        plain = by_default_client(owner_of(nodes, name)[2].url, name)
        with pytest.raises(StoreError, match=r"MovedError.*one node of a Redis Cluster.*RedisCluster"):
            await asyncio.wait_for(plain.get(["a"]), 20)
        await plain.close()
        await host.close()

    asyncio.run(main())


def test_a_run_and_its_notices(nodes: list[RedisServer]) -> None:
    """A signal of another process arrives; and a commit through one node is heard at another."""

    async def main() -> None:
        name = uuid.uuid4().hex
        await signalled(by_cluster(nodes[0].url, name), by_cluster(nodes[1].url, name))
        host, other = by_cluster(nodes[0].url, name), by_cluster(nodes[2].url, name)
        heard = Heard(host)
        count = await heard.more_than(0)
        await other.commit(batch(9, puts=[Put("i/r/z1", b"")]))
        await heard.more_than(count)
        heard.end()
        await host.close()
        await other.close()

    asyncio.run(main())
