"""A run that is killed, moved and resumed, and what listens to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from alkaline_edge import Context, Retry, Runtime, StepInfo, hand_over, workflow
from alkaline_edge.testing import SimulatedHost

FAILS = [True]


def look(topic: str) -> str:
    return topic.upper()


def flaky() -> str:
    if FAILS and FAILS.pop():
        raise ConnectionError("down, with the password hunter2")
    return "up"


async def ask(prompt: str, info: StepInfo) -> str:
    info.publish("telemetry", {
        "gen_ai.operation.name": "chat", "gen_ai.request.model": "small-1", "gen_ai.provider.name": "example",
        "gen_ai.usage.input_tokens": 11, "gen_ai.usage.output_tokens": 4, "odd": ["no", "attribute"],
    })  # fmt: skip
    return "an answer"


@workflow
async def part(ctx: Context, n: int) -> int:
    return await ctx.step("double", lambda n: n * 2, n)


@workflow
async def journey(ctx: Context, topic: str) -> str:
    await ctx.step("look", look, topic)
    await ctx.step("flaky", flaky, retry=Retry(max_attempts=2, backoff=5))
    await ctx.wait_for_signal("first")
    said: str = await ctx.step("ask", ask, topic, cost=15)
    await ctx.child(part, 4)
    await ctx.wait_for_signal("second")
    await ctx.map(lambda n: ctx.step("each", str, n), [1, 2, 3])
    return said


async def killed_moved_and_resumed(listener: Callable[[], Any], id: str = "exe_1") -> tuple[str, bytes]:
    """Run it through three processes and two stores; a new ``listener()`` for each. Its random id and its history."""
    FAILS[:] = [True]
    one, two = SimulatedHost(seed=1), SimulatedHost(seed=2)
    first = Runtime(one, workflows=[journey, part], on_event=listener())
    run = await first.start(journey, "x", id=id)
    await run.settle()
    await one.sleep(10)
    await first.run_due()  # the retry
    await run.settle()
    one.dead = True  # it is killed
    again = one.reopen()
    again.advance(60)
    second = Runtime(again, workflows=[journey, part], on_event=listener())
    await second.recover()
    await second.signal(id, "first")
    await (await second.resume(id)).settle()
    third = Runtime(two, workflows=[journey, part], on_event=listener())
    two.clock.now_ms = again.clock.now_ms
    await hand_over(second, id, third)  # it is moved
    await second.close()
    await third.signal(id, "second")
    await (await third.resume(id)).result()
    record = await third.get_execution(id)
    history = await third.export(id)
    await third.close()
    return record.run, history
