"""asyncio's own functions and classes inside a handler: those of CPython 3.13, on every Python and at every address.

Most of asyncio asks the running loop for everything, and is deterministic over ours as it is. What is not gets a
version of its own here, which only code inside a handler reaches: ``asyncio.wait_for`` of 3.11 makes a task, and none
later, so its commands had other ids; ``gather`` of 3.11 wakes up a turn later for what is done already; groups,
timeouts, conditions and semaphores were mended in 3.13; ``as_completed`` walks a set of coroutines, by address.

A handler may have imported any of these names before it imported us, so the functions and classes themselves are
switched, once, when the first handler runs. Outside of a handler they do what they did, and so do those that differ by
version in a run whose history has no number of the loop's rules: 0.1 wrote it with the platform's own.
"""

from __future__ import annotations

import asyncio
import sys
from asyncio import CancelledError
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from types import FunctionType
from typing import Any, NoReturn

from ...errors import InvalidInput

__all__ = ["install"]

_originals: dict[str, Callable[..., Any]] = {}
_kind: type = type(None)


def _here() -> Any:
    """The handler's loop, if its code is running; otherwise None."""
    loop = asyncio._get_running_loop()
    return loop if isinstance(loop, _kind) else None


def _mended() -> Any:
    """As ``_here``, but for a run whose history 0.1 wrote: there asyncio is what it was."""
    loop = _here()
    return None if loop is None or loop.former else loop


def install(kind: type) -> None:
    """Switch asyncio's functions and methods for code that runs on a loop of ``kind``: at the first call.

    And those of anyio, at the first one that finds it loaded.
    """
    global _kind
    if "anyio" in sys.modules:
        from . import anyio_inside

        anyio_inside.install(kind)
    if _kind is kind:
        return
    _kind = kind
    _switch_function(asyncio.as_completed, _as_completed_switch)
    _switch_function(asyncio.wait, _wait_switch)
    _switch_function(asyncio.run, _run_switch)
    _switch_function(asyncio.new_event_loop, _new_event_loop_switch)
    for method in ("run", "get_loop", "__enter__"):
        _switch_method(asyncio.Runner, method, _refused_runner, _here)
    _switch_method(asyncio.TaskGroup, "_abort", _abort)
    asyncio.tasks._GatheringFuture.__hash__ = _hash_of_gathering  # type: ignore[attr-defined]  # asyncio's own class
    if isinstance(asyncio.all_tasks, FunctionType):  # from 3.14 on it walks a list
        _switch_function(asyncio.all_tasks, _all_tasks_switch)
    if sys.version_info < (3, 12):
        _switch_function(asyncio.wait_for, _wait_for_switch)
        _switch_function(asyncio.gather, _gather_switch)
    if sys.version_info < (3, 13):
        _switch_method(asyncio.TaskGroup, "__aexit__", _leave_group)
        _switch_method(asyncio.Timeout, "__aexit__", _leave_timeout)
        _switch_method(asyncio.Condition, "wait", _wait_on_condition)
        _switch_method(asyncio.Semaphore, "acquire", _acquire)
        _switch_method(asyncio.Semaphore, "_wake_up_next", _wake_up_next)


def _switch_function(function: Any, switch: Any) -> None:
    """Give ``function`` the body of ``switch``, which calls the original where no handler runs."""
    if not isinstance(function, FunctionType) or function.__closure__:
        return  # a platform's own
    name = function.__name__
    original = FunctionType(function.__code__, function.__globals__, name, function.__defaults__)
    original.__kwdefaults__ = function.__kwdefaults__
    _originals[name] = original
    function.__globals__["_alkaline_edge"] = sys.modules[__name__]
    function.__code__ = switch.__code__


def _switch_method(cls: type, name: str, own: Callable[..., Any], here: Callable[[], Any] = _mended) -> None:
    original = getattr(cls, name)

    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        return original(self, *args, **kwargs) if here() is None else own(self, *args, **kwargs)

    method.__name__, method.__qualname__, method.__doc__ = name, original.__qualname__, original.__doc__
    setattr(cls, name, method)


# --- bodies that run with asyncio's own globals; the parameters are those of asyncio -------------------------------
_alkaline_edge: Any = None  # there it is this module


def _as_completed_switch(fs, *, timeout=None):  # type: ignore[no-untyped-def]
    return _alkaline_edge.as_completed(fs, timeout)


async def _wait_switch(fs, *, timeout=None, return_when="ALL_COMPLETED"):  # type: ignore[no-untyped-def]
    return await _alkaline_edge.wait(fs, timeout, return_when)


def _all_tasks_switch(loop=None):  # type: ignore[no-untyped-def]
    return _alkaline_edge.all_tasks(loop)


async def _wait_for_switch(fut, timeout):  # type: ignore[no-untyped-def]
    return await _alkaline_edge.wait_for(fut, timeout)


