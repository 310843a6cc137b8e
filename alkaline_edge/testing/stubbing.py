"""Stand-ins for steps, by name, and a note of each step that is begun."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ..arguments import refused
from ..calling import info_parameter, name_of, place_of, takes_a_value
from ..context import Context
from ..errors import InvalidInput
from ..names import check_name
from ..runs import StepInfo
from ..workflows import Workflow


class Sent(NamedTuple):
    """An attempt of a step that was begun. ``key`` is its idempotency key, ``command`` its place in the handler.

    ``args`` and ``kwargs`` are what the step was called with, ``run`` is the id of its run, and ``attempt`` is 1 at
    first. ``again``: the store held the outcome of that step already, so nothing may have begun it.
    """

    run: str
    step: str
    command: str
    key: str
    attempt: int
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    again: bool


class Stubs:
    """What takes the place of steps, by their name, and what was sent: for all processes of one trial."""

    def __init__(self, given: Mapping[str, Any] | None, only: bool) -> None:
        if given is not None and not isinstance(given, Mapping):
            raise refused("Trial(stubs=)", "a map of stand-ins by the steps' names", given)
        self._given = {check_name(name, "the name of a stub"): stub for name, stub in (given or {}).items()}
        self._only = only
        self.sent: list[Sent] = []
        self.settled: set[str] = set()
        """Idempotency keys of the steps whose outcome is in the store."""

    @property
    def unused(self) -> list[str]:
        """Names of stubs that no step has had."""
        return sorted(self._given.keys() - {one.step for one in self.sent})

    def finished(self, run: str, command: str) -> None:
        """The outcome of a step is recorded."""
        self.settled.update(one.key for one in self.sent if (one.run, one.command) == (run, command))

    def around(self, name: str, fn: Callable[..., Any]) -> Callable[..., Any]:
        """What is called in place of ``fn``, the step ``name``."""
        chosen: Callable[..., Any] = fn
        if name in self._given:
            chosen = _stand_in(self._given[name])
        elif self._only:
            raise InvalidInput(f"step {name!r} has no stub, and this trial runs nothing else: give it one in stubs=")

        def begun(*args: Any, alkaline_step: StepInfo, **kwargs: Any) -> Any:
            key = alkaline_step.idempotency_key
            again = key in self.settled
            info = alkaline_step
            self.sent.append(Sent(info.run_id, name, info.command_id, key, info.attempt, args, kwargs, again))
            return _call(chosen, info, args, kwargs)

        return begun

    def around_undo(self, name: str, fn: Callable[..., Any]) -> Callable[..., Any]:
        """What is called in place of ``fn``, which undoes the step ``name``."""
        inner = self.around(f"compensate {name}", fn)

        def undo_value(value: Any, *, alkaline_step: StepInfo) -> Any:
            return inner(value, alkaline_step=alkaline_step)

        def undo(*, alkaline_step: StepInfo) -> Any:
            return inner(alkaline_step=alkaline_step)

        return undo_value if takes_a_value(fn) else undo  # which one is seen by the arguments in the history


def _call(fn: Callable[..., Any], info: StepInfo, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    parameter = info_parameter(fn)
    if parameter is None or parameter in kwargs:
        return fn(*args, **kwargs)
    place = place_of(fn, parameter)
    if place < len(args):
        return fn(*args[:place], info, *args[place:], **kwargs)
    return fn(*args, **kwargs, **{parameter: info})


def _stand_in(stub: Any) -> Callable[..., Any]:
    """A stub as a function: one that is called, an error that is raised, or a value that is returned."""
    if isinstance(stub, BaseException) or (isinstance(stub, type) and issubclass(stub, BaseException)):

        def fail(*_: Any, **__: Any) -> Any:
            raise stub

        return fail
    if callable(stub):
        found: Callable[..., Any] = stub
        return found
    return lambda *_, **__: stub


class _Watching(Context):
    """The context of a handler whose steps are watched, and have stand-ins."""

    __slots__ = ("_instead", "_stubs")

    def __init__(self, ctx: Context, stubs: Stubs, instead: Mapping[tuple[str, int], Workflow]) -> None:
        super().__init__(ctx._machine)
        self._stubs, self._instead = stubs, instead

    # Its overloads say what it takes; this takes the same.
    def step(self, name: Any, fn: Any = None, /, *args: Any, **options: Any) -> Any:  # type: ignore[override]
        """As Context.step."""
        if not isinstance(name, str):
            args = (fn, *args) if fn is not None or args else args
            fn, name = name, name_of(name)
        compensate = options.get("compensate")
        if callable(compensate):
            options["compensate"] = self._stubs.around_undo(name, compensate)
        return super().step(name, self._stubs.around(name, fn) if callable(fn) else fn, *args, **options)

    def child(self, workflow: Any, *args: Any, **options: Any) -> Any:
        """As Context.child."""
        if isinstance(workflow, Workflow):
            workflow = self._instead.get((workflow.name, workflow.version), workflow)
        return super().child(workflow, *args, **options)


def watching(workflows: list[Workflow], stubs: Stubs) -> list[Workflow]:
    """``workflows`` with the steps of each watched."""
    made: dict[tuple[str, int], Workflow] = {}
    for definition in workflows:
        made[definition.name, definition.version] = dataclasses.replace(
            definition, fn=_handler(definition.fn, stubs, made)
        )
    return list(made.values())


def _handler(fn: Callable[..., Any], stubs: Stubs, instead: Mapping[tuple[str, int], Workflow]) -> Callable[..., Any]:
    @functools.wraps(fn)
    async def handler(ctx: Context, *input: Any) -> Any:
        return await fn(_Watching(ctx, stubs, instead), *input)

    return handler
