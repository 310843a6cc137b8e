"""A history is the same bytes wherever it was made: CPython on the host, Pyodide with either msgpack."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path

import pytest
from test_kernel_inside import LOAD_REPOSITORY, script_for

from alkaline_edge import replay
from tests.histories.make import made
from tests.histories.workflows import WORKFLOWS

MAKE_AND_REPLAY = """
def make_and_replay(theirs):
    import base64, json
    from alkaline_edge import replay
    from tests.histories.make import made
    from tests.histories.workflows import WORKFLOWS
    with blocking():
        histories = run(made())
        sent = {name: base64.b64decode(data) for name, data in json.loads(theirs).items()}
        verdicts = {name: replay.check([data], WORKFLOWS)[0].verdict for name, data in sent.items()}
    return json.dumps([{name: base64.b64encode(data).decode() for name, data in histories.items()}, verdicts])
"""


@pytest.mark.parametrize("lock", ["pyodide-lock.json", "pyodide-lock-pure.json"], ids=["c", "pure"])
def test_a_history_is_made_and_replayed_the_same_on_both_sides(
    selenium_standalone_noload, runtime: str, lock: str, tmp_path: Path
) -> None:
    """The same workflows on the same simulated host give the same bytes; each side's replay on the other."""
    ours = asyncio.run(made())
    theirs_first = {name: base64.b64encode(data).decode() for name, data in ours.items()}
    script = script_for(selenium_standalone_noload, runtime, lock, tmp_path) + LOAD_REPOSITORY
    script += f"pyodide.runPython({json.dumps(MAKE_AND_REPLAY)});\n"
    script += f"return pyodide.globals.get('make_and_replay')({json.dumps(json.dumps(theirs_first))});"
    made_there, verdicts = json.loads(selenium_standalone_noload.run_js(script, pyodide_checks=False))
    theirs = {name: base64.b64decode(data) for name, data in made_there.items()}
    assert theirs == ours
    assert set(verdicts.values()) == {"ok"}
    assert all(replay.check([data], WORKFLOWS)[0].ok for data in theirs.values())
