"""The agent that travels: the same code in a browser tab, in a Worker and on a server."""

from __future__ import annotations

import sys

from alkaline_edge import Context, workflow


def note(place: str, n: int) -> dict[str, object]:
    """A step: what was done, and on which kind of Python."""
    return {"place": place, "n": n, "platform": sys.platform, "text": "a large result " * 9_000 if n == 0 else "small"}


@workflow(name="journey", version=1)
async def journey(ctx: Context, stops: list[str]) -> dict[str, object]:
    """At each stop three steps and some drawn values; then it waits until somebody says that it has arrived."""
    seen: list[object] = []
    for number, stop in enumerate(stops):
        word = await ctx.wait_for_signal(f"arrive-{stop}") if number else "hello"
        ctx.set_attributes(stop=stop)
        notes = [await ctx.step(f"{stop}-{n}", note, stop, n) for n in range(3)]
        seen.append([stop, word, notes[0]["platform"], str(ctx.uuid()), ctx.random()])
    return {"seen": seen, "at": ctx.now().isoformat()}
