"""Makes the golden histories, once: `python tests/histories/make.py`. It never writes over one that is there.

A golden history is what some version wrote. It is read and replayed by every later version, and never edited; a change
of behaviour adds new files and keeps the old ones. Made again on another Python the bytes may differ: which of two
things that arrive at once is recorded first is up to the host's event loop.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from alkaline_edge import Runtime, bundle, keys
from alkaline_edge.codec import Codec
from alkaline_edge.history import decode_all
from alkaline_edge.testing import SimulatedHost
from tests.histories import activations, layers, retried, topped_up
from tests.histories.workflows import WORKFLOWS

HERE = Path(__file__).parent


async def made() -> dict[str, bytes]:
    """A bundle of each run."""
    out: dict[str, bytes] = {}
    async with Runtime(SimulatedHost(seed=7), workflows=WORKFLOWS) as runtime:
        every = await runtime.start("every_kind", {"topic": "golden"}, id="every")
        await every.settle()
        await every.update("add", 3)
        await every.pause()
        await every.settle()
        await every.resume()
        await every.signal("go", {"by": "a person"})
        await every.result()
        cancelled = await runtime.start("cleans_up", id="cancelled")
        await cancelled.settle()
        await cancelled.cancel("not needed")
        await ended(cancelled)
        failed = await runtime.start("fails", id="failed")
        await ended(failed)
        flight = await runtime.start("in_flight", id="in-flight")
        await flight.settle()
        again = await runtime.start("continues", 0, id="continued")
        await again.settle()
        for id in ("every", "cancelled", "failed", "in-flight", "continued"):
            out[id] = await runtime.export(id)
        out["ended-generation"] = await former_generation(runtime, out["continued"])
    return out


async def former_generation(runtime: Runtime, exported: bytes) -> bytes:
    """The generation before the one of ``exported``, as a bundle of its own: it ends with ContinuedAsNew."""
    codec = Codec()
    found, _ = bundle.decode(exported, codec)
    found.generation -= 1
    found.commits = await runtime.store.commits(keys.history(found.run, found.generation))
    cursor, _ = decode_all(found.commits, codec)
    found.record.update(generation=found.generation, cursor_length=cursor.length, head=cursor.head)
    return bundle.encode(found, codec)


async def ended(run: Any) -> None:
    """Until a run has ended, however."""
    try:
        await run.result()
    except Exception:
        return


def main() -> None:
    """Write what is not there yet."""
    runs = {
        **asyncio.run(made()), **asyncio.run(activations.made()), **asyncio.run(retried.made()),
        **asyncio.run(layers.made()), **asyncio.run(topped_up.made()),
    }  # fmt: skip
    for name, data in runs.items():
        path = HERE / f"v1-{name}.alk"
        if path.exists():
            print(f"{path.name} is there: kept")
        else:
            path.write_bytes(data)
            print(f"{path.name}: {len(data)} bytes")


if __name__ == "__main__":
    main()
