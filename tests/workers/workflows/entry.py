"""The workflows in two engines of one Worker: Cloudflare's own, and this kernel in a Durable Object."""

import json

from shop import Attempts, Order
from workers import DurableObject, Response, WorkerEntrypoint

from alkaline_hosts.cloudflare_workflows import stand_in_for_workers, workflow_of
from alkaline_hosts.worker import DurableRuns, runs_object

stand_in_for_workers()  # does nothing here
__all__ = ["Attempts", "Default", "Order", "Runs"]


class Runs(DurableRuns, DurableObject):
    """The same classes on this kernel."""

    workflows = (workflow_of(Order), workflow_of(Attempts))


class Default(WorkerEntrypoint):
    """``/theirs/ID`` starts, signals or shows an instance of Cloudflare's; all else goes to the object."""

    async def fetch(self, request):
        """By the path's first part and the method."""
        parts = request.url.split("/", 3)[3].split("/")
        if parts[0] != "theirs":
            return await runs_object(self.env.RUNS, "all").fetch(request)
        binding = getattr(self.env, parts[1].upper())
        if request.method == "POST" and len(parts) == 3:
            await binding.create({"id": parts[2], "params": json.loads(await request.text())})
            return Response.json({"id": parts[2]})
        instance = await binding.get(parts[2])
        if request.method == "POST":
            await instance.sendEvent({"type": parts[3], "payload": json.loads(await request.text())})
        status = await instance.status()
        return Response.json({"status": status.status, "output": status.output, "error": str(status.error)})
