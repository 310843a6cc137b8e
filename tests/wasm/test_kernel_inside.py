"""The repository's own tests, run inside Pyodide on the built wheel, with either msgpack."""

from __future__ import annotations

import base64
import io
import json
import os
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]

# What can't run in WebAssembly, each with its reason. A test that starts a process is left out by itself.
MODULES_LEFT_OUT = {
    "tests/agents/test_decisions.py": "needs what the next one does",
    "tests/agents/test_langgraph.py": "the library is not in the distribution",
    "tests/agents/test_mcp_tools.py": "needs what the next one does",
    "tests/agents/test_openai_agents.py": "the SDK is not in the distribution",
    "tests/agents/test_pydantic_ai.py": "needs cryptography, by Pydantic AI's own client of MCP servers",
    "tests/examples/test_support_agent.py": "starts processes, all of it",
    "tests/examples/test_demo.py": "starts processes, all of it",
    "tests/examples/test_ladder.py": "starts processes, all of it",
    "tests/examples/test_research_agent.py": "serves HTTP on a socket",
    "tests/hosts/test_cli.py": "the command line is an extra, and starts processes",
    "tests/hosts/test_cli_edges.py": "the command line is an extra",
    "tests/hosts/test_cli_operating.py": "the command line is an extra, and starts processes",
    "tests/hosts/test_cli_check.py": "the command line is an extra",
    "tests/hosts/test_cli_lint.py": "the command line is an extra",
    "tests/lint/test_findings.py": "of the command line, and its parser goes as deep as a stack does",
    "tests/fuzz/test_readers.py": "the command line is an extra, and files are of one process",
    "tests/hosts/test_durable_object_calls.py": "it stands in for Pyodide's own modules",
    "tests/hosts/test_file.py": "flock and fork",
    "tests/hosts/test_file_damage.py": "starts processes",
    "tests/hosts/test_file_faults.py": "resource limits",
    "tests/hosts/test_file_groups.py": "threads, processes, and an interrupt of the loop",
    "tests/hosts/test_poison.py": "starts processes, all of it",
    "tests/inspector/test_door.py": "httpx is not in the distribution",
    "tests/inspector/test_inspecting.py": "the command line is an extra, and starts processes",
    "tests/inspector/test_page.py": "starts Node, and names files of the sources",
    "tests/mcp/test_mcp_server.py": "the official client is not in the distribution",
    "tests/mcp/test_servers.py": "starts processes, and needs the clients of servers",
    "tests/mutants/test_mutants.py": "names tests of other runtimes",
    "tests/primitives/test_attempts.py": "threads and real waiting, all of it",
    "tests/reader/test_reader.py": "starts Node, and names files of the sources",
    "tests/sealing/test_sealed_commands.py": "the command line is an extra, and so is cryptography",
    "tests/testing/test_pytest_plugin.py": "starts processes, all of it",
    "tests/telemetry/test_otel.py": "OpenTelemetry's SDK is not in the distribution",
    "tests/telemetry/test_otlp.py": "a receiver on a socket",
    "tests/telemetry/test_probes.py": "the command line and Prometheus' client are extras",
    "tests/telemetry/test_trace_command.py": "the command line is an extra",
    "tests/triggers/test_timing.py": "cronsim is an extra",
    "tests/test_arguments.py": "asks every door, also of what is not there: httpx and cryptography",
    "tests/test_security.py": "names tests of other runtimes",
    "tests/test_docstrings.py": "reads sources, and the distribution has bytecode",
    "tests/test_docs_site.py": "starts processes, all of it",
    "tests/test_hosts_page.py": "asks every host, also those of files and servers",
    "tests/test_release.py": "starts processes, all of it",
    "tests/test_performance_page.py": "imports the benchmarks, which measure files",
    "tests/test_readme.py": "starts processes, all of it",
    "tests/test_typing.py": "starts processes, all of it",
}
NO_THREADS = "WebAssembly has no threads"
ONE_LOOP = "it closes a loop, and there is one, which never ends"
TESTS_LEFT_OUT = {
    "tests/hosts/test_opening.py::test_read_only": NO_THREADS,
    "tests/machine/test_loop.py::test_asyncio_outside_of_a_handler_is_as_it_was": NO_THREADS,
    "tests/machine/test_loop.py::*anyio.create_unix_listener*": "there are no sockets of that kind to ask for",
    "tests/primitives/test_undoing.py::test_a_step_in_a_thread_*": NO_THREADS,
    "tests/primitives/test_undoing.py::test_what_comes_in_while_a_thread_*": NO_THREADS,
    "tests/primitives/test_undoing.py::test_what_a_task_left_behind_completed_is_undone": NO_THREADS,
    "tests/primitives/test_reporting.py::test_what_a_deleted_run_raised_*": "its frames are held by Pyodide",
    "tests/primitives/test_steps.py::test_a_sync_step_runs_in_a_thread_*": NO_THREADS,
    "tests/primitives/test_asking.py::test_a_runtime_that_is_collected_after_its_loop_*": ONE_LOOP,
    "tests/test_events.py::test_every_kind_is_inspected_*": "the command line is an extra",
    "tests/test_house.py::test_each_module_is_held_*": "the tests of other runtimes are not there",
    "tests/test_house.py::test_every_path_is_there": "the tests of other runtimes are not in the archive",
    "tests/triggers/test_triggers.py::test_a_daily_cron_in_a_zone_*": "its zones are not in the distribution",
    "tests/testing/test_conformance_suite.py::test_a_broken_promise_is_found?ThreadsSwallow*": NO_THREADS,
    "tests/testing/test_conformance_suite.py::test_a_good_host_passes_the_whole_suite": NO_THREADS,
    "tests/testing/test_conformance_suite.py::test_a_careless_host_without_a_gap_passes_the_limits": NO_THREADS,
    "tests/testing/test_conformance_suite.py::test_cases_adapt_to_a_host_*": NO_THREADS,
    "tests/testing/test_conformance_suite.py::test_everything_is_closed_and_destroyed": NO_THREADS,
    "tests/triggers/test_triggers.py::test_a_daily_cron_*": "cronsim is an extra",
}
# What should pass and does not. Each must fail: one that passes or is skipped is to be taken out here.
DEFECTS: dict[str, str] = {}
# Minutes in WebAssembly, and nothing in them hangs on the platform: `make test-everywhere` has them, once.
LONG = {"tests/simulation/test_exhaustive.py"}
EVERYWHERE = {
    *LONG, "tests/simulation/test_moves.py", "tests/simulator/test_simulator.py", "tests/simulator/test_zombies.py",
}  # fmt: skip
# What sees bytes of msgpack, and so is run with both of them: the rest (orders, faults, the source's own text) holds
# whatever they are, and is run with both in `make test-everywhere`.
BYTES = {
    "tests/conformance/test_conformance.py",
    "tests/hosts/test_size_borders.py",
    "tests/hosts/test_sqlite_batches.py",
    "tests/sealing/test_format.py",
    "tests/sealing/test_sealed_bundles.py",
    "tests/test_bundle.py",
    "tests/test_canonical.py",
    "tests/test_codec.py",
    "tests/test_envelope.py",
    "tests/test_events.py",
    "tests/test_frozen.py",
    "tests/test_given_values.py",
    "tests/test_golden.py",
    "tests/test_history.py",
    "tests/test_large_values.py",
    "tests/test_parts.py",
    "tests/test_replay.py",
    "tests/test_segments.py",
    "tests/test_shapes.py",
    "tests/test_spec.py",
    "tests/test_structs.py",
    "tests/test_values_at_doors.py",
}
BESIDE = ("tests", "alkaline_edge", "hosts", "examples", "docs", "pyproject.toml")
# Other runtimes, sockets and servers.
ELSEWHERE = {"wasm", "workers", "benchmarks", "http", "servers", "handoff", "soak"}
OTHERS = {"wasm", "workers", "http", "servers", "handoff", "soak", "__pycache__"}
INI = "[pytest]\npythonpath = .\nmarkers = slow: takes more than a few seconds\n"


