"""Where a sync step runs: inline while its function is known to be quick, otherwise in a thread of the host's.

A function that blocks inline stops the loop: no cancel, no timer, no renewal of a lease gets through. A thread costs
more than a quick function does. So the first call of each runs in a thread, and how long it took decides of the next.
"""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any, TypeVar

from ..calling import IN_THREAD, code_of, info_parameter, innermost, is_async, name_of
from ..machine.commands import RunStep

QUICK_MS = 10
"""A call that takes no longer may run inline the next time."""
AFTER_SLOW, AFTER_BLOCKING = 8, 1_000
"""So many quick calls in a row are wanted after a slow one in a thread, and after one that blocked the loop."""
MOST = 10_000

F = TypeVar("F", bound=Callable[..., Any])


def in_thread(fn: F) -> F:
    """A sync step function that always runs in a thread, where the host has threads; ``fn`` stays as it is."""

    def threaded(*args: Any, **kwargs: Any) -> Any:
        return fn(*args, **kwargs)

    threaded.__name__ = threaded.__qualname__ = name_of(fn)
    threaded.__dict__["__wrapped__"] = fn
    threaded.__dict__[IN_THREAD] = True
    return threaded  # type: ignore[return-value]  # it is called as fn is


class Known:
    """What is known of one function under one step's name."""

    __slots__ = ("_parameter", "_plain", "code", "measured", "on_loop", "wanted")

    def __init__(self, code: Any, on_loop: bool, fn: Any, plain: bool) -> None:
        self.code = code
        """Kept, since it is known by its address."""
        self._plain = plain
        self._parameter = info_parameter(fn)
        self.on_loop = on_loop
        """It is async, or wants the running loop: it never runs in a thread."""
        self.measured = False
        self.wanted = 1
        """So many more quick calls in a thread until it runs inline."""

    def parameter(self, fn: Any) -> str | None:
        """The parameter of ``fn`` that takes the StepInfo; functions of the same code have the same."""
        return self._parameter if self._plain else info_parameter(fn)

    @property
    def slow(self) -> bool:
        """Whether a call of it took long, not long ago."""
        return self.measured and self.wanted > 0

    def took(self, ms: int, inline: bool) -> None:
        """A call took ``ms``."""
        self.measured = True
        if ms > QUICK_MS:
            self.wanted = AFTER_BLOCKING if inline else max(self.wanted, AFTER_SLOW)
        elif self.wanted:
            self.wanted -= 1


class Pace:
    """What one runtime has learned of its step functions. It forgets all of it rather than grow without bound."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, Any], Known] = {}

    def of(self, command: RunStep) -> Known:
        """What is known of the command's function."""
        fn = command.fn
        plain = type(fn) is FunctionType and not fn.__dict__
        code: Any = fn.__code__ if plain else code_of(fn) or type(innermost(fn))
        known = self._known.get((command.name, id(code)))
        if known is None:
            if len(self._known) >= MOST:
                self._known.clear()
            known = self._known[command.name, id(code)] = Known(code, is_async(fn), fn, plain)
        return known


def threaded(command: RunStep, known: Known) -> bool:
    """Whether the next call runs in a thread, on a host that has threads."""
    return not known.on_loop and (known.wanted > 0 or command.timeout is not None or is_marked(command.fn))


def is_marked(fn: Any) -> bool:
    """Whether ``in_thread`` made it."""
    return getattr(fn, IN_THREAD, False) is True
