"""A history is the same bytes wherever it was made: CPython on the host, Pyodide with either msgpack."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from test_kernel_inside import LOAD_REPOSITORY, REPOSITORY, script_for

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


WRITE_AND_CHECK = """
def write_and_check(theirs):
    import base64, json
    from alkaline_edge import replay
    from tests.primitives.flows import FLOWS, ended
    with blocking():
        ours = {name: base64.b64encode(run(ended(name))).decode() for name in FLOWS}
        found = {}
        for python, histories in json.loads(theirs).items():
            for name, data in histories.items():
                if name in FLOWS:
                    found[f"{name} of {python}"] = replay.check([base64.b64decode(data)], FLOWS.values())[0]
    return json.dumps([ours, sorted(found), [f"{name}: {one.message}" for name, one in found.items() if not one.ok]])
"""


def pythons() -> list[str]:
    """This CPython, the repository's own, and those that tests/versions.sh has found, where they are."""
    others = [REPOSITORY / ".venv", *sorted((REPOSITORY / "build").glob("venv-*"))]
    found = [sys.executable, *(str(one / "bin" / "python") for one in others if (one / "bin" / "python").exists())]
    needs = [[python, "-c", "import anyio, msgpack"] for python in found]  # not one that is being made just now
    return [need[0] for need in needs if subprocess.run(need, capture_output=True, check=False).returncode == 0]


@pytest.mark.everywhere
@pytest.mark.parametrize("lock", ["pyodide-lock.json", "pyodide-lock-pure.json"], ids=["c", "pure"])
def test_every_primitive_of_asyncio_goes_on_on_the_other_side(
    selenium_standalone_noload, runtime: str, lock: str, tmp_path: Path
) -> None:
    """What each CPython wrote is replayed by Pyodide's, and the other way round: no id and no order differs."""
    env = {**os.environ, "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'hosts'}"}

    def flows(python: str, verb: str, folder: Path) -> None:
        words = [python, "-m", "tests.primitives.flows", verb, str(folder)]
        done = subprocess.run(words, cwd=REPOSITORY, env=env, capture_output=True, text=True)
        assert done.returncode == 0, f"{python}: {done.stdout}{done.stderr}"

    sent: dict[str, dict[str, str]] = {}
    for n, python in enumerate(pythons()):
        flows(python, "write", folder := tmp_path / str(n))
        sent[python] = {path.stem: base64.b64encode(path.read_bytes()).decode() for path in folder.iterdir()}
    (tmp_path / "pyodide").mkdir()
    script = script_for(selenium_standalone_noload, runtime, lock, tmp_path) + LOAD_REPOSITORY
    script += f"pyodide.runPython({json.dumps(WRITE_AND_CHECK)});\n"
    script += f"return pyodide.globals.get('write_and_check')({json.dumps(json.dumps(sent))});"
    made_there, checked, failed = json.loads(selenium_standalone_noload.run_js(script, pyodide_checks=False))
    assert failed == []
    assert len(checked) == sum(name in made_there for histories in sent.values() for name in histories)
    for name, data in made_there.items():
        (tmp_path / "pyodide" / f"{name}.alk").write_bytes(base64.b64decode(data))
    for python in pythons():
        flows(python, "check", tmp_path / "pyodide")
