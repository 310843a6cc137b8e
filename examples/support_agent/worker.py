"""The support agent in a Cloudflare Worker: its runs in a Durable Object, asked for over HTTP (docs/http.md).

    POST /runs                        {"workflow": "help_out", "input": "Please refund order 7", "id": "order-7"}
    GET  /runs/order-7/stream         what happens, as it happens, and the model's words
    POST /runs/order-7/signals/event:...     {"approvals": {...}}: the record says which signal is waited for

The variable ORDERS is the address of the shop's MCP server.
"""

import os

import support
from workers import DurableObject, WorkerEntrypoint

from alkaline_hosts.worker import DurableRuns, runs_object


class Runs(DurableRuns, DurableObject):
    """All runs, in one object."""

    workflows = (support.help_out,)

    def __init__(self, ctx, env):
        os.environ["ORDERS"] = str(env.ORDERS)
        super().__init__(ctx, env)


class Default(WorkerEntrypoint):
    """Hands each request to the object."""

    async def fetch(self, request):
        """Answer it."""
        return await runs_object(self.env.RUNS, "all").fetch(request)
