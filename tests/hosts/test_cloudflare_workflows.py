"""Classes written for Cloudflare's Workflows on this kernel: what `step` does, on memory, on a file, across kills."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from alkaline_edge import InvalidInput, Runtime, StepError, Workflow
from alkaline_hosts.cloudflare_workflows import (
    NonRetryableError,
    WorkflowEntrypoint,
    stand_in_for_workers,
    workflow_of,
)
from alkaline_hosts.memory import MemoryHost
from tests.support import Process, drive

ROOT = Path(__file__).resolve().parents[2]
SHOP = Path(__file__).resolve().parent / "shop"


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The workflows of shop/, imported as they are; sys.modules is as before afterwards."""
    before = dict(sys.modules)
    monkeypatch.syspath_prepend(str(SHOP))
    stand_in_for_workers()
    import shop

    yield shop
    for name in sys.modules.keys() - before.keys():
        del sys.modules[name]


async def outcome(kind: type[Any], params: Any = None, host: Any = None, signals: Any = (), **options: Any) -> Any:
    """What a run of ``kind`` comes to."""
    definition = workflow_of(kind, **options)
    async with Runtime(host or MemoryHost(), workflows=[definition]) as runtime:
        run = await runtime.start(definition, params, id="one")
        for name, payload in signals:
            await runtime.signal("one", name, payload)
        return await run.result(timeout=30)


EXPECTED = {
    "id": "one",
    "billed": "bill of 42",
    "reserved": [42, None, 7, 1, "reserve", 2],
    "again": 7,
    "both": [3, 7],
    "decided": ["ann", "decision"],
    "refused": [["NonRetryableError", True], ["never", False], ["lost", True], "no word"],
    "did": None,
}
"""What Cloudflare's own engine gives: tests/workers/test_workflows_in_workerd.py compares the two."""


def test_a_class_runs_unchanged_on_memory(shop: Any) -> None:
    """Dependencies, ctx, sleeps, retries, errors and events."""
    ask = outcome(shop.Order, {"amount": 21}, None, [("decision", {"by": "ann"})])
    assert drive(lambda: ask) == EXPECTED


def test_a_class_goes_on_after_each_kill(tmp_path: Path) -> None:
    """A process that is killed in the step, after the step and while it waits; what was recorded does not run again."""
    program = tmp_path / "program.py"
    program.write_text(KILLED)
    path = f"{ROOT}{os.pathsep}{ROOT / 'hosts'}"
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, str(program)],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": path},
            check=False,
            timeout=60,
        )
        assert done.returncode in (-signal.SIGKILL, 0)
    assert (tmp_path / "did.txt").read_text().split() == ["first", "second", "second", "done"]


KILLED = """
import asyncio, os, signal
from alkaline_hosts.cloudflare_workflows import stand_in_for_workers, workflow_of
stand_in_for_workers()
from workers import Response, WorkflowEntrypoint
from alkaline_edge import Runtime
from alkaline_hosts.file import FileHost

def did(what):
    with open("did.txt", "a") as file:
        file.write(what + "\\n")

def killed(marker):
    if not os.path.exists(marker):
        open(marker, "w").close()
        os.kill(os.getpid(), signal.SIGKILL)

class Twice(WorkflowEntrypoint):
    async def run(self, event, step):
        @step.do()
        async def first():
            did("first")
            return 1
        @step.do()
        async def second(first):
            did("second")
            killed("in-the-step")
            return first + 1
        assert await second() == 2
        killed("between")
        event = await step.wait_for_event("word", "word")
        did(event.payload)

async def main():
    twice = workflow_of(Twice)
    async with Runtime(FileHost("./store"), workflows=[twice]) as runtime:
        run = await runtime.start(twice, id="one", on_conflict="join")
        await runtime.signal("one", "word", "done", dedupe="one")
        await run.result(timeout=20)

asyncio.run(main())
"""


class Delays(WorkflowEntrypoint):
    """A step that always fails, with the config that it is given."""

    async def run(self, event: Any, step: Any) -> Any:
        """The error's type."""

        @step.do("down", config=event.payload)
        async def down() -> None:
            raise RuntimeError("down")

        try:
            await down()
        except StepError as error:
            return error.type


@pytest.mark.parametrize(
    ("config", "waits"),
    [
        (None, [1, 2, 4, 8, 16]),
        ({"retries": {"limit": 3, "delay": "1 minute"}}, [60, 120, 240]),
        ({"retries": {"limit": 3, "delay": "90", "backoff": "linear"}}, [0.09, 0.18, 0.27]),
        ({"retries": {"limit": 3, "delay": "1.5 hours", "backoff": "constant"}}, [5400] * 3),
        ({"retries": {"limit": 0, "delay": 1}, "timeout": "1 day", "sensitive": "output"}, []),
    ],
)
def test_waits_between_attempts_are_cloudflares(config: Any, waits: list[float]) -> None:
    """By default five more attempts after 1, 2, 4, 8 and 16 s; constant, linear and exponential otherwise."""

    async def scenario() -> None:
        definition: Workflow[Any, Any] = workflow_of(Delays)
        process = Process(definition)
        await process.runtime.start(definition, config, id="one")
        until = None
        while process.runtime.active() or (until := await process.runtime.run_due()) is not None:
            process.host.advance(max(0.0, (until or 0) - process.host.now_ms()) / 1000 + 0.001)
            await process.runtime.settle("one")
        failed = [each.event for each in await process.runtime.history("one")]
        found = [
            (each.event.retry_at - each.at) / 1000
            for each in await process.runtime.history("one")
            if type(each.event).__name__ == "AttemptFailed"
        ]
        assert found == pytest.approx(waits, abs=0.02)
        assert type(failed[-1]).__name__ == "Completed"
        await process.runtime.close()

    drive(scenario)


