"""Whole runs, a board and schedules on the real IndexedDB: tabs that race, clocks that jump, kills between commits."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import pairwise

import pytest
from browser import Browser, Tab, once_more_if_forgotten, wait_until
from pages import page

RUN = """
from alkaline_edge import Context, Runtime, workflow
from alkaline_edge.events import StepCompleted

jump = 0

class Host(IndexedDBHost):
    def now_ms(self):
        return super().now_ms() + jump

async def effect(number):
    await js.fetch(f"/acknowledged?{number}")
    return number

@workflow(name="counting", version=1)
async def counting(ctx: Context, upto: int) -> int:
    total = 0
    for number in range(upto):
        total += await ctx.step(effect, number)
        if number % 10 == 9:
            await ctx.sleep(0.01)
    return total

@workflow(name="ticked", version=1)
async def ticked(ctx: Context, input: str) -> str:
    return await ctx.step(effect, input)

async def begin(lease=1.0):
    global host, runtime, serving
    host = Host("runs")
    runtime = Runtime(host, workflows=[counting, ticked], lease=lease)
    serving = asyncio.ensure_future(runtime.serve())

async def progress():
    try:
        record = await runtime.get_execution("exe_1")
        steps = [e.event.value for e in await runtime.history("exe_1") if isinstance(e.event, StepCompleted)]
    except AlkalineError:
        return {"status": "", "steps": [], "epoch": 0, "result": None}
    return {"status": record.status, "steps": steps, "epoch": record.epoch, "result": record.result}
"""
STEPS = 60


def joined(tab: Tab) -> Tab:
    """A tab with a runtime that serves."""
    page(tab, RUN + "await begin()")
    return tab


def finished(tab: Tab) -> dict[str, object]:
    """What the run came to, once it has."""

    def looked() -> dict[str, object] | None:
        found = tab.python("await progress()")
        return found if found["status"] == "completed" else None

    return wait_until(looked, "the run completed", 90)


START = f"await runtime.start('counting', {STEPS}, id='exe_1', on_conflict='join')\nNone"


@pytest.fixture(scope="module")
def pair(chromium: Browser) -> list[Tab]:
    """Two tabs that serve one store."""
    return [joined(chromium.tab()) for _ in range(2)]


def test_two_tabs_race_for_one_run(pair: list[Tab]) -> None:
    """Both start it and both serve: it has one owner, and every step is recorded once, in order."""
    for tab in pair:
        tab.begin(START)
    for tab in pair:
        tab.end()
    for tab in pair:
        found = finished(tab)
        assert found["steps"] == list(range(STEPS))
        assert found["result"] == sum(range(STEPS))


TICKS, APART = 10, 0.2
SCHEDULE = f"""
from alkaline_edge.triggers import Every, Triggers

async def tick():
    await Triggers(runtime).create("s", "ticked", Every({APART}), "x", overlap="allow", max_runs={TICKS})

async def ticks():
    page = await runtime.list_executions(status="completed", workflow="ticked")
    return [record.id for record in page]
Triggers(runtime)
None
"""


def test_the_timers_of_two_tabs_start_each_tick_once(pair: list[Tab]) -> None:
    """Both serve, so both wake up for a tick; one of them starts its run, and none is left out."""
    for tab in pair:
        tab.python(SCHEDULE)
    pair[0].python("await tick()")
    ids = wait_until(lambda: len(found := pair[1].python("await ticks()")) >= TICKS and found, "the ticks were done")
    times = sorted(datetime.fromisoformat(id.partition("@")[2]) for id in ids)
    assert len(times) == TICKS
    assert {later - earlier for earlier, later in pairwise(times)} == {timedelta(seconds=APART)}


TASKS = 20
BOARD = """
from alkaline_edge.board import Board

board, did = Board(runtime, "b"), []

async def fill(count):
    for n in range(count):
        parents = [f"t{n - 3}"] if n > 3 else []
        bound = {"workflow": "ticked", "input": {}} if n % 5 == 4 else {}
        tab = {0: "a", 1: "b"}.get(n)
        await board.create("a task", id=f"t{n}", parents=parents, assignee=tab, ttl=30, **bound)

