"""What the inspector is shown in tests: workflows, and stores and bundles of their runs."""

from __future__ import annotations

import asyncio
from pathlib import Path

from alkaline_edge import Budget, Context, Retry, Runtime, bundle, keys, workflow
from alkaline_edge.board import Board
from alkaline_edge.capacity import Budgets, Limit, Limits
from alkaline_edge.codec import Codec
from alkaline_edge.events import Completed, StepCompleted
from alkaline_edge.history import Cursor
from alkaline_edge.testing import SimulatedHost
from alkaline_edge.triggers import Every, Triggers
from alkaline_hosts._file.format import Encoder, new_header
from alkaline_hosts._file.log import Log
from alkaline_hosts.file import FileHost
from alkaline_hosts.memory import MemoryHost

MARKUP = "<img src=x onerror=document.title='markup'><script>document.title='script'</script>\x1b[31m\u202eend"
"""What must never be more than a text on the page."""
tried: list[str] = []


def fetch(what: str) -> list[dict[str, object]]:
    """Fails the first time."""
    tried.append(what)
    if tried.count(what) == 1:
        raise ConnectionError("the model is overloaded")
    return [{"title": f"{what} {n}", "score": n / 2, "body": MARKUP} for n in range(3)]


@workflow
async def child(ctx: Context, n: int) -> int:
    """Sleeps."""
    await ctx.sleep(1)
    return n


@workflow(budget=Budget(tokens=1_000, usd=1.0))
async def research(ctx: Context, topic: str) -> str:
    """Has steps, attempts, branches, a child, a timer, charges, and waits for a signal."""
    ctx.set_attributes(topic=topic)
    ctx.spend(120, "planning", usd=0.02)
    found = await ctx.step("search", fetch, topic, retry=Retry(max_attempts=3, backoff=0.2), cost=80)
    await ctx.all(*(ctx.step("read", lambda n=n: n, n) for n in range(3)))
    await ctx.child(child, 3)
    await ctx.sleep(2)
    answer = await ctx.wait_for_signal("approve", timeout=86_400)
    return f"{answer}: {len(found)}"


@workflow
async def fails(ctx: Context) -> None:
    """Ends with an error that has markup in it."""
    await ctx.step("write", lambda: 1)
    raise ValueError(MARKUP)


@workflow
async def approval(ctx: Context, what: str) -> str:
    """Waits for an answer."""
    return f"{what}: {await ctx.wait_for_signal('answer')}"


@workflow
async def long(ctx: Context, steps: int) -> int:
    """As many steps as it is told."""
    for n in range(steps):
        await ctx.step("step", abs, n)
    return steps


WORKFLOWS = [child, research, fails, approval, long]


async def _bundles() -> dict[str, bytes]:
    tried.clear()
    host = SimulatedHost(seed=3)
    async with Runtime(host, workflows=WORKFLOWS) as runtime:
        runs = [await runtime.start(research, topic, id=topic) for topic in ("first", "second")]
        runs.append(await runtime.start(fails, id="fails"))
        for run in [*runs] * 3:
            await run.settle()
            await host.sleep(3)
            await runtime.run_due()
        await runs[1].signal("approve", {"by": MARKUP})
        await runs[1].settle()
        return {run.id: await runtime.export(run.id) for run in runs}


def bundles() -> dict[str, bytes]:
    """A bundle of a run that waits, of one that completed, and of one that failed."""
    return asyncio.run(_bundles())


def many_events(steps: int) -> bytes:
    """The bundle of a run of that many steps: one that was run, and so many more events of its kind."""

    async def made() -> bytes:
        async with Runtime(MemoryHost(), workflows=WORKFLOWS) as runtime:
            await (await runtime.start(long, 1, id="long")).result()
            return await runtime.export("long")

    codec, cursor = Codec(), Cursor()
    found, _ = bundle.decode(asyncio.run(made()), codec)
    cursor.advance(found.commits[0], codec)
    del found.commits[1:]
    for n in range(1, steps + 1):
        event = StepCompleted(1, str(n), "step", None, n) if n < steps else Completed(18, steps)
        found.commits.append(cursor.encode(cursor.time_ms + 7 * (n % 3), [event], codec))
        cursor.advance(found.commits[-1], codec)
    found.record.update(cursor_length=cursor.length, head=cursor.head)
    return bundle.encode(found, codec)


def store(path: Path) -> Path:
    """A file with runs that wait and that ended."""

    async def filled() -> None:
        host = FileHost(path)
        async with Runtime(host, workflows=WORKFLOWS) as runtime:
            for n in range(3):
                found = {"id": f"approval-{n}", "attributes": {"team": "x"}}
                await (await runtime.start(approval, f"launch {n}", **found)).settle()  # type: ignore[arg-type]
            await (await runtime.start(fails, id="failed")).settle()
        await host.close()

    asyncio.run(filled())
    return path


def beside(path: Path) -> Path:
    """A file with what else may stand in a store: a schedule, a board, a limit and a budget."""

    async def filled() -> None:
        host = FileHost(path)
        async with Runtime(host, workflows=WORKFLOWS) as runtime:
            await (await runtime.start(approval, "launch", id="approval")).settle()
            await _beside(runtime)
            await Limits(runtime).set(Limit("model", concurrency=3))
            await Budgets(runtime).set("team", tokens=2_000)
        await host.close()

    asyncio.run(filled())
    return path


async def _beside(runtime: Runtime, seconds: int = 1_800) -> None:
    await Triggers(runtime).create("half-hourly", approval, Every(seconds), MARKUP)
    board = Board(runtime, "launches")
    await board.create(MARKUP, id="wind", priority=1)
    await board.create("Wait for a calm day", id="calm", assignee="forecast")
    await board.claim("forecast", assignees=["forecast"])
    await board.create("Fly", id="fly", parents=["wind", "calm"])


def with_beside(path: Path) -> Path:
    """The same file, with a schedule that ticks once a year, so under no test, one that is paused, and a board."""

    async def filled() -> None:
        host = FileHost(path)
        async with Runtime(host, workflows=WORKFLOWS) as runtime:
            await _beside(runtime, seconds=365 * 86_400)
            await Triggers(runtime).create("nightly", approval, Every(86_400))
            await Triggers(runtime).pause("nightly")
        await host.close()

    asyncio.run(filled())
    return path


def entries(path: Path) -> dict[str, bytes]:
    """The live keys of a file."""
    log = Log(str(path), writable=False)
    try:
        return {key: entry.value for key in log.index.entries if (entry := log.entry(key)) is not None}
    finally:
        log.close()


def many_runs(path: Path, like: Path, count: int) -> Path:
    """A file of ``count`` runs, each with the record of the first run in ``like`` but for its id."""
    found, codec = entries(like), Codec()
    record = codec.decode(found[keys.record("approval-0")])
    header = new_header(b"12345678")
    encoder = Encoder(int.from_bytes(header[-4:], "big"))
    parts = [header]
    for n in range(count):
        values = {**record, "id": f"run-{n:05}", "status": ("suspended", "completed", "failed")[n % 3], "created_at": n}
        parts.append(encoder.one_put(n.to_bytes(8, "big"), keys.record(f"run-{n:05}"), codec.encode(values)))
    path.write_bytes(b"".join(parts))
    return path
