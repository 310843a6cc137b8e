"""Histories in Redis or Valkey, which any number of processes may share.

    host = RedisHost(redis.asyncio.Redis(...))                # or redis.asyncio.RedisCluster, or Sentinel's client
    host = open_host("redis://localhost:6379/0")              # a client of its own

A commit is one Lua script; those that the runs of a process make at the same time are sent at once. A read is one
command or one script (see ``_redis.scripts``). The client's own retries are not used for them, since a commit that is
sent twice can't be judged (see ``_redis.clients``).

A commit that others may be waiting for tells them by PUBLISH, in its script, and who waits SUBSCRIBEs on one connection
of the client. On a pool of one connection, or while that connection is lost, nothing is heard: whatever waits also
looks by itself, every second. A notice saves that second, and nothing depends on it.

How much survives is decided by the server's settings, and those that Redis comes with keep nothing. So the host reads
them at first use, and again after a command was lost, and refuses a server that keeps less than ``durability`` says.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from alkaline_edge.errors import AlkalineError, InvalidInput, StoreError
from alkaline_edge.host import Batch, Capabilities, Committed, Conflict, Durability, Entry
from alkaline_edge.limits import check_batch, check_key

from ._redis.clients import Argument, Failed, call, client_of, let_go, run, run_together
from ._redis.scripts import (
    COMMIT,
    CONFLICT,
    FORMAT,
    GONE,
    LIST,
    NEWER,
    OK,
    Keys,
    Script,
    commit_arguments,
    list_arguments,
)
from ._redis.settings import CLASSES, NOTES, read_settings, require
from ._redis.subscription import Subscription
from ._servers.lanes import ALONE, Lanes
from ._servers.listening import Listening
from ._servers.notices import is_awaited
from ._system import Threaded

__all__ = ["RedisHost"]

_ATTEMPTS = 8
"""How often a command is sent that Redis answers by "not now", as it does while it loads its file."""
_ANSWER = 30.0
"""Seconds that a client of our own waits for an answer: past them a commit's outcome is unknown."""
_CONNECTIONS = 32
"""Connections of a client of our own, unless the URL has ``max_connections``."""
_Arguments = Sequence[Argument]
"""Those of COMMIT."""
_Answer = list[bytes]
_Entries = list[Entry]
_NAME = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
_LONGEST = 512


