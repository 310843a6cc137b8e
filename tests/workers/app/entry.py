"""The test Worker for the current runtime: every binding, two Durable Objects and the ready-made classes, by path."""

import json
from urllib.parse import parse_qs, urlsplit

import flows
import suite
from boards import Boards as Boards
from flows import WORKFLOWS
from workers import DurableObject, Response, WorkerEntrypoint, import_from_javascript

from alkaline_edge import Runtime
from alkaline_hosts._cloudflare.platform import raw_binding
from alkaline_hosts.cloudflare_kv import KVArchive, KVHost
from alkaline_hosts.d1 import D1Host
from alkaline_hosts.durable_object import DurableObjectHost
from alkaline_hosts.memory import MemoryHost
from alkaline_hosts.otlp import OtlpExporter
from alkaline_hosts.worker import Access, DurableRuns, WorkerRuns, runs_object

INVOCATIONS = []
"""The hosts that this Worker has made, one for each invocation."""


def env():
    return import_from_javascript("cloudflare:workers").env


def parts_of(request):
    url = urlsplit(request.url)
    return [part for part in url.path.split("/") if part], {k: v[0] for k, v in parse_qs(url.query).items()}


class Runs(DurableRuns, DurableObject):
    """The ready-made class, with ways to break its alarm."""

    workflows = WORKFLOWS
    mcp = "mcp"
    ag_ui = {"agent": "assistant"}  # noqa: RUF012  # as a user writes it
    failures = late_failures = 0

    async def fail_alarms(self, times, late_times):
        self.failures, self.late_failures = times, late_times

    async def failures_left(self):
        return self.failures + self.late_failures

    async def lose_alarm(self):
        await self._host.set_alarm(None)

    async def alarm(self, *info):
        if self.failures:
            self.failures -= 1
            raise RuntimeError("this alarm was told to fail")
        await super().alarm(*info)
        if self.late_failures:
            self.late_failures -= 1
            raise RuntimeError("this alarm was told to fail when its work was done")


class SealedRuns(DurableRuns, DurableObject):
    """The ready-made class on a sealed store."""

    workflows = WORKFLOWS

    def make_host(self, ctx, env):
        self.storage = raw_binding(ctx, "blockConcurrencyWhile", "the ctx of a Durable Object").storage
        return suite.sealed(super().make_host(ctx, env))

    async def stored(self):
        """Everything in the object's table, as it lies there."""
        found = []
        for key, value in self.storage.sql.exec("SELECT key, value FROM alkaline_entries ORDER BY key").raw().toArray():
            found.append([key, bytes(value.to_py()).hex()])
        return json.dumps(found)


class SeenRuns(DurableRuns, DurableObject):
    """The ready-made class as an operator has it: with a token, an inspector on another origin, and a collector."""

    workflows = WORKFLOWS

    def __init__(self, ctx, env):
        self.origins = [env.ORIGIN]
        self.runtime_options = {"on_event": OtlpExporter(env.COLLECTOR)}
        super().__init__(ctx, env)

    def make_access(self, env):
        return Access(env.TOKEN)


class ObjectMaker:
    """A fresh store in this object: an empty table."""

    def __init__(self, ctx):
        self.ctx = ctx

    async def open(self):
        return DurableObjectHost(self.ctx, alarm=False)

    async def destroy(self):
        self.ctx._ctx.storage.sql.exec("DROP TABLE IF EXISTS alkaline_entries")


class ObjectAndKVMaker(ObjectMaker):
    """The same with large values in KV."""

    async def open(self):
        return KVHost(env().KV, coordinator=DurableObjectHost(self.ctx, alarm=False), large=1000)


class SealedObjectMaker(ObjectMaker):
    """The same, sealed."""

    async def open(self):
        return suite.sealed(await super().open())


class Store(DurableObject):
    """A bare host in an object."""

    def __init__(self, ctx, env):
        super().__init__(ctx, env)
        self.host = DurableObjectHost(ctx)

    async def fetch(self, request):
        (_, _, op), query = parts_of(request)
        maker = {"conformance": ObjectMaker, "coordinating": ObjectAndKVMaker, "sealed": SealedObjectMaker}.get(op)
        if maker is not None:
            return Response(await suite.conformance(lambda: fresh(maker(self.ctx)), query.get("only")))
        return Response(json.dumps(await getattr(suite, op)(self.host, **query)))

    async def alarm(self):
        self.host.alarm_fired()


