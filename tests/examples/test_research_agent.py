"""The research agent: what it finds and quotes, what it charges, how it ends, and its program as a user calls it."""

from __future__ import annotations

import asyncio
import dataclasses
import importlib.util
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import research_agent as agent
from research import condense, effects, model, ranking, sources  # found once the examples are

from alkaline_edge import Budget, Runtime, Workflow
from alkaline_edge.events import AttemptFailed, Emitted, Spent, StepCharged, StepCompleted
from alkaline_edge.testing import SimulatedHost
from alkaline_hosts.memory import MemoryHost
from tests.examples.endpoint import TOKENS, serving

PROGRAM = Path(agent.__file__)
CLIENT = importlib.util.find_spec("openai") is not None


def task(report: Path, sections: int = 20, flaky: float = 0.0, name: str | None = None) -> Any:
    """The input of a small run."""
    conduct = {"pace": 0.0, "flaky": flaky, "seed": 3}
    return {
        "question": agent.QUESTION, "sections": sections, "model": name, "report": str(report), "conduct": conduct,
    }  # fmt: skip


def answered(given: Any, decision: Any, workflow: Workflow = agent.research) -> tuple[Any, Any, list[Any]]:
    """A run that gets ``decision`` at its approval: its result, its record and its events."""

    async def drive() -> tuple[Any, Any, list[Any]]:
        async with Runtime(MemoryHost(), workflows=[workflow]) as runtime:
            run = await runtime.start(workflow, given, id="r")
            await run.settle()
            assert (await runtime.get_execution("r")).waiting[0] == "signal approval"
            assert (await run.query("stage"))["stage"] == "waiting for approval"
            await run.signal("approval", decision)
            result = await run.result(timeout=60)
            events = [one.event for one in await runtime.history("r")]
            return result, await runtime.get_execution("r"), events

    return asyncio.run(drive())


class TestSources:
    def test_a_quote_is_found_at_its_place(self) -> None:
        """Every sentence that is quoted begins on the line of the file that the report names."""
        weight = dict.fromkeys(ranking.question_terms(agent.QUESTION), 1.0)
        checked = 0
        for document in ("asyncio/tasks.py", "asyncio/locks.py", "json/decoder.py", "heapq.py"):
            lines = (sources.library() / document).read_text("utf-8").splitlines()
            for section in sources.sections(document):
                for quote in condense.quotes(document, section, weight, 50):
                    path, _, line = quote["place"].rpartition(":")
                    assert path == document
                    assert quote["text"].split()[0] in lines[int(line) - 1]
                    checked += 1
        assert checked > 20

    def test_the_language_reference_is_among_the_documents(self) -> None:
        """pydoc's topics are documents, in sections that keep their line numbers."""
        assert "topic:with" in sources.documents()
        section = sources.sections("topic:with")[0]
        assert condense.place("topic:with", section.lines[0][0]) == "help('with'), line 1"

    def test_tests_and_installed_packages_are_left_out(self) -> None:
        """Only the library itself is read."""
        parts = {part for name in sources.documents() for part in name.split("/")}
        assert not parts & {"test", "tests", "site-packages"}


class TestRanking:
    @pytest.mark.parametrize("word", ["cancel", "cancels", "cancelled", "cancelling", "cancellation"])
    def test_forms_of_a_word_meet(self, word: str) -> None:
        """The forms of one word have one stem."""
        assert ranking.stem(word) == "cancel"

    def test_a_rare_word_weighs_more(self) -> None:
        """What few documents hold tells more about a document."""
        weight = ranking.weights(["rare", "common"], 100, {"rare": 2, "common": 60})
        assert weight["rare"] > weight["common"] > 0

    def test_a_question_without_words_is_refused(self) -> None:
        """There is nothing to look for."""
        with pytest.raises(ValueError, match="no word to look for"):
            ranking.question_terms("how is it?")


