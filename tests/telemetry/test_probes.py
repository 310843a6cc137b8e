"""Probes and metrics in front of the API, and the log's two forms."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner
from prometheus_client.parser import text_string_to_metric_families

from alkaline_edge import InvalidInput, Runtime, StoreError, lifecycle
from alkaline_edge.testing import SimulatedHost
from alkaline_hosts._cli import serving_log
from alkaline_hosts._cli.commands import alkaline
from alkaline_hosts._cli.watching import HEADERS, Watching
from alkaline_hosts._http import probes
from alkaline_hosts._http.probes import Probes
from alkaline_hosts._telemetry.prometheus import MOST_NAMES, OTHERS, Counted
from tests.telemetry.flows import journey, killed_moved_and_resumed, part


async def other(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 418, "headers": []})
    await send({"type": "http.response.body", "body": b"other"})


def asking(app: Any, *requests: tuple[str, str], then: Callable[[], Any] = lambda: None) -> list[httpx.Response]:
    async def test() -> list[httpx.Response]:
        found = []
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
            for method, path in requests:
                found.append(await client.request(method, path))
                then()
        return found

    return asyncio.run(test())


def made(asked: Callable[[], Awaitable[Any]], metrics: Any = None) -> Probes:
    return Probes(other, asked, metrics)


async def answers() -> None: ...


def test_probes_need_no_token_and_everything_else_goes_on() -> None:
    """GET and HEAD alone; /metrics is the API's where nobody has asked for metrics."""
    found = asking(
        made(answers), ("GET", "/healthz"), ("HEAD", "/readyz"), ("POST", "/healthz"), ("GET", "/metrics"), ("GET", "/")
    )
    assert [(each.status_code, each.text) for each in found] == [
        (200, "ok\n"), (200, ""), (405, "only GET\n"), (418, "other"), (418, "other"),
    ]  # fmt: skip


def test_a_process_is_ready_while_its_store_answers_and_it_is_not_about_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the store says is said for a moment, whoever asks; no detail of it is shown."""
    count = 0

    async def asked() -> None:
        nonlocal count
        count += 1
        if count > 1:
            raise StoreError("the password of the store is hunter2")

    one = made(asked)
    found = asking(one, *[("GET", "/readyz")] * 5)
    assert [each.status_code for each in found] == [200] * 5
    assert count == 1
    monkeypatch.setattr(probes, "FRESH_SECONDS", -1.0)
    one = made(asked)
    (found_now,) = asking(one, ("GET", "/readyz"))
    assert (found_now.status_code, found_now.text) == (503, "the store does not answer\n")
    one = made(answers)
    found = asking(one, ("GET", "/readyz"), ("GET", "/readyz"), ("GET", "/healthz"), then=one.stop)
    assert [each.status_code for each in found] == [200, 503, 200]


def test_a_store_that_hangs_is_one_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a while."""
    monkeypatch.setattr(probes, "PATIENCE_SECONDS", 0.01)
    (found,) = asking(made(lambda: asyncio.sleep(5)), ("GET", "/readyz"))
    assert found.status_code == 503


def test_metrics_are_such_as_prometheus_reads_and_count_each_thing_once() -> None:
    """Of a run that was killed, moved and resumed: over its processes, as a server that watched all of them."""
    counted = Counted(lambda: 2, lambda: 1)
    asyncio.run(killed_moved_and_resumed(lambda: counted))
    (shown,) = asking(made(answers, (counted.text, "text/plain; version=1.0.0")), ("GET", "/metrics"))
    assert shown.headers["content-type"].startswith("text/plain; version=1.0.0")
    samples = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(shown.text)
        for sample in family.samples
    }
    assert samples["alkaline_runs_total", ("status", "completed"), ("workflow", "journey")] == 1
    assert samples["alkaline_runs_total", ("status", "completed"), ("workflow", "part")] == 1
    assert samples["alkaline_runs_started_total", ("workflow", "journey")] == 1
    assert samples["alkaline_step_retries_total", ("step", "flaky"), ("workflow", "journey")] == 1
    assert samples["alkaline_tokens_total", ("step", "ask"), ("workflow", "journey")] == 15
    each = ("outcome", "completed"), ("step", "each"), ("workflow", "journey")
    assert samples["alkaline_step_duration_seconds_count", *each] == 3
    assert samples["alkaline_runs_active",] == 2
    assert samples["alkaline_runs_stuck",] == 1