def _gather_switch(*coros_or_futures, return_exceptions=False):  # type: ignore[no-untyped-def]
    return _alkaline_edge.gather(coros_or_futures, return_exceptions)


def _run_switch(main, **options):  # type: ignore[no-untyped-def]
    return _alkaline_edge.run(main, options)


def _new_event_loop_switch():  # type: ignore[no-untyped-def]
    return _alkaline_edge.new_event_loop()


# --- functions -----------------------------------------------------------------------------------------------------
def as_completed(aws: Iterable[Awaitable[Any]], timeout: float | None) -> Any:
    """asyncio.as_completed; in a handler in the given order, and as an asynchronous iterator too."""
    if _here() is None:
        return _originals["as_completed"](aws, timeout=timeout)
    if hasattr(aws, "__await__"):
        raise TypeError(f"expects an iterable of awaitables, not {type(aws).__name__}")
    from .completing import Completed  # few handlers need it, and an import costs a browser's start

    return Completed(aws, timeout, _here())


def _by_hand(futures: Iterable[Any]) -> bool:
    """Whether a set of ``futures`` is walked by address: some were made by asyncio.Future() or asyncio.Task()."""
    return any(type(one).__hash__ is object.__hash__ for one in futures)  # type: ignore[comparison-overlap]  # it may be


def _refuse_by_hand(name: str) -> NoReturn:
    raise InvalidInput(
        f"{name} gives sets, and sets of futures or tasks that were made by asyncio.Future() or asyncio.Task() are "
        "walked by their addresses, which a replay could not repeat; make them by loop.create_future() and "
        "asyncio.create_task()"
    )


async def wait(futures: Any, timeout: float | None, return_when: str) -> Any:
    """asyncio.wait; in a handler it refuses several futures of which one was made by hand."""
    if _mended() is not None and not hasattr(futures, "__await__"):
        futures = list(futures)
        if len(set(futures)) > 1 and _by_hand(futures):
            _refuse_by_hand("asyncio.wait")
    return await _originals["wait"](futures, timeout=timeout, return_when=return_when)


def all_tasks(loop: Any) -> set[asyncio.Task[Any]]:
    """asyncio.all_tasks; a handler's own, whatever other loops of the process have."""
    loop = loop or asyncio._get_running_loop()
    if not isinstance(loop, _kind):
        return _originals["all_tasks"](loop)  # type: ignore[no-any-return]
    tasks = loop.unfinished()  # type: ignore[attr-defined]  # the handler's loop
    if len(tasks) > 1 and _by_hand(tasks) and not loop.former:  # type: ignore[attr-defined]
        _refuse_by_hand("asyncio.all_tasks")
    return set(tasks)


async def wait_for(awaitable: Awaitable[Any], timeout: float | None) -> Any:
    """asyncio.wait_for as it is from 3.12 on: what it waits for runs in the caller's own task."""
    loop = _mended()
    if loop is None:
        return await _originals["wait_for"](awaitable, timeout)
    if timeout is None or timeout > 0:
        async with asyncio.timeout(timeout):
            return await awaitable
    future = asyncio.ensure_future(awaitable, loop=loop)
    if future.done():
        return future.result()
    await _cancelled(future, loop)
    try:
        return future.result()
    except CancelledError as error:
        raise TimeoutError from error


async def _cancelled(future: asyncio.Future[Any], loop: Any) -> None:
    waiter = loop.create_future()

    def release(_: Any) -> None:
        if not waiter.done():
            waiter.set_result(None)

    future.add_done_callback(release)
    try:
        future.cancel()
        await waiter
    finally:
        future.remove_done_callback(release)


def gather(awaitables: tuple[Any, ...], return_exceptions: bool) -> asyncio.Future[Any]:
    """asyncio.gather as it is from 3.12 on: what is done already counts at once."""
    loop = _mended()
    original = _originals["gather"]
    done = [one for one in awaitables if asyncio.isfuture(one) and one.done()]
    if loop is None or not done:
        return original(*awaitables, return_exceptions=return_exceptions)  # type: ignore[no-any-return]
    before = len(loop.ready)
    outer = original(*awaitables, return_exceptions=return_exceptions)
    # It has scheduled one callback for each that is done, behind the first steps of the tasks that it made.
    added = [loop.ready.pop() for _ in range(len(loop.ready) - before)][::-1]
    known = set(map(id, done))
    for handle in added:
        if handle._args and id(handle._args[0]) in known:
            handle._run()
        else:
            loop.ready.append(handle)
    return outer  # type: ignore[no-any-return]


def _hash_of_gathering(self: Any) -> int:
    if not isinstance(self._loop, _kind):
        return object.__hash__(self)
    if not hasattr(self, "made"):
        self.made = self._loop.next_made()  # type: ignore[attr-defined]  # the handler's loop
    return int(self.made)


