"""What the handler's loop can't give, each by its name, and the line of the handler that asks for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import CoroutineType, GeneratorType
from typing import TYPE_CHECKING, Any

__all__ = ["Refusing", "what", "where"]

_NOT_HERE = {
    "run_in_executor": "a thread or executor",
    "set_default_executor": "a thread or executor",
    "getaddrinfo": "the network",
    "getnameinfo": "the network",
    "create_connection": "the network",
    "create_server": "the network",
    "create_unix_connection": "a socket",
    "create_unix_server": "a socket",
    "create_datagram_endpoint": "the network",
    "connect_accepted_socket": "a socket",
    "start_tls": "the network",
    "sendfile": "a file and a socket",
    "sock_recv": "a socket",
    "sock_recv_into": "a socket",
    "sock_recvfrom": "a socket",
    "sock_recvfrom_into": "a socket",
    "sock_sendall": "a socket",
    "sock_sendto": "a socket",
    "sock_connect": "a socket",
    "sock_accept": "a socket",
    "sock_sendfile": "a socket",
    "connect_read_pipe": "a pipe",
    "connect_write_pipe": "a pipe",
    "subprocess_exec": "a subprocess",
    "subprocess_shell": "a subprocess",
    "add_reader": "a file descriptor",
    "add_writer": "a file descriptor",
    "add_signal_handler": "a signal of the operating system",
    "run_forever": "a loop within the loop",
    "run_until_complete": "a loop within the loop",
    "stop": "the end of its own loop",
    "close": "the end of its own loop",
}


def _refusing(method: str, what: str) -> Callable[..., Any]:
    def refuse(self: Any, *args: Any, **kwargs: Any) -> None:
        self.refuse(f"{what} (loop.{method})")

    refuse.__name__ = method
    return refuse


if TYPE_CHECKING:
    Refusing = asyncio.AbstractEventLoop
else:
    Refusing = type(
        "Refusing",
        (asyncio.AbstractEventLoop,),
        {name: _refusing(name, thing) for name, thing in _NOT_HERE.items()}
        | dict.fromkeys(("remove_reader", "remove_writer", "remove_signal_handler"), lambda self, _: False),
    )
"""A loop without whatever can't be replayed."""


def what(error: BaseException) -> str:
    """What a task awaited, from asyncio's words for it."""
    text = str(error)
    if "different loop" in text:
        return "a future or task of the host's event loop"
    return "a bare yield that asyncio does not know" if "yield" in text else "an object that asyncio can't await"


_NOT_THE_USERS = ("alkaline_edge", "asyncio", "anyio", "sniffio", "contextlib")


def _is_users(frame: Any) -> bool:
    module = frame.f_globals.get("__name__", "")
    return module.split(".", 1)[0] not in _NOT_THE_USERS


def where(coro: Any, running: Any = None) -> str:
    """``agent.py:12 in research``: the innermost line of user code that ``coro`` stands at. Never a whole path."""
    best = None
    while running is not None:
        if _is_users(running):
            best = running
            break
        running = running.f_back
    while best is None or coro is not None:
        frame, inner = _inside(coro)
        if frame is None:
            break
        if _is_users(frame):
            best = frame
        coro = inner
    if best is None:
        return "the handler"
    return f"{_base(best.f_code)}:{best.f_lineno} in {best.f_code.co_name}"


def _inside(coro: Any) -> tuple[Any, Any]:
    """The frame of a coroutine or generator, and what it waits for; nothing of an object that may answer anything."""
    if type(coro) is CoroutineType:
        return coro.cr_frame, coro.cr_await
    return (coro.gi_frame, coro.gi_yieldfrom) if type(coro) is GeneratorType else (None, None)


def where_of_function(function: Any) -> str:
    """The line where ``function`` is written, through partials and bound methods."""
    while hasattr(function, "func"):
        function = function.func
    function = getattr(function, "__func__", function)
    code = getattr(function, "__code__", None)
    if str(getattr(function, "__module__", "")).split(".", 1)[0] in _NOT_THE_USERS:
        return "the handler"
    return f"{_base(code)}:{code.co_firstlineno} in {code.co_name}" if code is not None else "the handler"


def _base(code: Any) -> str:
    return str(code.co_filename.replace("\\", "/").rsplit("/", 1)[-1])
