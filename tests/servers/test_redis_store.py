"""The two keys of the Redis host: written whole or not at all, whatever the server refuses, and never misread."""

from __future__ import annotations

import asyncio
import re
import sys
import uuid
from collections.abc import Callable
from typing import Any

import pytest
import redis
import redis.asyncio

from alkaline_edge.errors import InvalidInput, StoreError
from alkaline_edge.host import Batch, Check, Committed, Conflict, Entry, Put
from alkaline_hosts._redis import clients
from alkaline_hosts._redis.clients import RIGHTS
from alkaline_hosts.opening import open_host
from alkaline_hosts.redis import RedisHost

from .redis_server import RedisServer
from .test_redis import by_url

Start = Callable[..., RedisServer]
VALUES, INDEX = "{alkaline}:values", "{alkaline}:keys"


def batch(id: int, **parts: Any) -> Batch:
    return Batch(f"{id:016x}", **{name: tuple(part) for name, part in parts.items()})


FIRST = batch(1, puts=[Put("a", b"1"), Put("b", b"1")])
BOTH = batch(2, checks=[Check("a", FIRST.id)], puts=[Put("a", b"2"), Put("c", b"2")], deletes=["b"])
BEFORE = [Entry("a", b"1", FIRST.id), Entry("b", b"1", FIRST.id)]
AFTER = [Entry("a", b"2", BOTH.id), Entry("c", b"2", BOTH.id)]


def test_a_commit_is_one_command_and_writes_what_it_says(redis_of: Start) -> None:
    """One script for each commit and list, one command for each get; what is tried out first reaches no file."""
    server = redis_of()

    async def main() -> None:
        host = by_url(server.url)
        await host.commit(FIRST)
        await host.list("")
        files = [path for path in (server.directory / "appendonlydir").iterdir() if ".incr." in path.name]
        written = sum(path.stat().st_size for path in files)
        server.ask("CONFIG", "RESETSTAT")
        await host.commit(batch(3, checks=[Check("a", FIRST.id)], puts=[Put("h/x/a1", b"e" * 140)]))
        await host.get(["a", "b", "c"])
        await host.list("")
        stats = server.ask("INFO", "commandstats")
        assert stats["cmdstat_evalsha"]["calls"] == 2
        assert stats["cmdstat_hmget"]["calls"] == 2  # one of them in the script of list
        assert "cmdstat_eval" not in stats
        (line,) = re.findall(rb"MULTI\r\n(.*)EXEC", b"".join(path.read_bytes() for path in files)[written:], re.DOTALL)
        assert [word for word in line.split(b"\r\n") if word in (b"HSET", b"ZADD", b"HDEL", b"ZREM", b"PUBLISH")] == [
            b"HSET",
            b"ZADD",
        ]
        assert sum(path.stat().st_size for path in files) - written < 140 + 260
        await host.close()

    asyncio.run(main())


@pytest.mark.parametrize("lacks", ["-hset", "-zadd", "-hdel", "-zrem"])
def test_missing_rights_leave_nothing_half_done(lacks: str, redis_of: Start) -> None:
    """A user who may call all but one of the commands: StoreError that names them, and the store as it was."""
    server = redis_of()

    async def main() -> None:
        host = by_url(server.url)
        await host.commit(FIRST)
        server.ask("ACL", "SETUSER", "agent", "on", ">secret", "~*", "&*", "+@all", lacks)
        less = by_url(server.url.replace("//", "//agent:secret@"))
        with pytest.raises(StoreError, match="refused the batch and nothing was written") as caught:
            await less.commit(BOTH)
        assert lacks.replace("-", "+") in str(caught.value)
        assert await host.list("") == BEFORE
        server.ask("ACL", "SETUSER", "agent", f"+{lacks[1:]}")
        assert await less.commit(BOTH) == Committed(BOTH.id)
        assert await host.list("") == AFTER
        await host.close()
        await less.close()

    asyncio.run(main())


def test_the_rights_that_are_named_are_enough(redis_of: Start) -> None:
    """A user with those, on the keys and the channel of one store, and nothing more."""
    server = redis_of()
    server.ask("ACL", "SETUSER", "agent", "on", ">secret", "~{alkaline}:*", "&{alkaline}:*", "-@all", *RIGHTS.split())

    async def main() -> None:
        host = by_url(server.url.replace("//", "//agent:secret@"))
        await host.commit(FIRST)
        await host.commit(BOTH)
        assert await host.list("") == AFTER
        assert await host.get(["a"]) == AFTER[:1]
        other = by_url(server.url.replace("//", "//agent:secret@"), name="other")
        with pytest.raises(StoreError, match=r"NoPermissionError.*The user needs \+eval"):
            await other.get(["a"])
        await host.close()
        await other.close()

    asyncio.run(main())


