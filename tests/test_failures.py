"""Failures: an error as it is written down, and the exception that it becomes again."""

from __future__ import annotations

import random

import pytest

from alkaline_edge import Codec, ConflictError, StepError
from alkaline_edge.failures import describe, revive
from tests.test_given_values import ODD_PARTS, Odd


@pytest.mark.parametrize("seed", range(10))
def test_describing_an_error_cannot_fail(seed: int) -> None:
    """Whatever its parts are or raise: there is a failure, it can be stored, and it is as small as it should be."""
    draw, codec = random.Random(seed), Codec()
    error = Odd({name: draw.choice(values) for name, values in ODD_PARTS.items() if draw.random() < 0.8})
    for one in (error, KeyError(error), OSError(2, error), ValueError(error), StepError(error)):
        failure = describe(one, codec)
        assert codec.decode(codec.encode(failure)) == failure
        assert len(failure["message"]) <= 2_000


def test_an_error_comes_back_as_what_it_was() -> None:
    """Python's own by their class, the kernel's by their code, others as a StepError of their type's name."""

    class OutOfInk(Exception):
        pass

    codec = Codec()
    errors = [KeyError("k"), ConnectionError("down"), ConflictError("held", id="a"), OutOfInk("black")]
    back = [revive(codec.decode(codec.encode(describe(error, codec)))) for error in errors]
    assert [type(error).__name__ for error in back] == ["KeyError", "ConnectionError", "ConflictError", "OutOfInk"]
    assert isinstance(back[0], KeyError)
    assert isinstance(back[1], ConnectionError)
    assert isinstance(back[3], StepError)
    assert isinstance(back[2], ConflictError) or getattr(back[2], "code", None) == "ERR_CONFLICT"
    assert all(str(error.args[0]) in str(one) for error, one in zip(errors, back, strict=True))


def test_an_error_in_a_group_may_lie_about_its_class() -> None:
    """As proxies do: what it is is asked of its type, which can't raise."""

    class Lying(Exception):
        @property
        def __class__(self) -> type:  # type: ignore[override]
            raise RuntimeError("no class")

    assert describe(ExceptionGroup("both", [Lying(), ConflictError("gone")]), Codec())["detail"] == {
        "codes": ["", ConflictError.code]
    }
