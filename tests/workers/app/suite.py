"""What the test Workers do, in every runtime: the conformance suite against a binding, and what tests ask for."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from alkaline_edge.host import Batch, Check, Conflict, Put
from alkaline_edge.sealing import Keyring, SealedHost
from alkaline_edge.testing.conformance import run_conformance
from alkaline_hosts._kv.namespace import Counted
from alkaline_hosts.webcrypto import WebCrypto


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


KEYS = Keyring("new", {"new": bytes(range(32, 64)), "old": bytes(range(32))})
TENANT = "acme"
"""Those of tests/sealing/support.py, which is not in the Worker."""


def sealed(host: Any) -> SealedHost:
    """``host`` behind a seal of WebCrypto's."""
    return SealedHost(host, keys=KEYS, tenant=TENANT, cipher=WebCrypto())


class Sealed:
    """The stores of another maker, sealed."""

    def __init__(self, maker: Any) -> None:
        self.maker = maker

    async def open(self) -> Any:
        return sealed(await self.maker.open())

    async def destroy(self) -> None:
        await self.maker.destroy()


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


def to_rpc(value: Any) -> Any:
    """A plain value as JavaScript has it."""
    from js import Object
    from pyodide.ffi import to_js

    return to_js(value, dict_converter=Object.fromEntries)


def from_rpc(value: Any) -> Any:
    """A plain value from JavaScript."""
    return value.to_py() if hasattr(value, "to_py") else None if type(value).__name__ == "JsNull" else value


async def append(host: Any, log: str, times: str) -> int:
    """Commit ``times`` entries, each on condition of the one before; return how many are there."""
    head = f"head/{log}"
    entry = (await host.get([head]))[0]
    count, version = (0, None) if entry is None else (int(entry.value), entry.version)
    for _ in range(int(times)):
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


