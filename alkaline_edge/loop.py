"""The deterministic asyncio event loop that a handler sees: no sockets, no threads, recorded time, one order.

While the machine steps a handler, this is the running loop, so ``asyncio.gather``, ``TaskGroup``, ``timeout``,
``wait``, ``Event``, ``Queue`` and ``sleep`` work inside it. Callbacks run first in, first out; ``call_later`` is a
durable timer; ``time()`` is the recorded time. What can't be replayed is a violation that names its line.
"""

from __future__ import annotations

import asyncio
import atexit
import gc
import sys
from asyncio import CancelledError, Future, Task
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from contextvars import Context, ContextVar, copy_context
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, TypeVarTuple

from .errors import DeterminismError
from .setaside import discard

__all__ = ["SCOPE", "CancelledError", "DeterministicLoop", "Future", "Scope", "Task", "where"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_step_type: type | None = None
"""The type of the callback by which asyncio's C task makes its steps. It has no public name: learned from the first."""


_alive: dict[DeterministicLoop, None] = {}
"""Loops with unfinished tasks. Kept, since the garbage collector would close their coroutines, running user code."""


_registered = False


def _at_exit() -> None:
    for loop in list(_alive):
        loop.set_aside()


class Scope:
    """Numbers the commands of one asyncio task: ``prefix`` + 1, 2, 3 in the order in which they are issued."""

    __slots__ = ("count", "prefix")

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.count = 0

    def next_id(self) -> str:
        """The id of the next command, or of the next task, of this scope."""
        self.count += 1
        return f"{self.prefix}{self.count}"


SCOPE: ContextVar[Scope] = ContextVar("alkaline_edge_scope")


class _Task(asyncio.Task[Any]):
    """A task that tells its loop when it is cancelled while it runs: then nothing may resolve without suspending."""

    def cancel(self, msg: Any | None = None) -> bool:
        """As asyncio.Task.cancel."""
        loop = self.get_loop()
        if isinstance(loop, DeterministicLoop) and asyncio.current_task(loop) is self:
            loop.must_suspend = True
        return super().cancel(msg)


def _refusing(method: str, what: str) -> Callable[..., Any]:
    def refuse(self: Any, *args: Any, **kwargs: Any) -> None:
        self.refuse(f"{what} (loop.{method})")

    refuse.__name__ = method
    return refuse


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
    "sock_sendall": "a socket",
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
}
if TYPE_CHECKING:
    _Refusing = asyncio.AbstractEventLoop
else:
    _Refusing = type(
        "_Refusing", (asyncio.AbstractEventLoop,), {name: _refusing(name, what) for name, what in _NOT_HERE.items()}
    )
"""A loop without whatever can't be replayed."""