async def work(tab, count):
    async def do(claim):
        did.append(claim.task.id)
        await asyncio.sleep(0.005)
        return [claim.parents, claim.token]

    over = False
    workers = [board.work(do, worker=f"{tab} {n}", assignees=(tab, None), until=lambda: over, poll=0.05)
               for n in range(4)]
    working = asyncio.gather(*workers)
    while (await board.head()).counts != {"done": count}:
        await asyncio.sleep(0.02)
    over = True
    await working
    return did

async def told():
    return [[event.task, event.kind] for event in await board.events(limit=500)]
None
"""


def test_two_tabs_work_one_board(pair: list[Tab]) -> None:
    """Four workers in each: every task is claimed and done once, by one of them, and behind what it depends on.

    The first two are for one tab each, so that both work.
    """
    for tab in pair:
        tab.python(BOARD)
    pair[0].python(f"await fill({TASKS})")
    for name, tab in zip("ab", pair, strict=True):
        tab.begin(f"await work({name!r}, {TASKS})")
    did = [tab.end() for tab in pair]
    assert sorted(did[0] + did[1]) == sorted(f"t{n}" for n in range(TASKS) if n % 5 != 4)
    assert "t0" in did[0]
    assert "t1" in did[1]
    told = pair[0].python("await told()")
    for n in range(TASKS):
        assert [kind for task, kind in told if task == f"t{n}" and kind == "claim"] == ["claim"]
        if n > 3:
            parent = f"t{n - 3}"
            ended = [at for at, told_of in enumerate(told) if told_of in ([parent, "complete"], [parent, "outcome"])]
            assert ended < [told.index([f"t{n}", "claim"])]


def test_what_a_closed_tab_had_claimed_is_done_by_the_other(pair: list[Tab]) -> None:
    """Its claim runs out, and the other tab's timer takes the task back: two claims, and one of them counts."""
    first, second = pair
    first.python("await board.create('a task', id='left', ttl=0.5)\nNone")
    assert second.python("(await board.claim('gone')).task.id") == "left"
    second.close()
    first.begin(f"await work('a', {TASKS + 1})")
    assert first.end()[-1] == "left"
    ended = first.python("[attempt['outcome'] for attempt in (await board.get('left')).attempts]")
    assert ended == ["expired", "completed"]


def test_a_clock_that_jumps_hands_the_run_on_and_harms_nothing(own_chromium: Browser) -> None:
    """A tab an hour ahead takes a live owner's run, one an hour behind is fenced; no step is lost or doubled."""
    first, ahead = (joined(own_chromium.tab()) for _ in range(2))
    first.python(START)
    wait_until(lambda: len(first.python("await progress()")["steps"]) > 3, "the first tab works")
    before = first.python("await progress()")["epoch"]
    ahead.python("jump = 3_600_000\nNone")
    first.python("jump = -3_600_000\nNone")
    for tab in (first, ahead):
        found = finished(tab)
        assert found["steps"] == list(range(STEPS))
        assert found["result"] == sum(range(STEPS))
    assert found["epoch"] > before, "the tab that is ahead took the run over"


@once_more_if_forgotten
def test_a_run_survives_kills_between_its_commits(own_chromium: Browser, origin: str) -> None:
    """SIGKILL of the browser again and again: what was recorded stays, and the run ends as if nothing had been."""
    tab = joined(own_chromium.tab())
    tab.python(START)
    recorded: list[int] = []
    kills = 0
    while kills < 4:
        found = wait_until(lambda: _beyond(tab, len(recorded) + 7), "the run goes on")  # noqa: B023
        assert found["steps"][: len(recorded)] == recorded
        recorded = found["steps"]
        if found["status"] == "completed":
            break
        own_chromium.kill()
        kills += 1
        tab = joined(own_chromium.again().tab())
    assert kills >= 3
    found = finished(tab)
    assert found["steps"] == list(range(STEPS))
    assert found["result"] == sum(range(STEPS))


