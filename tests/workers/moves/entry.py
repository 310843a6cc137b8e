"""A Worker that keeps runs in D1 and lets in signed requests."""

from agent import journey
from workers import WorkerEntrypoint

from alkaline_hosts.worker import Access, WorkerRuns


class Default(WorkerRuns, WorkerEntrypoint):
    """Everything over HTTP, on D1."""

    workflows = (journey,)

    def make_access(self, env):
        """Requests signed by the laptop."""
        return Access(keys={"laptop": env.SECRET})
