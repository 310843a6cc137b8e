"""An order that waits for somebody: retries, a signal with a deadline, and what is undone when the answer is no.

python examples/approval/approval.py order 7         reserves the goods, then waits; the program ends
python examples/approval/approval.py decide 7 yes    from another process, now or next week
python examples/approval/approval.py order 7         goes on where it was
"""

from __future__ import annotations

import asyncio
import sys

from alkaline_edge import Context, Retry, Runtime, StepError, StepInfo, workflow
from alkaline_hosts import open_host

WEEK = 7 * 86_400


class Refused(Exception):
    """Somebody said no, or nobody said anything."""


async def reserve(order: int, info: StepInfo) -> str:
    """Put the goods aside. The warehouse does not answer at first."""
    if info.attempt == 1:
        raise ConnectionError("the warehouse does not answer")
    print(f"reserved the goods of order {order}, at attempt {info.attempt}")
    return f"shelf {order % 5}"


async def release(shelf: str) -> None:
    """Undo it."""
    print(f"released {shelf}")


async def ship(order: int, shelf: str) -> str:
    """Send the goods."""
    return f"order {order} is on its way from {shelf}"


@workflow
async def purchase(ctx: Context, order: int) -> str:
    """Reserve, ask, ship."""
    shelf = await ctx.step(reserve, order, retry=Retry(max_attempts=3, backoff=0.1), compensate=release)
    answer = await ctx.wait_for_signal("decision", timeout=WEEK, default="no")
    if answer != "yes":
        raise Refused(f"order {order} was not approved")
    return await ctx.step(ship, order, shelf)


async def main(verb: str, order: int, answer: str = "yes") -> None:
    """Do what the command line asks for."""
    async with Runtime(open_host("approval.alkaline"), workflows=[purchase]) as runtime:
        if verb == "decide":
            await runtime.signal(f"order-{order}", "decision", answer, dedupe="decision")
            return
        run = await runtime.start(purchase, order, id=f"order-{order}", on_conflict="join")
        await run.settle()
        if (await runtime.get_execution(run.id)).status == "suspended":
            print(f"order {order} waits for: approval.py decide {order} yes")
            return
        try:
            print(await run.result())
        except StepError as error:
            print(f"{error.type}: {error}")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:4]))