def test_a_user_that_may_not_publish_commits_all_the_same(redis_of: Start) -> None:
    """A notice is not worth a commit."""
    server = redis_of()
    server.ask("ACL", "SETUSER", "agent", "on", ">secret", "~{alkaline}:*", "resetchannels", "+@all")

    async def main() -> None:
        host = by_url(server.url.replace("//", "//agent:secret@"))
        assert await host.commit(batch(1, puts=[Put("i/r/a1", b"")])) == Committed(f"{1:016x}")
        assert len(await host.list("i/")) == 1
        await host.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("setting", "value", "usual", "said"),
    [("maxmemory", "1", "0", "OutOfMemoryError"), ("min-replicas-to-write", "1", "0", "NOREPLICAS")],
)
def test_a_server_that_takes_no_writes(setting: str, value: str, usual: str, said: str, redis_of: Start) -> None:
    """StoreError, nothing written, and reads go on; afterwards the same batch is taken."""
    server = redis_of()

    async def main() -> None:
        host = by_url(server.url)
        await host.commit(FIRST)
        server.ask("CONFIG", "SET", setting, value)
        for each in (BOTH, batch(3, puts=[Put("d", b"")])):
            with pytest.raises(StoreError, match="nothing was written") as caught:
                await host.commit(each)
            assert type(caught.value) is StoreError
            assert said in str(caught.value)
        assert await host.list("") == BEFORE
        if setting == "maxmemory":
            await host.commit(batch(4, deletes=["b"]))  # what makes room is not refused
            assert len(await host.list("")) == 1
            await host.commit(batch(5, deletes=["a"]))
        server.ask("CONFIG", "SET", setting, usual)
        await host.commit(batch(6, puts=[Put("a", b"1")]))
        await host.close()

    asyncio.run(main())


@pytest.mark.parametrize("kind", ["values", "keys"])
def test_a_key_of_another_kind(kind: str, redis_of: Start) -> None:
    """Another program has a value there: nothing of it is touched, and nothing of ours is written."""
    server = redis_of()
    server.ask("SET", f"{{alkaline}}:{kind}", "theirs")

    async def main() -> None:
        host = by_url(server.url)
        with pytest.raises(StoreError, match=r"WRONGTYPE|wrong kind"):
            await host.commit(FIRST)
        with pytest.raises(StoreError, match=r"WRONGTYPE|wrong kind"):
            await host.list("")
        assert server.ask("KEYS", "*") == [f"{{alkaline}}:{kind}"]
        await host.close()

    asyncio.run(main())


@pytest.mark.parametrize("damage", [("DEL", INDEX), ("ZREM", INDEX, "a"), ("HDEL", VALUES, "a"), ("HDEL", VALUES, "")])
def test_keys_that_do_not_fit_together(damage: tuple[str, ...], redis_of: Start) -> None:
    """One of the two was evicted or meddled with: an error, never a shorter list, and no commit on top of it."""
    server = redis_of()

    async def main() -> None:
        host = by_url(server.url)
        await host.commit(FIRST)
        server.ask(*damage)
        fresh = by_url(server.url)
        for each in (host, fresh):
            with pytest.raises(StoreError, match="do not fit together"):
                await each.list("")
            with pytest.raises(StoreError, match="do not fit together"):
                await each.commit(batch(2, puts=[Put("b", b"")]))
            await each.close()

    asyncio.run(main())


def test_a_value_that_the_index_lacks_its_own(redis_of: Start) -> None:
    """As many keys as values, but not the same ones: found when they are listed."""
    server = redis_of()

    async def main() -> None:
        host = by_url(server.url)
        await host.commit(FIRST)
        server.ask("ZREM", INDEX, "a")
        server.ask("ZADD", INDEX, "0", "aa")
        with pytest.raises(StoreError, match="do not fit together"):
            await host.list("")
        await host.close()

    asyncio.run(main())


def test_a_store_that_is_gone(redis_of: Start) -> None:
    """Who has seen it is told so by each call, and writes nothing; who asked for volatile begins anew."""
    server = redis_of()

    async def main() -> None:
        host, reader, lister = by_url(server.url), by_url(server.url), by_url(server.url)
        volatile = by_url(server.url, durability="volatile")
        await host.commit(FIRST)
        await reader.get(["a"])
        await lister.list("")
        await volatile.list("")
        server.ask("FLUSHALL")
        for each in (host, reader, lister):
            for call in (each.get(["a"]), each.list(""), each.commit(FIRST)):
                with pytest.raises(StoreError, match="is gone"):
                    await call
            await each.close()
        assert server.ask("DBSIZE") == 0
        assert await volatile.get(["a"]) == [None]
        await volatile.commit(FIRST)
        assert await volatile.list("") == BEFORE
        await volatile.close()
        fresh = by_url(server.url)
        assert await fresh.list("") == BEFORE
        await fresh.close()

    asyncio.run(main())


