"""The two doors of the machine: what ctx may call, and what the runtime may read. Neither grows by accident."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from alkaline_edge.machine.calls import Calls
from alkaline_edge.machine.execution import Execution

ROOT = Path(__file__).parents[2] / "alkaline_edge"
VERBS_OF_CTX = {
    "guard", "guard_reading", "outside", "info", "limits", "bounded", "afford",
    "begin_step", "issue_step", "withdraw", "undo", "draw_now", "draw", "spend", "patched", "after", "sleep",
    "await_signal", "signals", "run_child", "branches", "branches_from", "answer_query", "answer_update",
    "emit", "log", "attributes", "continue_as_new", "should_continue_as_new",
}  # fmt: skip
LEFT_FOR_THE_RUNTIME = {"logs", "emissions", "take_emissions"}
"""What ctx has left in ``Calls`` for the runtime to tell or to record."""
DOOR_OF_THE_RUNTIME = {
    "start", "feed", "feed_live", "set_aside", "settling", "undo",
    "commands", "drawn", "outcome", "error", "continuation", "position", "stalled", "take_logs",
    "definition", "header", "info", "codec", "purse", "mailbox", "now_ms", "attributes",
    "began_ms", "attend", "intents", "withdrawn", "known", "asked_for", "waits_for", "waits_in_words",
    "emissions", "take_emissions", "give_back", "forget_emissions",
    "next_totals", "observe_totals", "has_said_something", "take_unhandled", "former", "idempotency_key",
    "has_left_out_emissions",
}  # fmt: skip


def chains(path: Path, root: str) -> Iterator[list[str]]:
    """What is read of ``root`` in a module, as the names behind it: ``self._machine.a.b`` is [a, b]."""
    for node in ast.walk(ast.parse(path.read_text())):
        names: list[str] = []
        while isinstance(node, ast.Attribute):
            names.insert(0, node.attr)
            node = node.value
        base = [node.id, *names] if isinstance(node, ast.Name) else []
        if root in base[:-1]:
            yield base[base.index(root) + 1 :]


def public(cls: type) -> set[str]:
    return {name for name in dir(cls) if not name.startswith("_")}


def test_ctx_calls_the_verbs_of_one_object_and_reaches_no_further() -> None:
    """Each is one attribute away: no part of the machine is taken by ctx into its own hands."""
    found = [*chains(ROOT / "context.py", "_machine"), *chains(ROOT / "context.py", "machine")]
    deep = [chain for chain in found if len(chain) > 1 and chain[0] not in ("branches", "branches_from")]
    assert deep == []
    assert {chain[0] for chain in found} <= VERBS_OF_CTX
    assert VERBS_OF_CTX - {chain[0] for chain in found} == {"outside", "undo"}  # those the machine calls itself


def test_the_verbs_are_what_there_is() -> None:
    """Every public name of the object is one of them."""
    assert public(Calls) == VERBS_OF_CTX | LEFT_FOR_THE_RUNTIME


def test_the_runtime_uses_the_door_that_it_has() -> None:
    """Everything that the runtime reads of the machine is named here, and nothing is there that it does not read."""
    used: set[str] = set()
    for path in (ROOT / "runtime").rglob("*.py"):
        for root in ("machine", "_machine"):
            used |= {chain[0] for chain in chains(path, root)}
    assert used == DOOR_OF_THE_RUNTIME
    assert public(Execution) <= DOOR_OF_THE_RUNTIME


def test_the_runtime_reaches_into_two_parts_of_the_machine_alone() -> None:
    """What others sent and what may be spent are read and written as a part; the rest answers at the door."""
    deep = {
        chain[0]
        for path in (ROOT / "runtime").rglob("*.py")
        for root in ("machine", "_machine")
        for chain in chains(path, root)
        if len(chain) > 1
    }
    values = {
        "header",
        "definition",
        "info",
        "codec",
        "drawn",
        "outcome",
        "commands",
        "intents",
        "withdrawn",
        "attributes",
    }
    assert deep - values == {"mailbox", "purse"}
