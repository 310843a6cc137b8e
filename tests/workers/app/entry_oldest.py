"""The test Worker for the oldest runtime: on_fetch, D1 and KV, nothing else."""

import json
from urllib.parse import parse_qs, urlsplit

import suite
from js import Response

from alkaline_edge import Runtime, workflow
from alkaline_hosts.cloudflare_kv import KVHost
from alkaline_hosts.d1 import D1Host

executed = []


@workflow(name="approval", version=1)
async def approval(ctx, topic):
    """A step, a wait for a signal, a short sleep, a step."""
    await ctx.step("draft", executed.append, "draft")
    answer = await ctx.wait_for_signal("approve")
    await ctx.sleep(0.1)
    await ctx.step("send", executed.append, "send")
    return f"{topic}: {answer}"


async def approved(make_host):
    """Start a run in one runtime, approve and finish it in another, as two invocations would."""
    executed.clear()
    first = make_host()
    async with Runtime(first, workflows=[approval]) as runtime:
        run = await runtime.start("approval", "launch", id="exe_1")
        await run.settle()
        waiting = (await runtime.get_execution("exe_1")).waiting
    async with Runtime(make_host(), workflows=[approval]) as runtime:
        await runtime.signal("exe_1", "approve", "ann")
        result = await (await runtime.resume("exe_1")).result(30)
    return json.dumps([waiting, result, executed])


async def on_fetch(request, env, ctx):
    url = urlsplit(request.url)
    kind, op = [part for part in url.path.split("/") if part]
    query = {k: v[0] for k, v in parse_qs(url.query).items()}
    if kind == "approval":
        hosts = {"d1": lambda: D1Host(env.DB), "kv": lambda: KVHost(env.KV, single_writer=True)}
        return Response.new(await approved(hosts[op]))
    makers = {
        "d1": lambda: suite.D1Maker(env.DB, max_row=1_000_000),
        "sealed": lambda: suite.Sealed(suite.D1Maker(env.DB, max_row=1_000_000)),
        "plain": lambda: suite.KVMaker(env.KV),
        "single": lambda: suite.KVMaker(env.KV, single_writer=True),
        "coordinated": lambda: suite.CoordinatedMaker(env.KV, env.DB, max_row=1_000_000),
    }

    async def make():
        maker = makers[op if op in makers else kind]()
        await maker.destroy()
        return maker

    return Response.new(await suite.conformance(make, query.get("only")))
