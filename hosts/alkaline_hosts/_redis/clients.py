"""The clients of Redis that people have, as the host sees them: one command on one connection, sent once.

``execute_command`` of redis-py sends a command again, on a new connection, when the answer to the first is lost and the
client has retries, as newer versions give it. For a commit that is wrong: the second finds the versions that the first
has written, so one's own success looks like a conflict, and a commit without checks could be applied twice, over what
another wrote in between. So a connection is taken from the client's pool, used for one command, and given back: then it
is also known whether anything was sent, and answers are bytes, whatever ``decode_responses`` says.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import AsyncIterator, Sequence
from typing import Any, Protocol

from alkaline_edge.errors import AlkalineError, InvalidInput, StoreError, UnknownOutcome

from .scripts import Keys, Script

Argument = bytes | int | str
MOST = 64
"""Connections that a host uses at once, where the client has as many: Redis does one thing at a time anyway."""
PATIENCE = 5_000
"""ms in which a replica must have what was committed or read, where that is asked for."""
_LATER = ("BusyLoadingError", "TryAgainError", "ClusterDownError", "MasterDownError")
"""The server's errors that say: not now. Nothing was done."""
_ELSEWHERE = ("MovedError", "AskError")
"""Those that say: not here. A client of a cluster looks elsewhere then."""
RIGHTS = (
    "+eval +evalsha +hget +hmget +hset +hdel +hlen +zadd +zrem +zcard +zrangebylex +info +config|get "
    "+publish +subscribe +ping +wait"
)
"""What a user must be allowed to do, as ACL SETUSER has it. Without +config|get the host can promise ``weak`` at best;
without +publish, +subscribe or the channel ``{name}:notices`` nobody hears of a commit, and all look each second;
+wait is for ``replicated`` alone."""


class Failed(Exception):
    """The client raised. ``refused``: the server answered, with an error. ``sent``: it may have had the command.

    ``later``: nothing was done, and the same command may be taken in a moment.
    """

    def __init__(self, error: Exception, *, sent: bool, refused: bool = False, routed: bool = False) -> None:
        kind, text = type(error).__name__, str(error).strip() or "no message"
        super().__init__(f"{kind}: {text}")
        self.refused, self.lost = refused, sent and not refused
        busy = text.startswith("BUSY ")  # with another's script, which takes long
        self.later = refused and (busy or kind in _LATER or (routed and kind in _ELSEWHERE))
        self._elsewhere = refused and not routed and kind in _ELSEWHERE
        self.__cause__ = error

    def of_a_commit(self) -> AlkalineError:
        """What a commit that failed like this raises."""
        if self.lost:
            return UnknownOutcome(f"Redis did not say what became of the batch: {self}")
        what = "refused the batch" if self.refused else "could not be reached"
        return StoreError(f"Redis {what} and nothing was written: {self}{self._hint()}")

    def of_a_read(self) -> AlkalineError:
        """What a read that failed like this raises."""
        return StoreError(f"Redis did not answer a read: {self}{self._hint()}")

    def of_the_settings(self) -> AlkalineError:
        """What the first call raises, which asks for the settings before it does anything."""
        return StoreError(f"Redis did not say how it is set up, and nothing was read or written: {self}{self._hint()}")

    def _hint(self) -> str:
        if self._elsewhere:
            return ". This is one node of a Redis Cluster: give RedisHost a redis.asyncio.RedisCluster"
        denied = self.refused and ("NoPermission" in str(self) or "can't run" in str(self) or "NOPERM" in str(self))
        return f". The user needs {RIGHTS}" if denied else ""


class NotReplicated(Exception):
    """The server has done it, and a replica lacks it."""


class Client(Protocol):
    """Where connections come from."""

    fails_over: bool
    """Whether the client follows to another server when one is lost."""
    routed: bool
    """Whether the client knows the nodes of a cluster."""
    room: asyncio.Semaphore
    """For as many commands as may be under way: redis-py's pools raise when they have no connection left."""
    replicas: int
    """How many replicas must have what the server had as it answered, before an answer counts."""

    def connection(self) -> contextlib.AbstractAsyncContextManager[Any]:
        """A connection of redis-py's to the server that has the keys, connected. One command, then it goes back."""
        ...

    async def look_again(self) -> None:
        """Find out anew which server has the keys, where that may change."""
        ...

    @property
    def listens(self) -> bool:
        """Whether there is ``pubsub``, and a connection can be spared for it."""
        ...

    async def pubsub(self) -> Any:
        """A new PubSub of redis-py's."""
        ...


