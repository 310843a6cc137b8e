"""What the test Workers do, in every runtime: run the conformance suite against a binding, and commit on request."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from alkaline_edge.host import Batch, Check, Conflict, Put
from alkaline_edge.testing.conformance import run_conformance
from alkaline_hosts._kv_namespace import Counted


async def conformance(make: Any, only: str | None = None) -> str:
    """The results of the suite as JSON: [case, outcome, message] each."""
    results = await run_conformance(make, only=only.split(",") if only else None, gather=asyncio.gather)
    return json.dumps([list(result) for result in results])


class D1Maker:
    """A fresh store in the D1 binding ``db``: no tables at all, so each case makes them."""

    def __init__(self, db: Any, **options: Any) -> None:
        self.db, self.options = db, options

    async def open(self) -> Any:
        from alkaline_hosts.d1 import D1Host

        return D1Host(self.db, **self.options)

    async def destroy(self) -> None:
        for table in ("alkaline_entries", "alkaline_schema"):
            await self.db.prepare(f"DROP TABLE IF EXISTS {table}").run()


class KVMaker:
    """A fresh store in the KV binding ``kv``: a prefix of its own. ``options`` go to the host."""

    made = 0

    def __init__(self, kv: Any, **options: Any) -> None:
        KVMaker.made += 1
        self.kv, self.options = kv, options
        self.prefix = f"case{KVMaker.made}/"

    async def open(self) -> Any:
        from alkaline_hosts.cloudflare_kv import KVHost

        return KVHost(self.kv, prefix=self.prefix, **self.options)

    async def destroy(self) -> None:
        namespace = Counted(self.kv, None)
        for key in await namespace.keys(self.prefix):
            await namespace.delete(key)


class CoordinatedMaker:
    """A fresh store of KV with a D1 database in front."""

    def __init__(self, kv: Any, db: Any, **options: Any) -> None:
        self.kv, self.front = kv, D1Maker(db, **options)

    async def open(self) -> Any:
        from alkaline_hosts.cloudflare_kv import KVHost

        return KVHost(self.kv, coordinator=await self.front.open(), large=1000)

    async def destroy(self) -> None:
        await self.front.destroy()


async def append(host: Any, log: str, times: int) -> int:
    """Commit ``times`` entries, each on condition of the one before; return how many are there."""
    head = f"head/{log}"
    entry = (await host.get([head]))[0]
    count, version = (0, None) if entry is None else (int(entry.value), entry.version)
    for _ in range(times):
        batch = Batch(
            host.entropy(8).hex(),
            (Check(head, version),),
            (Put(head, b"%d" % (count + 1)), Put(f"log/{log}/{count:09d}", b"x" * 100)),
        )
        outcome = await host.commit(batch)
        if isinstance(outcome, Conflict):
            raise RuntimeError(f"conflict at {count}: {outcome}")
        count, version = count + 1, outcome.version
    return count


async def audit(host: Any, log: str) -> dict[str, int]:
    """The head of a log, how many entries it has, and the last one's number: all three agree in a whole store."""
    entry = (await host.get([f"head/{log}"]))[0]
    names: list[str] = []
    while True:
        page = await host.list(f"log/{log}/", names[-1] if names else "", 500)
        names += [item.key for item in page]
        if len(page) < 500:
            break
    last = int(names[-1].rsplit("/", 1)[1]) + 1 if names else 0
    return {"head": int(entry.value) if entry else 0, "entries": len(names), "last": last}


async def contend(host: Any, name: str, times: int) -> int:
    """Add one to a counter ``times`` times against others who do the same; return how often it had to try again."""
    retries = 0
    for _ in range(times):
        while True:
            entry = (await host.get([name]))[0]
            value, version = (0, None) if entry is None else (int(entry.value), entry.version)
            batch = Batch(host.entropy(8).hex(), (Check(name, version),), (Put(name, b"%d" % (value + 1)),))
            if not isinstance(await host.commit(batch), Conflict):
                break
            retries += 1
    return retries
