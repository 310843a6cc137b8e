"""What a workflow is: its handler, its name and version, and what a run of it is given."""

from __future__ import annotations

from typing import Any

import pytest

from alkaline_edge import Context, InvalidInput, NotFound, Workflow, workflow
from alkaline_edge import events as ev
from alkaline_edge.workflows import Registry
from tests.support import Process, drive


@pytest.mark.parametrize("by", ["start", "child", "continue_as_new"])
def test_a_run_without_input_has_the_default_of_its_handler(by: str) -> None:
    """Recorded as its input when it is made, so a later default changes no run; an input that is given stays."""

    @workflow(name="kid")
    async def kid(ctx: Context, x: int = 5) -> int:
        return x

    @workflow(name="flow")
    async def flow(ctx: Context, x: int = 5) -> Any:
        if by == "child":
            return [await ctx.child(kid), await ctx.child("kid", 7)]
        if by == "continue_as_new" and x == 1:
            ctx.continue_as_new()
        return x

    async def test() -> None:
        process = Process(flow, kid)
        run = await process.runtime.start("flow", 1 if by == "continue_as_new" else None, id="a")
        assert await run.result() == ([5, 7] if by == "child" else 5)
        started = (await process.runtime.history("a"))[0].event
        assert isinstance(started, ev.Started)
        assert started.input == 5

    drive(test)


async def plain(ctx: Context) -> None:
    """A handler."""


WRONG: dict[str, tuple[Any, str]] = {
    "not async": (lambda ctx: None, "async"),
    "too many": (lambda: workflow(_three), r"\(ctx\) or \(ctx, input\)"),
    "none": (lambda: workflow(_none), r"\(ctx\) or \(ctx, input\)"),
    "by keyword": (lambda: workflow(_keyword), r"\(ctx\) or \(ctx, input\)"),
    "a name with a slash": (lambda: workflow(name="a/b")(plain), "a workflow's name"),
    "version 0": (lambda: workflow(version=0)(plain), "version"),
    "retry": (lambda: workflow(retry=3)(plain), "retry"),  # type: ignore[call-overload]  # that is the point
    "budget": (lambda: workflow(budget=3)(plain), "budget"),  # type: ignore[call-overload]  # that is the point
}


async def _three(ctx: Context, a: int, b: int) -> None: ...


async def _none() -> None: ...


async def _keyword(ctx: Context, *, a: int) -> None: ...


@pytest.mark.parametrize("how", WRONG)
def test_what_is_no_workflow_is_refused_where_it_is_defined(how: str) -> None:
    """And not by the first run of it."""
    make, said = WRONG[how]
    with pytest.raises(InvalidInput, match=said):
        workflow(make) if how == "not async" else make()


def versions(*numbers: int, name: str = "flow") -> list[Workflow]:
    return [workflow(name=name, version=number)(plain) for number in numbers]


def test_a_new_run_gets_the_newest_version_and_an_old_one_its_own() -> None:
    """In whatever order they are registered."""
    registry = Registry(versions(2, 10, 1))
    assert registry.newest("flow").version == 10
    assert [registry.exact("flow", number).version for number in (1, 2, 10)] == [1, 2, 10]
    assert [registry.knows("flow", number) for number in (2, 3)] == [True, False]
    with pytest.raises(NotFound, match="version 3, and registered here are: 1, 2, 10"):
        registry.exact("flow", 3)
    with pytest.raises(NotFound, match="registered are: flow"):
        registry.newest("other")


def test_two_workflows_of_one_name_and_version_are_refused_and_the_same_one_twice_is_not() -> None:
    """A run would go on with either."""
    (one,) = versions(1)
    assert Registry([one, one]).listed() == ["flow version 1"]
    with pytest.raises(InvalidInput, match="two workflows are registered as 'flow' version 1"):
        Registry([one, *versions(1)])
    with pytest.raises(NotFound, match="not registered here"):
        Registry([one]).newest(versions(1)[0])
    with pytest.raises(InvalidInput, match="'plain' is not a workflow"):
        Registry([plain])  # type: ignore[list-item]  # that is the point
