"""examples/support_agent in Chromium: Pydantic AI, a tool of a real MCP server, an approval; the browser is killed."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import Browser, Tab, once_more_if_forgotten, serve, wait_until

REPOSITORY = Path(__file__).resolve().parents[2]
EXAMPLE = REPOSITORY / "examples" / "support_agent"
PYTHON = REPOSITORY / ".venv" / "bin" / "python"
LINES = "return [...document.querySelectorAll('#history li')].map((line) => line.textContent.trim())"
ASKED = 'The agent wants: refund {"order": "7", "euros": 12}'
ASKS = "return !document.getElementById('decide').hidden"
STATUS = "return document.getElementById('status').textContent"


@contextlib.contextmanager
def serving(program: list[str], log: Path) -> Iterator[int]:
    """A server of the SDK in a process of its own, by the repository's Python; gives its port on loopback."""
    assert PYTHON.exists(), "the MCP server runs in the repository's own environment: `make .venv/.ready`"
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    command = [str(PYTHON), *(str(port) if one == "PORT" else one for one in program)]
    environment = {**os.environ, "ORDERS_LOG": str(log)}
    process = subprocess.Popen(command, cwd=REPOSITORY, env=environment, start_new_session=True)
    try:
        wait_until(lambda: answers(port), "the MCP server answers", 60)
        yield port
    finally:
        process.kill()
        process.wait()


def answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


@pytest.fixture
def visit(dist: Path, origin: str, tmp_path: Path) -> Iterator[tuple[Browser, str, list[str], Path]]:
    """A browser on the repository's files, with the shop's server beside it on another origin."""
    log = tmp_path / "orders.log"
    log.touch()
    with (
        serve(REPOSITORY) as (site, asked),
        serving([str(EXAMPLE / "orders.py"), "PORT", site], log) as port,
    ):
        browser = Browser(site, tmp_path / "profile").start()
        page = f"/examples/support_agent/index.html?journal=/acknowledged&orders=http://127.0.0.1:{port}/mcp"
        try:
            yield browser, page, asked, log
        finally:
            browser.quit()


def until(tab: Tab, script: str, wanted: Any, what: str) -> Any:
    def looked() -> Any:
        found = tab.js(script)
        return found if wanted(found) else None

    try:
        return wait_until(looked, what, 45)
    except AssertionError as error:
        raise AssertionError(f"{error}; the page says {tab.js(STATUS)!r}, {tab.js(LINES)}") from None


@once_more_if_forgotten
def test_the_agent_runs_in_a_tab_is_killed_and_asks_nothing_again(visit: Any) -> None:
    """Killed while it waits for the approval and right after its last request began: one model call, tool call and
    refund each, but for the request that was under way; and the words of the model are seen as they come."""
    browser, page, asked, log = visit
    asked.clear()
    log.unlink(missing_ok=True)
    tab = browser.tab(page)
    until(tab, STATUS, lambda said: said == "ready", "the agent is there")
    tab.js("document.getElementById('ask').click()")
    until(tab, ASKS, bool, "it asks")
    assert tab.js("return document.getElementById('what').textContent") == ASKED
    before = tab.js(LINES)
    browser.kill()
    assert requests(asked) == Counter([1, 2])
    assert log.read_text().splitlines() == ["look_up 7"]

    tab = browser.again().tab(page)
    until(tab, ASKS, bool, "it asks still")
    assert tab.js(LINES)[: len(before)] == before
    assert requests(asked) == Counter([1, 2]), "what is recorded is not asked for again"
    tab.js("document.getElementById('yes').click()")
    done = "Order 7: 12 euros are on their way back."
    until(tab, STATUS, lambda said: said == done, "it is done")
    assert tab.js("return document.getElementById('words').textContent") == done
    assert requests(asked) == Counter([1, 2, 3])
    assert log.read_text().splitlines() == ["look_up 7", "refund 7"]
    assert tab.js(LINES)[-1] == "Completed"


def requests(asked: list[str]) -> Counter[int]:
    """How often each request was made."""
    marks = [one.partition("?")[2] for one in list(asked) if one.startswith("/acknowledged?request")]
    return Counter(int(one.removeprefix("request%20")) for one in marks)
