"""A Postgres of the tests' own. Where Postgres is not installed, nothing here is collected."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import asyncpg
import pytest

from examples.handoff.postgres import find, started

collect_ignore_glob: list[str] = []
try:
    find("initdb")
except FileNotFoundError:
    collect_ignore_glob.append("*")


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a running cluster."""
    with started(tmp_path_factory.mktemp("postgres")) as url:
        yield url


@pytest.fixture
def database(server: str) -> str:
    """The URL of a new, empty database of that cluster."""
    name = f"t{uuid.uuid4().hex}"
    asyncio.run(execute(server, f"CREATE DATABASE {name}"))
    return server.rpartition("/")[0] + f"/{name}"


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
