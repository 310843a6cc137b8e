"""Ready-made classes for a Cloudflare Python Worker: an author writes workflows, and these hold the runtime.

    from workers import DurableObject, WorkerEntrypoint
    from alkaline_hosts.worker import DurableRuns, runs_object

    class Runs(DurableRuns, DurableObject):
        workflows = (research,)

    class Default(WorkerEntrypoint):
        async def fetch(self, request):
            return await runs_object(self.env.RUNS, "all").fetch(request)

**One object for many runs, or one for each.** The class is the same; the name that you give the object decides.

- One object for many, named "all" say: it lists its runs, a parent waits for its children, runs share a budget, and one
  alarm serves them. All of them share one thread, one place on earth, and 10 GB: about 3,000 steps a second that do
  nothing else, measured locally. A step that computes holds up the others; one that waits does not.
- One object for each run, named by the run's id: each has a thread, 10 GB and an alarm of its own, near who asked for
  it first. But no object can list what the others hold, so keep an index elsewhere if you need one; a run can't wait
  for a child in another object; and an object that is asked for a run that it does not hold comes into being for it.

Begin with one for many, and give each user or tenant one of its own before a thread becomes the limit.

``WorkerRuns`` does the same without objects, on D1: every request and every cron trigger makes a runtime of its own,
and leases keep two of them from advancing one run.

The classes are mixins, since the SDK's base classes can be imported in a Worker alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from importlib import import_module
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

from alkaline_edge import Runtime
from alkaline_edge.board import drive
from alkaline_edge.host import Host
from alkaline_edge.retention import Retention
from alkaline_edge.triggers import Triggers
from alkaline_edge.workflows import Workflow

from ._cloudflare.http import respond
from ._http.api import HttpApi
from ._http.runs import RunsApi
from ._http.signing import Access as Access  # for authors, who override make_access
from ._http.verbs import RunVerbs, perform

__all__ = ["Access", "DurableRuns", "WorkerRuns", "runs_object"]

for _module in ("machine.branches", "machine.passing", "machine.loop.completing", "machine.loop.discarding",
                "runtime.listing"):  # fmt: skip
    # Elsewhere what not every program needs is imported when it is first needed. A Worker is loaded before it is asked
    # for anything, and what it has loaded is kept in its snapshot: so no request waits for it.
    import_module(f"alkaline_edge.{_module}")

_WAKE_SECONDS = 5.0
"""For how long an alarm waits for what it woke. What takes longer goes on, and the next alarm looks after it."""


def runs_object(namespace: Any, name: str) -> Any:
    """The stub of the object ``name`` in a Durable Object binding: ``fetch`` it, or call its methods over RPC."""
    return namespace.get(namespace.idFromName(name))


class DurableRuns(RunVerbs):
    """A Durable Object that holds runs; put it before ``DurableObject`` among the bases.

    ``workflows`` are what it can run, ``runtime_options`` go to its Runtime. Every method of ``RunVerbs`` is
    callable over RPC, with and returning plain values, and ``fetch`` offers them over HTTP (see ``_http.routes``).
    Where ``make_access`` says who may ask, runs are moved over HTTP as well; ``origins`` are the web origins whose
    pages may ask, ``hosts`` the names by which it is asked where everybody may (none: any name;
    ``hosts = ("localhost",)`` on a developer's machine). The alarm wakes due timers, and runs that an earlier life of
    the object left behind, starts what schedules ask for (``triggers`` has their verbs), does what comes due on
    boards, and purges by the rules of ``retention``. ``mcp``: the last part of the path at which the object is an MCP
    server as well, whose tools are the workflows; "" for none. ``ag_ui``: workflows that are agents of AG-UI, each by
    the last part of its path: ``ag_ui = {"agent": "assistant"}``.
    """

    workflows: Sequence[Workflow] = ()
    runtime_options: Mapping[str, Any] = MappingProxyType({})
    origins: Sequence[str] = ()
    hosts: Sequence[str] = ()
    mcp: str = ""
    ag_ui: Mapping[str, str] = MappingProxyType({})

    def __init__(self, ctx: Any, env: Any) -> None:
        super().__init__(ctx, env)  # type: ignore[call-arg]  # the next base is workers.DurableObject
        self._host: Any = self.make_host(ctx, env)
        self._runtime = Runtime(self._host, workflows=self.workflows, **self.runtime_options)
        self.triggers = Triggers(self._runtime)
        self.retention = Retention(self._runtime)
        drive(self._runtime)
        self._api = RunsApi(self._runtime)
        self._access = self.make_access(env)
        self._http = HttpApi(self._runtime, self._access, self.origins, hosts=self.hosts or None)
        self._served: dict[str, HttpApi] = {}
        self._streams: set[asyncio.Future[None]] = set()
        self._taken_up = False

    def make_host(self, ctx: Any, env: Any) -> Any:
        """The store in this object. Override it to seal it: put a SealedHost around ``super().make_host(ctx, env)``."""
        from .durable_object import DurableObjectHost

        return DurableObjectHost(ctx)

    async def fetch(self, request: Any) -> Any:
        """The verbs over HTTP."""
        await self._take_up()
        last = urlsplit(str(request.url)).path.rstrip("/").rpartition("/")[2]
        return await respond(self._served_at(last) or self._http, request, self._streams)

    def _served_at(self, last: str) -> HttpApi | None:
        """What is asked at a path that ends so, if it is not the verbs. A Worker pays for each import at its start."""
        if last in self._served or last not in ({self.mcp} - {""} | self.ag_ui.keys()):
            return self._served.get(last)
        access, origins, hosts = self._access, self.origins, self.hosts or None
        if last == self.mcp:
            from ._mcp.server import McpApi

            self._served[last] = McpApi(self._runtime, access, origins, hosts=hosts)
        else:
            from ._agui.agent import AgentApi

            self._served[last] = AgentApi(self._runtime, self.ag_ui[last], access, origins, hosts=hosts)
        return self._served[last]

    def make_access(self, env: Any) -> Access | None:
        """Who may ask over HTTP; override it: ``return Access(env.TOKEN)``. None: everybody, and no run is moved."""
        return None

    async def alarm(self, *_: Any) -> None:
        """Wake what is due. An error is raised once the alarm is set again; the platform then repeats the alarm."""
        self._host.alarm_fired()
        self._taken_up = True
        work = asyncio.ensure_future(self._wake())
        try:
            await asyncio.wait({work}, timeout=_WAKE_SECONDS)
        finally:
            await self._host.repair_alarm(idle=work.done() and not self._runtime.active())
        if work.done():
            work.result()

    async def _wake(self) -> None:
        recovered = await self._runtime.recover()
        await self._runtime.run_due()
        for run in recovered:
            await run.settle()

    async def _take_up(self) -> None:
        """Once in the object's life: set a lost alarm again, and go on with what an earlier life left running."""
        if not self._taken_up:
            self._taken_up = True
            await self._host.repair_alarm()
            await self._runtime.recover()

    async def _do(self, verb: str, /, **given: Any) -> Any:
        """A verb over RPC."""
        await self._take_up()
        return await perform(self._api, verb, given)


class WorkerRuns:
    """A Worker that holds its runs in D1; put it before ``WorkerEntrypoint`` among the bases.

    ``fetch`` offers the verbs over HTTP and answers as soon as they are durable; what they set in motion goes on behind
    the answer, as long as the platform lets an invocation live (30 s after the response). A cron trigger drives
    ``scheduled``: due timers, and runs whose invocation ended before they did. Without one, nothing wakes them.

    ``database`` is the name of the D1 binding; override ``make_host`` for another store. ``max_queries``: how many an
    invocation may make, less those of the steps' own; the free plan has 50. Near it nothing new is started, and the
    next cron trigger goes on from there.
    """

    workflows: Sequence[Workflow] = ()
    runtime_options: Mapping[str, Any] = MappingProxyType({})
    origins: Sequence[str] = ()
    hosts: Sequence[str] = ()
    database = "DB"
    max_queries = 1_000

    env: Any
    ctx: Any

    def make_host(self) -> Host:
        """The store of one invocation."""
        from .d1 import D1Host

        return D1Host(getattr(self.env, self.database), max_queries=self.max_queries)

    async def fetch(self, request: Any) -> Any:
        """The verbs over HTTP."""
        runtime = self.new_runtime()
        touched: set[str] = set()
        api = HttpApi(runtime, self._access(), self.origins, hosts=self.hosts or None, touched=touched)
        streams: set[asyncio.Future[None]] = set()
        response = await respond(api, request, streams)
        self.ctx.waitUntil(_finish(runtime, touched, streams))
        return response

    def _access(self) -> Access | None:
        """One for all invocations of an isolate: it remembers which signed requests came before."""
        kind: Any = type(self)
        if "_kept_access" not in vars(kind):
            kind._kept_access = self.make_access(self.env)
        kept: Access | None = kind._kept_access
        return kept

    def make_access(self, env: Any) -> Access | None:
        """Who may ask over HTTP; override it: ``return Access(env.TOKEN)``. None: everybody, and no run is moved."""
        return None

    async def scheduled(self, *_: Any) -> None:
        """Wake what is due and take up what was left, until it rests."""
        async with self.new_runtime() as runtime:
            for run in await runtime.recover():
                await run.settle()
            await runtime.run_due()

    def new_runtime(self) -> Runtime:
        """A runtime for this invocation; use it as ``async with``."""
        host = self.make_host()
        runtime = Runtime(host, workflows=self.workflows, **self.runtime_options)
        Triggers(runtime)
        Retention(runtime)
        drive(runtime)
        when_low = getattr(host, "when_low", None)
        if when_low is not None:
            when_low(runtime.drain)
        return runtime


async def _finish(runtime: Runtime, ids: set[str], streams: set[asyncio.Future[None]]) -> None:
    """Let the runs of an invocation come to rest, and its stream end, then hand back what it holds."""
    await asyncio.gather(*streams)
    for id in ids:
        await runtime.settle(id)
    await runtime.close()