def run(main: Any, options: dict[str, Any]) -> Any:
    """asyncio.run; in a handler it is refused."""
    if _here() is not None:
        _refuse_runner("asyncio.run", main)
    return _originals["run"](main, **options)


def new_event_loop() -> asyncio.AbstractEventLoop:
    """asyncio.new_event_loop; in a handler it is refused."""
    if _here() is not None:
        _refuse_runner("asyncio.new_event_loop")
    return _originals["new_event_loop"]()  # type: ignore[no-any-return]


def _refused_runner(self: asyncio.Runner, main: Any = None, **_: Any) -> None:
    _refuse_runner("asyncio.Runner", main)


def _refuse_runner(name: str, main: Any = None) -> None:
    if hasattr(main, "close"):
        main.close()
    _here().refuse(f"a loop within the loop ({name})")


# --- methods of CPython 3.13 ---------------------------------------------------------------------------------------
async def _leave_group(self: Any, kind: Any, error: BaseException | None, _: Any) -> None:
    self._exiting = True
    if error is not None and self._is_base_error(error) and self._base_error is None:
        self._base_error = error
    cancel = error if isinstance(error, CancelledError) else None
    if kind is not None and not self._aborting:
        self._abort()
    while self._tasks:
        if self._on_completed_fut is None:
            self._on_completed_fut = self._loop.create_future()
        try:
            await self._on_completed_fut
        except CancelledError as another:
            if not self._aborting:
                cancel = another
                self._abort()
        self._on_completed_fut = None
    if self._base_error is not None:
        raise self._base_error
    if self._parent_cancel_requested and self._parent_task.uncancel() == 0:
        cancel = None
    if cancel is not None and not self._errors:
        raise cancel
    if error is not None and not isinstance(error, CancelledError):
        self._errors.append(error)
    if self._errors:
        if self._parent_task.cancelling():  # from outside: the next suspension delivers it, behind the errors
            self._parent_task.uncancel()
            self._parent_task.cancel()
        errors, self._errors = self._errors, None
        raise BaseExceptionGroup("unhandled errors in a TaskGroup", errors) from None


def _abort(self: Any) -> None:
    self._aborting = True
    tasks = self._tasks
    if _by_hand(tasks):  # a task factory made them: cancelled in the order of their making
        tasks = [task for task in _here().unfinished() if task in tasks]
    for task in tasks:
        if not task.done():
            task.cancel()


async def _leave_timeout(self: Any, kind: type[BaseException] | None, error: Any, _: Any) -> None:
    state = type(self._state)
    if self._timeout_handler is not None:
        self._timeout_handler.cancel()
        self._timeout_handler = None
    if self._state is state.EXPIRING:
        self._state = state.EXPIRED
        if self._task.uncancel() <= self._cancelling and kind is not None:
            if issubclass(kind, CancelledError):
                raise TimeoutError from error
            for one in (error, *(error.exceptions if isinstance(error, ExceptionGroup) else ())):
                _name_timeout(one)
    elif self._state is state.ENTERED:
        self._state = state.EXITED


def _name_timeout(error: BaseException) -> None:
    """What an error was raised during was the timeout, not a cancel."""
    while error.__context__ is not None:
        if isinstance(error.__context__, CancelledError):
            timeout = TimeoutError()
            timeout.__context__ = timeout.__cause__ = error.__context__
            error.__context__ = timeout
            return
        error = error.__context__


async def _wait_on_condition(self: Any) -> bool:
    if not self.locked():
        raise RuntimeError("cannot wait on un-acquired lock")
    waiter = self._get_loop().create_future()
    self.release()
    try:
        try:
            self._waiters.append(waiter)
            try:
                await waiter
                return True
            finally:
                self._waiters.remove(waiter)
        finally:
            cancel: CancelledError | None = None
            while True:
                try:
                    await self.acquire()
                    break
                except CancelledError as error:
                    cancel = error
            if cancel is not None:
                raise cancel
    except BaseException:
        _notify(self)  # it may have been told, and won't use it: another one can
        raise


def _notify(condition: Any) -> None:
    waiter = next((one for one in condition._waiters if not one.done()), None)
    if waiter is not None:
        waiter.set_result(False)


async def _acquire(self: Any) -> bool:
    if not self.locked():
        self._value -= 1
        return True
    if self._waiters is None:
        self._waiters = deque()
    waiter = self._get_loop().create_future()
    self._waiters.append(waiter)
    try:
        try:
            await waiter
        finally:
            self._waiters.remove(waiter)
    except CancelledError:
        if waiter.done() and not waiter.cancelled():
            self._value += 1
        raise
    finally:
        while self._value > 0 and self._wake_up_next():
            pass
    return True


def _wake_up_next(self: Any) -> bool:
    waiter = next((one for one in self._waiters or () if not one.done()), None)
    if waiter is None:
        return False
    self._value -= 1
    waiter.set_result(True)
    return True
