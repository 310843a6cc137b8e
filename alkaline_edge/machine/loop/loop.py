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
from asyncio import CancelledError, Future, Task, format_helpers
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Sized
from contextvars import Context, copy_context
from typing import Any, NoReturn, TypeVar, TypeVarTuple

from ...errors import DeterminismError, InvalidInput
from ...interrupts import ends_the_process
from ...limits import BUSY_TURN, BUSY_TURN_PER_TASK, MAX_SECONDS
from . import primitives
from .answers import Answering, collecting, on_collection
from .refusals import what, where, where_of_function
from .tasks import SCOPE, DurableFuture, DurableTask, Scope, aclose, within

__all__ = ["SCOPE", "CancelledError", "DeterministicLoop", "Future", "Scope", "Task", "running_loop", "where"]

running_loop = asyncio._get_running_loop
"""The loop that runs in this thread, if one does: the handler's own while it is being stepped."""

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_new_handle = asyncio.Handle.__new__
_step_type: type | None = None
"""The type of the callback by which asyncio's C task makes its steps. It has no public name: learned from the first."""
_alive: dict[DeterministicLoop, None] = {}
"""Loops with unfinished tasks. Kept, since the garbage collector would close their coroutines, running user code."""
_registered = False


def _at_exit() -> None:
    for loop in list(_alive):
        loop.set_aside()


OnTimer = Callable[[int, asyncio.TimerHandle], str]


