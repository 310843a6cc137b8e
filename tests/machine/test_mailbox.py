"""The mailbox: what came and was not taken, who answers, and that a query only reads."""

from __future__ import annotations

from typing import Any

import pytest

from alkaline_edge import Codec, InvalidInput, NotFound, StepError
from alkaline_edge.machine.mailbox import Mailbox


def test_signals_that_nobody_took_go_on_to_the_next_history() -> None:
    """In their order, by name; and with what was carried here before."""
    box = Mailbox(Codec(), [["e1", "s", 1], ["e2", "s", 2], ["e3", "t", 3]])
    assert box.entries == {"e1", "e2", "e3"}
    assert box.take("s") == 1
    assert box.carried() == [["", "s", 2], ["", "t", 3]]


def test_signals_that_are_given_back_stand_where_they_came() -> None:
    """In whichever order those who were handed them give them back, and before those that came behind."""
    box = Mailbox(Codec(), [])
    for id in ("1", "2", "3"):
        box.hand_over(id)
    box.keep("s", "behind")
    for id in ("2", "3", "1"):
        box.take_back("s", id, f"of {id}")
    assert box.kept("s") == ["of 1", "of 2", "of 3", "behind"]


def test_a_query_that_is_not_there_is_named_with_those_that_are() -> None:
    """The caller sees what to ask for."""
    box = Mailbox(Codec(), [])
    box.queries["progress"] = lambda: 1
    with pytest.raises(NotFound, match=r"'nothing'; it has: progress"):
        box.query("nothing", ())


def test_a_query_reads_copies_and_is_plain() -> None:
    """What it is given and what it gives are the caller's own; ``reading`` holds for as long as it runs, errors too."""
    box, state = Mailbox(Codec(), []), [[1]]
    seen: list[bool] = []

    def look(given: list[int]) -> list[list[int]]:
        seen.append(box.reading)
        given.append(2)
        return state

    async def late() -> int:
        return 1

    def stops() -> None:
        raise StopIteration

    box.queries.update(look=look, late=late, stops=stops)
    argument: list[Any] = []
    answer = box.query("look", (argument,))
    answer[0].append("caller")
    assert (argument, state, seen) == ([], [[1]], [True])
    with pytest.raises(InvalidInput, match="make it a plain function"):
        box.query("late", ())
    with pytest.raises(StepError) as raised:  # as itself it would end the coroutine of who asked
        box.query("stops", ())
    assert raised.value.type == "StopIteration"
    assert not box.reading


def test_a_query_that_returns_any_awaitable_is_refused_in_words() -> None:
    """Also one that can't be closed, as a coroutine can: a future, or a class of the user's."""

    class Later:
        def __await__(self) -> Any:
            yield

    box = Mailbox(Codec(), [])
    box.queries["q"] = Later
    with pytest.raises(InvalidInput, match="make it a plain function"):
        box.query("q", ())


def test_a_validator_refuses_before_anything_is_recorded() -> None:
    """By whatever it raises; an update without one is taken, an unknown one is named with those that there are."""
    box = Mailbox(Codec(), [])

    def positive(payload: Any) -> None:
        if payload["n"] <= 0:
            payload["n"] = "changed"
            raise ValueError("above 0, please")

    box.updates["add"] = (print, positive)
    box.updates["free"] = (print, None)
    payload = {"n": 0}
    with pytest.raises(ValueError, match="above 0"):
        box.validate("add", payload)
    assert payload == {"n": 0}
    box.validate("add", {"n": 1})
    box.validate("free", {})
    with pytest.raises(NotFound, match="add, free"):
        box.validate("nothing", None)
    box.open["e1"] = "add"
    box.reply("e1")
    assert (box.open, box.answered) == ({}, {"e1"})
