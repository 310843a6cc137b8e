"""A Postgres and a Redis of the tests' own. Where one is not installed, its tests are not collected."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import signal
import uuid
from collections.abc import Awaitable, Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from examples.handoff.postgres import find, started

from .redis_server import PROGRAM, RedisServer

collect_ignore_glob: list[str] = []
try:
    find("initdb")
except FileNotFoundError:
    collect_ignore_glob.append("test_postgres*")
if PROGRAM is None:
    collect_ignore_glob.append("test_redis*")


@pytest.hookimpl(wrapper=True)
def pytest_timeout_set_timer() -> Generator[None, bool, bool]:
    """A test that hangs says at which await, of each task; and again, should a task not let itself be cancelled."""
    armed = yield
    fail = signal.getsignal(signal.SIGALRM)

    def handler(*arguments: Any) -> None:
        signal.setitimer(signal.ITIMER_REAL, 30)
        with contextlib.suppress(RuntimeError):  # no loop is running
            for task in asyncio.all_tasks():
                task.print_stack()
        assert callable(fail)
        fail(*arguments)

    signal.signal(signal.SIGALRM, handler)
    return armed


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """The URL of a running cluster."""
    with started() as url:
        yield url


@pytest.fixture
def database(server: str) -> str:
    """The URL of a new, empty database of that cluster."""
    name = f"t{uuid.uuid4().hex}"
    asyncio.run(execute(server, f"CREATE DATABASE {name}"))
    return server.rpartition("/")[0] + f"/{name}"


@pytest.fixture(scope="session")
def redis_always(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A Redis that syncs its file at each commit, for tests that leave its settings alone."""
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def redis_of(tmp_path: Path) -> Iterator[Callable[..., RedisServer]]:
    """Starts a Redis of the test's own, with the options given."""
    with contextlib.ExitStack() as stack:
        count = itertools.count()
        yield lambda *options: stack.enter_context(RedisServer(tmp_path / f"redis{next(count)}", *options))


async def execute(url: str, sql: str, *arguments: Any) -> list[Any]:
    """The rows of one statement, over a connection of its own."""
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetch(sql, *arguments)
    finally:
        await connection.close()


async def until(true: Callable[[], Awaitable[Any]], seconds: float = 20) -> Any:
    """What ``true`` gives once it is something."""
    async with asyncio.timeout(seconds):
        while not (found := await true()):
            await asyncio.sleep(0.02)
        return found