async def largest(host: Any) -> dict[str, Any]:
    """The largest value that the host takes, kept and read back; one byte more, refused; and what of it was written."""
    size = host.capabilities.max_value
    value = host.entropy(1000) * (size // 1000 + 1)
    sent = getattr(host, "queries", 0)
    try:
        await host.commit(
            Batch(host.entropy(8).hex(), (), (Put("size/small", b""), Put("size/over", value[: size + 1])))
        )
        over = "committed"
    except Exception as error:
        over = f"{type(error).__name__}: {error}"
    unsent = getattr(host, "queries", 0) == sent
    await host.commit(Batch(host.entropy(8).hex(), (), (Put("size/most", value[:size]),)))
    entries = await host.list("size/")
    same = entries[0].value == value[:size]
    await host.commit(Batch(host.entropy(8).hex(), (), (), ("size/most",)))
    return {"size": size, "over": over, "unsent": unsent, "keys": [entry.key for entry in entries], "same": same}


async def contend(host: Any, name: str, times: str) -> int:
    """Add one to a counter ``times`` times against others who do the same; return how often it had to try again."""
    retries = 0
    for _ in range(int(times)):
        while True:
            entry = (await host.get([name]))[0]
            value, version = (0, None) if entry is None else (int(entry.value), entry.version)
            batch = Batch(host.entropy(8).hex(), (Check(name, version),), (Put(name, b"%d" % (value + 1)),))
            if not isinstance(await host.commit(batch), Conflict):
                break
            retries += 1
    return retries


async def counter(host: Any, name: str) -> int:
    """What ``contend`` has counted."""
    entry = (await host.get([name]))[0]
    return int(entry.value) if entry else 0


async def alarms(host: Any) -> dict[str, Any]:
    """Where the alarm is, relative to now in ms, after commits that touch timers, an inbox and running runs."""
    now = host.now_ms()
    seen: dict[str, Any] = {}

    async def after(what: str, puts: tuple[str, ...] = (), deletes: tuple[str, ...] = ()) -> None:
        batch = Batch(host.entropy(8).hex(), (), tuple(Put(key, b"") for key in puts), deletes)
        await host.commit(batch)
        at = from_rpc(await host._storage.getAlarm())
        seen[what] = None if at is None else at - now

    late, early = f"t/{now + 900_000:013d}/late", f"t/{now + 500_000:013d}/early"
    await after("nothing", ("k/other",))
    await after("late timer", (late,))
    await after("early timer", (early,))
    await after("early timer gone", (), (early,))
    await after("request", ("i/run/1",))
    await after("request consumed", (), ("i/run/1",))
    await after("running", ("x/s/running/w/run",))
    await after("running and early timer", (early,))
    await after("nothing left", (), (early, late, "x/s/running/w/run"))
    conflict = Batch(host.entropy(8).hex(), (Check("k/other", None),), (Put(early, b""),))
    seen["conflict"] = type(await host.commit(conflict)).__name__
    await after("after the conflict", ("k/other",))
    await host.commit(Batch(host.entropy(8).hex(), (), (Put(late, b""),)))
    await host._storage.deleteAlarm()
    seen["repaired"] = await host.repair_alarm() - now
    await host.commit(Batch(host.entropy(8).hex(), (), (), (late,)))
    far = f"t/{now + 90 * 86_400_000:013d}/far"
    await after("far timer", (far,))
    await after("stuck", ("x/s/running/w/run",))
    idle = []
    for _ in range(12):
        await host._storage.deleteAlarm()  # as it is once it has rung
        idle.append(round((await host.repair_alarm(idle=True) - host.now_ms()) / 1000))
    seen["idle"] = idle
    host._pause = None  # as in the object's next life
    await host._storage.deleteAlarm()
    seen["idle in the next life"] = round((await host.repair_alarm() - host.now_ms()) / 1000)
    host._pause = None
    await after("asked", ("i/run/1",))
    await after("all gone", (), (far, "i/run/1", "x/s/running/w/run"))
    return seen


class FaultyD1:
    """The real binding behind a network that loses an answer: ``fault`` is "before" or "after" the database acted."""

    def __init__(self, db: Any) -> None:
        self.db, self.fault = db, ""

    def prepare(self, sql: str) -> Any:
        return FaultyStatement(self, self.db.prepare(sql))

    async def batch(self, statements: Any) -> Any:
        from pyodide.ffi import to_js

        inner = to_js([statement.inner for statement in statements])
        return await self.send(lambda: self.db.batch(inner))

    async def send(self, call: Any) -> Any:
        fault, self.fault = self.fault, ""
        if fault == "before":
            raise RuntimeError("D1_ERROR: Network connection lost.")
        found = await call()
        if fault == "after":
            raise RuntimeError("D1_ERROR: Network connection lost.")
        return found


class FaultyStatement:
    """A statement of FaultyD1."""

    def __init__(self, owner: FaultyD1, inner: Any) -> None:
        self.owner, self.inner = owner, inner

    def bind(self, *values: Any) -> FaultyStatement:
        return FaultyStatement(self.owner, self.inner.bind(*values))

    async def run(self) -> Any:
        return await self.owner.send(self.inner.run)

    async def raw(self) -> Any:
        return await self.owner.send(self.inner.raw)


async def lost_answers(db: Any) -> list[Any]:
    """What a commit raises when its answer is lost, and whether it was applied: before and after, small and large."""
    from alkaline_hosts.d1 import D1Host

    faulty = FaultyD1(db)
    host = D1Host(faulty)
    await host.get(["lost"])
    found = []
    for fault in ("before", "after"):
        for size in (1, 120):
            id = host.entropy(8).hex()
            puts = tuple(Put(f"lost/{id}/{n}", b"x") for n in range(size))
            faulty.fault = fault
            try:
                outcome = type(await host.commit(Batch(id, (Check(f"lost/{id}/0", None),), puts))).__name__
            except Exception as error:
                outcome = type(error).__name__
            found.append([fault, size, outcome, len(await host.list(f"lost/{id}/"))])
    return found


async def schema(db: Any) -> dict[str, Any]:
    """How the host takes an empty database, two hosts at once, a newer schema, and a deleted table."""
    from alkaline_hosts.d1 import D1Host

    seen: dict[str, Any] = {}
    maker = D1Maker(db)

    async def put(name: str) -> str:
        host = D1Host(db)
        try:
            return type(await host.commit(Batch(host.entropy(8).hex(), (), (Put(name, b"x"),)))).__name__
        except Exception as error:
            return f"{type(error).__name__}: {error}"

    await maker.destroy()
    seen["at once"] = await asyncio.gather(*[put(f"k/{n}") for n in range(4)])
    seen["kept"] = len(await D1Host(db).list("k/"))
    await db.prepare("DROP TABLE alkaline_entries").run()
    seen["deleted"] = await put("k/1")
    await db.prepare("INSERT INTO alkaline_schema (version) VALUES (99)").run()
    seen["newer"] = await put("k/1")
    await maker.destroy()
    return seen


async def refused_queries(db: Any) -> list[Any]:
    """What a host with few queries left does: the error, and that nothing of the batch was sent."""
    from alkaline_hosts.d1 import D1Host

    free = D1Host(db)
    await free.get(["warm/up"])
    host = D1Host(db, max_queries=2)
    batch = Batch(host.entropy(8).hex(), (), tuple(Put(f"few/{n}", b"") for n in range(120)))
    try:
        outcome = type(await host.commit(batch)).__name__
    except Exception as error:
        outcome = f"{type(error).__name__}: {error}"
    refused = [outcome, len(await free.list("few/")), host.queries]
    host.new_invocation()
    await host.get(["few/1"])
    return [*refused, host.queries]
