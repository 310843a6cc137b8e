"""The pytest plugin, which pytest finds by itself: ``--update-histories``, and two fixtures."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from alkaline_edge.testing import Trial

__all__ = ["golden_history", "pytest_addoption", "run_trial"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--update-histories``."""
    group = parser.getgroup("alkaline_edge")
    group.addoption("--update-histories", action="store_true", help="record the golden histories of workflows anew")


@pytest.fixture
def golden_history(request: pytest.FixtureRequest) -> Callable[..., None]:
    """``golden_history(name, history, workflows, codec=None)``: as ``alkaline_hosts.golden.golden``.

    The file is ``histories/NAME.alk`` beside the test; ``--update-histories`` writes it.
    """
    folder, update = request.path.parent / "histories", bool(request.config.getoption("--update-histories"))

    def check(name: str, history: bytes, workflows: Any, codec: Any = None) -> None:
        from .golden import golden  # whoever has pytest and no workflow pays for no import

        golden(folder / f"{name}.alk", history, workflows, update=update, codec=codec)

    return check


@pytest.fixture
def run_trial() -> Callable[..., Any]:
    """``run_trial(script, *workflows, **options)``: run an async ``script(trial)`` on a Trial, and give its result.

    In the end every run must have ended, nothing may have been sent twice, and the code must go on with each history.
    """

    def run(script: Callable[[Trial], Awaitable[Any]], *workflows: Any, **options: Any) -> Any:
        from alkaline_edge.testing import Trial

        async def live() -> Any:
            async with Trial(*workflows, **options) as trial:
                found = await script(trial)
                await trial.assert_nothing_left()
                await trial.assert_replays()
                trial.assert_sent_once()
                return found

        return asyncio.run(live())

    return run
