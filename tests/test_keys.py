"""The keys of a store: made in one place, in an order that lists rely on."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alkaline_edge import keys

ROOT = Path(__file__).parents[1]
KEY = re.compile(r"[a-z]/([a-z~]/)?")
"""What a literal looks like that begins a key: the letter of a kind and a slash, and for an index two of each."""
OTHERS = {"alkaline_edge/testing": "the conformance suite's own keys, of no kind that the kernel has"}
MODULES = [
    path
    for package in ("alkaline_edge", "hosts/alkaline_hosts")
    for path in sorted((ROOT / package).rglob("*.py"))
    if path != ROOT / "alkaline_edge" / "keys.py" and not any(path.is_relative_to(ROOT / other) for other in OTHERS)
]


def literals(tree: ast.AST) -> Iterator[str]:
    """Every text in the code, and the text that each f-string begins with."""
    inner: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            inner.update(node.values[1:])
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in inner:
            yield node.value


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_other_module_spells_a_key(path: Path) -> None:
    """Where a prefix is written a second time, the two may come to differ."""
    found = [text for text in literals(ast.parse(path.read_text())) if KEY.match(text)]
    assert found == []


@given(st.integers(0, 10**15), st.integers(0, 10**15))
def test_positions_and_timers_stand_in_the_order_of_their_numbers(a: int, b: int) -> None:
    """Stores list in the order of ASCII."""
    assert (keys.position(a) < keys.position(b)) == (a < b)
    assert keys.position_of(f"x/{keys.position(a)}") == a
    assert (keys.timer(a, "r") < keys.timer(b, "r")) == (a < b)
    assert keys.timer_of(keys.timer(a, "r")) == (a, "r")
    assert (keys.timer(a, "~~") < keys.timers_after(b)) == (a <= b)


RUN, ID = "0123abcd", "order-1"
PREFIXES = {
    keys.commits(RUN): keys.commit(RUN, 12),
    keys.segments(RUN): keys.segment(RUN, 12),
    keys.blobs(RUN): keys.blob(RUN, b"\1" * 32, 3),
    keys.chunks(RUN, b"\1" * 32): keys.blob(RUN, b"\1" * 32, 3),
    keys.BLOBS: keys.blobs(RUN),
    keys.requests(ID): keys.inbox(ID, "a1"),
    keys.from_runs(ID): keys.inbox(ID, "~other"),
    keys.INBOXES: keys.requests(ID),
    keys.markers(RUN): keys.dedupe(RUN, "any text"),
    keys.replies(RUN): keys.reply(RUN, "e"),
    keys.REPLIES: keys.replies(RUN),
    keys.TIMERS: keys.timer(5, ID),
    keys.RECORDS: keys.record(ID),
    keys.SCHEDULES: keys.schedule(ID),
    keys.LEARNED: keys.learned("any text"),
    keys.BOARDS: keys.board("b", "h"),
    keys.board("b", "t", ""): keys.board("b", "t", ID),
    keys.with_status("running"): keys.with_status("running", "w"),
    keys.BY_STATUS: keys.with_status("running"),
}


@pytest.mark.parametrize("prefix", PREFIXES)
def test_what_a_prefix_is_of_begins_with_it(prefix: str) -> None:
    """Listing by it finds the key, and the key is longer."""
    assert PREFIXES[prefix].startswith(prefix)
    assert len(PREFIXES[prefix]) > len(prefix)
    assert prefix.isascii()


def test_the_indexes_of_a_run_are_found_by_their_prefixes() -> None:
    """Each key of a record's indexes is the prefix of one question, and the run's id."""
    found = keys.indexes(ID, "w", "suspended", {"team": "blue"}, 7)
    asked = {keys.with_status("suspended", "w"), keys.of_workflow("w"), keys.with_attribute("team", "blue")}
    assert found == {prefix + ID for prefix in asked} | {keys.timer(7, ID)}


def test_behind_the_inbox_of_a_run_is_before_that_of_the_next() -> None:
    """Looking at one key of each run skips from inbox to inbox."""
    assert keys.inbox(ID, "~~~") < keys.behind_requests(ID) < keys.requests(f"{ID}0")
