"""The test Worker for the current runtime: every binding, and a Durable Object, behind plain paths."""

import json
from urllib.parse import parse_qs, urlsplit

import suite
from flows import WORKFLOWS
from workers import DurableObject, Response, WorkerEntrypoint, import_from_javascript

from alkaline_hosts.d1 import D1Host
from alkaline_hosts.durable_object import DurableObjectHost
from alkaline_hosts.worker import DurableRuns, runs_object


def parts_of(request):
    url = urlsplit(request.url)
    return [part for part in url.path.split("/") if part], {k: v[0] for k, v in parse_qs(url.query).items()}


class Runs(DurableRuns, DurableObject):
    workflows = WORKFLOWS


class ObjectMaker:
    """A fresh store in this object: an empty table."""

    def __init__(self, ctx):
        self.ctx = ctx

    async def open(self):
        return DurableObjectHost(self.ctx)

    async def destroy(self):
        self.ctx._ctx.storage.sql.exec("DROP TABLE IF EXISTS alkaline_entries")


class Store(DurableObject):
    def __init__(self, ctx, env):
        super().__init__(ctx, env)
        self.host = DurableObjectHost(ctx)

    async def fetch(self, request):
        (_, _, op), query = parts_of(request)
        if op == "conformance":
            return Response(await suite.conformance(lambda: fresh(ObjectMaker(self.ctx)), query.get("only")))
        return Response(json.dumps(await getattr(self, op)(query)))

    async def append(self, query):
        return await suite.append(self.host, query["log"], int(query["times"]))

    async def audit(self, query):
        return await suite.audit(self.host, query["log"])


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        (kind, *rest), query = parts_of(request)
        env = import_from_javascript("cloudflare:workers").env
        if kind == "runs-of":
            return await runs_object(self.env.RUNS, rest[0]).fetch(request)
        if kind == "object":
            stub = env.STORE.get(env.STORE.idFromName(rest[0]))
            response = await stub.fetch(request.js_object)
            return Response(await response.text(), status=response.status)
        return Response(await getattr(self, f"on_{kind}")(env, rest[0], query))

    async def on_d1(self, env, op, query):
        if op == "conformance":
            return await suite.conformance(lambda: fresh(suite.D1Maker(env.DB)), query.get("only"))
        host = D1Host(env.DB)
        times = [int(query["times"])] if "times" in query else []
        return json.dumps(await getattr(suite, op)(host, query["log"], *times))

    async def on_kv(self, env, op, query):
        makers = {
            "plain": lambda: suite.KVMaker(env.KV),
            "single": lambda: suite.KVMaker(env.KV, single_writer=True),
            "coordinated": lambda: suite.CoordinatedMaker(env.KV, env.DB),
        }
        return await suite.conformance(lambda: fresh(makers[op]()), query.get("only"))


async def fresh(maker):
    await maker.destroy()
    return maker
