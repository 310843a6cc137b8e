"""``alkaline serve`` beside steps and handlers that raise what ends a process: it goes on. A real Ctrl-C ends it."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.hosts.test_cli_edges import Serving

FLOWS = """
import asyncio
import builtins
from pathlib import Path
from alkaline_edge import Codec, Context, in_thread, workflow

codec = Codec()

def raising(what):
    if what == "RecursionError":
        raising(what)
    raise getattr(builtins, what)("poison")

async def raising_async(what):
    raising(what)

async def in_a_task_of_its_own(what):
    await asyncio.gather(raising_async(what), asyncio.sleep(0))

async def in_a_callback(what):
    asyncio.get_running_loop().call_soon(raising, what)
    await asyncio.sleep(0.01)

STEPS = {"step": raising, "thread": in_thread(raising), "async": raising_async, "task": in_a_task_of_its_own,
         "callback": in_a_callback}

async def long(info: str):
    Path(info).touch()
    await asyncio.sleep(0 if Path("again").exists() else 60)
    return "done"

@workflow
async def flow(ctx: Context, given: dict):
    if given["where"] == "good":
        for n in range(3):
            await ctx.sleep(0.1)
        return await ctx.step("fine", len, "four")
    if given["where"] == "long":
        return await ctx.step("long", long, "began")
    await ctx.sleep(0.01)
    if given["where"] == "handler":
        raising(given["what"])
    if given["where"] == "group":
        async with asyncio.TaskGroup() as group:
            group.create_task(raising_async(given["what"]))
    await ctx.step("poison", STEPS[given["where"]], given["what"])
"""
WHAT = ("SystemExit", "KeyboardInterrupt", "GeneratorExit", "MemoryError", "RecursionError")
WHERE = ("step", "thread", "async", "task", "callback", "handler", "group")


def start(server: Serving, id: str, **given: str) -> None:
    asked = {"workflow": "flow", "id": id, "input": given}
    assert server.ask("/runs", json.dumps(asked).encode())["id"] == id


def ended(record: dict[str, Any]) -> bool:
    return record["status"] in ("completed", "failed")


@pytest.mark.parametrize("what", WHAT)
def test_a_poison_run_fails_by_its_name_and_every_other_run_goes_on(tmp_path: Path, what: str) -> None:
    """Behind a timer, so that it would take each next server with it; also from tasks that no step can guard."""
    server = Serving(tmp_path, "x", FLOWS)
    try:
        for where in WHERE:
            start(server, where, where=where, what=what)
            start(server, f"good-{where}", where="good")
        for where in WHERE:
            record = server.until(f"/runs/{where}", ended)
            assert server.until(f"/runs/good-{where}", ended)["result"] == 4
            if where == "callback":
                assert record["status"] == "completed"  # nobody waits for what a callback raises
                continue
            grouped = where == "group" and what not in ("SystemExit", "KeyboardInterrupt")
            assert record["failure"]["type"].endswith("Group") if grouped else record["failure"]["type"] == what
            assert record["stuck"] is None
    finally:
        log = server.stop()
    if what in ("SystemExit", "KeyboardInterrupt"):
        assert log.count(f"a task or callback that a step made raised {what}") == 2


def test_a_real_interrupt_ends_the_server_in_good_order_and_the_run_goes_on_in_the_next_one(tmp_path: Path) -> None:
    """Ctrl-C while a step runs is nobody's failure."""
    server = Serving(tmp_path, "x", FLOWS)
    try:
        start(server, "a", where="long")
        server.until("/runs/a", lambda _: (tmp_path / "began").exists())
        server.process.send_signal(signal.SIGINT)  # it takes no request any more, and waits for the step
        with contextlib.suppress(OSError):  # until there is nobody to connect to
            while True:
                socket.create_connection(("127.0.0.1", server.port), 5).close()
    finally:
        server.stop(signal.SIGINT)  # and no longer
    (tmp_path / "again").touch()
    server = Serving(tmp_path, "y", FLOWS)
    try:
        assert server.until("/runs/a", ended)["result"] == "done"
    finally:
        server.stop()
