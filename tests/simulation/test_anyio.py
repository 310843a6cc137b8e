"""anyio inside a handler whose process dies at each of its commits: the next one goes on, and the run ends."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from alkaline_edge import replay
from alkaline_edge.testing import fault_at
from tests.primitives import flows

from .engine import Outside, Scenario, Trial, World
from .test_exhaustive import tried

EACH = 3 if sys.platform == "emscripten" else 1  # a minute and a half there, otherwise
NAMES = sorted(name for name in flows.FLOWS if name.startswith("anyio_"))


def scenario_of(name: str) -> Any:
    """The flow, which somebody outside tells to end once it waits for that."""

    async def script(outside: Outside) -> Any:
        await outside.start(name)
        for dedupe in ("first", "second"):  # one flow waits for it within a scope, too
            await outside.until_waiting("signal end")
            await outside.signal("end", dedupe=dedupe)
        result = await outside.result()
        (checked,) = replay.check([await outside.runtime.export("run")], [flows.FLOWS[name]])
        return result if checked.ok else checked.message

    def make(world: World) -> Scenario:
        return Scenario(
            name,
            [flows.FLOWS[name]],
            script,
            results=lambda result, _: isinstance(result, list),  # what it notes hangs on the time that a crash takes
            histories=False,
        )

    return make


@pytest.mark.parametrize("name", NAMES)
def test_a_crash_at_each_commit(name: str) -> None:
    """Before it is applied and behind it; what is in the history then is replayed from the beginning."""
    make = scenario_of(name)
    faultless = Trial(make).run()
    assert isinstance(faultless.result, list), faultless.result
    broken: list[str] = []
    commits = [call for call, verb in enumerate(faultless.verbs, 1) if verb == "commit"]
    for place, call in enumerate(commits[:-4:EACH]):  # the last ones delete the run
        kind: Any = ("crash", "crash-after")[place % 2]
        _, found = tried(make, fault_at(call, kind), faultless, f"{name}, {kind} at callback {call}")
        broken += found
    assert not broken, "\n".join(broken[:10])
    assert len(commits) > 5