def test_names_that_are_made_up_do_not_fill_the_memory() -> None:
    """Beyond a bound they are counted together."""
    counted = Counted(lambda: 0, lambda: 0)
    counted(lifecycle.RunStarted("a", 0, "flow", "0" * 12, 0))
    for n in range(MOST_NAMES + 50):
        counted(lifecycle.StepFinished("a", 5, f"step {n}", str(n), True, 1))
    text = counted.text().decode()
    assert f'alkaline_step_duration_seconds_count{{outcome="completed",step="{OTHERS}",workflow="flow"}} 50.0' in text


def test_what_watches_is_told_by_one_listener(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The log, the metrics, and the collector with the headers of the environment."""
    monkeypatch.setenv(HEADERS, "authorization=Bearer%20t,x-team=a")
    watching = Watching("human", metrics=True, otlp="http://127.0.0.1:1/v1/traces")
    assert watching._exporter._headers["authorization"] == "Bearer t"
    sent: list[dict[str, Any]] = []

    async def fetch(method: str, url: str, headers: Any, body: bytes) -> tuple[int, bytes]:
        sent.append(json.loads(body))
        return 200, b""

    watching._exporter._fetch = fetch

    async def test() -> str:
        async with Runtime(SimulatedHost(), workflows=[journey, part], on_event=watching) as runtime:
            probed = watching.probed(other, runtime)
            run = await runtime.start(journey, "x", id="a")
            await run.signal("first")
            await run.signal("second")
            await run.result()
            transport = httpx.ASGITransport(probed)
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
                text = (await client.get("/metrics")).text
        await watching.close()
        return text

    with caplog.at_level(logging.INFO):
        text = asyncio.run(test())
    assert 'alkaline_runs_total{status="completed",workflow="journey"} 1.0' in text
    assert "run a completed" in caplog.text
    assert sum(len(each["resourceSpans"][0]["scopeSpans"][0]["spans"]) for each in sent) >= 8


@pytest.mark.parametrize(("otlp", "headers"), [("collector", ""), ("http://c/", "no sign")])
def test_what_is_no_collector_is_refused_before_anything_is_served(
    otlp: str, headers: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With the option's or the variable's name."""
    monkeypatch.setenv(HEADERS, headers)
    with pytest.raises(InvalidInput):
        Watching("human", metrics=False, otlp=otlp)
    done = CliRunner().invoke(alkaline, ["serve", str(tmp_path / "s.alkaline"), "--otlp", otlp])
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1), done.output
    assert not (tmp_path / "s.alkaline").exists()


def test_the_log_as_json_is_an_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    """With the run, the fields of ctx.log and the trace of what was raised; control characters stay within."""
    form = serving_log._Json()
    logger = logging.getLogger("alkaline_edge.runs")
    try:
        raise ValueError("no\nline")
    except ValueError as error:
        record = logger.makeRecord(
            logger.name, logging.ERROR, __file__, 1, "run %s failed\x1b", ("a",), (type(error), error, None),
            extra={"run": "a", "fields": {"n": 1, "odd": object}},
        )  # fmt: skip
    line = form.format(record)
    assert "\n" not in line
    assert "\x1b" not in line
    told = json.loads(line)
    assert (told["level"], told["logger"], told["run"]) == ("error", "alkaline_edge.runs", "a")
    assert told["fields"]["n"] == 1
    assert "ValueError" in told["exception"]
    assert told["time"].endswith("+00:00")
