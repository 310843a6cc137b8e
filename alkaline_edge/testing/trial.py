"""A workflow on trial: a runtime on a simulated host, whose time passes by itself, and which may be killed."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from .. import events as ev
from .. import keys, lifecycle
from ..arguments import expect, several
from ..codec import Codec
from ..errors import ConflictError, InvalidInput
from ..replay import check, read
from ..runtime.runtime import Run, Runtime
from ..workflows import Workflow
from .simulated import SimulatedCrash, SimulatedHost
from .stubbing import Sent, Stubs, watching

LEASE = 10.0
"""Seconds of virtual time that a dead process keeps its runs from the next one."""
_PAGE = 500


def _of_no_crash(record: logging.LogRecord) -> bool:
    """What a process that was killed says of it is no news to who has killed it."""
    return record.exc_info is None or not isinstance(record.exc_info[1], SimulatedCrash)


class TrialRun(Run):
    """A run of a trial. Its signals may be sent again, as by a script that is begun again: each counts once."""

    def __init__(self, trial: Trial, runtime: Runtime, id: str) -> None:
        super().__init__(runtime, id)
        self._trial = trial

    async def signal(self, name: str, payload: Any = None, dedupe: str | None = None) -> None:
        """As ``Runtime.signal``, with ``payload``; without ``dedupe`` it has one of its place in the script."""
        key = dedupe or self._trial.place(f"{self.id} {name}")
        again = key in self._trial.signalled
        self._trial.signalled.add(key)
        try:
            await super().signal(name, payload, key)
        except ConflictError:
            if not again:  # otherwise it may be what has ended the run
                raise


class Trial:
    """``workflows`` on trial: ``async with Trial(flow, stubs={"search": ["a"]}) as trial``.

    Time is virtual: a run that sleeps for a month ends at once, and only while something waits for it. ``stubs`` has,
    by the name of a step, what takes its place: a function with the step's parameters, an error to raise, or a value to
    return; ``compensate NAME`` is what undoes it. With ``only_stubs`` a step without one is ERR_INVALID_INPUT in the
    handler. ``seed`` fixes what is drawn. ``codec`` and ``options`` are Runtime's, such as ``budget=`` or ``retry=``.

    ``runtime`` and ``host`` are the process that lives now, ``events`` what ``on_event`` was told by all of them,
    ``sent`` each attempt of a step that was begun.
    """

    def __init__(
        self,
        *workflows: Workflow,
        stubs: Mapping[str, Any] | None = None,
        only_stubs: bool = False,
        seed: int = 0,
        host: SimulatedHost | None = None,
        codec: Codec | None = None,
        **options: Any,
    ) -> None:
        expect(only_stubs, bool, "Trial(only_stubs=)", "True or False")
        expect(host, (SimulatedHost, type(None)), "Trial(host=)", "a SimulatedHost")
        self._stubs = Stubs(stubs, only_stubs)
        self._options = {"lease": LEASE, **options}
        self._codec = codec
        self.host = host or SimulatedHost(seed=seed)
        self.events: list[lifecycle.LifecycleEvent] = []
        self._given: list[Workflow] = []
        self._places: dict[str, int] = {}
        self.signalled: set[str] = set()
        """The dedupe keys of the signals that were sent, by any process."""
        self._begin(workflows)

    def _begin(self, workflows: Any) -> None:
        given = several(workflows, "Trial(*workflows)", "workflows") or self._given
        for each in given:
            expect(each, Workflow, "a workflow of a Trial", "a function with @workflow")
        self._given = given
        self._places.clear()
        logging.getLogger("alkaline_edge").addFilter(_of_no_crash)
        self.runtime = Runtime(
            self.host, workflows=watching(given, self._stubs), on_event=self._told, codec=self._codec, **self._options
        )

    def _told(self, event: lifecycle.LifecycleEvent) -> None:
        self.events.append(event)
        if isinstance(event, lifecycle.StepFinished):
            self._stubs.finished(event.id, event.command)

    def place(self, what: str) -> str:
        """A name for the next time that the script does ``what``: the same one when it is begun again."""
        self._places[what] = self._places.get(what, 0) + 1
        return f"trial {what} {self._places[what]}"

    @property
    def sent(self) -> list[Sent]:
        """Each attempt of a step that was begun, in order."""
        return self._stubs.sent

    async def __aenter__(self) -> Trial:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End the process that lives now."""
        with contextlib.suppress(SimulatedCrash):
            await self.runtime.close()

    # --- runs ------------------------------------------------------------------------------------------------------
    async def start(
        self, workflow: Workflow | str, input: Any = None, id: str | None = None, **options: Any
    ) -> TrialRun:
        """Start a run on ``input``, as ``Runtime.start``, or join it where an earlier process has started it.

        Without an ``id`` it gets one of its place in the script. A version that is not the newest, which no new run
        gets, is ERR_INVALID_INPUT.
        """
        name = workflow.name if isinstance(workflow, Workflow) else workflow
        chosen = id or self.place(f"run of {name}").removeprefix("trial ").replace(" ", "-")
        definition = self.runtime.registry.newest(name)
        if isinstance(workflow, Workflow):
            definition = self.runtime.registry.exact(workflow.name, workflow.version)
            if definition is not self.runtime.registry.newest(name):
                raise InvalidInput(f"a new run gets the newest version of {name!r}: leave newer ones out of this trial")
        run = await self.runtime.start(definition, input, chosen, "join", **options)
        return TrialRun(self, self.runtime, run.id)

    async def given(self, history: bytes) -> TrialRun:
        """Go on with a run that is on its way: ``history`` is a bundle, as ``export`` and ``alkaline export`` give it.

        Time goes on from its last event.
        """
        events = read(history, self._codec).events()
        self.host.clock.now_ms = max(self.host.clock.now_ms, events[-1][0])
        run = await self.runtime.import_(history, "copy")
        record = await self.runtime.get_execution(run.id)
        for _, event in events:
            if isinstance(event, (ev.StepCompleted, ev.StepFailed)):
                self._stubs.settled.add(f"{record.run}.{record.generation}.{event.id}")
        await self.runtime.resume(run.id)
        return TrialRun(self, self.runtime, run.id)

    async def history(self, id: str) -> bytes:
        """A run as a bundle: what ``given``, ``replay`` and golden files take."""
        return await self.runtime.export(id)

    async def crash(self, *workflows: Workflow) -> Runtime:
        """Kill the process without a goodbye, let its leases run out, and begin the next one, with ``workflows``.

        Without any, with those of before. Runs that were under way are taken up.
        """
        self.host.dead = True
        await self.close()
        self.host = self.host.reopen()
        self.host.advance(LEASE + 1)
        self._begin(workflows)
        for record in await self._records():
            if record.moved_to is None:
                for recorded in await self.runtime.history(record.id):
                    if isinstance(recorded.event, (ev.StepCompleted, ev.StepFailed)):
                        self._stubs.settled.add(f"{record.run}.{record.generation}.{recorded.event.id}")
        await self.runtime.recover()
        return self.runtime

    async def _records(self) -> list[Any]:
        found: list[Any] = []
        after: str | None = ""
        while after is not None:
            page = await self.runtime.list_executions(after=after, limit=_PAGE)
            found += page.items
            after = page.after
        return found

    # --- what must hold --------------------------------------------------------------------------------------------
    async def assert_nothing_left(self) -> None:
        """AssertionError unless all runs have ended, nobody's request is left, and each stub was wanted."""
        left: list[str] = []
        for _ in range(100):  # children that are cancelled end after their parent
            if not self.runtime.active():
                break
            await self.host.sleep(0.1)
        for record in await self._records():
            if not record.finished:
                waits = f", and waits for {', '.join(record.waiting)}" if record.waiting else ""
                stuck = self.runtime.stuck.get(record.id)
                left.append(f"run {record.id} is {record.status}{waits}{f': {stuck}' if stuck else ''}")
            asked = await self.host.list(keys.requests(record.id), "", _PAGE)
            left += [f"a request to run {record.id} is not taken up"] if asked else []
        left += [f"the stub {name!r} was not wanted: no step has that name" for name in self._stubs.unused]
        if left:
            raise AssertionError("something is left:\n  " + "\n  ".join(left))

    def assert_sent_once(self) -> None:
        """AssertionError where a step was begun whose outcome the store held: a replay has sent something twice."""
        twice = [f"step {one.step!r} of run {one.run} (command {one.command})" for one in self.sent if one.again]
        if twice:
            raise AssertionError("begun again although their outcome was recorded:\n  " + "\n  ".join(twice))

    async def assert_replays(self) -> None:
        """AssertionError unless the code goes on with the history of each run; nothing is sent for it."""
        before = len(self.sent)
        for record in await self._records():
            assert_replays(await self.runtime.export(record.id), self._given, self._codec)
        if len(self.sent) != before:
            raise AssertionError("a replay has begun a step")


def assert_replays(history: bytes, workflows: Workflow | list[Workflow], codec: Codec | None = None) -> None:
    """AssertionError unless ``workflows`` go on with ``history``, a bundle; it says what would mend them.

    ``codec``: that of the runtime which wrote it, where types are registered on it.
    """
    (found,) = check({"history": history}, workflows, codec)
    if not found.ok:
        mend = f"\nto mend it: {found.mend}" if found.mend else ""
        raise AssertionError(f"{found.run or 'the history'} does not go on ({found.verdict}): {found.message}{mend}")