def test_a_store_that_is_made_while_it_is_read_is_not_gone(redis_of: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host's own first commit, made between what Redis answered and its arrival, makes the answer no loss."""
    server = redis_of()

    async def main() -> None:
        host = by_url(server.url)

        async def slow(*arguments: Any) -> Any:
            answer = await clients.call(*arguments)
            await host.commit(FIRST)
            return answer

        monkeypatch.setattr("alkaline_hosts.redis.call", slow)
        assert await host.get(["a"]) == [None]
        monkeypatch.undo()
        assert await host.get(["a"]) == BEFORE[:1]
        await host.close()

    asyncio.run(main())


def test_a_store_with_a_newer_form(redis_of: Start) -> None:
    """An older program neither reads nor writes it, and says what to do."""
    server = redis_of()

    async def main() -> None:
        host = by_url(server.url)
        await host.commit(FIRST)
        server.ask("HSET", VALUES, "", "2")
        for call in (host.get(["a"]), host.list(""), host.commit(BOTH)):
            with pytest.raises(StoreError, match="install the newer version"):
                await call
        server.ask("HSET", VALUES, "", "1")
        assert await host.list("") == BEFORE
        await host.close()

    asyncio.run(main())


def test_versions_that_are_no_versions(redis_always: RedisServer) -> None:
    """A check of a text that no batch has is a conflict, the empty text included: it is not a check of absence."""

    async def main() -> None:
        host = by_url(redis_always.url, uuid.uuid4().hex)
        for version in ("", "-", "0", "é"):
            outcome = await host.commit(batch(1, checks=[Check("a", version)], puts=[Put("a", b"")]))
            assert outcome == Conflict(("a",))
        assert await host.get(["", "a", "\ud800", " "]) == [None] * 4
        for id in ("", "1", "1" * 17, "é" * 16):
            with pytest.raises(InvalidInput, match="16 hexadecimal digits"):
                await host.commit(Batch(id, puts=(Put("a", b""),)))
        await host.close()

    asyncio.run(main())


def test_stores_of_other_names_are_apart(redis_always: RedisServer) -> None:
    """Two names on one server, and other people's keys, see nothing of each other."""

    async def main() -> None:
        one, other = by_url(redis_always.url, f"a.{uuid.uuid4().hex}"), by_url(redis_always.url, uuid.uuid4().hex)
        await one.commit(FIRST)
        assert await other.list("") == []
        await other.commit(batch(2, checks=[Check("a", None)], puts=[Put("a", b"other")]))
        assert await one.list("") == BEFORE
        await one.close()
        await other.close()

    asyncio.run(main())


def test_a_client_that_was_handed_in_stays_open(redis_always: RedisServer) -> None:
    """It is the caller's; and two hosts may share one."""

    async def main() -> None:
        async with redis.asyncio.Redis(port=redis_always.port) as client:
            name = uuid.uuid4().hex
            host, other = RedisHost(client, name=name), RedisHost(client, name=name)
            await host.commit(FIRST)
            await host.close()
            assert await other.list("") == BEFORE
            await other.close()
            assert await client.ping()

    asyncio.run(main())


def test_redis_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A URL without its client names the command that installs it."""
    for name in [name for name in sys.modules if name == "redis" or name.startswith("redis.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(InvalidInput, match=r"redis.*pip install 'alkaline-edge\[redis\]'"):
        open_host("redis://localhost")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: RedisHost(object()), "takes a redis.asyncio.Redis"),
        (lambda: RedisHost(redis.Redis()), "takes a redis.asyncio.Redis"),
        (lambda: RedisHost(redis.asyncio.Redis(), name="a b"), "name is"),
        (lambda: RedisHost(redis.asyncio.Redis(), name="{a}"), "name is"),
        (lambda: RedisHost(redis.asyncio.Redis(), durability="certain"), "volatile, weak, process, disk"),
        (lambda: open_host("redis://h/0?durability=forever"), "volatile, weak, process, disk"),
        (lambda: open_host("redis://h:port/0"), "can't be understood"),
        (lambda: open_host("redis://h/0?sock=1"), "can't be understood"),
        (lambda: open_host("redis://agent:se#cret@h/0"), "percent-encoded"),
        (lambda: open_host("redis://agent:s/e?cret@h/0"), "percent-encoded"),
    ],
)
def test_what_can_not_be_opened(make: Callable[[], Any], said: str) -> None:
    """Each is InvalidInput that says what is taken, before anything is sent."""
    with pytest.raises(InvalidInput, match=said) as caught:
        make()
    assert "cret" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_server_that_is_not_there() -> None:
    """Nothing was sent, so nothing is unknown; the password is not in the message."""

    async def main() -> None:
        host = open_host("redis://agent:secret@127.0.0.1:1/0")
        for call in (host.commit(batch(1, puts=[Put("a", b"")])), host.get(["a"]), host.list("")):
            with pytest.raises(StoreError, match="nothing was read or written: ConnectionError") as caught:
                await call
            assert type(caught.value) is StoreError
            assert "secret" not in str(caught.value)
        await host.close()

    asyncio.run(main())
