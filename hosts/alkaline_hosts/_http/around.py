"""The span in which somebody asks over HTTP, as ``traceparent`` names it: for whoever makes spans of what is asked."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

_SAID: ContextVar[list[tuple[str, str]]] = ContextVar("alkaline traceparent")
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-[0-9a-f]{2}(-.*)?")


@contextmanager
def asked_in(headers: Mapping[str, str]) -> Iterator[None]:
    """Inside, ``take`` gives the trace and the span that the headers of a request name, once."""
    found = _TRACEPARENT.fullmatch(headers.get("traceparent", "").strip())
    token = _SAID.set([(found[1], found[2])] if found else [])
    try:
        yield
    finally:
        _SAID.reset(token)


def take() -> tuple[str, str] | None:
    """The trace and the span; None where no request named one. The run that is started gets it, and no child of it."""
    said = _SAID.get([])
    return said.pop() if said else None