@pytest.mark.parametrize(
    "config",
    [
        {"retries": {"limit": -1}},
        {"retries": {"limit": "5"}},
        {"retries": {"limit": 1, "backoff": "jitter"}},
        {"retries": {"limit": 1, "delay": "soon"}},
        {"retries": {"limit": 1, "delay": lambda _: 1}},
        {"retrys": {}},
        {"timeout": "5 fortnights"},
    ],
)
def test_a_config_that_cant_be_followed_is_refused_where_it_is_given(config: Any) -> None:
    """ERR_INVALID_INPUT at step.do, before anything runs."""

    class Odd(WorkflowEntrypoint):
        async def run(self, event: Any, step: Any) -> Any:
            try:
                step.do("odd", config=config)
            except InvalidInput:
                return "refused"

    assert drive(lambda: outcome(Odd)) == "refused"


def test_depends_gives_results_in_its_order() -> None:
    """The older form: parameters have names of their own; a wrong list is a TypeError."""

    class Older(WorkflowEntrypoint):
        async def run(self, event: Any, step: Any) -> Any:
            @step.do("the first")
            async def first() -> int:
                return 1

            @step.do("the second")
            async def second() -> int:
                return 2

            @step.do("both", depends=[second, first], concurrent=True)
            async def both(b: int, ctx: Any, a: int) -> list[Any]:
                return [a, b, ctx.attempt]

            errors = []
            for depends in ([first], [first, second, first], [first, print]):

                @step.do("wrong", depends=depends)
                async def wrong(a: int, b: int) -> None: ...

                try:
                    await wrong()
                except TypeError as error:
                    errors.append("parameters" in str(error))
            return [await both(), errors]

    assert drive(lambda: outcome(Older)) == [[1, 2, 1], [True, True, False]]


def test_a_diamond_runs_its_root_once() -> None:
    """Two steps at once that both want a third which wants a fourth."""

    class Diamond(WorkflowEntrypoint):
        async def run(self, event: Any, step: Any) -> Any:
            did: list[str] = []

            @step.do()
            async def seed() -> int:
                did.append("seed")
                return 1

            @step.do()
            async def root(seed: int) -> int:
                did.append("root")
                return seed + 1

            @step.do()
            async def left(root: int) -> int:
                return root * 10

            @step.do()
            async def right(root: int) -> int:
                return root * 100

            @step.do(concurrent=True)
            async def both(left: int, right: int) -> int:
                return left + right

            return [await both(), did]

    assert drive(lambda: outcome(Diamond)) == [220, ["seed", "root"]]


def test_the_objects_constructor_env_and_event_are_there() -> None:
    """A class of its own constructor gets env; event has the payload, the id and the workflow's name."""

    class Own(WorkflowEntrypoint):
        def __init__(self, ctx: Any, env: Any) -> None:
            super().__init__(ctx, env)
            self.key = env["KEY"]

        async def run(self, event: Any, step: Any) -> Any:
            return [self.key, event.payload.a, event["instanceId"], event.workflowName, event.timestamp.tzinfo]

    assert drive(lambda: outcome(Own, {"a": 1}, env={"KEY": "k"}, name="own")) == ["k", 1, "one", "own", None]


def test_what_is_no_such_class_is_refused() -> None:
    """A function, and a class without run."""
    for odd in (print, int, WorkflowEntrypoint()):
        with pytest.raises(InvalidInput, match="run"):
            workflow_of(odd)  # type: ignore[arg-type]


def test_what_else_a_file_imports_from_workers_says_so_when_used(shop: Any) -> None:
    """Importing and subclassing work; using is refused by name. A second stand-in changes nothing."""
    import workers
    from workers import Response, WorkerEntrypoint

    stand_in_for_workers()
    assert sys.modules["workers"] is workers
    assert workers.workflows.NonRetryableError is NonRetryableError

    class Default(WorkerEntrypoint):
        """An entrypoint of the same file."""

    for kind in (Response, Default):
        with pytest.raises(InvalidInput, match=r"workers\.Wor|workers\.Response"):
            kind("body")
    with pytest.raises(AttributeError):
        _ = workers.__wrapped__


def test_the_pages_file_runs_as_it_stands(tmp_path: Path) -> None:
    """docs/cloudflare_workflows.md: Cloudflare's file, the program beside it, and what that prints."""
    text = (ROOT / "docs" / "cloudflare_workflows.md").read_text("utf-8")
    entry, program = re.findall(r"^```py\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    (tmp_path / "entry.py").write_text(entry)
    (tmp_path / "program.py").write_text(program)
    done = subprocess.run(
        [sys.executable, "program.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'hosts'}"},
        check=False,
        timeout=60,
        capture_output=True,
        text=True,
    )
    assert done.stderr == ""
    assert f"```text\n{done.stdout}```" in text