class DeterministicLoop(_Refusing):
    """Runs ready callbacks until none is left. ``on_timer(deadline_ms, fire)`` makes a durable timer of call_at."""

    def __init__(self, on_timer: Callable[[int, asyncio.TimerHandle], Any]) -> None:
        self.ready: deque[asyncio.Handle] = deque()
        self.now_ms = 0
        self.must_suspend = False
        self.violation: DeterminismError | None = None
        self.unhandled: list[BaseException] = []
        self._on_timer = on_timer
        self._stepping = False
        self._discarded = False
        self._tasks: dict[asyncio.Task[Any], None] = {}

    # --- stepping --------------------------------------------------------------------------------------------------
    def run_ready(self) -> None:
        """Run callbacks until none is ready: as far as the handler gets without an outside event.

        A task of the loop that runs outside is left meanwhile: CPython 3.14 steps no task while another is current.
        Afterwards ``violation`` holds what can't be replayed, if the handler tried such a thing.
        """
        ready = self.ready
        if not ready:
            return
        outer = asyncio._get_running_loop()
        caller = None if outer is None else asyncio.current_task(outer)
        if outer is not None and caller is not None:
            asyncio._leave_task(outer, caller)
        hooks = sys.get_asyncgen_hooks()
        asyncio._set_running_loop(self)
        sys.set_asyncgen_hooks(firstiter=None, finalizer=self._finalize_asyncgen)
        self._stepping = True
        try:
            while ready:
                handle = ready.popleft()
                if not handle._cancelled:
                    handle._run()
                self.must_suspend = False
                if self.violation is not None:
                    ready.clear()
        finally:
            self._stepping = False
            sys.set_asyncgen_hooks(*hooks)
            asyncio._set_running_loop(outer)
            if outer is not None and caller is not None:
                asyncio._enter_task(outer, caller)

    def set_aside(self) -> None:
        """Let go of every unfinished task without running any more of its code."""
        self._discarded = True
        _alive.pop(self, None)
        tasks = [task for task in self._tasks if not task.done()]
        self._tasks.clear()
        self.ready.clear()
        for task in tasks:
            task._log_destroy_pending = False  # type: ignore[attr-defined]  # set by asyncio.gather's own code too
        discard([coro for task in tasks if isinstance(coro := task.get_coro(), Coroutine)])

    def _finalize_asyncgen(self, agen: AsyncGenerator[Any, Any]) -> None:
        if not self._discarded and self._stepping:
            self.create_task(_aclose(agen))

    # --- what tasks and futures call -----------------------------------------------------------------------------
    def call_soon(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        """Run ``callback`` after those that are ready already."""
        handle = asyncio.Handle(callback, args, self, context)
        if callback.__class__ is _step_type and not self._discarded:
            self._look_for_misuse(callback)
        if not self._stepping and not self._discarded and not self._inside:
            self._violate(
                "something outside of the workflow woke its handler: a future that a callback, a thread or a "
                "JavaScript promise resolved; put what it waits for in ctx.step"
            )
            return handle
        self.ready.append(handle)
        return handle

    _inside = False

    def wake(self, act: Callable[..., Any], *args: Any) -> None:
        """Call ``act(*args)``, which may resolve futures: the machine's own way in, from outside of a step."""
        self._inside = True
        try:
            act(*args)
        finally:
            self._inside = False

    def call_soon_threadsafe(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        """As call_soon; from another thread it is a violation."""
        return self.call_soon(callback, *args, context=context)

    def call_later(
        self, delay: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """A durable timer, ``delay`` seconds of recorded time from now."""
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """A durable timer at recorded time ``when``, in seconds."""
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        handle._scheduled = True  # type: ignore[attr-defined]  # asyncio's own slot: cancel() asks for it
        self._on_timer(-int(-when * 1000 // 1), handle)
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        pass  # the machine looks at handle.cancelled() when it lists its timers

    def time(self) -> float:
        """Recorded time, seconds since 1970: that of the last event."""
        return self.now_ms / 1000

    def create_future(self) -> Future[Any]:
        """A future of this loop."""
        return Future(loop=self)

    def create_task(
        self,
        coro: Generator[Any, None, T] | Coroutine[Any, Any, T],
        *,
        name: object = None,
        context: Context | None = None,
        **_eager: object,
    ) -> asyncio.Task[T]:
        """A task with a scope of its own, numbered in the scope that makes it."""
        parent = SCOPE.get(None)
        prefix = f"{parent.next_id()}." if parent is not None else "0."
        return self.task_in(Scope(prefix), coro, name, context)

    def task_in(
        self, scope: Scope, coro: Any, name: object = None, context: Context | None = None
    ) -> asyncio.Task[Any]:
        """A task whose commands are numbered by ``scope``."""
        context = copy_context() if context is None else context
        try:
            context.run(SCOPE.set, scope)
        except RuntimeError:  # the caller's own context is entered: its copy is not
            context = context.copy()
            context.run(SCOPE.set, scope)
        task = _Task(coro, loop=self, name=str(name) if name is not None else f"branch {scope.prefix}", context=context)
        global _step_type, _registered
        if _step_type is None and self.ready:
            _step_type = type(self.ready[-1]._callback)  # type: ignore[attr-defined]  # asyncio's own slot
        if not _registered:
            atexit.register(_at_exit)
            _registered = True
        _alive[self] = None
        self._tasks[task] = None
        task.add_done_callback(self._forget)
        return task

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._tasks.pop(task, None)
        if not self._tasks:
            _alive.pop(self, None)

    def unfinished(self) -> list[asyncio.Task[Any]]:
        """Tasks that have not ended, in the order of their making."""
        return [task for task in self._tasks if not task.done()]

    def get_debug(self) -> bool:
        """False: debug mode reads the clock."""
        return False

    def is_running(self) -> bool:
        """Whether the handler is being stepped."""
        return self._stepping

    def is_closed(self) -> bool:
        """Whether the run was set aside."""
        return self._discarded

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Keep what nobody retrieved; the runtime reports it."""
        error = context.get("exception")
        if isinstance(error, BaseException) and not self._discarded:
            self.unhandled.append(error)

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        """As call_exception_handler."""
        self.call_exception_handler(context)

    async def shutdown_asyncgens(self) -> None:
        """Nothing to do: see ``set_aside``."""

    # --- violations ------------------------------------------------------------------------------------------------
    def _violate(self, message: str) -> DeterminismError:
        error = DeterminismError(message)
        if self.violation is None:
            self.violation = error
        return error

    def _look_for_misuse(self, callback: Any) -> None:
        """A task's step with an error is asyncio's answer to awaiting what is not of this loop."""
        task: asyncio.Task[Any] | None = None
        error: BaseException | None = None
        for item in gc.get_referents(callback):
            if isinstance(item, asyncio.Task):
                task = item
            elif isinstance(item, RuntimeError):
                error = item
        if error is not None and task is not None:
            line = where(task.get_coro())
            self._violate(
                f"{line} awaits something that is not durable, so a replay could not repeat it ({_what(error)}); "
                "put it in ctx.step"
            )

    def refuse(self, what: str) -> NoReturn:
        """Raise, and remember, the violation that ``what`` is."""
        task = asyncio.current_task(self) if self._stepping else None
        line = where(task.get_coro(), sys._getframe(1)) if task is not None else "the handler"
        raise self._violate(f"{line} uses {what}, which a replay could not repeat; put it in ctx.step")


async def _aclose(agen: AsyncGenerator[Any, Any]) -> None:
    await agen.aclose()


def _what(error: BaseException) -> str:
    text = str(error)
    if "different loop" in text:
        return "a future or task of the host's event loop"
    return "a bare yield that asyncio does not know" if "yield" in text else "an object that asyncio can't await"


_OURS = ("alkaline_edge", "asyncio")


def _is_users(frame: Any) -> bool:
    module = frame.f_globals.get("__name__", "")
    return module.split(".", 1)[0] not in _OURS


def where(coro: Any, running: Any = None) -> str:
    """``agent.py:12 in research``: the innermost line of user code that ``coro`` stands at. Never a whole path."""
    best = None
    while running is not None:
        if _is_users(running):
            best = running
            break
        running = running.f_back
    while best is None or coro is not None:
        frame = getattr(coro, "cr_frame", None) or getattr(coro, "gi_frame", None)
        if frame is None:
            break
        if _is_users(frame):
            best = frame
        coro = getattr(coro, "cr_await", None) or getattr(coro, "gi_yieldfrom", None)
    if best is None:
        return "the handler"
    file = best.f_code.co_filename.replace("\\", "/").rsplit("/", 1)[-1]
    return f"{file}:{best.f_lineno} in {best.f_code.co_name}"
