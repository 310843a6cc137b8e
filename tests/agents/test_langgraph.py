"""HostSaver, LangGraph's checkpointer on a host, by that project's own conformance tests."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.conformance import checkpointer_test, validate

from alkaline_hosts.file import FileHost
from alkaline_hosts.langgraph import HostSaver
from alkaline_hosts.memory import MemoryHost
from tests.examples.endpoint import serving


@pytest.mark.parametrize(
    "make", [lambda folder: MemoryHost(), lambda folder: FileHost(folder / "graphs.alkaline")], ids=["memory", "file"]
)
def test_it_passes_langgraphs_own_conformance_tests(make: Callable[[Path], Any], tmp_path: Path) -> None:
    """Every capability that they know: also copies of threads, pruning, and deleting by run."""
    made = 0

    @checkpointer_test(name=f"alkaline {tmp_path.name}")
    async def saver() -> AsyncGenerator[HostSaver, None]:
        nonlocal made
        made += 1
        folder = tmp_path / str(made)
        folder.mkdir()
        host = make(folder)
        yield HostSaver(host)
        await host.close()

    async def main() -> Any:
        return await validate(saver)

    report = asyncio.run(main())
    assert report.passed_all(), report.results
    assert made


def test_the_example_goes_on_in_another_process_and_asks_the_model_once(tmp_path: Path) -> None:
    """The model is asked over HTTP by the first process, which ends while somebody is asked."""
    program = Path(__file__).parents[2] / "examples" / "langgraph_graph" / "agent.py"
    with serving() as endpoint:
        environment = {**os.environ, "STORE": str(tmp_path / "graph.alkaline"), "MODEL_URL": endpoint.url}
        said = [
            subprocess.run(
                [sys.executable, str(program), *words], env=environment, capture_output=True, text=True, timeout=120
            )
            for words in (("begin", "tea"), ("go-on", "yes"))
        ]
        assert [each.stdout.strip() for each in said] == [
            'Send "The model\'s words, number 1."?',
            "sent: True, The model's words, number 1.",
        ], said
        assert len(endpoint.asked) == 1
