"""What `check` says would mend a change: each piece of advice is tried, and code that follows it goes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from alkaline_edge import Context, Workflow, replay, workflow
from tests.support import bundle_of

Body = Callable[[Context], Any]


def made(body: Body, version: int = 1) -> Workflow:
    @workflow(name="flow", version=version)
    async def flow(ctx: Context) -> Any:
        await body(ctx)
        return await ctx.wait_for_signal("go")

    return flow


def history_of(definition: Workflow, ended: bool = False) -> bytes:
    return bundle_of(definition, end=ended)


def give(value: int = 1) -> int:
    return value


async def before(ctx: Context) -> None:
    await ctx.step("first", give, 1)
    ctx.now()
    await ctx.step("second", give, 2)


async def inserted(ctx: Context) -> None:
    await ctx.step("first", give, 1)
    ctx.now()
    await ctx.step("added", give)
    await ctx.step("second", give, 2)


async def inserted_mended(ctx: Context) -> None:
    await ctx.step("first", give, 1)
    ctx.now()
    if ctx.patched("added"):
        await ctx.step("added", give)
    await ctx.step("second", give, 2)


async def renamed(ctx: Context) -> None:
    await ctx.step("new", give, 1)
    ctx.now()
    await ctx.step("second", give, 2)


async def renamed_mended(ctx: Context) -> None:
    if ctx.patched("new"):
        await ctx.step("new", give, 1)
    else:
        await ctx.step("first", give, 1)
    ctx.now()
    await ctx.step("second", give, 2)


async def removed(ctx: Context) -> None:
    await ctx.step("first", give, 1)
    ctx.now()


async def removed_mended(ctx: Context) -> None:
    await ctx.step("first", give, 1)
    ctx.now()
    if not ctx.patched("without-second"):
        await ctx.step("second", give, 2)


async def reordered(ctx: Context) -> None:
    await ctx.step("second", give, 2)
    ctx.now()
    await ctx.step("first", give, 1)


async def reordered_mended(ctx: Context) -> None:
    if not ctx.patched("second"):
        await before(ctx)
    else:
        await reordered(ctx)


async def other_arguments(ctx: Context) -> None:
    await ctx.step("first", give, 5)
    ctx.now()
    await ctx.step("second", give, 2)


async def other_arguments_mended(ctx: Context) -> None:
    await ctx.step("first", give, 5 if ctx.patched("first") else 1)
    ctx.now()
    await ctx.step("second", give, 2)


async def no_clock(ctx: Context) -> None:
    await ctx.step("first", give, 1)
    await ctx.step("second", give, 2)


async def no_clock_mended(ctx: Context) -> None:
    await ctx.step("first", give, 1)
    if not ctx.patched("without-now"):
        ctx.now()
    await ctx.step("second", give, 2)


async def a_random_number(ctx: Context) -> None:
    ctx.random()
    await before(ctx)


async def a_random_number_mended(ctx: Context) -> None:
    if ctx.patched("without-first"):
        ctx.random()
    await before(ctx)


class Case(NamedTuple):
    """Code that took the place of ``before``, what is said of it, and code that does what was said."""

    after: Body
    position: int
    advice: str
    mended: Body


CASES = [
    Case(inserted, 3, "ask for step 'added' only `if ctx.patched(\"added\")`", inserted_mended),
    Case(renamed, 1, "where it takes the place of step 'first', keep that in the `else`", renamed_mended),
    Case(removed, 3, "step 'second': keep the old way `if not ctx.patched(\"without-second\")`", removed_mended),
    Case(reordered, 1, 'keep the old one `if not ctx.patched("second")`', reordered_mended),
    Case(other_arguments, 1, "step 'first' is given other arguments", other_arguments_mended),
    Case(no_clock, 2, 'the runs have ctx.now() here: keep it `if not ctx.patched("without-now")`', no_clock_mended),
    Case(a_random_number, 1, 'call ctx.random() only `if ctx.patched("without-first")`', a_random_number_mended),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.after.__name__)
def test_what_is_said_to_mend_a_change_does(case: Case) -> None:
    """The event is named by its number, both ways of mending are said, and the code that is patched so fits."""
    history = history_of(made(before))
    (found,) = replay.check(history, made(case.after))
    assert (found.verdict, found.position) == ("diverged", case.position), found
    assert case.advice in found.mend
    assert "version=2, and register version=1 beside it" in found.mend
    (again,) = replay.check(history, made(case.mended))
    assert again.ok, again
    assert (again.position, again.mend) == (None, "")
    (aside,) = replay.check(history, [made(before), made(case.after, version=2)])
    assert aside.ok, aside


def test_a_run_that_had_ended_may_not_go_on() -> None:
    """More at the end is for runs that come there first with the new code."""

    @workflow(name="flow")
    async def longer(ctx: Context) -> Any:
        await before(ctx)
        value = await ctx.wait_for_signal("go")
        await ctx.step("more", give)
        return value

    (found,) = replay.check(history_of(made(before), ended=True), longer)
    assert found.verdict == "diverged"
    assert "the runs had ended here" in found.mend


def test_a_version_that_is_missing_is_named() -> None:
    """A raised version without the old one beside it strands the runs of that one; so does a name that is gone."""
    history = history_of(made(before))
    (found,) = replay.check(history, made(before, version=3))
    assert found.verdict == "unknown"
    assert "keep the definition with version=1 beside version=3" in found.mend

    @workflow(name="other")
    async def other(ctx: Context) -> None: ...

    (found,) = replay.check(history, other)
    assert 'name="flow"' in found.mend


def test_what_never_wakes_is_told_to_be_a_step() -> None:
    """Code that awaits what no history can answer has no event to name: it is at the history's end."""
    import asyncio

    @workflow(name="flow")
    async def foreign(ctx: Context) -> Any:
        await before(ctx)
        await asyncio.Event().wait()

    history = history_of(made(before))
    (found,) = replay.check(history, foreign)
    assert found.verdict == "diverged"
    assert found.position == found.events == 4
    assert "call it with ctx.step" in found.mend