class TestInjectedFailures:
    def test_the_same_attempts_fail_every_time_and_never_a_third(self) -> None:
        """A seed decides which attempts fail; every step succeeds with its third attempt at the latest."""
        conduct = effects.Conduct(pace=0, flaky=0.2, seed=5)
        drawn = [[effects.fails(f"{n}.1", attempt, conduct) for n in range(500)] for attempt in (1, 2, 3)]
        assert drawn == [[effects.fails(f"{n}.1", attempt, conduct) for n in range(500)] for attempt in (1, 2, 3)]
        assert 60 < sum(drawn[0]) < 140
        assert not any(drawn[2])


class TestWorkflow:
    def test_an_approved_run_writes_its_report(self, tmp_path: Path) -> None:
        """The report quotes the sources that the question is about, and says that no model was called."""
        target = tmp_path / "deep" / "report.md"
        result, record, events = answered(task(target), {"approved": True, "by": "a tester"})
        text = target.read_text()
        assert result == {"report": str(target), "bytes": len(text.encode()), "sections": 20, "approved_by": "a tester"}
        assert "### asyncio/tasks.py" in text
        assert "no model was called" in text
        assert "approved by: a tester" in text
        charges = sum(event.tokens for event in events if isinstance(event, (StepCharged, Spent)))
        assert record.spent["tokens"] == charges > 0
        plan = next(event.data for event in events if isinstance(event, Emitted) and event.topic == "plan")
        assert plan["steps"] == sum(isinstance(event, StepCompleted) for event in events)

    def test_a_full_run_takes_more_than_two_hundred_steps(self, tmp_path: Path) -> None:
        """By default the agent reads 200 sections, some attempts fail, and every step completes once."""
        _, _, events = answered(task(tmp_path / "report.md", 200, flaky=0.05), {"approved": True, "by": "a tester"})
        completed = Counter(event.id for event in events if isinstance(event, StepCompleted))
        assert len(completed) > 200
        assert set(completed.values()) == {1}
        assert sum(isinstance(event, AttemptFailed) for event in events) > 3

    def test_the_report_does_not_depend_on_failures(self, tmp_path: Path) -> None:
        """Retries change the history and nothing else."""
        calm, rough = tmp_path / "calm.md", tmp_path / "rough.md"
        answered(task(calm), {"approved": True, "by": "a tester"})
        _, _, events = answered(task(rough, flaky=0.4), {"approved": True, "by": "a tester"})
        assert any(isinstance(event, AttemptFailed) for event in events)
        assert calm.read_bytes() == rough.read_bytes()

    def test_a_rejected_run_writes_nothing(self, tmp_path: Path) -> None:
        """Without approval there is no report."""
        result, record, _ = answered(task(tmp_path / "report.md"), {"approved": False, "by": "a tester"})
        assert (result["report"], record.status) == (None, "completed")
        assert not list(tmp_path.iterdir())

    def test_an_approval_that_never_comes_ends_the_run(self, tmp_path: Path) -> None:
        """After seven days the run ends without a report."""

        async def drive() -> Any:
            host = SimulatedHost()
            async with Runtime(host, workflows=[agent.research]) as runtime:
                run = await runtime.start(agent.research, task(tmp_path / "report.md"))
                await run.settle()
                host.advance(7 * 86_400 + 1)
                await runtime.run_due()
                return await run.result(timeout=60)

        assert asyncio.run(drive())["report"] is None
        assert not list(tmp_path.iterdir())

    def test_the_budget_ends_the_reading_and_not_the_run(self, tmp_path: Path) -> None:
        """When the tokens are used up, the report rests on what was read, and says how much that was."""
        poor = dataclasses.replace(agent.research, budget=Budget(tokens=2_500))
        target = tmp_path / "report.md"
        result, _, _ = answered(task(target, 60), {"approved": True, "by": "a tester"}, poor)
        assert 0 < result["sections"] < 60
        assert f"sections read: {result['sections']} of 60" in target.read_text()
        assert "token budget: used up" in target.read_text()