class Default(WorkerRuns, WorkerEntrypoint):
    """Every other path; /runs is the ready-made Worker on D1."""

    workflows = WORKFLOWS

    @property
    def runtime_options(self):
        return {"lease": float(env().LEASE)}

    async def fetch(self, request):
        (kind, *rest), query = parts_of(request)
        if kind == "runs":
            return await super().fetch(request)
        if kind == "runs-of":
            return await runs_object(self.env.RUNS, rest[0]).fetch(request)
        if kind == "sealed-runs-of":
            return await runs_object(self.env.SEALED, rest[0]).fetch(request)
        if kind == "seen-runs-of":
            return await runs_object(self.env.SEEN, rest[0]).fetch(request)
        if kind == "object":
            return await self.env.STORE.get(self.env.STORE.idFromName(rest[0])).fetch(request)
        return Response(await getattr(self, f"on_{kind}")(*rest, **query))

    async def on_d1(self, op, only=None, **query):
        if op == "conformance":
            return await suite.conformance(lambda: fresh(suite.D1Maker(env().DB)), only)
        return json.dumps(await getattr(suite, op)(D1Host(env().DB), **query))

    async def on_d1_faults(self, op, **query):
        return json.dumps(await getattr(suite, op)(env().DB, **query))

    async def on_kv(self, op, only=None, **query):
        makers = {
            "plain": lambda: suite.KVMaker(env().KV),
            "single": lambda: suite.KVMaker(env().KV, single_writer=True),
            "coordinated": lambda: suite.CoordinatedMaker(env().KV, env().DB),
        }
        if op in makers:
            return await suite.conformance(lambda: fresh(makers[op]()), only)
        return json.dumps(await getattr(suite, op)(KVHost(env().KV, single_writer=True), **query))

    async def on_rpc(self, name, method, args="[]", of="RUNS"):
        stub = runs_object(getattr(env(), of), name)
        found = await getattr(stub, method)(*[suite.to_rpc(arg) for arg in json.loads(args)])
        return json.dumps(suite.from_rpc(found))

    async def on_stored(self, name):
        return await runs_object(env().SEALED, name).stored()

    async def on_marks(self, run):
        """How often each step of the run was executed."""
        names = [key.name for key in (await env().KV.list(suite.to_rpc({"prefix": f"mark/{run}/"}))).keys]
        steps = [name.split("/")[2] for name in names]
        return json.dumps({step: steps.count(step) for step in sorted(set(steps))})

    async def on_count(self, steps):
        """The queries and round trips of a run of so many steps on D1."""
        host = D1Host(env().DB)
        async with Runtime(host, workflows=WORKFLOWS) as runtime:
            run = await runtime.start("many", int(steps))
            await run.result()
            return json.dumps({"queries": host.queries, "round_trips": host.round_trips})

    def make_host(self):
        host = super().make_host()
        INVOCATIONS.append(host)
        return host

    async def on_invocations(self):
        """How many queries each invocation of the ready-made Worker has made, and how often a step was called."""
        return json.dumps({"queries": [host.queries for host in INVOCATIONS], "counted": flows.counted})

    async def on_archive(self, id):
        """Move a finished run from D1 into KV; the bundle, and whether D1 still has the run."""
        async with self.new_runtime() as runtime:
            archive = KVArchive(env().KV)
            await archive.store(runtime, id, delete=True)
            page = await runtime.list_executions()
            bundle = await archive.load(id)
        async with Runtime(MemoryHost(), workflows=WORKFLOWS) as runtime:
            await runtime.import_(bundle)
            events = len(await runtime.history(id))
        return json.dumps({"left": [run.id for run in page if run.id == id], "events": events})

    async def on_random(self):
        host = D1Host(env().DB)
        return json.dumps([host.entropy(16).hex(), runtime_id()])


def runtime_id():
    import random
    import uuid

    return f"{uuid.uuid4()} {random.random()}"


async def fresh(maker):
    await maker.destroy()
    return maker
