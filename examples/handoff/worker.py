"""The Worker in the middle of the journey: one Durable Object that takes runs over, and hands them on."""

from agent import journey
from workers import DurableObject, WorkerEntrypoint

from alkaline_hosts.worker import Access, DurableRuns, runs_object


class Runs(DurableRuns, DurableObject):
    """Holds the run while it is at the edge."""

    workflows = (journey,)
    origins = ()

    def __init__(self, ctx, env):
        self.origins = (env.ORIGIN,)
        super().__init__(ctx, env)

    def make_access(self, env):
        """Whoever has the token may move runs."""
        return Access(env.TOKEN)


class Default(WorkerEntrypoint):
    """Everything is for the object."""

    async def fetch(self, request):
        """Pass the request on."""
        return await runs_object(self.env.RUNS, "all").fetch(request)
