"""`alkaline check` over a whole store: which runs it takes, what it writes for CI, and a store behind a server."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import httpx
import pytest
from click.testing import CliRunner, Result

from alkaline_edge import Context, Runtime, workflow
from alkaline_hosts._cli import checking
from alkaline_hosts._cli.checking import _Run, _sampled
from alkaline_hosts._cli.commands import alkaline
from alkaline_hosts.asgi import asgi_app
from alkaline_hosts.file import FileHost
from alkaline_hosts.remote import Remote

TOKEN = "a-token-for-these-tests"
CODE = """
from alkaline_edge import workflow

@workflow(name="research")
async def research(ctx, n):
    for number in range(n):
        await ctx.step("look", int, number)
    return await ctx.wait_for_signal("go")
"""


@workflow(name="research")
async def research(ctx: Context, n: int) -> Any:
    for number in range(n):
        await ctx.step("look", int, number)
    return await ctx.wait_for_signal("go")


@workflow(name="research", version=2)
async def newer(ctx: Context, n: int) -> Any:
    return await ctx.wait_for_signal("go")


def run(*args: object, code: int = 0) -> Result:
    result = CliRunner().invoke(alkaline, [str(arg) for arg in args])
    assert result.exit_code == code, (result.output, result.stderr, result.exception)
    return result


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Six runs that wait, of 0 to 5 steps, one that is completed, and one of another version."""
    path = tmp_path / "agent.alkaline"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "checked_before.py").write_text(CODE)
    (tmp_path / "checked_after.py").write_text(CODE.replace('"look"', '"seek\\x07<b>"'))

    async def fill() -> None:
        host = FileHost(path)
        async with Runtime(host, workflows=[research]) as runtime:
            for number in range(6):
                await (await runtime.start("research", number, id=f"exe_{number}")).settle()
            await (await runtime.start("research", 1, id="done")).settle()
            await runtime.signal("done", "go", "x")
            await runtime.result("done", None)
        await host.close()

    asyncio.run(fill())
    return path


def verdicts(*args: object, code: int = 0) -> dict[str, str]:
    return {each["file"]: each["verdict"] for each in json.loads(run("check", *args, "--json", code=code).stdout)}


def test_a_whole_store_is_checked_but_for_what_has_ended(store: Path) -> None:
    """Without a HISTORY, every run that has not ended; --status names others; no step has run twice for it."""
    going = {f"exe_{number}": "ok" for number in range(6)}
    assert verdicts("--store", store, "--workflows", "checked_before") == going
    assert verdicts("--store", store, "--workflows", "checked_before", "--status", "completed") == {"done": "ok"}
    both = ["--status", "completed", "--status", "suspended"]
    assert verdicts("--store", store, "--workflows", "checked_before", *both) == {"done": "ok", **going}
    said = run("check", "--store", store, "--workflows", "checked_before", "--workflow", "x")
    assert "no runs to check" in said.stdout + said.stderr


def test_a_run_that_went_elsewhere_is_not_checked_here(store: Path, tmp_path: Path) -> None:
    """It goes on there, with the code of there."""
    run("handover", store, "exe_3", tmp_path / "other.alkaline")
    found = verdicts("--store", store, "--workflows", "checked_after", code=1)
    assert "exe_3" not in found
    assert len(found) == 5
    there = verdicts("--store", tmp_path / "other.alkaline", "--workflows", "checked_after", code=1)
    assert there == {"exe_3": "diverged"}


def test_a_deploy_that_would_break_a_run_is_refused(store: Path) -> None:
    """Exit code 1, with the runs that would break, the event, and what would mend it; the run without a step fits."""
    found = verdicts("--store", store, "--workflows", "checked_after", code=1)
    assert found == {"exe_0": "ok", **{f"exe_{number}": "diverged" for number in range(1, 6)}}
    told = json.loads(run("check", "--store", store, "--workflows", "checked_after", "--json", code=1).stdout)
    assert [each["position"] for each in told] == [None, 1, 1, 1, 1, 1]
    said = run("check", "--store", store, "--workflows", "checked_after", code=1).stdout
    assert "to mend it: ask for step" in said
    assert "1 of 6 fit" in said
    assert "\x07" not in said


