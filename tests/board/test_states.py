"""The table of states: whole, and the same in the code and on the page."""

from __future__ import annotations

import re
from pathlib import Path

from alkaline_edge.board import Head, Task
from alkaline_edge.board.states import BLOCKS, ENDED, STATES, WAYS, leads, picture, starts, table

PAGE = (Path(__file__).parents[2] / "docs" / "board.md").read_text()


def test_the_page_has_the_table_and_the_picture_of_the_code() -> None:
    """Each state and each kind of block with what it means, too."""
    assert f"\n{table()}\n" in PAGE
    assert f"\n{picture()}\n" in PAGE
    for name, meaning in {**STATES, **BLOCKS}.items():
        assert f"| `{name}` | {meaning} |" in PAGE


def test_every_state_is_come_to_and_left() -> None:
    """But for the archive, which nothing leaves; and from each there is a way to an end."""
    assert {way.end for way in WAYS} == STATES.keys()
    assert {way.start for way in WAYS} - {None} == STATES.keys() - {"archived"}
    to_end = set(ENDED)
    while more := {way.start for way in WAYS if way.end in to_end} - {None} - to_end:
        to_end |= more  # type: ignore[arg-type]
    assert to_end == STATES.keys()


def test_nobody_gets_a_claim_but_by_claiming() -> None:
    """Running is come to by one verb, from ready and review alone."""
    assert {(way.verb, way.start) for way in WAYS if way.end == "running"} == {("claim", "ready"), ("claim", "review")}


def test_done_is_come_to_by_who_did_or_looked_at_the_work() -> None:
    """By a holder, by the run, or by an approval."""
    found = {(way.verb, way.start) for way in WAYS if way.end == "done"}
    assert found == {("complete", "running"), ("outcome", "running"), ("approve", "review")}


def test_what_is_in_the_table_is_allowed_and_nothing_else() -> None:
    """Of all there could be."""
    known = {(way.verb, way.start, way.end) for way in WAYS}
    for verb in {way.verb for way in WAYS}:
        for start in (None, *STATES):
            for end in STATES:
                assert leads(verb, start, end) == ((verb, start, end) in known)
            if start is not None:
                assert (start in starts(verb)) == any(leads(verb, start, end) for end in STATES)


def test_the_format_names_each_field() -> None:
    """SPEC.md's tables of a head and of a task are the kernel's."""
    text = (Path(__file__).parents[2] / "SPEC.md").read_text().split("### Boards")[1].split("\n#")[0]
    head, task = text.split("| Key of a task |")
    for part, made in ((head, Head()), (task, Task("a", "b"))):
        rows = re.findall(r"^\| (`.*?`) \|", part, re.M)
        assert sorted(name for row in rows for name in re.findall(r"`(\w+)`", row)) == sorted(made.to_map())
