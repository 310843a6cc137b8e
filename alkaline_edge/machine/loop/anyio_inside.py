"""anyio inside a handler: its scopes cancel in the order of their making, and its threads are refused by name.

anyio keeps the scopes within a scope in a set, which is walked by address, and delivers a cancel again and again, a
callback of the loop each, until the cancelled tasks have left. Outside, time goes by meanwhile; in a handler it would
keep the turn from ending when a task waits, in its cleanup, for a step. So after some rounds the next one waits for
the next event. Nothing here imports anyio: it is looked at where it is loaded already.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

__all__ = ["install"]

ROUNDS = 100
"""Deliveries of one scope's cancel between two events: more than any cleanup that asks again at once."""

_REFUSED = {
    "run_sync_in_worker_thread": "a thread (anyio.to_thread.run_sync)",
    "create_blocking_portal": "a thread (anyio.from_thread.BlockingPortal)",
    "open_process": "a subprocess (anyio.open_process)",
    "setup_process_pool_exit_at_shutdown": "a subprocess (anyio.to_process.run_sync)",
    "open_signal_receiver": "a signal of the operating system (anyio.open_signal_receiver)",
    "connect_unix": "a socket (anyio.connect_unix)",
    "create_unix_datagram_socket": "a socket (anyio.create_unix_datagram_socket)",
    "create_tcp_listener": "a socket (anyio.create_tcp_listener)",
    "create_unix_listener": "a socket (anyio.create_unix_listener)",
}
"""Of anyio's backend: what does not pass through the loop's own refusals, or would pass by another name."""
_FROM_THREAD = ("run", "run_sync", "start_blocking_portal")
_installed = False


class _InOrder(dict[Any, None]):
    """What anyio asks of a set, walked in the order in which its members came."""

    def add(self, one: Any) -> None:
        """Add ``one``."""
        self[one] = None

    def remove(self, one: Any) -> None:
        """Take ``one`` out, which is in."""
        del self[one]

    def discard(self, one: Any) -> None:
        """Take ``one`` out, if it is in."""
        self.pop(one, None)


def install(kind: type) -> None:
    """Mend anyio's asyncio backend, which the process has loaded, for loops of ``kind``. Only once."""
    global _installed
    if _installed:
        return
    _installed = True
    import importlib

    backend = importlib.import_module("anyio._backends._asyncio")
    _mend_scopes(backend.CancelScope, kind)
    for name, thing in _REFUSED.items():
        if hasattr(backend.AsyncIOBackend, name):
            _refuse(backend.AsyncIOBackend, name, thing, kind)
    from_thread = importlib.import_module("anyio.from_thread")
    for name in _FROM_THREAD:
        _refuse(from_thread, name, f"a thread (anyio.from_thread.{name})", kind)
    _refuse_portals(from_thread.BlockingPortal, kind)
    for owner in (importlib.import_module("anyio._core._eventloop"), importlib.import_module("anyio")):
        _refuse(owner, "run", "a loop within the loop (anyio.run)", kind)


def _here(kind: type) -> Any:
    loop = asyncio._get_running_loop()
    return loop if isinstance(loop, kind) else None


def _refuse(owner: Any, name: str, thing: str, kind: type) -> None:
    original: Callable[..., Any] = getattr(owner, name)  # a class method is bound already

    def method(*args: Any, **kwargs: Any) -> Any:
        loop = _here(kind)
        if loop is not None:
            loop.refuse(thing)
        return original(*args, **kwargs)

    method.__name__, method.__doc__ = name, original.__doc__
    setattr(owner, name, staticmethod(method) if isinstance(owner, type) else method)


def _refuse_portals(portal: Any, kind: type) -> None:
    """A portal is there for other threads to come in by."""
    enter = portal.__aenter__

    async def __aenter__(self: Any) -> Any:  # noqa: N807  # it takes that place
        loop = _here(kind)
        if loop is not None:
            loop.refuse(_REFUSED["create_blocking_portal"])
        return await enter(self)

    portal.__aenter__ = __aenter__


def _mend_scopes(scope: Any, kind: type) -> None:
    begin, deliver = scope.__init__, scope._deliver_cancellation

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807  # it takes that place
        begin(self, *args, **kwargs)
        if hasattr(self, "_child_scopes"):
            self._child_scopes = _InOrder()

    def _deliver_cancellation(self: Any, origin: Any) -> Any:
        loop = _here(kind)
        if loop is None or origin is not self:
            return deliver(self, origin)
        loop.rounds[id(self)] = rounds = loop.rounds.get(id(self), 0) + 1
        again = deliver(self, origin)
        if again and rounds >= ROUNDS and self._cancel_handle is not None:
            loop.park(self._cancel_handle)
        return again

    scope.__init__, scope._deliver_cancellation = __init__, _deliver_cancellation