class TestModel:
    @pytest.mark.skipif(not CLIENT, reason="needs the extra `demo`: the openai client")
    def test_an_endpoint_in_the_environment_condenses(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The model is called over HTTP, its tokens are charged, and an answer of 503 is one more attempt of the step
        with the same idempotency key."""
        with serving(failures=2) as endpoint:
            monkeypatch.setenv("OPENAI_BASE_URL", endpoint.url)
            monkeypatch.setenv("OPENAI_MODEL", "little")
            monkeypatch.setenv("NO_PROXY", "127.0.0.1")
            monkeypatch.delenv("OPENAI_API_KEY", raising=False)
            assert model.in_environment() == "little"
            target = tmp_path / "report.md"
            _, record, events = answered(task(target, 12, name="little"), {"approved": True, "by": "a tester"})
        keys = [key for key, _ in endpoint.asked]
        assert None not in keys
        assert len(keys) == len(set(keys)) + 2
        assert sum(isinstance(event, AttemptFailed) for event in events) == 2
        charged = [event.tokens for event in events if isinstance(event, StepCharged)]
        assert charged.count(TOKENS) == len(keys) - 2
        assert record.spent["tokens"] == sum(
            event.tokens for event in events if isinstance(event, (StepCharged, Spent))
        )
        assert endpoint.asked[-1][1]["model"] == "little"
        assert agent.QUESTION in endpoint.asked[-1][1]["messages"][1]["content"]
        text = target.read_text()
        assert f"The model's words, number {len(keys)}." in text
        assert "Condensed by the model little" in text

    def test_a_missing_client_says_what_to_install(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """An endpoint without the client ends before anything starts, and names the extra."""
        monkeypatch.setenv("OPENAI_API_KEY", "k")
        monkeypatch.setitem(sys.modules, "openai", None)
        assert agent.main(["ask", "--store", str(tmp_path / "s")]) == agent.MISUSED
        assert "alkaline-edge[demo]" in capsys.readouterr().err
        assert not list(tmp_path.iterdir())


class TestProgram:
    @pytest.fixture(autouse=True)
    def _no_endpoint(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_MODEL"):
            monkeypatch.delenv(name, raising=False)

    def call(self, directory: Path, *arguments: str) -> tuple[int, str]:
        """The program as a process of its own."""
        command = [sys.executable, str(PROGRAM), *arguments]
        done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=120, check=False)
        return done.returncode, done.stdout + done.stderr

    def test_ask_approve_ask(self, tmp_path: Path) -> None:
        """It stops at the approval, another process sends that, and the next call writes the report."""
        code, said = self.call(tmp_path, "ask", "--sections", "12")
        assert (code, "waiting for approval" in said) == (agent.WAITING, True), said
        code, said = self.call(tmp_path, "status")
        assert (code, "12 of 12 sections read" in said) == (0, True), said
        assert self.call(tmp_path, "approve", "--by", "Ada")[0] == 0
        code, said = self.call(tmp_path, "ask")
        assert code == 0, said
        assert "approved by: Ada" in (tmp_path / "report.md").read_text()

    def test_another_question_is_not_answered_with_an_old_report(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """A store that answers one question says so when it is asked another."""
        store = str(tmp_path / "s")
        assert (
            agent.main(["ask", "--store", store, "--sections", "6", "How does json decode numbers?"]) == agent.WAITING
        )
        assert agent.main(["ask", "--store", store, "What is a heap?"]) == agent.MISUSED
        assert "answers another question" in capsys.readouterr().err

    def test_a_store_that_is_not_there(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Looking creates nothing."""
        assert agent.main(["status", "--store", str(tmp_path / "s")]) == agent.MISUSED
        assert "there is no file s" in capsys.readouterr().err
        assert not list(tmp_path.iterdir())