def modules() -> list[str]:
    """Every test module of the repository that is not a test of another runtime, by its path."""
    found = (path.relative_to(REPOSITORY) for path in (REPOSITORY / "tests").rglob("test_*.py"))
    return sorted(str(path) for path in found if path.parts[1] not in ELSEWHERE)


def packed() -> bytes:
    """The repository without what is not of it or is for other runtimes, as a zip archive."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("pytest.ini", INI)
        for top in (*REPOSITORY.glob("*.md"), *(REPOSITORY / name for name in BESIDE)):
            for path in sorted(top.rglob("*")) if top.is_dir() else [top]:
                place = path.relative_to(REPOSITORY)
                if path.is_file() and not OTHERS & set(place.parts):
                    archive.write(path, str(place))
    return content.getvalue()


LOAD_REPOSITORY = """
const lockFileURL = typeof location === "object" ? new URL(LOCK, location.href).href : "./" + LOCK;
const pyodide = await loadPyodide({ lockFileURL });
await pyodide.loadPackage(["alkaline-edge", "pytest", "hypothesis", "anyio"], { messageCallback: () => {} });
pyodide.FS.mkdirTree("/repository");
const archive = typeof location === "object" ? (await fetch("data:;base64," + PACKED)).arrayBuffer()
  : new Uint8Array(require("fs").readFileSync(PACKED)).buffer;