def test_junit_is_well_formed_whatever_a_history_holds(store: Path, tmp_path: Path) -> None:
    """A case for each run, a failure with its message and mend; control characters and markup are no XML of ours."""
    file = tmp_path / "report.xml"
    run("check", "--store", store, "--workflows", "checked_after", "--junit", file, code=1)
    suite = ElementTree.parse(file).getroot()
    assert suite.attrib == {"tests": "6", "failures": "5", "errors": "0"}
    cases = suite.findall("testsuite/testcase")
    assert [case.get("name") for case in cases] == [f"exe_{number}" for number in range(6)]
    assert {case.get("classname") for case in cases} == {"research version 1"}
    (failure,) = cases[1]
    assert (failure.tag, failure.get("type")) == ("failure", "diverged")
    assert "seek" in (failure.text or "")
    assert "to mend it: " in (failure.text or "")
    (tmp_path / "junk.alk").write_bytes(b"junk")
    run("check", tmp_path / "junk.alk", "--workflows", "checked_after", "--junit", file, code=2)
    assert ElementTree.parse(file).getroot().find("testsuite/testcase/error") is not None


def test_a_report_that_can_not_be_written_is_told_before_the_work(store: Path, tmp_path: Path) -> None:
    """Nor is a store written over."""
    missing = tmp_path / "nowhere" / "report.xml"
    assert (
        "no directory"
        in run("check", "--store", store, "--workflows", "checked_after", "--junit", missing, code=2).stderr
    )
    assert (
        "is a store" in run("check", "--store", store, "--workflows", "checked_after", "--junit", store, code=2).stderr
    )
    assert run("list", store).stdout.count("exe_") == 6


@pytest.mark.parametrize("count", [1, 2, 3, 7, 50])
@pytest.mark.parametrize("most", [1, 2, 3, 6, 7, 8])
def test_a_sample_is_spread_over_the_lengths_and_always_the_same(count: int, most: int) -> None:
    """Of each workflow and version: the shortest and the longest among them, and never more than asked for."""
    runs = [_Run(f"{of}{n}", of, n * 3) for of in ("a", "b") for n in range(count)]
    shuffled = random.Random(count * most).sample(runs, len(runs))
    found = _sampled(shuffled, most)
    assert found == _sampled(runs, most)
    for of in ("a", "b"):
        lengths = [each.length for each in found if each.of == of]
        assert len(set(lengths)) == len(lengths) == min(count, most)
        assert max(lengths) == (count - 1) * 3
        assert most == 1 or count == 1 or min(lengths) == 0


def test_a_sample_of_a_store(store: Path) -> None:
    """--sample 2 takes the shortest and the longest."""
    assert set(verdicts("--store", store, "--workflows", "checked_before", "--sample", 2)) == {"exe_0", "exe_5"}


@pytest.mark.parametrize(
    "args",
    [
        ["--workflows", "checked_before"],
        ["exe_1", "--workflows", "checked_before", "--sample", "1"],
        ["exe_1", "--workflows", "checked_before", "--status", "running"],
        ["--workflows", "checked_before", "--sample", "0"],
        ["--workflows", "checked_before", "--store", "nowhere.alkaline", "--sample", "x"],
    ],
)
def test_what_says_nothing_to_check_is_bad_usage(store: Path, args: list[str]) -> None:
    """One line, and exit code 2."""
    assert run("check", *args, code=2).stderr.count("\n") == 1


def test_a_store_that_is_not_there_is_not_found(tmp_path: Path, store: Path) -> None:
    """And none is made."""
    run("check", "--store", tmp_path / "typo.alkaline", "--workflows", "checked_before", code=4)
    assert not (tmp_path / "typo.alkaline").exists()


def test_a_store_behind_a_server_is_checked_as_its_own(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its list and its exports; a token that it does not know ends the check, and is no verdict of a run."""
    given = {"token": TOKEN}

    @contextlib.asynccontextmanager
    async def server(url: str) -> AsyncIterator[Remote]:
        host = FileHost(store)
        async with Runtime(host, workflows=[research]) as runtime:
            app = asgi_app(runtime, token=TOKEN, serve=False)
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app)) as client:

                async def fetch(method: str, url: str, headers: Any, body: bytes) -> tuple[int, bytes]:
                    response = await client.request(method, url, headers=headers, content=body)
                    return response.status_code, response.content

                yield Remote(url, token=given["token"], fetch=fetch)
        await host.close()

    monkeypatch.setattr(checking, "remote", server)
    there = ["--store", "http://localhost", "--workflows"]
    assert verdicts(*there, "checked_after", code=1) == verdicts(
        "--store", store, "--workflows", "checked_after", code=1
    )
    assert set(verdicts(*there, "checked_before", "--sample", 2)) == {"exe_0", "exe_5"}
    given["token"] = "another-token-of-enough-bytes"
    assert "ALKALINE_TOKEN" in run("check", *there, "checked_before", code=2).stderr
