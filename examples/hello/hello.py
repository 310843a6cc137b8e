"""Fifteen lines: a run that is recorded, and found again by the next process."""

import asyncio

from alkaline_edge import Context, Runtime, workflow
from alkaline_hosts import open_host


@workflow
async def hello(ctx: Context, name: str) -> str:
    """Greet somebody, once."""
    greeting = await ctx.step("greet", str.title, name)
    return f"Hello {greeting}, first met at {ctx.now():%H:%M:%S.%f}"


async def main() -> None:
    """Begin the run, or find it."""
    async with Runtime(open_host("hello.alkaline"), workflows=[hello]) as runtime:
        run = await runtime.start(hello, "ada", id="ada", on_conflict="join")
        print(await run.result())


if __name__ == "__main__":
    asyncio.run(main())