class DeterministicLoop(Answering):
    """Runs ready callbacks until none is left. ``on_timer(deadline_ms, fire)`` is the id that ``withdraw`` gets."""

    def __init__(self, on_timer: OnTimer, withdraw: Callable[[str], None], former: bool = False) -> None:
        super().__init__()
        self.former = former  # a history of 0.1: asyncio is the platform's own, as it was then
        self.ready: deque[asyncio.Handle] = deque()
        self.now_ms = 0
        self.violation: DeterminismError | None = None
        self.parked: list[asyncio.Handle] = []  # they run again with the next event: see anyio_inside
        self.rounds: dict[int, int] = {}
        self.held: list[Sized] = []  # what else holds the handler's objects, and goes when it is set aside
        self._on_timer, self._withdraw = on_timer, withdraw
        self._made = 0
        self._tasks: dict[int, asyncio.Task[Any]] = {}  # by number: a dict of tasks would hash each twice
        self._owing: list[DurableTask] = []
        primitives.install(DeterministicLoop)

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
        self.stepping = True
        left = bound = BUSY_TURN
        try:
            while ready:
                handle: Any = ready.popleft()
                if not handle._cancelled:
                    try:  # what Handle._run does, without a call for each of a replay's callbacks
                        handle._context.run(handle._callback, *handle._args)
                    except (SystemExit, KeyboardInterrupt) as error:  # asyncio lets them through
                        if ends_the_process(error):
                            raise
                        self._exited(error)  # here it is an error as any other
                    except BaseException as error:
                        self._raised(handle, error)
                if self._owing:
                    self._deliver_cancels()
                self.must_suspend = bool(self.parked)
                left -= 1
                if not left:  # what is more than any honest turn of so many tasks
                    left = BUSY_TURN + BUSY_TURN_PER_TASK * len(self._tasks) - bound
                    bound += left
                    if left <= 0:
                        self._busy(handle, bound)
                if self.violation is not None:
                    ready.clear()
        finally:
            self.stepping = False
            sys.set_asyncgen_hooks(*hooks)
            asyncio._set_running_loop(outer)
            if outer is not None and caller is not None:
                asyncio._enter_task(outer, caller)

    def _raised(self, handle: Any, error: BaseException) -> None:
        """A callback raised: said as asyncio says it."""
        source = format_helpers._format_callback_source(handle._callback, handle._args)
        self.call_exception_handler(
            {"message": f"Exception in callback {source}", "exception": error, "handle": handle}
        )

    def _exited(self, error: BaseException) -> None:
        """A task that raised such an error has it as its exception; what a callback raised is reported."""
        if not any(task.done() and getattr(task, "_exception", None) is error for task in self._tasks.values()):
            self.unhandled.append(error)

    def set_aside(self) -> None:
        """Let go of every unfinished task without running any more of its code."""
        self._discarded = True
        _alive.pop(self, None)
        tasks = self.unfinished()
        self._tasks.clear()
        self.ready.clear()
        self.parked.clear()
        if not tasks and not any(map(len, self.held)):
            return
        from .discarding import discard  # only a handler that has not ended needs it, and an import costs a start

        for task in tasks:
            task._log_destroy_pending = False  # type: ignore[attr-defined]  # set by asyncio.gather's own code too
        discard([coro for task in tasks if isinstance(coro := task.get_coro(), Coroutine)], [*tasks, *self.held])

    def _finalize_asyncgen(self, agen: AsyncGenerator[Any, Any]) -> None:
        """An asynchronous generator was left before its end: close it, as asyncio does, in the context that left it.

        One that the garbage collector found is let go: when that happens depends on the rest of the process.
        """
        if self._discarded or not self.stepping or collecting():
            return
        task = asyncio.current_task(self)
        parent = SCOPE.get(None)
        scope = Scope(f"{parent.next_id()}." if parent is not None else "0.")
        context = getattr(task, "context", None) or copy_context()
        self._begin(aclose(scope, agen), f"branch {scope.prefix}", context)

    # --- what tasks and futures call -----------------------------------------------------------------------------
    def call_soon(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        """Run ``callback`` after those that are ready already."""
        # Handle.__init__ asks the loop for debug mode first: two calls for each of a replay's callbacks.
        handle: Any = _new_handle(asyncio.Handle)
        handle._callback, handle._args, handle._loop = callback, args, self
        handle._context = copy_context() if context is None else context
        handle._cancelled, handle._repr, handle._source_traceback = False, None, None
        if callback.__class__ is _step_type and not self._discarded:
            held = gc.get_referents(callback)
            if len(held) > 1:  # more than its task, such as an error
                self._look_for_misuse(held)
        if not self.stepping and not self._discarded and not self._inside:
            self._violate(
                "something outside of the workflow woke its handler: a future that a callback, a thread or a "
                "JavaScript promise resolved; put what it waits for in ctx.step"
            )
        else:
            self.ready.append(handle)
        return handle  # type: ignore[no-any-return]  # a Handle

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
        """A durable timer at recorded time ``when``, in seconds. Infinity, as in anyio.sleep_forever, never comes."""
        when = 2 * MAX_SECONDS if when == float("inf") else when
        if not when <= 2 * MAX_SECONDS:  # NaN is not
            raise InvalidInput(f"a timer is at most {MAX_SECONDS:,.0f} seconds away; leave the timeout out for none")
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        handle._scheduled = self._on_timer(-int(-when * 1000 // 1), handle)  # type: ignore[attr-defined]  # as _when: asyncio's slot
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        self._withdraw(handle._scheduled)  # type: ignore[attr-defined]  # asyncio's own slot: see call_at

    def time(self) -> float:
        """Recorded time, seconds since 1970: that of the last event."""
        return self.now_ms / 1000

    def create_future(self) -> Future[Any]:
        """A future of this loop."""
        if self.stepping:
            task = asyncio.current_task(self)
            if task is not None and task.__class__ is not DurableTask:
                self._adopt(task)
        future = DurableFuture(loop=self)
        future.made = self.next_made()
        return future

    def next_made(self) -> int:
        """The number of the next task or future: its hash."""
        self._made += 1
        return self._made

    def create_task(
        self,
        coro: Generator[Any, None, T] | Coroutine[Any, Any, T],
        *,
        name: object = None,
        context: Context | None = None,
        eager_start: bool | None = None,
        **options: Any,
    ) -> asyncio.Task[T]:
        """A task with a scope of its own, numbered in the scope that makes it."""
        parent = SCOPE.get(None)
        scope = Scope(f"{parent.next_id()}." if parent is not None else "0.")
        factory = self._task_factory
        if factory is None or eager_start is not None:
            return self.task_in(scope, coro, name, context, bool(eager_start))
        if factory is getattr(asyncio, "eager_task_factory", None):
            return self.task_in(scope, coro, name, context, True)
        self.must_suspend = True  # it may start the task at once
        task: asyncio.Task[T] = within(scope, context).run(factory, self, coro, **options)
        if name is not None:
            task.set_name(name)
        if not task.done():
            self._adopt(task)
        return task

    def task_in(
        self,
        scope: Scope,
        coro: Any,
        name: object = None,
        context: Context | None = None,
        eager: bool = False,
        ended: Callable[[Any], object] | None = None,
    ) -> asyncio.Task[Any]:
        """A task whose commands are numbered by ``scope``. One that is ``eager`` begins at once.

        ``ended``: called when it has ended, and then ``forget`` is left to it: a callback less for each of many.
        """
        name = str(name) if name is not None else f"branch {scope.prefix}"
        return self._begin(coro, name, within(scope, context), eager, ended)

    def _begin(
        self,
        coro: Any,
        name: str | None,
        context: Context,
        eager: bool = False,
        ended: Callable[[Any], object] | None = None,
    ) -> asyncio.Task[Any]:
        task = DurableTask.__new__(DurableTask)
        task.made, task.context = self.next_made(), context
        if eager and self.stepping:
            self.must_suspend = True  # its maker goes on before what it waits for has happened
            DurableTask.__init__(task, coro, loop=self, name=name, context=context, eager_start=True)  # type: ignore[call-arg, unused-ignore]  # Python 3.12 and newer
            if task.done():
                task.deliver_cancel()
                return task
        else:
            DurableTask.__init__(task, coro, loop=self, name=name, context=context)
        global _step_type
        if _step_type is None and self.ready:
            _step_type = type(self.ready[-1]._callback)  # type: ignore[attr-defined]  # asyncio's own slot
        self._keep(task.made, task, ended or self.forget)
        return task

    def _keep(self, made: int, task: asyncio.Task[Any], ended: Callable[[Any], object]) -> None:
        global _registered
        if not _registered:
            atexit.register(_at_exit)
            gc.callbacks.append(on_collection)
            _registered = True
        _alive[self] = None
        self._tasks[made] = task
        task.add_done_callback(ended)

    def _adopt(self, task: asyncio.Task[Any]) -> None:
        """Keep a task that was not made by this loop, such as asyncio.Task(...), so that it is set aside as well."""
        if not any(known is task for known in self._tasks.values()):
            self._keep(self.next_made(), task, self.forget)

    def forget(self, task: asyncio.Task[Any]) -> None:
        """The task has ended."""
        made = getattr(task, "made", 0) or next((made for made, one in self._tasks.items() if one is task), 0)
        self._tasks.pop(made, None)
        if not self._tasks:
            _alive.pop(self, None)

    def unfinished(self) -> list[asyncio.Task[Any]]:
        """Tasks that have not ended, in the order of their making."""
        return [task for task in self._tasks.values() if not task.done()]

    # --- violations ------------------------------------------------------------------------------------------------
    def violated(self, error: DeterminismError) -> DeterminismError:
        """Keep what can't be replayed, the first that was found: the machine raises it once the turn is over."""
        if self.violation is None:
            self.violation = error
        return error

    def _violate(self, message: str) -> DeterminismError:
        return self.violated(DeterminismError(message))

    def park(self, handle: asyncio.Handle) -> None:
        """``handle`` was made ready just now: let it run with the next event instead."""
        self.ready.remove(handle)
        self.parked.append(handle)

    def next_event(self) -> None:
        """An event is about to be applied: what was parked runs before what it wakes."""
        self.rounds.clear()
        if self.parked:
            self.ready.extend(self.parked)
            self.parked.clear()

    def owes_cancel(self, task: DurableTask) -> None:
        """``task``, which is running, has cancelled itself: that is delivered when it has suspended."""
        self.must_suspend = True
        self._owing.append(task)

    def _deliver_cancels(self) -> None:
        owing, self._owing = self._owing, []
        for task in owing:
            task.deliver_cancel()

    def _busy(self, handle: Any, ran: int) -> None:
        """The handler never waits: end its turn, or it would hold every other run of the process."""
        callback = handle._callback
        stepped = next((one for one in gc.get_referents(callback) if isinstance(one, asyncio.Task)), None)
        line = where(stepped.get_coro()) if stepped is not None else where_of_function(callback)
        for task in self.unfinished():  # a callback of ours ran last: any line of the handler that is at work will do
            if line == "the handler":
                line = where(task.get_coro())
        self._violate(
            f"{line} keeps the run busy: {ran:,} turns of its tasks and callbacks have run, and it still waits for "
            "nothing that is recorded; a handler that polls would never let another run go on. Wait for what happens: "
            "ctx.wait_for_signal, an asyncio.Event that an update sets, or ctx.sleep(seconds) between two looks"
        )

    def _look_for_misuse(self, held: list[Any]) -> None:
        """A task's step with an error is asyncio's answer to awaiting what is not of this loop: ``held`` is what it
        holds."""
        task: asyncio.Task[Any] | None = None
        error: BaseException | None = None
        for item in held:
            if isinstance(item, asyncio.Task):
                task = item
            elif isinstance(item, RuntimeError):
                error = item
        if error is not None and task is not None:
            line = where(task.get_coro())
            self._violate(
                f"{line} awaits something that is not durable, so a replay could not repeat it ({what(error)}); "
                "put it in ctx.step"
            )

    def refuse(self, thing: str) -> NoReturn:
        """Raise, and remember, the violation that the use of ``thing`` is."""
        task = asyncio.current_task(self) if self.stepping else None
        line = where(task.get_coro(), sys._getframe(1)) if task is not None else "the handler"
        raise self._violate(f"{line} uses {thing}, which a replay could not repeat; put it in ctx.step")
