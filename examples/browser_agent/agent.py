"""What the page can ask of the agent. It runs in Pyodide, in a Web Worker or in the page itself."""

import asyncio
import contextlib
import json

import research as work
from pyodide.ffi import to_js
from research import BUDGET, research

from alkaline_edge import AlkalineError, Runtime, StepInfo
from alkaline_edge.events import AttemptFailed, Emitted, SignalReceived, Spent, StepCompleted, StepFailed
from alkaline_hosts.indexeddb import IndexedDBHost, delete_store

STORE = "alkaline-edge browser agent"
LEASE = 3.0  # seconds after which a closed tab's run may go on in another


class Agent:
    """What the page can ask for. ``tell`` takes a JSON text: the whole state, whenever it changed."""

    def __init__(self, library: str, tell) -> None:
        self.library, self.tell = library, tell
        self.ran: dict[str, int] = {}
        self.replayed: dict[str, tuple[int, int]] = {}  # of a run that was taken up again: how many events, and when
        self.fetching: dict[str, str] = {}
        self.topics: dict[str, str] = {}
        self.trouble: str | None = None
        self.runs = 0
        self.chosen: str | None = None  # an earlier run that somebody looks at
        work.in_flight = self._in_flight
        self._shown = ""
        self._changed = asyncio.Event()

    async def open(self, begin_anew: bool = False) -> None:
        """Open the store, and go on with what an earlier visit left."""
        self.host = IndexedDBHost(STORE, replace_lost=begin_anew)
        await self.host.list("", limit=1)  # a store that is gone says so here
        self.runtime = Runtime(self.host, workflows=[research], on_event=self._on_event, lease=LEASE)
        self._unwatch = self.host.watch(self._changed.set)
        self.trouble = None
        self._tasks = [asyncio.ensure_future(self.runtime.serve()), asyncio.ensure_future(self._show())]
        self._tasks[0].add_done_callback(self._ended)
        self._changed.set()

    def _on_event(self, event) -> None:
        kind = type(event).__name__
        if kind == "RunStuck":
            self.trouble = event.message
        elif kind in ("StepFinished", "RunResumed"):
            self.trouble = None
        if kind == "StepFinished" and event.ok:
            self.ran[event.id] = self.ran.get(event.id, 0) + 1
        elif kind == "RunResumed" and event.replayed:  # 0: it was still in memory
            self.replayed[event.id] = event.replayed + 1, event.at  # with the run's start, which is not counted there
        self._changed.set()

    def _in_flight(self, info: StepInfo, begins: bool) -> None:
        if begins:
            self.fetching[info.run_id] = info.step
        else:
            self.fetching.pop(info.run_id, None)
        self._changed.set()

    def _ended(self, serving: asyncio.Task) -> None:
        if not serving.cancelled() and (error := serving.exception()) is not None:
            self.trouble = str(error)  # nothing goes on until the page is loaded again
            self._changed.set()

    async def _show(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                shown = json.dumps(await self.state())
            except AlkalineError as error:
                shown = json.dumps({"trouble": str(error)})
            if shown != self._shown:
                self._shown = shown
                self.tell(shown)
            await asyncio.sleep(0.05)

    async def state(self) -> dict:
        """The newest run or the one that was chosen, its timeline, and which others there are."""
        runs, after = [], ""
        while after is not None:
            page = await self.runtime.list_executions(workflow="research", after=after)
            runs, after = runs + list(page.items), page.after
        runs.sort(key=lambda one: (one.created_at, one.id), reverse=True)
        self.runs = len(runs)
        state = {"persisted": self.host.persisted, "budget": BUDGET, "trouble": self.trouble, "run": None}
        if not runs:
            return state
        record = next((one for one in runs if one.id == self.chosen), runs[0])
        history = await self.runtime.history(record.id)
        kept, resumed_at = self.replayed.get(record.id, (0, 0))
        lines = [(number, line) for number, e in enumerate(history) if (line := _line(e))]
        if kept:
            done = sum(isinstance(e.event, StepCompleted) for e in history[:kept])
            text = f"resumed here: {done} step{'' if done == 1 else 's'} not run again"
            lines.insert(sum(n < kept for n, _ in lines), (kept, {"kind": "resumed", "text": text, "at": resumed_at}))
        state["run"] = {
            "id": record.id,
            "created": record.created_at,
            "topic": await self._topic(record),
            "status": record.status,
            "asks": any("decision" in one for one in record.waiting),
            "tokens": record.spent["tokens"],
            "steps": sum(isinstance(e.event, StepCompleted) for e in history),
            "ran": self.ran.get(record.id, 0),
            "kept": sum(isinstance(e.event, StepCompleted) for e in history[:kept]),
            "failure": (record.failure or {}).get("message"),
            "result": record.result,
            "draft": next((e.event.data for e in reversed(history) if isinstance(e.event, Emitted)), None),
            "timeline": [line for _, line in lines],
            "now": self.fetching.get(record.id),
            "newest": record.id == runs[0].id,
        }
        state["others"] = [
            {"id": one.id, "topic": await self._topic(one), "status": one.status, "created": one.created_at}
            for one in runs
            if one.id != record.id
        ]
        return state

    async def _topic(self, record) -> str:
        if record.run not in self.topics:
            history = await self.runtime.history(record.id)
            self.topics[record.run] = next((e.event.input for e in history), {}).get("topic", "")
        return self.topics[record.run]

    # --- what the page's buttons do ---
    async def start(self, topic: str) -> None:
        """Begin a run. A second press, or another tab's at the same moment, joins the first."""
        task = {"topic": topic, "library": self.library}
        await self.runtime.start("research", task, id=f"research-{self.runs + 1}", on_conflict="join")
        self.chosen = None
        self._changed.set()

    async def look(self, id: str) -> None:
        """Show this run, until another one is started or chosen."""
        self.chosen = id
        self._changed.set()

    async def decide(self, id: str, approved: bool, want: str, drafts: int) -> None:
        """Answer the draft with this number. Two presses, or two tabs, are one answer."""
        await self.runtime.signal(id, "decision", {"approved": approved, "want": want}, dedupe=f"draft {drafts}")
        self._changed.set()

    async def export(self, id: str):
        """The run's history as an .alk bundle."""
        return to_js(await self.runtime.export(id))

    async def clear(self) -> None:
        """Forget everything. What runs is stopped first."""
        with contextlib.suppress(AlkalineError):  # a store that is full or gone can't be left in good order
            await self.close()
        await delete_store(STORE)
        self.ran, self.replayed, self._shown, self.chosen = {}, {}, "", None
        await self.open()

    async def close(self) -> None:
        """Hand the run back, so that another tab goes on at once."""
        for task in self._tasks:
            task.cancel()
        self._unwatch()
        try:
            await self.runtime.close()
        finally:
            await self.host.close()


def _line(recorded) -> dict | None:
    event, at = recorded.event, recorded.at
    match event:
        case StepCompleted():
            return {"kind": "done", "text": event.name, "at": at}
        case StepFailed():
            return {"kind": "failed", "text": event.name, "at": at}
        case AttemptFailed():
            return {"kind": "again", "text": f"{event.name}: attempt {event.attempt} failed", "at": at}
        case Spent():
            return {"kind": "spent", "text": f"{event.tokens} tokens: {event.label}", "at": at}
        case SignalReceived():
            said = "approved" if event.payload["approved"] else f"asked for a {event.payload['want']} draft"
            return {"kind": "person", "text": f"you {said}", "at": at}
    return None
