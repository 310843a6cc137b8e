"""The support agent on the command line, with its runs in a file.

    python examples/support_agent/agent.py ask "Please refund order 7"     # ends while the approval is waited for
    python examples/support_agent/agent.py decide yes                      # in another process, on another day
    python examples/support_agent/agent.py show

Kill it whenever you like, and give the same command again.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

STORE = Path(os.environ.get("STORE", "support.alkaline"))
DID = STORE.with_suffix(".log")
"""What was done to the world, a line each: no replay writes a second one."""
os.environ.setdefault("ORDERS_LOG", str(DID.resolve()))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import support  # noqa: E402

from alkaline_edge import Followed, Runtime  # noqa: E402
from alkaline_hosts.file import FileHost  # noqa: E402
from alkaline_hosts.pydantic_ai import pending_events, resolve_event  # noqa: E402


class Terminal(support.Place):
    """Requests go to the log; where the environment asks for it, the process dies in one, the first time."""

    async def requested(self, number: int) -> None:
        """One request to the stand-in."""
        with DID.open("a") as opened:
            opened.write(f"request {number}\n")
        dies = os.environ.get("DIE_AT") == f"request {number}"
        if dies and DID.read_text().count(f"request {number}\n") == 1:
            os.kill(os.getpid(), signal.SIGKILL)


support.place = Terminal()


async def watch(runtime: Runtime, id: str) -> None:
    """The model's words, as they come."""
    async for each in runtime.follow(id, live=True):
        if not isinstance(each, Followed) and each.topic == "text":  # other topics are of who traces
            print(f"  ... {each.data}", flush=True)


async def main(verb: str, *words: str) -> None:
    """One command: ask, decide or show."""
    host = FileHost(STORE)
    async with Runtime(host, workflows=[support.help_out]) as runtime:
        if verb == "show":
            for recorded in await runtime.history("support"):
                print(type(recorded.event).__name__, getattr(recorded.event, "name", ""))
            return
        if verb == "decide":
            for each in await pending_events(runtime, "support"):
                await resolve_event(runtime, each["token"], words[0] == "yes")
        run = await runtime.start(support.help_out, " ".join(words), id="support", on_conflict="join")
        watching = asyncio.create_task(watch(runtime, run.id))
        await run.settle()
        watching.cancel()
        record = await runtime.get_execution("support")
        print(await run.result() if record.finished else f"waits for {', '.join(record.waiting)}")
    await host.close()


if __name__ == "__main__":
    asyncio.run(main(*(sys.argv[1:] or ["ask", "Please refund order 7"])))