def client_of(client: Any, keys: Keys) -> Client:
    """What ``client`` is; InvalidInput for what isn't a client of redis-py for asyncio."""
    with contextlib.suppress(ModuleNotFoundError):
        from redis.asyncio import Redis, RedisCluster

        if isinstance(client, RedisCluster):
            return Clustered(client, keys)
        if isinstance(client, Redis):
            return Pooled(client)
    raise InvalidInput(
        "RedisHost takes a redis.asyncio.Redis or a redis.asyncio.RedisCluster; for a URL there is open_host(url)"
    )


class Pooled:
    """Over ``redis.asyncio.Redis``, Sentinel's included."""

    routed = False
    replicas = 0

    def __init__(self, client: Any) -> None:
        self._client, self._pool = client, client.connection_pool
        self.fails_over = hasattr(self._pool, "sentinel_manager")
        self.room = _room(self._pool.max_connections)
        named = inspect.signature(self._pool.get_connection).parameters["command_name"]
        self._named = ("EVALSHA",) if named.default is inspect.Parameter.empty else ()  # versions before 5.3 want it

    @contextlib.asynccontextmanager
    async def connection(self) -> AsyncIterator[Any]:
        connection = await self._pool.get_connection(*self._named)
        try:
            await _freshened(connection)
            yield connection
        finally:
            await self._pool.release(connection)

    async def look_again(self) -> None:
        """Nothing: the pool finds its server at each connection that it makes."""

    @property
    def listens(self) -> bool:
        return bool(self._pool.max_connections > 1)

    async def pubsub(self) -> Any:
        return self._client.pubsub()


class Clustered:
    """Over ``redis.asyncio.RedisCluster``: its connections to the node of our slot."""

    fails_over = routed = True
    replicas = 0

    def __init__(self, client: Any, keys: Keys) -> None:
        self._client, self._key = client, keys.values.decode()
        self.room = _room(client.get_connection_kwargs().get("max_connections", MOST))

    @contextlib.asynccontextmanager
    async def connection(self) -> AsyncIterator[Any]:
        try:
            node, connection = await self._connected()
        except Exception:  # the node may be gone, and its replica have taken over
            await self.look_again()
            node, connection = await self._connected()
        try:
            yield connection
        finally:
            _give_back(node, connection)

    async def _connected(self) -> tuple[Any, Any]:
        await self._client.initialize()
        node = self._client.get_node_from_key(self._key)
        connection = node.acquire_connection()
        try:
            await connection.connect()
            await _freshened(connection)
        except BaseException:
            _give_back(node, connection)
            raise
        return node, connection

    async def look_again(self) -> None:
        # A command of the client's own goes after the slot and after nodes that are gone, and the client remembers.
        with contextlib.suppress(Exception):  # what comes of it, the next command of ours will say
            await self._client.execute_command("EXISTS", self._key)

    @property
    def listens(self) -> bool:
        return hasattr(self._client, "pubsub")  # older versions have none

    async def pubsub(self) -> Any:
        await self._client.initialize()
        return self._client.pubsub()


def _room(connections: int) -> asyncio.Semaphore:
    """One connection is left for what is listened to."""
    return asyncio.Semaphore(max(1, min(connections - 1, MOST)))


async def _freshened(connection: Any) -> None:
    """Connect again where the server has closed the idle ``connection``, so that the next command is not lost on it.

    redis-py looks for that itself, but not in all versions with every protocol, and not in a cluster.
    """
    reader = getattr(connection, "_reader", None)
    if reader is not None and reader.at_eof():
        await connection.disconnect(nowait=True)
        await connection.connect()


async def let_go(thing: Any) -> None:
    """Close a client or a PubSub of redis-py's."""
    await (getattr(thing, "aclose", None) or thing.close)()  # the first version 5 has close alone


def _give_back(node: Any, connection: Any) -> None:
    release = getattr(node, "release", None)  # where it is missing, in older versions, this is what they do
    node._free.append(connection) if release is None else release(connection)


