"""What the page can ask of the agent. It runs in Pyodide, in a Web Worker or in the page itself."""

import asyncio
import contextlib
import json

from pyodide.ffi import to_js
from research import BUDGET, research

from alkaline_edge import AlkalineError, Runtime
from alkaline_edge.events import AttemptFailed, Emitted, SignalReceived, Spent, StepCompleted, StepFailed
from alkaline_hosts.indexeddb import IndexedDBHost, delete_store

STORE = "alkaline-edge browser agent"
LEASE = 3.0  # seconds after which a closed tab's run may go on in another


class Agent:
    """What the page can ask for. ``tell`` takes a JSON text: the whole state, whenever it changed."""

    def __init__(self, library: str, tell) -> None:
        self.library, self.tell = library, tell
        self.ran: dict[str, int] = {}
        self.replayed: dict[str, int] = {}
        self.trouble: str | None = None
        self.runs = 0
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
            self.replayed[event.id] = event.replayed + 1  # with the run's start, which is not counted there
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
        """The newest run, and its timeline."""
        runs, after = [], ""
        while after is not None:
            page = await self.runtime.list_executions(workflow="research", after=after)
            runs, after = runs + list(page.items), page.after
        self.runs = len(runs)
        state = {"persisted": self.host.persisted, "budget": BUDGET, "trouble": self.trouble, "run": None}
        if not runs:
            return state
        record = max(runs, key=lambda one: (one.created_at, one.id))
        history = await self.runtime.history(record.id)
        started = next((e.event.input for e in history), {})
        state["run"] = {
            "id": record.id,
            "created": record.created_at,
            "topic": started.get("topic", ""),
            "status": record.status,
            "asks": any("decision" in one for one in record.waiting),
            "tokens": record.spent["tokens"],
            "steps": sum(isinstance(e.event, StepCompleted) for e in history),
            "ran": self.ran.get(record.id, 0),
            "kept": sum(isinstance(e.event, StepCompleted) for e in history[: self.replayed.get(record.id, 0)]),
            "failure": (record.failure or {}).get("message"),
            "result": record.result,
            "draft": next((e.event.data for e in reversed(history) if isinstance(e.event, Emitted)), None),
            "timeline": [line for e in history if (line := _line(e))],
        }
        return state

    # --- what the page's buttons do ---
    async def start(self, topic: str) -> None:
        """Begin a run. A second press, or another tab's at the same moment, joins the first."""
        task = {"topic": topic, "library": self.library}
        await self.runtime.start("research", task, id=f"research-{self.runs + 1}", on_conflict="join")
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
        self.ran, self.replayed, self._shown = {}, {}, ""
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