class RedisHost(Threaded):
    """A store in the keys ``{name}:values`` and ``{name}:keys`` of the server that ``client`` is connected to.

    ``client``: a ``redis.asyncio.Redis``, of Sentinel too, or a ``redis.asyncio.RedisCluster``. It stays the caller's,
    open after ``close``; its timeouts hold, its retries hold for connecting alone. ``name``: letters, digits, and
    ``_.:-``; another is ERR_INVALID_INPUT.

    ``durability``: what the host promises, as ``alkaline_edge.host.Durability`` has it, and so the least that it takes:

    - ``replicated``: that, and one replica has it, so that a failover to that replica loses nothing (WAIT 1 at each
      commit and read);
    - ``disk``: the append-only file, synced at each commit (``appendonly yes``, ``appendfsync always``);
    - ``process``: the file, not synced (``appendfsync no``);
    - ``weak``: the file, synced each second (``everysec``); servers that hide CONFIG; clients that fail over;
    - ``volatile``: anything, also no file at all, and eviction.

    A server that keeps less is refused by StoreError at first use, naming the settings and the commands that mend them.
    """

    watch_may_miss = True
    """Notices may be lost, so whoever waits looks by itself as well."""

    def __init__(self, client: Any, *, name: str = "alkaline", durability: Durability = "disk") -> None:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise InvalidInput("name is letters, digits and _.:- up to 64 of them, such as alkaline")
        if durability not in CLASSES:
            raise InvalidInput(f"durability is one of {', '.join(CLASSES)}")
        self._keys = Keys(name)
        self._client = client_of(client, self._keys)
        self._client.replicas = int(durability == "replicated")
        self.capabilities = Capabilities("Redis", durability=durability, threads=True, notes=NOTES[durability])
        self.settings: dict[str, str] = {}
        """What the server said of itself when it was last asked: INFO, and CONFIG GET's ``*append*``."""
        self._own: Any = None
        self._name = os.urandom(8).hex().encode()
        self._listening = Listening(Subscription(self._client), self._keys.channel.decode(), self._name.decode())
        self._lanes: Lanes[_Arguments, _Answer] = Lanes(self._commit_many, self._commit_one)
        self._checking = asyncio.Lock()
        self._checked = self._seen = False

    async def get(self, keys: Iterable[str]) -> list[Entry | None]:
        """As Host.get. One consistent read, in one round trip."""
        self._open()
        wanted = list(keys)
        if not wanted:
            return []
        known = [key.encode("utf-8", "surrogatepass") for key in wanted]
        # Asked before the read: a commit of this host may make the store while the answer "not there" is on its way.
        must_be = self._must_be()

        async def read() -> Any:
            return await call(self._client, "HMGET", self._keys.values, b"", *known)

        format, *values = await self._reading(read)
        if format is None:
            self._judge(GONE if must_be else OK)
        else:
            self._judge(OK if format == FORMAT else NEWER)
            self._seen = True
        return [_entry(key, value) if value and key else None for key, value in zip(wanted, values, strict=True)]

    async def list(self, prefix: str, after: str = "", limit: int = 500) -> _Entries:
        """As Host.list, in one round trip."""
        self._open()
        if limit <= 0:
            return []

        async def read() -> Any:
            return await self._run(LIST, list_arguments(prefix, after, limit, self._must_be()))

        verdict, *found = await self._reading(read)
        self._judge(verdict)
        self._seen = self._seen or bool(found)
        return [_entry(key.decode("ascii"), value) for key, value in zip(found[::2], found[1::2], strict=True)]

    async def commit(self, batch: Batch) -> Committed | Conflict:
        """As Host.commit, in one round trip, which commits that are made at the same time share.

        Raises InvalidInput for a batch over a limit; StoreError when Redis refused it, or could not be reached before
        anything was sent; UnknownOutcome when the connection was lost, or the answer too late.
        """
        self._open()
        check_batch(batch, self.capabilities)
        for key in (*(check.key for check in batch.checks), *batch.deletes):
            check_key(key, _LONGEST)
        if len(batch.id) != 16 or not batch.id.isascii():
            raise InvalidInput("a batch's id is 16 hexadecimal digits; nothing was written")
        if not (batch.checks or batch.puts or batch.deletes):
            return Committed(batch.id)
        await self._ready()
        notice = self._name if is_awaited(batch, self.now_ms()) else b""
        arguments = commit_arguments(batch, self._must_be(), self._keys.channel, notice)
        verdict, *rest = await self._lanes.send(arguments, sum([len(put.value) for put in batch.puts]))
        if verdict == CONFLICT:
            return Conflict(tuple(key.decode("ascii") for key in rest))
        self._judge(verdict)
        self._seen = self._seen or bool(batch.puts)
        return Committed(batch.id)

    async def _commit_many(self, batches: Sequence[_Arguments]) -> Sequence[object]:
        """What COMMIT answers to each of ``batches``, or what became of it otherwise, in one round trip."""
        answers = await run_together(self._client, COMMIT, self._keys, batches)
        return [self._failed(answer) if isinstance(answer, Failed) else answer for answer in answers]

    def _failed(self, failed: Failed) -> object:
        if failed.later:
            return ALONE
        self._checked = False
        error = failed.of_a_commit()
        error.__cause__ = failed.__cause__
        return error

    async def _commit_one(self, batch: _Arguments) -> _Answer:
        """The same for one, sent again while Redis says that it can't just now."""
        try:
            answer: _Answer = await self._patiently(lambda: self._run(COMMIT, batch))
        except Failed as error:
            self._checked = False
            raise error.of_a_commit() from error.__cause__
        return answer

    async def close(self) -> None:
        """As Host.close; commits that are under way are ended. A client that was handed in stays open."""
        if not self._closed:
            await super().close()
            await self._lanes.drain()
            await self._listening.close()
            if self._own is not None:
                await let_go(self._own)

    def watch(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call ``callback`` when another process may have committed what somebody waits for; returns the way to stop.

        Several commits may make one call. It listens from the first ``sleep`` on, which is when something first waits,
        and calls once when it begins to, also after a connection that was lost. A notice may be missed (see the top of
        this module): look now and then as well.
        """
        self._open()
        return self._listening.add(callback)

    async def sleep(self, seconds: float) -> None:
        """Return after about ``seconds`` real seconds; the first call begins to listen."""
        self._listening.begin()
        await super().sleep(seconds)

    def _must_be(self) -> bool:
        """Whether a store that is not there is one that was lost, where losing it is not what was agreed on."""
        return self._seen and self.capabilities.durability != "volatile"

    async def _ready(self) -> None:
        """Read the server's settings, where that was not done since a command was lost. StoreError for weak ones."""
        if self._checked:
            return
        async with self._checking:
            if not self._checked:
                try:
                    self.settings = await self._again(lambda: read_settings(self._client))
                except Failed as error:
                    raise error.of_the_settings() from error.__cause__
                require(self.settings, self.capabilities.durability, self._client.fails_over)
                self._checked = True

    async def _run(self, script: Script, arguments: Sequence[Argument]) -> Any:
        return await run(self._client, script, self._keys, arguments)

    async def _reading(self, read: Callable[[], Any]) -> Any:
        await self._ready()
        try:
            return await self._again(read)
        except Failed as error:
            self._checked = False
            raise error.of_a_read() from error.__cause__

    async def _again(self, read: Callable[[], Any]) -> Any:
        """What ``read`` gives, where need be once more on another connection, since a read may be repeated."""
        try:
            return await self._patiently(read)
        except Failed as error:
            if not error.lost:
                raise
            return await self._patiently(read)

    async def _patiently(self, send: Callable[[], Any]) -> Any:
        """What ``send`` gives, sent again while Redis says that it can't just now."""
        for attempt in range(1, _ATTEMPTS):
            try:
                return await send()
            except Failed as error:
                if not error.later:
                    raise
            await asyncio.sleep(random.uniform(0.5, 1) * 0.02 * 2**attempt)  # noqa: S311  # spreads those that wait
            await self._client.look_again()
        return await send()

    def _judge(self, verdict: bytes) -> None:
        """StoreError for what a script, or a read, found instead of a sound store."""
        if verdict != OK:
            raise _unsound(verdict, self._keys)


def _entry(key: str, value: bytes) -> Entry:
    return Entry(key, value[16:], value[:16].decode("ascii"))


def _unsound(verdict: bytes, keys: Keys) -> AlkalineError:
    where = keys.values.decode().removesuffix(":values")
    if verdict == NEWER:
        return StoreError(
            f"the keys {where}:* were written by a newer version of alkaline-edge, in a form that this one does not "
            "know; install the newer version. Nothing was written"
        )
    if verdict == GONE:
        return StoreError(
            f"the store that was in {where}:* is gone: the keys were deleted or evicted, or the server came back "
            "without its data. Restore them; a new host begins a new, empty store. Nothing was written"
        )
    return StoreError(
        f"the keys {where}:values and {where}:keys do not fit together: one was deleted, evicted or written by another "
        "program. Restore both from a backup; nothing was written"
    )


def open_redis(url: str) -> RedisHost:
    """The store at ``url``, over a client of its own, which connects when it is first asked. For ``open_host``.

    ``?durability=`` and ``?name=`` are RedisHost's; the rest of the URL is redis-py's.
    """
    try:
        import redis.asyncio
        from redis.asyncio.retry import Retry
        from redis.backoff import ExponentialBackoff
    except ModuleNotFoundError as error:
        raise InvalidInput(
            f"the redis host needs {error.name}, which is not installed: pip install 'alkaline-edge[redis]'"
        ) from error
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    options: dict[str, Any] = {key: query.pop(key) for key in ("name", "durability") if key in query}
    retry = Retry(ExponentialBackoff(cap=1.0, base=0.02), 5)  # 1.2 seconds: a server that restarts is waited for
    try:
        client = redis.asyncio.Redis.from_url(
            urlunsplit(parts._replace(query=urlencode(query))),
            retry=retry,
            socket_timeout=_ANSWER,
            socket_connect_timeout=10.0,
            max_connections=_CONNECTIONS,
        )
        client.connection_pool.connection_class(**client.connection_pool.connection_kwargs)
    except (TypeError, ValueError):  # their messages may hold a piece of a password
        raise InvalidInput(
            "this redis URL can't be understood: it is redis://user:password@host:port/database?option=value, its "
            "options are those of redis-py and ours, and special characters of a password are percent-encoded"
        ) from None
    host = RedisHost(client, **options)
    host._own = client
    return host
