"""What must be true at the end, worked out from the program's tree and from what was seen outside."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from alkaline_edge import events as ev
from alkaline_edge.codec import BlobRef

from .programs import FRAGILE, Node, Program

if TYPE_CHECKING:
    from .world import World


CHARGES = (ev.SPENT, ev.STEP_CHARGED, ev.RETRIED)
SAYS = {
    "sleep": "slept", "spend": "spent", "emit": "emitted", "mark": "marked", "draw": "drawn", "turns": "turned",
}  # fmt: skip
"""What nodes come to that have no value of their own."""


@dataclass(slots=True)
class Told:
    """What the outside did to the run, and was answered."""

    signals: list[str] = field(default_factory=list)
    """Payloads of the signals "s" that were accepted, in order."""
    sent: list[str] = field(default_factory=list)
    """As ``signals``, with the one whose answer was lost."""
    late: dict[int, int] = field(default_factory=dict)
    """When the signal of a "late" node was accepted: ms of true time, at the latest."""
    sent_late: set[int] = field(default_factory=set)
    cancelled: bool = False
    updates: dict[str, Any] = field(default_factory=dict)
    """Replies to updates."""
    tried: set[str] = field(default_factory=set)
    results: list[Any] = field(default_factory=list)
    """What those who waited were given."""


class Oracle:
    """Says whether values are what a program comes to."""

    def __init__(self, world: World, told: Told, clocks: int) -> None:
        self.world, self.program, self.told = world, world.program, told
        self.clocks = clocks
        """How far clocks may be off, in ms."""

    # --- values ------------------------------------------------------------------------------------------------------
    def fits(self, node: Node, value: Any, depth: int) -> str | None:
        """None where ``value`` is what ``node`` may come to; otherwise what is wrong."""
        match node.kind:
            case "step" | "undo" | "blocking" | "once" | "dear" | "hitch":
                wanted = [self.world.value(node.id, 0)]
                if node.kind == "dear":
                    wanted.append("too dear")
                if node.kind == "once":
                    wanted = ["unknown", "refused"] if node.args.get("fails") else [*wanted, "unknown"]
                if node.args.get("timeout"):
                    wanted.append("slow")
                ok = value in wanted
            case "loop":
                ok = value == [self.world.value(node.id, n) for n in range(node.args["times"])]
            case "wait":
                ok = isinstance(value, list) and value[0] == "signal" and value[1] in self.told.sent
            case "late":
                return self._late(node, value)
            case "patched":
                ok = value in ([self.world.value(node.id, 0)], [self.world.value(node.id, 2)])
            case "queue":
                ok = value == [0, 1, 2]
            case "sleep" | "spend" | "emit" | "mark" | "draw" | "turns":
                ok = value == SAYS[node.kind]
            case _:
                return self._branch(node, value, depth)
        return None if ok else _not(node, value)

    def _late(self, node: Node, value: Any) -> str | None:
        if isinstance(value, str):
            return None if value == f"late {node.id}" and node.id in self.told.sent_late else _not(node, value)
        deadline = value[1]
        accepted = self.told.late.get(node.id)
        once = self.program.bodies[0].generations == 1
        if once and accepted is not None and accepted < deadline - self.clocks - 2:
            return f"signal r{node.id} was accepted {deadline - accepted} ms before its deadline, and the timer won"
        return None

    def _branch(self, node: Node, value: Any, depth: int) -> str | None:
        match node.kind:
            case "seq" | "all" | "gather" | "group" | "map" | "rooms":
                if not isinstance(value, list) or len(value) != len(node.kids):
                    return _not(node, value)
                return _first(self.fits(kid, one, depth) for kid, one in zip(node.kids, value, strict=True))
            case "race":
                return self.fits(node.kids[int(value[0][1:])], value[1], depth)
            case "within":
                return None if value == ["out"] else self.fits(node.kids[0], value[1], depth)
            case "attempt":
                if value == ["failed"]:
                    return None if node.args["fails"] else _not(node, value)
                return _not(node, value) if node.args["fails"] else self.fits(node.kids[0], value[1], depth)
            case "cleanup":
                return self.fits(node.kids[0], value, depth)
            case _:
                return self._child(node, value, depth)

    def _child(self, node: Node, value: Any, depth: int) -> str | None:
        if value == "deep":
            return None if depth >= 2 else _not(node, value)
        key, given = value
        if node.kind == "leave" and key == "timer":
            return None
        return self.body(node.args["body"], given, depth + 1)

    def body(self, n: int, result: Any, depth: int) -> str | None:
        """As ``fits``, for the result of a run of workflow ``n``."""
        body = self.program.bodies[n]
        if not isinstance(result, dict) or len(result.get("done", ())) != body.generations:
            return f"w{n} returned {result!r:.200}"
        return _first(self.fits(body.root, one, depth) for one in result["done"])

    # --- one run -----------------------------------------------------------------------------------------------------
    def judge(self, record: Any, is_root: bool, is_fork: bool) -> Iterator[str]:
        """What is wrong with a run that has ended. A fork begins with the attributes of the run that it is one of."""
        n = int(record.workflow[1:])
        body = self.program.bodies[n]
        whole = not any(node.kind in (*FRAGILE, "rooms") for node in body.root.walk())
        timed = self.world.events_of(record.run)
        events = [event for _, event in timed]
        if record.status == "completed":
            problem = self.body(n, record.result, record.depth)
            if problem:
                yield f"run {record.id}: {problem}"
            if body.doomed:
                yield f"run {record.id} completed, and the program says that it fails"
            elif not problem:
                yield from self._accounts(record, events, whole, is_root, is_fork)
        elif record.status == "failed":
            if not body.doomed and not any(node.kind == "hitch" for node in body.root.walk()):
                yield f"run {record.id} failed: {record.failure}"
        elif not self.told.cancelled and is_root:
            yield f"run {record.id} is {record.status}, and nobody asked for it"
        yield from self._emits(record, events)
        charged = sum(event.tokens for event in events if event[0] in CHARGES)
        if charged != record.spent["tokens"]:
            yield f"run {record.id} was charged {charged} tokens, and its record says {record.spent['tokens']}"
        if record.status in ("failed", "cancelled"):
            yield from self._undone(record, events, body.root)
        if is_root:
            yield from self._signals(record, events)

    def _accounts(self, record: Any, events: list[Any], whole: bool, is_root: bool, is_fork: bool) -> Iterator[str]:
        result = record.result
        void = sum(event.tokens for event in events if event[0] == ev.RETRIED)
        """Spent in what counts no more, such as a clean-up after a failure that was mended: it stays spent."""
        spent = record.spent["tokens"] - void
        if spent < result["spent"] or (whole and spent != result["spent"]):
            yield f"run {record.id} spent {result['spent']} tokens, and its record says {spent} and {void} in vain"
        set_here = {name: value for name, value in record.attributes.items() if name not in ("schedule", "task")}
        if set_here != result["marks"] and not is_fork:
            yield f"run {record.id} has the attributes {record.attributes}, and set {result['marks']}"
        for n, reply in self.told.updates.items() if is_root else ():
            if n not in result["updated"]:
                yield f"update {n} was answered with {reply!r:.80}, and the run does not know of it"
        if len(set(result["updated"])) < len(result["updated"]) and is_root:
            yield f"run {record.id} took an update twice: {result['updated']}"

    def _emits(self, record: Any, events: list[Any]) -> Iterator[str]:
        told = [event.data for event in events if event[0] == ev.EMITTED]
        count = record.result["emitted"] if record.status == "completed" else len(told)
        if told != list(range(count)):
            yield f"run {record.id} emitted {count}, and recorded {told!r:.200}"

    def _signals(self, record: Any, events: list[Any]) -> Iterator[str]:
        names = {sha256(self.world.codec.encode(payload)).digest(): payload[:6] for payload in self.told.sent}
        got = [
            names.get(event.payload.digest, "none") if isinstance(event.payload, BlobRef) else event.payload[:6]
            for event in events if event[0] == ev.SIGNAL_RECEIVED and event.name == "s"
        ]  # fmt: skip
        sent = [payload[:6] for payload in self.told.sent]
        if got != sent[: len(got)] or (record.status == "completed" and len(got) < self._waited()):
            yield f"signals {sent} were accepted in this order, and {got} recorded"
        late = [event.name for event in events if event[0] == ev.SIGNAL_RECEIVED and event.name != "s"]
        if len(set(late)) < len(late):
            yield f"a signal with a dedupe key was recorded twice: {late}"
        if record.status == "completed":
            taken = [value[1] for value in _waits(self.program.bodies[0].root, record.result["done"])]
            if len(set(taken)) < len(taken):
                yield f"a signal was given to two waits: {[each[:6] for each in taken]}"
            if set(taken) != set(self.told.sent[: len(taken)]):
                yield f"{len(taken)} waits were given {sorted(each[:6] for each in taken)}, not the first {len(taken)}"

    def _waited(self) -> int:
        """How many signals a run that completed has taken."""
        return self.program.waits()

    def _undone(self, record: Any, events: list[Any], root: Node) -> Iterator[str]:
        cut = {node.id for each in root.walk() if each.kind not in ("seq", "cleanup", "undo") for node in each.walk()}
        wanted = [f"c{node.id}" for node in root.walk() if node.kind == "undo" and node.id not in cut]
        last = max((n for n, event in enumerate(events) if event[0] == ev.STARTED), default=0)
        done: list[str] = [event.name for event in events[last:] if event[0] == ev.STEP_COMPLETED]
        did = [name for name in dict.fromkeys(done) if name in wanted]
        twice = [name.removeprefix("compensate ") for name in done if name.startswith("compensate ")]
        twice = [name for name in twice if name in wanted]
        if twice != did[::-1]:
            yield f"run {record.id} {record.status}: {did} completed, and were compensated as {twice}"
        # Those that may be cut off too, such as the losers of a race: what is recorded as completed is undone, once.
        all_undone = sorted(name.removeprefix("compensate ") for name in done if name.startswith("compensate "))
        undoable = {f"c{node.id}" for node in root.walk() if node.kind == "undo"}
        if all_undone != sorted(name for name in done if name in undoable):
            yield f"run {record.id} {record.status}: of {done!r:.300} these were undone: {all_undone}"


def _waits(node: Node, values: list[Any]) -> Iterator[Any]:
    """The values of all "wait" nodes that can't be cut off."""
    for value in values:
        if node.kind == "wait":
            yield value
        elif node.kind in ("seq", "all", "gather", "group", "map", "rooms"):
            for kid, one in zip(node.kids, value, strict=True):
                yield from _waits(kid, [one])
        elif node.kind == "cleanup":
            yield from _waits(node.kids[0], [value])


def _first(problems: Iterator[str | None]) -> str | None:
    return next((problem for problem in problems if problem), None)


def _not(node: Node, value: Any) -> str:
    return f"{node.kind} {node.id} came to {value!r:.120}"


def shared(world: World, entries: dict[str, Any]) -> Iterator[str]:
    """What is wrong with the totals of shared budgets."""
    totals: dict[str, int] = {}
    for name, history in world.histories.items():
        if not history.events:
            continue
        started: Any = history.events[0][1]
        charged = sum(event.tokens for _, event in history.events if event[0] in CHARGES)  # type: ignore[union-attr]
        for account in started.header["accounts"]:
            totals[account[0]] = totals.get(account[0], 0) + charged
        del name
    for key, entry in entries.items():
        if key.startswith("g/"):
            run, held = key[2:], world.codec.decode(entry.value)
            if totals.get(run, 0) != held[0]:
                yield f"the budget of run {run} says {held[0]} tokens, and {totals.get(run, 0)} were charged"


__all__ = ["Oracle", "Program", "Told", "shared"]
