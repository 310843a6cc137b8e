"""Classes written for Cloudflare's Python Workflows, run by this kernel: in a test, a tab, a server, a Worker.

    stand_in_for_workers()  # outside of a Worker, before the class is imported
    from entry import Checkout  # class Checkout(WorkflowEntrypoint)

    checkout = workflow_of(Checkout, env=env)
    async with Runtime(FileHost("./shop"), workflows=[checkout]) as runtime:
        run = await runtime.start(checkout, {"cart": 7}, id="order-7")

The class keeps its ``run(self, event, step)``: what it does by ``step`` is done by ctx.
``docs/cloudflare_workflows.md`` has it name by name.
"""

from __future__ import annotations

import asyncio
import inspect
import re
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from types import ModuleType
from typing import Any

from alkaline_edge import AlkalineError, Budget, Context, InvalidInput, Retry, StepError, StepInfo, Workflow, workflow
from alkaline_edge.limits import MAX_SECONDS

__all__ = ["NonRetryableError", "WorkflowEntrypoint", "WorkflowStep", "stand_in_for_workers", "workflow_of"]

_MS = {"second": 1e3, "minute": 6e4, "hour": 36e5, "day": 864e5, "week": 6048e5, "month": 2592e6, "year": 315576e5}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(?: +(second|minute|hour|day|week|month|year)s?)?")
_DEFAULTS = {"limit": 5, "delay": 1000, "backoff": "exponential"}
_FACTORS = {"constant": 1.0, "linear": 1.0, "exponential": 2.0}


class NonRetryableError(Exception):
    """Raised by a step that is not to be tried again; stands for ``workers.workflows.NonRetryableError``."""


class WorkflowEntrypoint:
    """Stands for ``workers.WorkflowEntrypoint`` outside of a Worker: keeps ``ctx`` and ``env``."""

    def __init__(self, ctx: Any = None, env: Any = None) -> None:
        self.ctx = ctx
        self.env = env

    async def run(self, event: Any, step: Any) -> Any:
        """To be overridden."""
        raise NotImplementedError(f"{type(self).__name__} has no run(self, event, step)")


