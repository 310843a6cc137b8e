"""Listing runs: by id whatever filters them, in pages that miss and double nothing, at the cost of what they return."""

from __future__ import annotations

import random
from typing import Any

import pytest

from alkaline_edge import Context, InvalidInput, Runtime, workflow
from alkaline_edge.testing import SimulatedHost
from tests.support import drive

NAMES = ["a", "a-b", "a.b", "b", "zebra", "Z", "a~"]


def waiting(name: str) -> Any:
    @workflow(name=name)
    async def flow(ctx: Context, n: int) -> Any:
        ctx.set_attributes(even=n % 2 == 0, three=n % 3)
        return await ctx.wait_for_signal("go")

    return flow


FLOWS = [waiting(name) for name in NAMES]


async def fill(runtime: Runtime, draw: random.Random, count: int) -> dict[str, tuple[str, str, int]]:
    """Runs with drawn ids and workflows, some of them ended: workflow, status and number by id."""
    made: dict[str, tuple[str, str, int]] = {}
    while len(made) < count:
        id = "".join(draw.choices("abAB019-._~:@+=", k=draw.randint(1, 6)))
        if id in made:
            continue
        name = draw.choice(NAMES[: draw.choice([1, 3, 7])])
        run = await runtime.start(name, len(made), id=id)
        await run.settle()
        status = "suspended"
        if draw.random() < 0.3:
            await run.signal("go")
            await run.result()
            status = "completed"
        made[id] = (name, status, len(made))
    return made


@pytest.mark.parametrize("seed", range(4))
def test_pages_of_any_size_under_any_filter_are_by_id(seed: int) -> None:
    """Whatever the filters are, and also where an index has another order: each run once, ascending."""
    draw = random.Random(seed)

    async def test() -> None:
        async with Runtime(SimulatedHost(), workflows=FLOWS) as runtime:
            made = await fill(runtime, draw, 70)
            for _ in range(60):
                status = draw.choice([None, "suspended", "completed", "failed"])
                name = draw.choice([None, *NAMES])
                attributes = draw.choice([None, {"even": True}, {"three": 1, "even": False}])
                limit = draw.choice([1, 2, 3, 7, 8, 9, 33, 70, 71, 1_000])
                wanted = sorted(
                    id for id, (of, now, n) in made.items()
                    if status in (None, now) and name in (None, of)
                    and {"even": n % 2 == 0, "three": n % 3}.items() >= (attributes or {}).items()
                )  # fmt: skip
                seen: list[str] = []
                after: str | None = ""
                while after is not None:
                    page = await runtime.list_executions(status, name, attributes, after, limit)
                    assert len(page) <= limit
                    assert len(page) == limit or page.after is None or attributes
                    seen += [record.id for record in page]
                    after = page.after
                assert seen == wanted, (status, name, attributes, limit)

    drive(test)


def test_runs_that_end_between_two_pages_hide_no_other() -> None:
    """The place of a page is an id: what is before it may change."""

    async def test() -> None:
        async with Runtime(SimulatedHost(), workflows=FLOWS) as runtime:
            made = await fill(runtime, random.Random(9), 40)
            waits = sorted(id for id, (_, status, _) in made.items() if status == "suspended")
            seen: list[str] = []
            after: str | None = ""
            while after is not None:
                page = await runtime.list_executions("suspended", after=after, limit=3)
                seen += [record.id for record in page]
                for record in page:
                    await runtime.signal(record.id, "go")
                    await runtime.result(record.id, None)
                after = page.after
            assert seen == waits
            assert len(await runtime.list_executions("suspended")) == 0

    drive(test)


def test_a_page_costs_what_it_returns_and_a_look_at_each_workflow() -> None:
    """Not what is stored: three of many runs are read by few calls and few entries."""

    async def test() -> None:
        host = SimulatedHost()
        async with Runtime(host, workflows=FLOWS) as runtime:
            for n in range(150):
                await (await runtime.start(NAMES[n % 3], n, id=f"r{n:03}")).settle()
            read: list[int] = []
            inner = host.list

            async def counted(prefix: str, after: str = "", limit: int = 500) -> Any:
                entries = await inner(prefix, after, limit)
                read.append(len(entries))
                return entries

            host.list = counted  # type: ignore[method-assign]  # to count
            page = await runtime.list_executions("suspended", limit=3)
            assert [record.id for record in page] == ["r000", "r001", "r002"]
            assert len(read) <= 2 * 3 + 1
            assert sum(read) <= 2 * 3 * 3

    drive(test)


def test_filters_that_are_none_are_told() -> None:
    """By what they are, and without a raw error of Python's."""

    async def test() -> None:
        async with Runtime(SimulatedHost(), workflows=FLOWS) as runtime:
            for bad in (
                {"attributes": {"x": "\ud800"}}, {"attributes": {"x": 10**5_000}}, {"attributes": {"\ud800": 1}},
                {"attributes": {"x": None}}, {"attributes": {"x": b"1"}}, {"status": "odd"}, {"workflow": "a/b"},
                {"limit": 0}, {"after": "\ud800"}, {"after": "r", "status": "failed"},
            ):  # fmt: skip
                with pytest.raises(InvalidInput):
                    await runtime.list_executions(**bad)  # type: ignore[arg-type]  # each is wrong in its way

    drive(test)
