"""``open_host``: one string that says where histories are kept, for programs and the command line."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from importlib import import_module
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from alkaline_edge.arguments import expect
from alkaline_edge.errors import InvalidInput, StoreError
from alkaline_edge.host import Batch, Capabilities, Committed, Conflict, Entry

__all__ = ["open_host"]

if TYPE_CHECKING:
    from alkaline_edge.host import Host

_KNOWN = "memory:, a path, file:PATH, postgresql://..., redis://..., rediss://..."
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")  # two letters or more: C:\runs is a path
_SERVERS = {
    "postgresql": ("postgres", "open_postgres"),
    "postgres": ("postgres", "open_postgres"),
    "redis": ("redis", "open_redis"),
    "rediss": ("redis", "open_redis"),
}


def open_host(url: str | os.PathLike[str] | None = None, *, read_only: bool = False) -> Host:
    """The host that ``url`` names. The caller closes it.

    None or ``memory:``: a new, empty MemoryHost. A path or ``file:PATH``: a FileHost, whose file is created unless
    ``read_only``. ``postgresql://`` and ``postgres://``, ``redis://`` and ``rediss://``: that server; the extra of
    that name must be installed. With ``read_only`` every commit is a StoreError; a file then needs no lock.

    ERR_INVALID_INPUT: the URL can't be understood, or what its host needs is not installed. Opening a file raises what
    FileHost does: StoreError, ConflictError, NotFound.
    """
    if url is None:
        return _memory(read_only)
    expect(url, (str, os.PathLike), "open_host(url=)", "a URL or a path")
    expect(read_only, bool, "open_host(read_only=)", "True or False")
    text = os.fspath(url)
    if not isinstance(text, str) or not text:
        raise InvalidInput(f"open_host takes a URL or a path as text, not empty: {_KNOWN}")
    scheme = _SCHEME.match(text) if isinstance(url, str) else None
    if scheme is None:
        return _file(text, read_only)
    name = scheme[1].lower()
    if name == "memory":
        if text[scheme.end() :].strip("/"):
            raise InvalidInput("memory: takes no name: every one is new and empty. Write memory: alone")
        return _memory(read_only)
    if name == "file":
        return _file(_path_of(text), read_only)
    if name in _SERVERS:
        module, function = _SERVERS[name]
        host: Host = _opener(module, function)(text)
        return _ReadOnlyHost(host) if read_only else host
    raise InvalidInput(
        f"there is no host for {name}: known are {_KNOWN}. A file of that name is written file:NAME or ./NAME"
    )


def path_of(url: str) -> str | None:
    """The path of the file that ``url`` names; None for any other store, and for what is no URL of one."""
    scheme = _SCHEME.match(url)
    if scheme is None:
        return url or None
    try:
        return _path_of(url) if scheme[1].lower() == "file" else None
    except InvalidInput:
        return None


class _ReadOnlyHost:
    """Another host without its commits: each is a StoreError, and nothing is written."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self.capabilities: Capabilities = host.capabilities

    async def get(self, keys: Iterable[str]) -> list[Entry | None]:
        """As Host.get."""
        return await self._host.get(keys)

    async def list(self, prefix: str, after: str = "", limit: int = 500) -> list[Entry]:
        """As Host.list."""
        return await self._host.list(prefix, after, limit)

    async def commit(self, batch: Batch) -> Committed | Conflict:
        """StoreError."""
        raise StoreError(f"the {self.capabilities.name} host was opened read-only; open it without to write")

    async def close(self) -> None:
        """As Host.close."""
        await self._host.close()

    def now_ms(self) -> int:
        """The host's clock."""
        return self._host.now_ms()

    def entropy(self, n: int) -> bytes:
        """The host's entropy."""
        return self._host.entropy(n)

    async def sleep(self, seconds: float) -> None:
        """The host's seconds."""
        await self._host.sleep(seconds)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._host, name)  # run_in_thread, where the host has it


def _memory(read_only: bool) -> Host:
    from .memory import MemoryHost

    return _ReadOnlyHost(MemoryHost()) if read_only else MemoryHost()


def _file(path: str, read_only: bool) -> Host:
    from .file import FileHost

    return FileHost(path, read_only=read_only)


def _path_of(url: str) -> str:
    if not url[5:].startswith("//"):
        path = unquote(url[5:])  # file:runs.alkaline is relative to the working directory
    else:
        parts = urlsplit(url)
        if parts.netloc not in ("", "localhost"):
            raise InvalidInput("a file: URL can't name another machine: write file:PATH or file:///PATH")
        if parts.query or parts.fragment:
            raise InvalidInput("a file: URL takes no ?query and no #fragment; write %3F and %23 for these characters")
        path = unquote(parts.path)
        if os.name == "nt":
            path = path.lstrip("/")  # file:///C:/runs
    if not path:
        raise InvalidInput("a file: URL needs a path: file:PATH or file:///PATH")
    return path


def _opener(module: str, function: str) -> Callable[[str], Any]:
    try:
        opener: Callable[[str], Any] = getattr(import_module(f"{__package__}.{module}"), function)
    except ModuleNotFoundError as error:
        if error.name == f"{__package__}.{module}":
            raise InvalidInput(
                f"this release has no {module} host: install one that has it, with its extra: "
                f"pip install -U 'alkaline-edge[{module}]'"
            ) from error
        raise InvalidInput(
            f"the {module} host needs {error.name}, which is not installed: pip install 'alkaline-edge[{module}]'"
        ) from error
    return opener