class _Attributes(dict[str, Any]):
    """A dict whose keys are attributes as well, as the SDK gives what came from JavaScript."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


def workflow_of(
    entrypoint: type[Any],
    *,
    env: Any = None,
    name: str | None = None,
    version: int = 1,
    budget: Budget | None = None,
) -> Workflow[Any, Any]:
    """A workflow of ``entrypoint``, a class with ``async def run(self, event, step)``.

    Each replay makes a new object of the class: its ``self.env`` is ``env``, its ``self.ctx`` None. ``event`` has the
    input as ``payload``, and ``timestamp`` (naive, as the SDK's: UTC), ``instanceId`` and ``workflowName``.
    ``name`` is the class's unless given; ``version`` and ``budget`` are those of ``@workflow``. ERR_INVALID_INPUT
    where the class has no such method.
    """
    run = getattr(entrypoint, "run", None)
    if not isinstance(entrypoint, type) or not callable(run):
        raise InvalidInput("workflow_of wants a class with `async def run(self, event, step)`")
    if getattr(run, "__globals__", {}).get("__name__") == "workers.entrypoints":
        run = inspect.getattr_static(run, "__wrapped__")  # the SDK's own layer, which wants JavaScript's objects

    async def handler(ctx: Context, params: Any = None) -> Any:
        made: Any = entrypoint(None, env)
        about = {"instanceId": ctx.execution.id, "workflowName": ctx.execution.workflow}
        event = _attributes({"payload": params, "timestamp": ctx.now(), **about})
        result = run(made, event, WorkflowStep(ctx))
        return _aware(await result if inspect.isawaitable(result) else result)

    return workflow(name=entrypoint.__name__ if name is None else name, version=version, budget=budget)(handler)


class WorkflowStep:
    """What ``run`` gets as ``step``, made of a ``Context``."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._declared: dict[str, Any] = {}
        self._counts: dict[str, int] = {}
        self._results: dict[Any, Any] = {}
        self._flying: dict[Any, asyncio.Task[Any]] = {}

    def do(
        self,
        name: str | None = None,
        depends: Sequence[Any] | None = None,
        concurrent: bool = False,
        config: Mapping[str, Any] | None = None,
    ) -> Callable[[Callable[..., Any]], Callable[[], Awaitable[Any]]]:
        """Decorates a function that becomes the step ``name``, run each time that what this returns is awaited.

        Its parameters get the results of the steps of those names, or of the list ``depends`` in order; ``ctx`` gets
        ``attempt``, ``step`` and ``config``. ``concurrent`` resolves them at once. ``config`` is
        ``{"retries": {"limit", "delay", "backoff"}, "timeout"}`` with durations in ms or as "10 seconds"; without one
        a step is tried again five times, after 1, 2, 4, 8 and 16 seconds, and an attempt has ten minutes.
        ERR_INVALID_INPUT for a config that can't be followed, TypeError for a parameter that names no step.
        """
        retry, timeout, whole = _policy(config)

        def decorate(fn: Callable[..., Any]) -> Callable[[], Awaitable[Any]]:
            label = fn.__name__ if name is None else name

            async def work() -> Any:
                inputs = self._inputs(fn, depends)
                if concurrent:
                    values = await asyncio.gather(*map(self._result, inputs))
                else:
                    values = [await self._result(each) for each in inputs]
                return await self._perform(label, fn, values, retry, timeout, whole)

            async def call() -> Any:
                task = self._flying[call] = asyncio.create_task(work())
                try:
                    self._results[call] = await task
                finally:
                    self._flying.pop(call, None)
                return self._results[call]

            call._step_name = label  # type: ignore[attr-defined]  # by which depends= knows a step, there and here
            self._declared[label] = call
            return call

        return decorate

    async def sleep(self, name: str, duration: float | str) -> None:
        """Wait durably for ``duration``: ms, or text such as "2 hours". ``name`` is not recorded."""
        await self._ctx.sleep(_seconds(duration, f"the sleep {name!r}"))

    async def sleep_until(self, name: str, timestamp: datetime | float) -> None:
        """Wait durably until ``timestamp``: a datetime, of UTC where it is naive, or ms since 1970. Past: go on."""
        if not isinstance(timestamp, datetime):
            timestamp = datetime.fromtimestamp(_seconds(timestamp, f"sleep_until {name!r}"), UTC)
        await self._ctx.sleep_until(timestamp if timestamp.tzinfo else timestamp.replace(tzinfo=UTC))

    async def wait_for_event(self, name: str, event_type: str, /, timeout: float | str = "24 hours") -> Any:
        """The next event of ``event_type``: ``payload``, ``type`` and ``timestamp``, when it was taken.

        It is sent as a signal: ``runtime.signal(id, event_type, payload)``. ``name`` is not recorded. TimeoutError
        where none came within ``timeout``: ms, or text such as "24 hours".
        """
        wait = self._ctx.wait_for_signal(event_type, timeout=_seconds(timeout, f"the timeout of {name!r}"))
        return _attributes({"payload": await wait, "type": event_type, "timestamp": self._ctx.now()})

    def _inputs(self, fn: Callable[..., Any], depends: Sequence[Any] | None) -> list[Any]:
        """For each parameter the step that it gets the result of, or None for ``ctx``."""
        names = list(inspect.signature(fn).parameters)
        wanted = [each for each in names if each != "ctx"]
        if depends is None:
            unknown = [each for each in wanted if each not in self._declared]
            if unknown:
                raise TypeError(
                    f"no step named {unknown[0]!r} was declared before, for that parameter of {fn.__name__!r}"
                )
            return [None if each == "ctx" else self._declared[each] for each in names]
        if len(depends) != len(wanted):
            raise TypeError(f"{fn.__name__!r} has {len(wanted)} parameters beside ctx, and {len(depends)} in depends=")
        if not all(hasattr(each, "_step_name") for each in depends):
            raise TypeError(f"depends= of {fn.__name__!r} holds what was not decorated with step.do")
        steps = iter(depends)
        return [None if each == "ctx" else next(steps) for each in names]

    async def _result(self, step: Any) -> Any:
        """Of a dependency: what it gave before, what it is about to give, or what it gives now."""
        if step is None or step in self._results:
            return self._results.get(step, _CONTEXT)
        return await (self._flying[step] if step in self._flying else step())

    async def _perform(
        self, label: str, fn: Callable[..., Any], values: Sequence[Any], retry: Retry, timeout: float, config: Any
    ) -> Any:
        self._counts[label] = count = self._counts.get(label, 0) + 1

        async def body(info: StepInfo) -> Any:
            about = {"step": {"name": label, "count": count}, "attempt": info.attempt, "config": config}
            given = [_attributes(about if each is _CONTEXT else each) for each in values]
            result = fn(*given)
            return _aware(await result if inspect.isawaitable(result) else result)

        try:
            return _attributes(await self._ctx.step(label, body, retry=retry, timeout=timeout))
        except StepError as error:
            if error.type != NonRetryableError.__name__:
                raise
            kind = getattr(sys.modules.get("workers.workflows"), "NonRetryableError", NonRetryableError)
            raise kind(str(error)) from error


_CONTEXT = object()
"""Stands for a step's ``ctx`` among what its function gets."""


class _Linear(Retry):
    """Waits that grow by the same each time."""

    __slots__ = ()

    def delay(self, attempt: int) -> float:
        """Seconds to wait after the failure of ``attempt``."""
        return min(self.cap, self.backoff * attempt)


def _policy(config: Mapping[str, Any] | None) -> tuple[Retry, float, dict[str, Any]]:
    """The retries and the timeout of a step in seconds, and the config as a step's ctx shows it."""
    given = dict(config or {})
    retries = {**_DEFAULTS, **given.get("retries", {})}
    timeout = given.get("timeout", "10 minutes")
    odd = (given.keys() - {"retries", "timeout", "sensitive"}) | (retries.keys() - _DEFAULTS.keys())
    if odd or retries["backoff"] not in _FACTORS:
        wrong = ", ".join(sorted(odd)) or f"backoff {retries['backoff']!r}"
        raise InvalidInput(
            "config= of step.do is {'retries': {'limit', 'delay', 'backoff'}, 'timeout'}, its backoff one of constant, "
            f"linear, exponential; not understood: {wrong}"
        )
    limit = retries["limit"]
    if isinstance(limit, bool) or not isinstance(limit, (int, float)) or not limit >= 0:
        raise InvalidInput(f"the limit of a step's retries is a number of 0 or more, not {type(limit).__name__}")
    retry = (_Linear if retries["backoff"] == "linear" else Retry)(
        max_attempts=limit + 1,  # type: ignore[arg-type]  # a float may be endless
        backoff=_seconds(retries["delay"], "the delay of a step's retries"),
        factor=_FACTORS[retries["backoff"]],
        cap=MAX_SECONDS,
        retryable=_may_pass,
    )
    return retry, _seconds(timeout, "the timeout of a step"), {"retries": retries, "timeout": timeout}


def _may_pass(error: BaseException) -> bool:
    """Whether another attempt may help: not where the step says no, and not where its result can't be recorded."""
    names = {each.__name__ for each in type(error).__mro__}
    return NonRetryableError.__name__ not in names and not isinstance(error, AlkalineError)


def _seconds(duration: Any, what: str) -> float:
    """Cloudflare's durations, a number of ms or a text, in seconds."""
    if isinstance(duration, str):
        found = _DURATION.fullmatch(duration.strip())
        if found is not None:
            return float(found[1]) * _MS.get(found[2], 1.0) / 1000
    elif isinstance(duration, (int, float)) and not isinstance(duration, bool):
        return duration / 1000
    raise InvalidInput(f'{what} is a number of ms or a text such as "10 seconds", not {str(duration)[:40]!r}')


def _attributes(value: Any) -> Any:
    """As the SDK gives what comes from JavaScript: keys are attributes too, and datetimes naive, which means UTC."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).replace(tzinfo=None)
    if isinstance(value, dict):
        return _Attributes({key: _attributes(each) for key, each in value.items()})
    return [_attributes(each) for each in value] if isinstance(value, list) else value


def _aware(value: Any) -> Any:
    """As it is recorded: a naive datetime is UTC."""
    if isinstance(value, datetime) and value.tzinfo is None:
        return value.replace(tzinfo=UTC)
    if isinstance(value, dict):
        return {key: _aware(each) for key, each in value.items()}
    return [_aware(each) for each in value] if isinstance(value, list) else value


class _Workers(ModuleType):
    """The module ``workers`` as far as a file with a workflow in it needs it to be imported."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)

        def refuse(*_: Any, **__: Any) -> None:
            raise InvalidInput(f"workers.{name} is there in a Worker alone; here there is what a workflow needs")

        return type(name, (), {"__init__": refuse})


def stand_in_for_workers() -> None:
    """Make ``from workers import WorkflowEntrypoint`` work outside of a Worker; inside of one it changes nothing.

    Whatever else a file imports from ``workers`` can be imported and subclassed, and is ERR_INVALID_INPUT when used.
    """
    try:
        import workers  # noqa: F401
    except ImportError:  # not installed, or not in a Worker
        module = _Workers("workers")
        workflows = ModuleType("workers.workflows")
        module.WorkflowEntrypoint = WorkflowEntrypoint  # type: ignore[attr-defined]
        workflows.NonRetryableError = NonRetryableError  # type: ignore[attr-defined]
        module.workflows = workflows  # type: ignore[attr-defined]
        sys.modules.update({"workers": module, "workers.workflows": workflows})
