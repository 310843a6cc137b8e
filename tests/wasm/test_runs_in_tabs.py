"""Whole runs on the real IndexedDB: tabs that race for one, clocks that jump, and kills between any two commits."""

from __future__ import annotations

from browser import Browser, Tab, wait_until
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

async def begin(lease=1.0):
    global host, runtime, serving
    host = Host("runs")
    runtime = Runtime(host, workflows=[counting], lease=lease)
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


def test_two_tabs_race_for_one_run(own_chromium: Browser) -> None:
    """Both start it and both serve: it has one owner, and every step is recorded once, in order."""
    tabs = [joined(own_chromium.tab()) for _ in range(2)]
    for tab in tabs:
        tab.begin(START)
    for tab in tabs:
        tab.end()
    for tab in tabs:
        found = finished(tab)
        assert found["steps"] == list(range(STEPS))
        assert found["result"] == sum(range(STEPS))


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


def test_a_run_survives_kills_between_its_commits(own_chromium: Browser, origin: str) -> None:
    """SIGKILL of the browser again and again: what was recorded stays, and the run ends as if nothing had been."""
    tab = joined(own_chromium.tab())
    tab.python(START)
    recorded: list[int] = []
    kills = 0
    while kills < 5:
        found = wait_until(lambda: _beyond(tab, len(recorded) + 7), "the run goes on")  # noqa: B023
        assert found["steps"][: len(recorded)] == recorded
        recorded = found["steps"]
        if found["status"] == "completed":
            break
        own_chromium.kill()
        kills += 1
        tab = joined(own_chromium.start().tab())
    assert kills >= 3
    found = finished(tab)
    assert found["steps"] == list(range(STEPS))
    assert found["result"] == sum(range(STEPS))


def _beyond(tab: Tab, count: int) -> dict[str, object] | None:
    found = tab.python("await progress()")
    return found if len(found["steps"]) >= count or found["status"] == "completed" else None