pyodide.unpackArchive(await archive, "zip", { extractDir: "/repository" });
pyodide.runPython(INSIDE);
"""
RUN = """
const lists = [MODULES, LEFT_OUT, DEFECTS].map((list) => pyodide.toPy(list));
return pyodide.globals.get("run_tests")(...lists);
"""


def script_for(selenium, runtime: str, lock: str, folder: Path) -> str:
    """The constants that LOAD_REPOSITORY needs, as JavaScript. ``folder`` is for the archive, which Node reads."""
    archive = folder / "tests.zip"
    archive.write_bytes(packed())
    if runtime == "node":
        selenium.p.timeout = 900  # pytest-pyodide's own limit for Node is 60 s, whatever is asked
    else:
        executor = selenium.driver.command_executor
        executor.client_config.timeout = 900  # Selenium's own limit for an answer is 120 s, whatever a script may take
        executor._conn = executor._get_connection_manager()
    names = {
        "LOCK": lock,
        "PACKED": str(archive) if runtime == "node" else base64.b64encode(archive.read_bytes()).decode(),
        "INSIDE": (Path(__file__).parent / "inside.py").read_text(),
    }
    return constants(names)


def constants(values: dict[str, object]) -> str:
    """JavaScript constants."""
    return "".join(f"const {name} = {json.dumps(value)};\n" for name, value in values.items())


@pytest.mark.everywhere
@pytest.mark.driver_timeout(900)
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("lock", ["pyodide-lock.json", "pyodide-lock-pure.json"], ids=["c", "pure"])
def test_the_repositorys_tests_pass_inside_pyodide(
    selenium_standalone_noload, runtime: str, lock: str, tmp_path: Path
) -> None:
    """Every module and test but those left out by name above; none fails, and no name above is of the past.

    By default Node has the C msgpack and Chromium the pure one, so that each is met once; `make test-everywhere` pairs
    them the other way round as well.
    """
    assert set(modules()) >= MODULES_LEFT_OUT.keys() | EVERYWHERE | BYTES
    once = runtime == "node" and lock == "pyodide-lock.json"
    chosen = [name for name in modules() if name not in MODULES_LEFT_OUT and (once or name not in LONG)]
    if os.environ.get("ALKALINE_EVERYWHERE") != "1":
        chosen = [name for name in chosen if name not in EVERYWHERE and (once or name in BYTES)]
    left_out = [pattern for pattern in TESTS_LEFT_OUT if pattern.partition("::")[0] in chosen]
    lists = constants({"MODULES": chosen, "LEFT_OUT": left_out, "DEFECTS": list(DEFECTS)})
    script = script_for(selenium_standalone_noload, runtime, lock, tmp_path) + lists + LOAD_REPOSITORY + RUN
    found = json.loads(selenium_standalone_noload.run_js(script, pyodide_checks=False))
    failed = [test for test, (outcome, _) in found["outcomes"].items() if outcome == "failed"]
    passed = [test for test, (outcome, _) in found["outcomes"].items() if outcome == "passed"]
    assert not failed, found["words"]
    assert found["code"] == 0, found["words"]
    assert not found["unmatched"], "no test matches these patterns"
    assert {test.partition("::")[0] for test in passed} == set(chosen), "a module ran no test"
    print(f"{len(passed)} passed, {len(found['outcomes']) - len(passed)} skipped")
