# ruff: noqa: D101, D102 - nothing but what a Worker must have
"""A Worker with nothing in it: what starting costs without us."""

from workers import Response, WorkerEntrypoint


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        return Response('"ok"')
