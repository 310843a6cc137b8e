"""The tree of errors: nine codes, each with a class of its own, drawn once and told the same everywhere."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import pytest

import alkaline_edge
from alkaline_edge import errors, failures
from alkaline_edge.codec import Codec

ROOT = Path(__file__).parents[1]
CLASSES = [
    cls for cls in vars(errors).values() if isinstance(cls, type) and issubclass(cls, alkaline_edge.AlkalineError)
]


def test_the_tree_that_is_drawn_is_the_one_that_there_is() -> None:
    """Every class with its code, below the class that it derives from."""
    drawn: dict[str, tuple[str, str]] = {}
    above = {0: "AlkalineError"}
    for line in (errors.__doc__ or "").splitlines():
        row = re.match(r"    ([ |`]*)-- (\w+) +(ERR_\w+)", line)
        if row is not None:
            depth = len(row[1]) // 4
            drawn[row[2]] = (above[depth], row[3])
            above[depth + 1] = row[2]
    assert drawn == {cls.__name__: (cls.__base__.__name__, cls.code) for cls in CLASSES[1:] if cls.__base__}


def test_each_code_has_one_class_that_stands_for_it() -> None:
    """The highest of that code, and there are nine."""
    assert len(errors.CODES) == 9
    for code, cls in errors.BY_CODE.items():
        assert getattr(errors, code) == code == cls.code
        assert cls.__base__ is errors.AlkalineError
    assert {cls.code for cls in CLASSES} == set(errors.CODES)


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_an_error_is_written_down_and_comes_back_as_what_its_code_says(cls: type[errors.AlkalineError]) -> None:
    """With its message and detail; of a class below the code's own, that one, but for the one that handlers tell."""
    error = cls("it is so: do that", id="a", limit=3)
    back = failures.revive(failures.describe(error, Codec()))
    told = cls if cls is errors.StepOutcomeUnknown else errors.BY_CODE[cls.code]
    assert type(back) is told
    assert (str(back), back.code, back.detail) == ("it is so: do that", cls.code, {"id": "a", "limit": 3})


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_an_error_crosses_processes_whole(cls: type[errors.AlkalineError]) -> None:
    """As pools of processes send it."""
    back = pickle.loads(pickle.dumps(cls("no", position=4)))
    assert (type(back), str(back), back.detail) == (cls, "no", {"position": 4})
