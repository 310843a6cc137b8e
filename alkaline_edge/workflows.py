"""What a workflow is: an async function with a name, a version and its policies."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any, overload

from .arguments import expect, several
from .budget import Budget
from .errors import InvalidInput, NotFound
from .names import Need, check_workflow_name, needs_of
from .retry import Retry
from .structs import In, Out, Protocol, TypedInOut, dataclass


@dataclass(frozen=True, slots=True)
class Workflow(TypedInOut[In, Out]):
    """A handler and what is fixed about it. Made by ``@workflow``; calling it calls the handler.

    ``fn`` is the handler, ``takes_input`` whether it has a parameter besides ctx. ``name``, ``version``, ``budget``,
    ``retry`` and ``recursive`` are what ``workflow`` was given.
    """

    fn: Callable[..., Any]
    name: str
    version: int = 1
    budget: Budget | None = None
    retry: Retry | None = None
    recursive: bool = False
    takes_input: bool = True
    limits: tuple[Need, ...] = ()
    """The limits that each of its steps needs a place of."""
    default: Any = None
    """The input of a run that is given none: the default of the handler's parameter."""

    def given(self, input: Any) -> Any:
        """``input``, or the handler's own default where it is None."""
        return self.default if input is None else input

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The handler's coroutine, for tests that bring their own ctx."""
        return self.fn(*args, **kwargs)


if TYPE_CHECKING:

    class _Decorator(Protocol):
        """What makes a workflow of a handler: of its input and its result."""

        @overload
        def __call__(self, fn: Callable[[Any, In], Awaitable[Out]], /) -> Workflow[In, Out]: ...
        @overload
        def __call__(self, fn: Callable[[Any], Awaitable[Out]], /) -> Workflow[None, Out]: ...


@overload
def workflow(fn: Callable[[Any, In], Awaitable[Out]], /) -> Workflow[In, Out]: ...
@overload
def workflow(fn: Callable[[Any], Awaitable[Out]], /) -> Workflow[None, Out]: ...
@overload
def workflow(
    *,
    name: str | None = None,
    version: int = 1,
    budget: Budget | None = None,
    retry: Retry | None = None,
    recursive: bool = False,
    limits: Any = None,
) -> _Decorator: ...
def workflow(
    fn: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    version: int = 1,
    budget: Budget | None = None,
    retry: Retry | None = None,
    recursive: bool = False,
    limits: Any = None,
) -> Any:
    """Make a workflow of ``async def handler(ctx)`` or ``async def handler(ctx, input)``.

    ``name`` defaults to the function's. Raise ``version`` when old runs must not be continued by the new code, and
    register both; for changes that old runs can take, use ``ctx.patched``. ``retry`` is the policy of its steps,
    ``budget`` of each of its runs. ``limits``: names of the limits, or ``Need``s, that each attempt of its steps needs
    a place of, where the step names none itself. ``recursive``: it may start itself as a child, down to ``max_depth``.
    A run that is given no input, or None, gets the default of the handler's parameter, if that has one.
    A handler that is not ``async def``, or takes other parameters, is ERR_INVALID_INPUT.
    """

    def make(handler: Callable[..., Any]) -> Workflow:
        label = getattr(handler, "__name__", type(handler).__name__)
        if not inspect.iscoroutinefunction(handler):
            raise InvalidInput(f"the handler {label!r} is not async; write `async def {label}(ctx, ...)`")
        if isinstance(version, bool) or not isinstance(version, int) or not 1 <= version < 2**63:
            raise InvalidInput(f"workflow {label!r} has version {version!r}; a version is a whole number from 1 up")
        expect(budget, (Budget, type(None)), "workflow(budget=)", "a Budget, such as Budget(tokens=1000)")
        expect(retry, (Retry, type(None)), "workflow(retry=)", "a Retry, such as Retry(max_attempts=3)")
        expect(recursive, bool, "workflow(recursive=)", "True or False")
        takes, default = _parameters(handler, label)
        chosen = check_workflow_name(label if name is None else name)
        needs = () if limits is None else needs_of(limits, "workflow(limits=)")
        return Workflow(handler, chosen, version, budget, retry, recursive, takes, needs, default)

    return make if fn is None else make(fn)


def _parameters(handler: Callable[..., Any], label: str) -> tuple[bool, Any]:
    positional = 0
    default: Any = None
    for parameter in inspect.signature(handler).parameters.values():
        if parameter.kind is parameter.VAR_POSITIONAL:
            return True, default
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            positional += 1
            default = None if parameter.default is parameter.empty else parameter.default
        elif parameter.default is parameter.empty and parameter.kind is parameter.KEYWORD_ONLY:
            positional = 99
    if positional not in (1, 2):
        raise InvalidInput(f"the handler {label!r} must take (ctx) or (ctx, input); put several inputs in one dict")
    return positional == 2, default


class Registry:
    """The workflows that a runtime can run, by name and version."""

    def __init__(self, workflows: Iterable[Workflow]) -> None:
        self._by_name: dict[str, dict[int, Workflow]] = {}
        for definition in several(workflows, "workflows", "a list of workflows"):
            if not isinstance(definition, Workflow):
                label = getattr(definition, "__name__", type(definition).__name__)
                raise InvalidInput(f"{label!r} is not a workflow; decorate the async function with @workflow")
            versions = self._by_name.setdefault(definition.name, {})
            if definition.version in versions and versions[definition.version] is not definition:
                raise InvalidInput(
                    f"two workflows are registered as {definition.name!r} version {definition.version}; rename one"
                )
            versions[definition.version] = definition

    def newest(self, name: str | Workflow) -> Workflow:
        """The definition that a new run of ``name`` gets: the highest version."""
        if isinstance(name, Workflow):
            if self._by_name.get(name.name, {}).get(name.version) is name:
                return name
            raise NotFound(f"workflow {name.name!r} is not registered here; pass it in Runtime(workflows=[...])")
        versions = self._by_name.get(name) if isinstance(name, str) else None
        if not versions:
            known = ", ".join(sorted(self._by_name)) or "none"
            raise NotFound(f"there is no workflow {name!r} here; registered are: {known}", workflow=name)
        return versions[max(versions)]

    def exact(self, name: str, version: int) -> Workflow:
        """The definition that goes on with a run of ``name`` at ``version``."""
        self.newest(name)
        versions = self._by_name[name]
        if version not in versions:
            known = ", ".join(str(v) for v in sorted(versions))
            raise NotFound(
                f"the run is of workflow {name!r} version {version}, and registered here are: {known}; register that "
                "version too, side by side (for changes that old runs can take, use ctx.patched and keep the version)",
                workflow=name,
                version=version,
            )
        return versions[version]

    def given(self, name: str, version: int, input: Any) -> Any:
        """``input``, or where it is None what a new run of that workflow gets in its place, if it is known here."""
        definition = self._by_name.get(name, {}).get(version)
        return input if definition is None else definition.given(input)

    def names(self) -> list[str]:
        """The name of each workflow."""
        return list(self._by_name)

    def listed(self) -> list[str]:
        """Every definition, as its name and version."""
        return [f"{name} version {version}" for name, versions in self._by_name.items() for version in versions]

    def all(self) -> list[Workflow]:
        """Every definition."""
        return [definition for versions in self._by_name.values() for definition in versions.values()]

    def newest_of_each(self) -> list[Workflow]:
        """Of each name the definition that a new run gets."""
        return [versions[max(versions)] for versions in self._by_name.values()]

    def knows(self, name: str, version: int) -> bool:
        """Whether ``exact`` would find it."""
        return version in self._by_name.get(name, {})
