"""The Worker: a Durable Object that holds the approval runs, a cron trigger that drives the digest on D1, and a page.

    POST /runs                                start a run           {"workflow": "publish", "input": {"topic", "notes"}}
    POST /runs/ID/signals/decision            approve or reject     {"approved": true, "by": "ann"}
    GET  /runs/ID, /runs/ID/events            where it is, and how it came there
    GET  /                                    the page with the timeline
    GET  /pages/SLUG                          what was published
    GET  /digests/runs, /digests/runs/ID      the runs on D1

Set the secret APPROVAL_KEY, and nobody decides without sending it as a bearer token.
"""

from datetime import UTC, datetime
from hmac import compare_digest
from urllib.parse import urlsplit

from agents import digest, publish
from effects import get_page
from page import PAGE
from workers import DurableObject, Response, WorkerEntrypoint

from alkaline_hosts.worker import DurableRuns, WorkerRuns, runs_object


class Runs(DurableRuns, DurableObject):
    """All approval runs, in one object: it can list them. See alkaline_hosts.worker for one object per run."""

    workflows = (publish,)


class Default(WorkerRuns, WorkerEntrypoint):
    """Routes requests, and runs the digest on D1."""

    workflows = (digest,)

    async def fetch(self, request):
        """Answer a request; the paths are listed above."""
        path = urlsplit(request.url).path
        if path == "/":
            return Response(PAGE, headers={"content-type": "text/html; charset=utf-8"})
        if path.startswith("/pages/"):
            content = await get_page(path.removeprefix("/pages/"))
            html = {"content-type": "text/html; charset=utf-8"}
            return Response(content or "There is no such page.", status=200 if content else 404, headers=html)
        if "/signals/" in path and not self.may_decide(request):
            return Response("Send the approval key as a bearer token.", status=401)
        if path.startswith("/digests/"):
            return await super().fetch(request)
        return await runs_object(self.env.RUNS, "all").fetch(request)

    def may_decide(self, request) -> bool:
        """Whether the request carries the approval key, if one is set."""
        key = getattr(self.env, "APPROVAL_KEY", None)
        sent = request.headers.get("authorization") or ""
        return not key or compare_digest(sent.encode(), f"Bearer {key}".encode())

    async def scheduled(self, *event):
        """Start today's digest if it was not, and wake what is due."""
        today = datetime.now(UTC).date().isoformat()
        async with self.new_runtime() as runtime:
            run = await runtime.start("digest", today, id=f"digest_{today}", on_conflict="join")
            await run.settle()
        await super().scheduled(*event)
