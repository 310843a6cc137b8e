"""The test Worker for the oldest runtime: on_fetch, D1 and KV, nothing else."""

from urllib.parse import parse_qs, urlsplit

import suite
from js import Response


async def on_fetch(request, env, ctx):
    url = urlsplit(request.url)
    kind, op = [part for part in url.path.split("/") if part]
    query = {k: v[0] for k, v in parse_qs(url.query).items()}
    makers = {
        "d1": lambda: suite.D1Maker(env.DB, max_row=1_000_000),
        "plain": lambda: suite.KVMaker(env.KV),
        "single": lambda: suite.KVMaker(env.KV, single_writer=True),
        "coordinated": lambda: suite.CoordinatedMaker(env.KV, env.DB, max_row=1_000_000),
    }

    async def make():
        maker = makers[op if kind == "kv" else kind]()
        await maker.destroy()
        return maker

    return Response.new(await suite.conformance(make, query.get("only")))
