"""Commands: every kind that a handler may ask for has somebody who carries it out, and is named in messages."""

from __future__ import annotations

import ast
import inspect
import textwrap
from typing import Any, get_args

import pytest

from alkaline_edge.machine import commands
from alkaline_edge.machine.agenda import Agenda
from alkaline_edge.machine.commands import AwaitSignal, Command, RunStep, StartTimer, Waitable
from alkaline_edge.runtime.driver import Driver

KINDS: tuple[Any, ...] = get_args(Command)
BY_TIME_OR_MAIL = {StartTimer.__name__, AwaitSignal.__name__}
"""Nothing is begun for them: the run's clock fires the one, the inbox brings the other."""


def obeyed() -> set[str]:
    """The kinds that the driver begins, by the cases of ``_obey``."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(Driver._obey)))
    return {ast.unparse(node.cls) for node in ast.walk(tree) if isinstance(node, ast.MatchClass)}


def made(kind: Any) -> Any:
    given = {name: name for name in list(inspect.signature(kind.__init__).parameters)[1:]}
    slots = [name for name in kind.__slots__ if name not in ("started", "former", "error")]
    return kind(**given) if "items" not in given else kind(*slots)


def test_every_kind_is_carried_out_by_somebody() -> None:
    """The driver, the clock or the inbox; and no case of the driver is of a kind that is gone."""
    here = {cls.__name__ for cls in vars(commands).values() if inspect.isclass(cls) and hasattr(cls, "verb")}
    assert here == {kind.__name__ for kind in KINDS}
    assert obeyed() == here - BY_TIME_OR_MAIL
    assert set(get_args(Waitable)) < set(KINDS)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_each_has_a_verb_of_its_own_and_comes_to_who_carries_it_out(kind: Any) -> None:
    """What is to be begun is on the agenda as fresh; a timer waits for its time, and a signal for nobody here."""
    assert [other.verb for other in KINDS].count(kind.verb) == 1
    if kind is StartTimer:
        command: Any = StartTimer("1", "sleep", 0, 5, lambda: None)
    elif kind is RunStep:
        command = RunStep("1", "s", None, lambda: None, (), {})
    else:
        command = made(kind)
    if kind in get_args(Waitable):
        assert commands.describe(command) == f"{kind.verb} {command.name!r} (command {command.id})"
    agenda = Agenda({command.id: command})
    assert list(agenda.fresh) == ([command] if kind.__name__ in obeyed() else [])
    assert agenda.timers == (kind is StartTimer)