async def call(client: Client, *command: Argument) -> Any:
    """The server's answer to ``command``, texts as bytes. Raises Failed."""
    return await _sent(client, [command], client.replicas)


async def ask(client: Client, *command: Argument) -> Any:
    """The same for what the server says of itself: no replica need have it."""
    return await _sent(client, [command], 0)


async def run(client: Client, script: Script, keys: Keys, arguments: Sequence[Argument]) -> Any:
    """The answer of ``script``, which the server is told whole if it has not seen it. Raises Failed."""
    rest = (2, keys.values, keys.index, *arguments)
    return await _sent(client, [("EVALSHA", script.digest, *rest), ("EVAL", script.source, *rest)], client.replicas)


async def run_together(client: Client, script: Script, keys: Keys, requests: Sequence[Sequence[Argument]]) -> list[Any]:
    """The answer of ``script`` to each of ``requests``, sent at once on one connection; Failed in place of some.

    The server does them one after another, and others' in between. One that has not seen the script does none.
    """
    if len(requests) == 1:
        try:
            return [await run(client, script, keys, requests[0])]
        except Failed as error:
            return [error]
    from redis.exceptions import NoScriptError, ResponseError

    answers: list[Any] = []
    sent = False
    try:
        async with client.room, client.connection() as connection:
            packed: list[bytes] = []
            for arguments in requests:
                packed += connection.pack_command("EVALSHA", script.digest, 2, keys.values, keys.index, *arguments)
            sent = True
            try:
                await connection.send_packed_command(packed, check_health=False)
                while len(answers) < len(requests):
                    try:
                        answers.append(await connection.read_response(disable_decoding=True))
                    except ResponseError as error:
                        failed = Failed(error, sent=True, refused=True, routed=client.routed)
                        failed.later = failed.later or isinstance(error, NoScriptError)
                        answers.append(failed)
                await _replicated(connection, client.replicas)
            except BaseException:  # answers may still come, and must not be taken for the next command's
                await connection.disconnect(nowait=True)
                raise
    except NotReplicated as error:
        return [each if isinstance(each, Failed) else Failed(error, sent=True) for each in answers]
    except Exception as error:  # what it answered before is known; the rest may have been done
        answers += [Failed(error, sent=sent) for _ in requests[len(answers) :]]
    return answers


async def _replicated(connection: Any, replicas: int) -> None:
    """Return once so many replicas have all that the server has done so far; raises NotReplicated.

    Of a read too: what it saw must not be lost either, such as a commit that nobody was told of.
    """
    if not replicas:
        return
    from redis.exceptions import ResponseError

    await connection.send_packed_command(connection.pack_command("WAIT", replicas, PATIENCE), check_health=False)
    try:
        there = await connection.read_response(disable_decoding=True)
    except ResponseError as error:  # a server that has become a replica meanwhile, which may have had the commit
        raise NotReplicated(str(error)) from error
    if there < replicas:
        raise NotReplicated(f"{there} of {replicas} replicas have it after {PATIENCE / 1000:g} seconds")


async def _sent(client: Client, commands: Sequence[Sequence[Argument]], replicas: int) -> Any:
    """The answer to the first of ``commands`` that the server has the script for."""
    from redis.exceptions import AuthenticationError, AuthorizationError, BusyLoadingError, NoScriptError, ResponseError

    sent = False
    try:
        async with client.room, client.connection() as connection:
            for command in commands:
                packed = connection.pack_command(*command)
                sent = True
                try:
                    await connection.send_packed_command(packed, check_health=False)
                    answer = await connection.read_response(disable_decoding=True)
                    await _replicated(connection, replicas)
                    return answer
                except NoScriptError:
                    if command is commands[-1]:
                        raise
                except ResponseError:
                    raise
                except BaseException:  # an answer may still come, and must not be taken for the next command's
                    await connection.disconnect(nowait=True)
                    raise
    except (ResponseError, BusyLoadingError, AuthenticationError, AuthorizationError) as error:
        raise Failed(error, sent=sent, refused=True, routed=client.routed) from error
    except Exception as error:
        raise Failed(error, sent=sent) from error
    raise AssertionError("the last command returns or raises")
