"""Requests and answers over HTTP as plain values. No I/O; an adapter (``asgi``, ``worker``) makes and sends them."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes

from alkaline_edge.errors import InvalidInput

MSGPACK, JSON, STREAM = "application/msgpack", "application/json", "text/event-stream"
MAX_BODY = 64 * 1024 * 1024
SMALL = 64 * 1024
"""Bytes of an answer that holds no run: of a place, or an error."""


class Head(NamedTuple):
    """A request without its body. ``target`` is the path with its query as it was sent, header names are lowercase."""

    method: str
    target: str
    headers: Mapping[str, str]

    @property
    def path(self) -> str:
        """The path, still percent-encoded."""
        return self.target.partition("?")[0]

    @property
    def segments(self) -> list[str]:
        """The parts of the path, decoded; Refused for what is no percent-encoded UTF-8."""
        return [_decoded(part, "the path") for part in self.path.split("/") if part]

    def query(self, *names: str, many: str | None = None) -> dict[str, Any]:
        """The query's values by name: texts, and a list for ``many``, which may come several times.

        Refused, by name, for one that is neither in ``names`` nor ``many``, and for one that comes twice.
        """
        found: dict[str, Any] = {} if many is None else {many: []}
        for part in self.target.partition("?")[2].split("&"):
            if not part:
                continue
            name, _, value = (_decoded(each.replace("+", " "), "the query") for each in part.partition("="))
            if name == many:
                found[name].append(value)
            elif name in found:
                raise Refused(400, f"{name[:60]!r} stands twice in the query")
            elif name not in names:
                takes = ", ".join([*names, *([many] if many else [])]) or "nothing"
                raise Refused(400, f"the query takes {takes} here, not {name[:60]!r}")
            else:
                found[name] = value
        return found


_BAD_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")


def _decoded(text: str, what: str) -> str:
    try:
        if not _BAD_PERCENT.search(text):
            return unquote_to_bytes(text.encode("latin-1")).decode()
    except UnicodeError:
        pass
    raise Refused(400, f"{what} is not percent-encoded UTF-8: encode each name and value of it")


class Request(NamedTuple):
    """A whole request. ``gone`` returns when nobody waits for the answer any more, where the platform tells."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes = b""
    gone: Callable[[], Awaitable[None]] | None = None

    @property
    def head(self) -> Head:
        """The request without its body."""
        return Head(self.method, self.target, self.headers)


class Response(NamedTuple):
    """An answer: a whole one, or with ``chunks`` one whose body comes bit by bit. Who sends it closes them."""

    status: int
    headers: dict[str, str]
    body: bytes
    chunks: AsyncGenerator[bytes, None] | None = None


class Refused(InvalidInput):
    """The request is refused as it is, with this HTTP status and, for 405, the methods that are taken."""

    def __init__(self, status: int, message: str, allow: str = "") -> None:
        super().__init__(message)
        self.status, self.allow = status, allow


def pick(methods: Mapping[str, Any], method: str, head: Head) -> Any:
    """What stands for ``method``, and for HEAD what stands for GET; Refused with 405 where nothing does."""
    found = methods.get("GET" if method == "HEAD" else method)
    if found is None:
        allow = ", ".join([*methods, *(["HEAD"] if "GET" in methods else [])])
        raise Refused(405, f"{head.path[:200]} takes {allow}, not {method[:20]}", allow)
    return found


def shown(head: Head) -> tuple[str, str]:
    """A request's method and path for a log: no query, which holds what users say, and nothing that isn't printable."""
    path = "".join(c if c.isprintable() else "?" for c in head.path)
    return "".join(c if c.isprintable() else "?" for c in head.method[:20]), path[:300]
