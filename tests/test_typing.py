"""What type checkers know: steps, children and runs give what their functions give, and refuse the rest."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROGRAM = """
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, assert_type

from alkaline_edge import Context, Retry, Run, Runtime, StepInfo, Workflow, in_thread, workflow


@dataclass
class City:
    name: str


async def add(a: int, b: int = 1) -> int:
    return a + b


def split(text: str) -> list[str]:
    return text.split()


async def told(words: list[str], info: StepInfo) -> str:
    return info.step


async def told_first(info: StepInfo, words: list[str]) -> str:
    return info.step


async def keyed(a: int, *, key: str) -> float:
    return float(a)


@in_thread
def slow(a: int) -> bytes:
    return bytes(a)


class Client:
    async def ask(self, question: str) -> dict[str, int]:
        return {question: 1}


@workflow
async def double(ctx: Context, n: int) -> int:
    return 2 * n


@workflow
async def greeting(ctx: Context, name: str = "you") -> str:
    return name


@workflow
async def nothing(ctx: Context) -> None:
    return None


@workflow(name="cities", version=2, retry=Retry(max_attempts=2))
async def cities(ctx: Context, names: Sequence[str]) -> list[City]:
    return [City(name) for name in names]


@workflow
async def good(ctx: Context, n: int) -> str:
    assert_type(await ctx.step("add", add, 1), int)
    assert_type(await ctx.step("add", add, 1, 2), int)
    assert_type(await ctx.step("add", add, 1, b=2), int)
    assert_type(await ctx.step(add, 1), int)
    assert_type(await ctx.step("add", add, 1, retry=Retry(max_attempts=3), timeout=5), int)
    assert_type(await ctx.step(add, 1, at_most_once=True), int)
    assert_type(await ctx.step("split", split, "a b"), list[str])
    assert_type(await ctx.step("split", split, "a b", cost=3, compensate=lambda words: None), list[str])
    assert_type(await ctx.step("told", told, ["a"]), str)
    assert_type(await ctx.step("told", told, ["a"], retry=Retry()), str)
    assert_type(await ctx.step(told, ["a"]), str)
    assert_type(await ctx.step("first", told_first, ["a"], cost=lambda result: len(result)), str)
    assert_type(await ctx.step("keyed", keyed, 1, key="a"), float)
    assert_type(await ctx.step("ask", Client().ask, "why"), dict[str, int])
    assert_type(await ctx.step("slow", slow, 3), bytes)
    assert_type(await ctx.step("lambda", lambda: 3), int)
    assert_type(await ctx.child(double, 3), int)
    assert_type(await ctx.child(greeting), str)
    assert_type(await ctx.child(nothing), None)
    assert_type(await ctx.child(cities, ["Riga"]), list[City])
    assert_type(await ctx.map(lambda k: ctx.step("add", add, k), [1, 2]), list[int])
    assert_type(await ctx.map(lambda k: ctx.child(double, k), [1, 2]), list[int])
    anything: Any = await ctx.child("double", 3)
    return str(anything)


async def main(runtime: Runtime, any_workflow: Workflow, any_run: Run) -> None:
    run = await runtime.start(double, 3, id="d")
    assert_type(run, Run[int])
    assert_type(await run.result(), int)
    assert_type(await (await runtime.start(greeting)).result(), str)
    assert_type(await (await runtime.start(nothing)).result(timeout=3), None)
    assert_type(await (await runtime.start(cities, ("Riga",))).result(), list[City])
    text: str = await (await runtime.start("double", 3)).result()
    text = await any_run.result()
    kept: list[Workflow] = [double, greeting, nothing, cities, any_workflow]
    print(text, kept)


@workflow
async def bad(ctx: Context) -> None:
    await ctx.step("add", add, "1")  # refused
    await ctx.step("add", add)  # refused
    await ctx.step("add", add, 1, 2, 3)  # refused
    await ctx.step("add", add, 1, c=2)  # refused
    await ctx.step(add, "1")  # refused
    await ctx.step("add", add, "1", retry=Retry())  # refused
    await ctx.step("add", add, 1, retry=3)  # refused
    await ctx.step("add", add, 1, timout=3)  # refused
    await ctx.step("told", told, [1])  # refused
    await ctx.step("told", told, ["a"], 3)  # refused
    await ctx.step("keyed", keyed, 1, key=2)  # refused
    await ctx.step("ask", Client().ask, 3)  # refused
    await ctx.step("slow", slow, "3")  # refused
    await ctx.step("add", 3)  # refused
    await ctx.child(double, "3")  # refused
    await ctx.child(cities, [1])  # refused
    await ctx.map(add, ["a"])  # refused
    text: str = await ctx.step("add", add, 1)  # refused
    other: str = await ctx.child(double, 1)  # refused


async def badly(runtime: Runtime) -> None:
    await runtime.start(double, "3")  # refused
    text: str = await (await runtime.start(double, 3)).result()  # refused


@workflow  # refused
def no_handler(ctx: Context) -> None: ...
"""


@pytest.mark.parametrize("checker", ["mypy", "pyright"])
def test_checkers_know_what_a_step_and_a_run_give_and_refuse_what_they_do_not_take(
    checker: str, tmp_path: Path
) -> None:
    """Errors stand on the lines that are to be refused, on each of them, and on no other."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    options = ["--strict"] if checker == "mypy" else ["--project", str(ROOT / "pyproject.toml")]
    command = [sys.executable, "-m", checker, *options, str(program)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    found = {int(number) for number in re.findall(r"program\.py:(\d+):[^\n]*\berror\b", done.stdout)}
    wanted = {n for n, line in enumerate(PROGRAM.splitlines(), 1) if "# refused" in line}
    assert len(wanted) > 20
    assert found == wanted, done.stdout
