"""Runs in two tabs of a browser that is killed: what the pages told of, and what the store has in the end.

    python killed_runs.py DIST DIRECTORY SECONDS SEED

The first tab starts runs, drives them and sends them signals, each new one the old signals once more under their old
keys; the second drives them as well. The last line is a JSON object: ``kills``, ``forgotten``, and ``profiles``, each
with the ``lines`` that its pages sent and the ``records`` of its runs; ``tests.soak`` judges them.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from browser import Browser, Forgotten, Tab, serve, wait_until
from kills import tab_may_crash
from pages import page

SOAK = """
from alkaline_edge import Context, Runtime, workflow
from alkaline_edge.events import StepCompleted

ROUNDS, SIGNALS, AT_ONCE = 6, 3, 4

def say(*words):
    return js.fetch("/told?" + js.encodeURIComponent(" ".join(map(str, words))))

async def effect(run, key, seconds):
    await say("begin", run, key)
    await asyncio.sleep(seconds)
    return "x" * 100

@workflow(name="soak", version=1)
async def soak(ctx: Context) -> list:
    got, run = [], ctx.execution.id
    for n in range(ROUNDS):
        await ctx.step(f"a{n}", effect, run, f"a{n}", 0.02)
        await ctx.all(*(ctx.step(f"{letter}{n}", effect, run, f"{letter}{n}", 0.1 * ctx.random()) for letter in "bc"))
        await ctx.sleep(0.1 + 0.3 * ctx.random())
        if n % (ROUNDS // SIGNALS) == 0:
            got.append(await ctx.wait_for_signal("go"))
    return got

def heard(event):
    if event.kind == "step":
        say("done", event.id, event.name)
    elif event.kind == "stuck" and event.code != "ERR_STORE":
        say("stuck", event.id, event.code)

async def told(ask, *what):
    try:
        await ask()
    except AlkalineError as error:
        if error.code != "ERR_CONFLICT":  # the run has ended meanwhile
            raise
    else:
        say(*what)

async def send(id):
    for n in range(SIGNALS):
        await asyncio.sleep(0.3)
        await told(lambda: runtime.signal(id, "go", n, dedupe=f"go{n}"), "sent", id, n)

async def everything():
    found, after = [], ""
    while True:
        page = await runtime.list_executions(after=after, limit=500)
        found += page.items
        if not page.after:
            return found
        after = page.after

async def start(most):
    sending = {}
    while True:
        records = await everything()
        going = [each.id for each in records if not each.finished]
        for id in going:
            if id not in sending:
                sending[id] = watched(send(id))
        for n in range(len(records), min(most, len(records) + AT_ONCE - len(going))):
            await told(lambda: runtime.start(soak, id=f"r{n}", on_conflict="join"), "started", f"r{n}")
        await asyncio.sleep(0.1)

def watched(what):
    async def watching():
        try:
            await what
        except BaseException as error:
            say("wrong", "-", repr(error))
            raise
    return asyncio.ensure_future(watching())

def begin(most=None):
    global runtime, tasks
    runtime = Runtime(IndexedDBHost("soak"), workflows=[soak], lease=2.0, on_event=heard)
    tasks = [watched(runtime.serve())] + ([] if most is None else [watched(start(most))])

async def left():
    return sum(not each.finished for each in await everything())

async def result():
    return {
        each.id: [
            each.status, str(each.waiting), each.result if each.status == "completed" else None,
            [one.event.name for one in await runtime.history(each.id) if isinstance(one.event, StepCompleted)],
        ]
        for each in await everything()
    }
"""
ENDING = 120.0
"""Seconds in which the last browser brings every run to its end."""


def two_tabs(browser: Browser, most: int) -> Tab:
    """The first starts runs, while there are fewer than ``most`` of them; gives the second."""
    page(browser.tab(), SOAK + f"begin({most})")
    second = browser.tab()
    page(second, SOAK + "begin()")
    return second


def lines(asked: list[str]) -> list[str]:
    """What pages have told."""
    return [unquote(path.partition("?")[2]) for path in list(asked) if path.startswith("/told?")]


def killed(dist: Path, profile: Path, kills: int, chance: random.Random) -> tuple[list[str], dict[str, Any], str]:
    """The lines, the records, and why Chromium forgot the origin where it did."""
    said: list[str] = []
    with serve(dist) as (origin, asked):
        browser = Browser(origin, profile)
        try:
            browser.start()
            for number in range(kills):
                with tab_may_crash():
                    two_tabs(browser, 1_000_000)
                    enough, before = chance.randint(1, 80), time.monotonic()
                    wait_until(lambda: len(lines(asked)) >= enough or time.monotonic() > before + 20, "lines")  # noqa: B023
                browser.kill()
                browser.again()  # meanwhile what was on its way has come
                said += [f"{line} {number} 0" for line in lines(asked)]
                asked.clear()
            tab = two_tabs(browser, 0)
            wait_until(lambda: not tab.python("await left()"), "every run has ended", ENDING)
            said += [f"{line} {kills} 0" for line in lines(asked)]
            return said, tab.python("await result()"), ""
        except Forgotten as error:
            return said, {}, str(error)
        finally:
            browser.quit()


def profiles(dist: Path, directory: Path, seconds: float, seed: int) -> Iterator[tuple[list[str], dict[str, Any], str]]:
    """One after the other, for so long."""
    end, number, chance = time.monotonic() + seconds, 0, random.Random(seed)
    while not number or time.monotonic() < end:
        yield killed(dist, directory / f"runs{number}", 5, chance)
        number += 1


def main(dist: str, directory: str, seconds: str, seed: str) -> None:
    """The program."""
    kills, forgotten, found = 0, 0, list[dict[str, Any]]()
    for said, records, why in profiles(Path(dist), Path(directory), float(seconds), int(seed)):
        kills += 5
        if why:
            print(f"forgotten by Chromium: {why}")
            forgotten += 1
        else:
            found.append({"lines": said, "records": records})
    print(json.dumps({"kills": kills, "forgotten": forgotten, "profiles": found}))


if __name__ == "__main__":
    main(*sys.argv[1:])
