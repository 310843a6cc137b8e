"""examples/support_agent/worker.py, with its requests counted in KV; the first that is the third never ends."""

import asyncio
import json
import os

import support
import worker
from workers import import_from_javascript

from alkaline_hosts.worker import runs_object


class Counting(support.Place):
    """One mark for each request."""

    async def requested(self, number):
        marks = import_from_javascript("cloudflare:workers").env.MARKS
        await marks.put(f"{number}/{os.urandom(8).hex()}", "")
        if number == 3 and await counted(marks, number) == 1:
            await asyncio.sleep(3600)


async def counted(marks, number):
    return len((await marks.list(prefix_of(number))).keys)


def prefix_of(number):
    import js
    from pyodide.ffi import to_js

    return to_js({"prefix": f"{number}/"}, dict_converter=js.Object.fromEntries)


support.place = Counting()
Runs = worker.Runs


class Default(worker.Default):
    async def fetch(self, request):
        if not str(request.url).endswith("/marks"):
            return await runs_object(self.env.RUNS, "all").fetch(request)
        from workers import Response

        marks = import_from_javascript("cloudflare:workers").env.MARKS
        return Response(json.dumps([await counted(marks, number) for number in (1, 2, 3)]))
