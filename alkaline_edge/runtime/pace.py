"""Where a sync step runs: inline while its function is known to be quick, otherwise in a thread of the host's.

A function that blocks inline stops the loop: no cancel, no timer, no renewal of a lease gets through. A thread costs
more than a quick function does. So the first call of each runs in a thread, and how long it took decides of the next.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from types import FunctionType
from typing import Any, TypeVar

from ..arguments import refused
from ..calling import IN_THREAD, asks_for_the_loop, code_of, info_parameter, innermost, is_async, name_of
from ..machine.commands import RunStep

QUICK_MS = 10
"""A call that takes no longer may run inline the next time."""
AFTER_SLOW, AFTER_BLOCKING = 8, 1_000
"""So many quick calls in a row are wanted after a slow one, and after a second one that blocked the loop.

The first may have been slow since the machine was busy: only another within as many calls says that it was not.
"""
MOST = 10_000
PROBES = 4
"""So many attempts of a function are started in threads before it is known how long one takes; the rest waits."""
SLOW_AT_ONCE = 256
"""So many of one that was slow: more than most pools have threads. The others run inline should these be quick."""

F = TypeVar("F", bound=Callable[..., Any])


def in_thread(fn: F) -> F:
    """A sync step function that always runs in a thread, where the host has threads; ``fn`` stays as it is."""
    if not callable(fn):
        raise refused("in_thread(fn=)", "a function", fn)

    def threaded(*args: Any, **kwargs: Any) -> Any:
        return fn(*args, **kwargs)

    threaded.__name__ = threaded.__qualname__ = name_of(fn)
    threaded.__dict__["__wrapped__"] = fn
    threaded.__dict__[IN_THREAD] = True
    return threaded  # type: ignore[return-value]  # it is called as fn is


class Known:
    """What is known of one function under one step's name."""

    __slots__ = ("_first", "_on_trial", "_parameter", "_plain", "code", "measured", "on_loop", "wanted")

    def __init__(self, code: Any, on_loop: bool, fn: Any, plain: bool, first: Known | None = None) -> None:
        self._first = first
        """The same code under the step's name that it had first."""
        self.code = code
        """Kept, since it is known by its address."""
        self._plain = plain
        self._parameter = info_parameter(fn)
        self.on_loop = on_loop
        """It is async, or wants the running loop: it never runs in a thread."""
        self.measured = False
        self.wanted = 1
        """So many more quick calls in a thread until it runs inline."""
        self._on_trial = 0
        """So many more quick calls inline until it is forgotten that one has blocked the loop."""

    def parameter(self, fn: Any) -> str | None:
        """The parameter of ``fn`` that takes the StepInfo; functions of the same code have the same."""
        return self._parameter if self._plain else info_parameter(fn)

    @property
    def slow(self) -> bool:
        """Whether a call of it took long, not long ago."""
        return self.measured and self.wanted > 0

    @property
    def may_be_slow(self) -> bool:
        """Whether a call here may take long: it is known to, or nothing is known."""
        if self.measured or self.on_loop:
            return self.slow
        return self._first is None or not self._first.measured or self._first.slow

    def took(self, ms: int, inline: bool) -> None:
        """A call took ``ms``."""
        self.measured = True
        if ms > QUICK_MS:
            again = inline and self._on_trial > 0
            self.wanted = AFTER_BLOCKING if again else max(self.wanted, AFTER_SLOW)
            if inline:
                self._on_trial = AFTER_BLOCKING
        elif self.wanted:
            self.wanted -= 1
        elif self._on_trial:
            self._on_trial -= 1


def no_gates() -> Any:
    """Of what starts attempts by itself, as in a test."""
    raise LookupError("nothing was handed in that holds attempts back")


class Pace:
    """What one runtime has learned of its step functions. It forgets all of it rather than grow without bound."""

    def __init__(self, gates: Callable[[], Any] = no_gates, learns: bool = False) -> None:
        self.gates, self.learns = gates, learns
        """What holds attempts back, made when it is first asked for; and whether it learns of each how to."""
        self._known: dict[tuple[str, Any], Known] = {}
        self._firsts: dict[int, Known] = {}

    def of(self, command: RunStep) -> Known:
        """What is known of the command's function."""
        fn = command.fn
        plain = type(fn) is FunctionType and not fn.__dict__
        code: Any = fn.__code__ if plain else code_of(fn) or type(innermost(fn))
        known = self._known.get((command.name, id(code)))
        if known is None:
            if len(self._known) >= MOST:
                self._known.clear()
                self._firsts.clear()
            on_loop = is_async(fn) or (asks_for_the_loop(code) and not is_marked(fn))
            known = Known(code, on_loop, fn, plain, self._firsts.get(id(code)))
            self._known[command.name, id(code)] = known
            self._firsts.setdefault(id(code), known)
        return known


class Probes:
    """Attempts of one run whose functions are being tried: how long one takes is known when the first has landed."""

    def __init__(self) -> None:
        self._tried: dict[str, Known] = {}
        self._count: Counter[Known] = Counter()
        self._waiting: dict[Known, deque[RunStep]] = {}
        """They set no alarm, since each try that lands wakes the driver."""

    def may_begin(self, command: RunStep, known: Known) -> bool:
        """Whether the function may be tried once more; otherwise the command waits for those that are under way."""
        if self._count[known] >= _most(known) and not command.intended:
            self._waiting.setdefault(known, deque()).append(command)
            return False
        self._tried[command.id] = known
        self._count[known] += 1
        return True

    def over(self, id: str) -> list[RunStep]:
        """A try is over: those that waited for it, or the next of them where it is not known, or was slow."""
        known = self._tried.pop(id, None)
        if known is None:
            return []
        self._count[known] -= 1
        if not self._count[known]:
            del self._count[known]
        waiting = self._waiting.get(known)
        if waiting is None:
            return []
        count = len(waiting) if known.measured and not known.wanted else max(1, _most(known) - self._count[known])
        if count >= len(waiting):
            return list(self._waiting.pop(known))
        return [waiting.popleft() for _ in range(count)]


def _most(known: Known) -> int:
    return SLOW_AT_ONCE if known.measured else PROBES


def threaded(command: RunStep, known: Known) -> bool:
    """Whether the next call runs in a thread, on a host that has threads."""
    return not known.on_loop and (known.wanted > 0 or command.timeout is not None or is_marked(command.fn))


def always_threaded(command: RunStep, known: Known) -> bool:
    """Whether nothing that is learned of the function brings this call out of a thread."""
    return is_marked(command.fn) or (known.measured and command.timeout is not None)


def is_marked(fn: Any) -> bool:
    """Whether ``in_thread`` made it."""
    return getattr(fn, IN_THREAD, False) is True
