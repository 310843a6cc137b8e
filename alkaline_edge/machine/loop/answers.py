"""What libraries ask of a running loop beside its work, answered without the outside world."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .refusals import Refusing

__all__ = ["Answering", "collecting", "on_collection"]

_collecting = False


def on_collection(phase: str, _: object) -> None:
    """Of ``gc.callbacks``: remember whether the collector is at work."""
    global _collecting
    _collecting = phase == "start"


def collecting() -> bool:
    """Whether the garbage collector is at work, at a moment that has nothing to do with the run."""
    return _collecting


class Answering(Refusing):
    """The settings of a loop."""

    def __init__(self) -> None:
        self.unhandled: list[BaseException] = []
        self.must_suspend = False
        self.slow_callback_duration = 0.1  # for asyncio's debug mode, which there is none of here
        self.stepping = False
        self._discarded = False
        self._task_factory: Callable[..., Any] | None = None
        self._on_error: Callable[..., Any] | None = None

    def get_debug(self) -> bool:
        """False: debug mode reads the clock."""
        return False

    def set_debug(self, enabled: bool) -> None:
        """Nothing: see ``get_debug``."""

    def get_task_factory(self) -> Any:
        """What makes tasks; None as long as none was set."""
        return self._task_factory

    def set_task_factory(self, factory: Any) -> None:
        """Make tasks by ``factory(loop, coro)`` from here on; ``asyncio.eager_task_factory`` is one."""
        self._task_factory = factory

    def is_running(self) -> bool:
        """Whether the handler is being stepped."""
        self.must_suspend = True  # asyncio asks before it starts a task at once
        return self.stepping

    def is_closed(self) -> bool:
        """Whether the run was set aside."""
        return self._discarded

    def get_exception_handler(self) -> Any:
        """What is called with what nobody retrieved; None as long as none was set."""
        return self._on_error

    def set_exception_handler(self, handler: Any) -> None:
        """Call ``handler(loop, context)`` instead of reporting what nobody retrieved."""
        self._on_error = handler

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Keep what nobody retrieved; the runtime reports it."""
        if self._on_error is not None and self.stepping and not collecting():
            self._on_error(self, context)
        else:
            self.default_exception_handler(context)

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        """As call_exception_handler."""
        error = context.get("exception")
        if isinstance(error, BaseException) and not self._discarded:
            self.unhandled.append(error)

    async def shutdown_asyncgens(self) -> None:
        """Nothing to do: see ``set_aside``."""

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """Nothing to do: there is none."""
