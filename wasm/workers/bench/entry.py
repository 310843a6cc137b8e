# ruff: noqa: D101, D102, D103 - the handlers of a Worker, each named by its path
"""The Worker that is measured: bare writes, commits of a host, and durable steps of a run, on each binding.

Answers hold seconds. Before production's clock this would have to be measured from outside; here it moves.
"""

import json
import statistics
import time
from urllib.parse import parse_qsl, urlsplit

from claims import claims
from js import scheduler
from pyodide.ffi import to_js
from workers import DurableObject, Response, WorkerEntrypoint

from alkaline_edge import Runtime, workflow
from alkaline_edge.host import Batch, Check, Put
from alkaline_hosts import durable_object
from alkaline_hosts._cloudflare.platform import raw_binding
from alkaline_hosts.cloudflare_kv import KVHost
from alkaline_hosts.d1 import D1Host
from alkaline_hosts.durable_object import DurableObjectHost
from alkaline_hosts.memory import MemoryHost

VALUE = b"\x93" * 140
KINDS = ("one key", "checked", "two keys")
ROUNDS = 9


def same(n):
    """A step's function as a user writes one: what is built in, such as ``int``, is asked more about what it is."""
    return n


@workflow(name="many", version=1)
async def many(ctx, steps):
    """So many steps, one after the other."""
    total = 0
    for n in range(steps):
        total += await ctx.step("add", same, n)
    return total


async def timed(work):
    began = time.perf_counter()
    found = await work
    return time.perf_counter() - began, found


async def puts(host, kind):
    """A function that commits so many batches of that kind: of one key, of one behind a check as a step's commit is, or
    of two behind a check as that of a step with its run's record is."""
    head, name = f"head/{host.entropy(6).hex()}", host.entropy(6).hex()
    version = (await host.commit(Batch(host.entropy(8).hex(), (), (Put(head, b""),)))).version
    done = 0

    async def commit(count):
        nonlocal version, done
        for _ in range(count):
            done += 1
            key = f"h/{name}/{done:06d}"
            made = [Put(key, VALUE)]
            checks = () if kind == "one key" else (Check(head, version), Check(key, None))
            id = f"{done:016x}"
            if kind == "two keys":
                made.append(Put(head, VALUE))
                version = id
            await host.commit(Batch(id, checks, tuple(made)))

    return commit


async def steps(host, count):
    """A run of ``count`` steps; its id."""
    async with Runtime(host, workflows=[many]) as runtime:
        run = await runtime.start("many", count)
        await run.result()
        return run.id


async def replay(host, count):
    """Seconds to take up a suspended run of ``count`` steps again, in a runtime that has never seen it."""

    @workflow(name="waiting", version=1)
    async def waiting(ctx, steps):
        for n in range(steps):
            await ctx.step("add", same, n)
        return await ctx.wait_for_signal("go")

    async with Runtime(host, workflows=[waiting]) as runtime:
        run = await runtime.start("waiting", count)
        await run.settle()
    began = time.perf_counter()
    async with Runtime(host, workflows=[waiting]) as runtime:
        await runtime.signal(run.id, "go", 1)
        await (await runtime.resume(run.id)).result()
        return time.perf_counter() - began


async def measure(host, bare, count, beside=None):
    """Microseconds of a bare write, a commit of each kind and a step, by round, each in turn; and a run taken up again.

    In seconds the latter. A first round is thrown away. ``beside``: what else takes turns with them, by its name.
    """
    works = {"bare": bare} | (beside or {})
    for kind in KINDS:
        works[kind] = await puts(host, kind)
    works["step"] = lambda count: steps(host, count)
    found = {what: [] for what in works}
    for round in range(ROUNDS + 1):
        for what, work in works.items():
            seconds, _ = await timed(work(count // ROUNDS))
            if round:
                found[what].append(seconds / (count // ROUNDS) * 1e6)
    return {"us": found, "resume_1000": statistics.median([await replay(host, 1_000) for _ in range(3)])}


class Bench(DurableObject):
    def __init__(self, ctx, env):
        super().__init__(ctx, env)
        self.host = DurableObjectHost(ctx)
        self.sql = raw_binding(ctx, "blockConcurrencyWhile", "ctx").storage.sql
        self.sql.exec("CREATE TABLE IF NOT EXISTS bare (key TEXT PRIMARY KEY, value BLOB) WITHOUT ROWID")

    async def fetch(self, request):
        query = dict(parse_qsl(urlsplit(request.url).query))
        if "workers" in query:
            workers, name = int(query["workers"]), self.host.entropy(6).hex()
            return Response(json.dumps(await claims(self.host, workers, int(query["count"]), name)))
        count, written = int(query["count"]), 0

        async def bare(count, every=None):
            nonlocal written
            name = self.host.entropy(6).hex()
            for n in range(count):
                written += 1
                if every and written % every == 0:
                    await scheduler.wait(0)
                self.sql.exec("INSERT INTO bare VALUES (?, ?)", f"h/{name}/{n:06d}", to_js(VALUE))

        beside = {
            "bare, with turns": lambda count: bare(count, durable_object._TURN_COMMITS),
            "step, in memory": lambda count: steps(MemoryHost(), count),
        }
        if "only" in query:
            works = {"bare": bare, "step": lambda count: steps(self.host, count), **beside}
            spent, _ = await timed(works[query["only"]](count))
            return Response(json.dumps({"us": spent / count * 1e6}))
        return Response(json.dumps(await measure(self.host, bare, count, beside)))


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        url = urlsplit(request.url)
        count = int(dict(parse_qsl(url.query)).get("count", "0"))
        if url.path == "/object":
            return await self.env.BENCH.get(self.env.BENCH.idFromName("bench")).fetch(request)
        return Response(json.dumps(await getattr(self, url.path.strip("/"))(count)))

    async def d1(self, count):
        db = raw_binding(self.env.DB, "prepare", "D1")
        host = D1Host(db)
        await db.prepare("CREATE TABLE IF NOT EXISTS bare (key TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID").run()

        async def bare(count):
            put, name = db.prepare("INSERT INTO bare VALUES (?, ?)"), host.entropy(6).hex()
            for n in range(count):
                await put.bind(f"h/{name}/{n:06d}", "x" * 188).run()

        found = await measure(host, bare, count)
        host.new_invocation()
        await steps(host, count)
        return found | {"queries": host.queries, "round_trips": host.round_trips}

    async def kv(self, count):
        kv = raw_binding(self.env.KV, "getWithMetadata", "KV")
        host = KVHost(kv, single_writer=True)

        async def bare(count):
            name = host.entropy(6).hex()
            for n in range(count):
                await kv.put(f"bare/{name}/{n:06d}", to_js(VALUE))

        found = await measure(host, bare, count)
        before = host.operations
        await steps(host, count)
        return found | {"operations": host.operations - before}

    async def ready(self, count):
        return "ok"
