"""The workflows of the test Workers. Each step that runs leaves a mark of its own in KV, so that tests can count."""

from __future__ import annotations

import asyncio
import builtins
import hashlib
import os
from typing import Any

from workers import import_from_javascript

from alkaline_edge import Context, StepInfo, workflow


async def mark(run: str, step: str) -> str:
    """Leave a mark and return the step's name."""
    kv = import_from_javascript("cloudflare:workers").env.KV
    await kv.put(f"mark/{run}/{step}/{os.urandom(6).hex()}", "1")
    return step


@workflow(name="approval", version=1)
async def approval(ctx: Context, topic: str) -> dict[str, Any]:
    """Two steps, a wait for a signal, a sleep, and a last step."""
    id = ctx.execution.id
    await ctx.step("draft", mark, id, "draft")
    await ctx.step("stamp", mark, id, "stamp")
    answer = await ctx.wait_for_signal("approve")
    await ctx.sleep(0.2)
    await ctx.step("send", mark, id, "send")
    return {"topic": topic, "answer": answer}


@workflow(name="many", version=1)
async def many(ctx: Context, steps: int) -> int:
    """So many steps, one after the other."""
    total = 0
    for n in range(steps):
        total += await ctx.step("add", int, n)
    return total


counted = 0


def count(number: int) -> int:
    """Count this call in this Worker's memory."""
    global counted
    counted += 1
    return number


@workflow(name="thousands", version=1)
async def thousands(ctx: Context, steps: int) -> int:
    """So many steps, each counted."""
    return sum([await ctx.step("count", count, n) for n in range(steps)])


def made(size: int) -> bytes:
    """So many bytes, none like its neighbour."""
    return bytes(range(251)) * (size // 251 + 1)


@workflow(name="heavy", version=1)
async def heavy(ctx: Context, size: int) -> list[Any]:
    """A step with a large result, a wait, and the large result again."""
    value = await ctx.step("made", made, size)
    await ctx.wait_for_signal("go")
    return [len(value), hashlib.sha256(value).hexdigest()]


async def speak(words: list[str], info: StepInfo) -> str:
    for word in words:
        info.publish("word", word)
        await asyncio.sleep(0.01)
    return " ".join(words)


@workflow(name="speaking", version=1)
async def speaking(ctx: Context, words: list[str]) -> str:
    """Waits to be told, then speaks, word by word."""
    await ctx.wait_for_signal("begin")
    return await ctx.step("speak", speak, words)


@workflow(name="assistant", version=1)
async def assistant(ctx: Context, asked: dict[str, Any]) -> str:
    """An agent of AG-UI: once somebody agrees, it says again what it was told."""
    await ctx.wait_for_signal("approve")
    return await ctx.step("say", say, asked["messages"][-1]["content"].split())


async def say(words: list[str], info: StepInfo) -> str:
    for word in words:
        info.publish("text", word)
        await asyncio.sleep(0.01)
    return " ".join(words)


async def slow_mark(run: str, step: str, seconds: float) -> str:
    await asyncio.sleep(seconds)
    return await mark(run, step)


@workflow(name="marching", version=1)
async def marching(ctx: Context, plan: list[Any]) -> int:
    """Steps that take a while each: [how many, seconds]."""
    count, seconds = plan
    for n in range(count):
        await ctx.step(f"step{n:03d}", slow_mark, ctx.execution.id, f"step{n:03d}", seconds)
    return int(count)


@workflow(name="nap", version=1)
async def nap(ctx: Context, seconds: float) -> str:
    """A durable sleep, and a mark behind it."""
    await ctx.sleep(seconds)
    return await ctx.step("woken", mark, ctx.execution.id, "woken")


@workflow(name="asked", version=1)
async def asked(ctx: Context, start: int) -> list[Any]:
    """Answers a query and an update until it is told to stop."""
    numbers = [start]
    ctx.on_query("numbers", lambda: numbers)

    def add(number: int) -> int:
        numbers.append(number)
        return sum(numbers)

    def check(number: Any) -> None:
        if not isinstance(number, int):
            raise ValueError("a number is wanted")

    ctx.on_update("add", add, validator=check)
    await ctx.wait_for_signal("stop")
    return numbers


def raising(name: str) -> None:
    """Raise the built-in exception of that name."""
    raise getattr(builtins, name)("poison")


life: list[str] = []
"""A name of this life of the Worker, once it was asked for."""


@workflow(name="poison", version=1)
async def poison(ctx: Context, how: str) -> None:
    """What is no Exception, from a step behind a timer or from the handler; or what no other life agrees with."""
    if how == "diverges":
        life.extend([] if life else [os.urandom(4).hex()])
        await ctx.step(f"only here {life[0]}", len, "")
        await ctx.wait_for_signal("go")
    await ctx.sleep(0.5)
    if how.startswith("handler "):
        raising(how.partition(" ")[2])
    await ctx.step("poison", raising, how)


WORKFLOWS = [assistant, speaking, approval, many, thousands, heavy, marching, nap, asked, poison]