def _beyond(tab: Tab, count: int) -> dict[str, object] | None:
    found = tab.python("await progress()")
    return found if len(found["steps"]) >= count or found["status"] == "completed" else None


WAITS = """
from alkaline_edge import Context, Runtime, workflow

async def look():
    await js.fetch("/acknowledged?look")
    if js.location.search == "?first":
        await asyncio.sleep(3600)
    return "seen"

@workflow(name="greeting", version=1)
async def greeting(ctx: Context) -> str:
    return await ctx.step(look)

async def join(name):
    began = time.monotonic()
    runtime = Runtime(IndexedDBHost(name), workflows=[greeting])
    run = await runtime.start(greeting, id="exe_1", on_conflict="join")
    result = await run.result(timeout=100)
    await runtime.close()
    return [result, time.monotonic() - began]
"""


def test_a_reload_in_the_middle_of_a_step_goes_on_at_once(own_chromium: Browser) -> None:
    """The tab that had the run is gone, and the next page knows it: the lease of 30 s is not waited for."""
    tab = own_chromium.tab("/blank.html?first")
    page(tab, WAITS)
    tab.begin("await join('reloaded')")
    wait_until(lambda: tab.js("return (await indexedDB.databases()).length > 0"), "the run began", 30)
    wait_until(lambda: tab.js("return (await navigator.locks.query()).held.length > 0"), "it has its lock", 30)
    wait_until(
        lambda: tab.js("return performance.getEntriesByType('resource').some((e) => e.name.includes('look'))"),
        "its step began",
        30,
    )
    tab.js("setTimeout(() => (location.href = '/blank.html?again'), 0)")
    wait_until(lambda: tab.js("return location.search === '?again'"), "the page was loaded again", 30)
    page(tab, WAITS)
    result, seconds = tab.python("await join('reloaded')")
    assert result == "seen"
    assert seconds < 10


def test_who_waits_in_another_tab_takes_over_when_the_first_is_closed(own_chromium: Browser) -> None:
    """Both have joined the run; the one in whose step it is goes away while the other waits."""
    first, second = own_chromium.tab("/blank.html?first"), own_chromium.tab("/blank.html?second")
    for tab in (first, second):
        page(tab, WAITS)
    first.begin("await join('closed')")
    wait_until(
        lambda: first.js("return performance.getEntriesByType('resource').some((e) => e.name.includes('look'))"),
        "its step began",
        30,
    )
    second.begin("await join('closed')")
    second.python("await asyncio.sleep(1)")
    first.close()
    result, seconds = second.end()
    assert result == "seen"
    assert seconds < 10


BEHIND_THE_DRIVER = "await asyncio.sleep(0.01)\n"
"""What the driver itself evaluates may use eval, whatever the page's policy: not what goes on later."""


def test_a_page_without_eval(own_chromium: Browser) -> None:
    """A policy that allows WebAssembly alone: with the distribution's script runs and values work as elsewhere."""
    tab = own_chromium.tab("/strict.html")
    page(tab, WAITS)
    tried = "try { eval('1'); return 'evil'; } catch (error) { return error.name; }"
    assert tab.js(f"await new Promise((done) => setTimeout(done)); {tried}") == "EvalError"
    assert tab.python(f"{BEHIND_THE_DRIVER}await join('strict')")[0] == "seen"
    convert = "from alkaline_hosts.javascript import to_python\nto_python(js.Object.fromEntries([['a', 1]]))"
    assert tab.python(BEHIND_THE_DRIVER + convert) == {"a": 1}


def test_a_page_without_eval_and_without_the_script_is_told(own_chromium: Browser) -> None:
    """The error says what to load, and is no EvalError."""
    tab = own_chromium.tab("/strict.html")
    tab.js("delete globalThis.alkalineEdgeExpressions")
    page(tab)
    said = tab.python(
        BEHIND_THE_DRIVER
        + "try:\n    IndexedDBHost('x')\nexcept AlkalineError as error:\n    said = [error.code, str(error)]\nsaid"
    )
    assert said[0] == "ERR_STORE"
    assert "alkaline-edge.js" in said[1]
