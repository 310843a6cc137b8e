"""Real MCP servers in processes of their own, over stdio and HTTP on loopback; polite ones and rude ones."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import fastmcp
import mcp
import pytest

from alkaline_edge import Context, InvalidInput, Retry, Runtime, Workflow, workflow
from alkaline_edge.mcp import durable_tool, text_of
from alkaline_hosts.file import FileHost
from alkaline_hosts.mcp import FetchClient, MCPError, mcp_client
from alkaline_hosts.memory import MemoryHost
from tests.servers.ports import free_port

ROOT = Path(__file__).parents[2]
REACHED = Retry(max_attempts=200, backoff=0.05, factor=1, retryable=lambda error: error.code == "unreachable")  # type: ignore[attr-defined]


def over_stdio(module: str, *arguments: str) -> mcp.StdioServerParameters:
    return mcp.StdioServerParameters(command=sys.executable, args=["-m", module, *arguments], cwd=str(ROOT))


@contextmanager
def served(ledger: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """The server over HTTP, killed at the end."""
    command = [sys.executable, "-m", "tests.mcp.server", str(ledger), str(port)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.kill()


def calling(client: Any, **options: Any) -> Workflow:
    @workflow(name="calls")
    async def calls(ctx: Context, call: list[Any]) -> Any:
        return await durable_tool(ctx, client, *call, **options)

    return calls


@asynccontextmanager
async def running(*workflows: Workflow, folder: Path | None = None) -> AsyncIterator[Runtime]:
    host: Any = MemoryHost() if folder is None else FileHost(folder / "runs.alkaline")
    async with Runtime(host, workflows=workflows) as runtime:
        yield runtime
    await host.close()


def once(client: Any, name: str, arguments: dict[str, Any] | None = None, **options: Any) -> Any:
    async def main() -> Any:
        async with running(calling(client, **options)) as runtime:
            return await (await runtime.start("calls", [name, arguments or {}])).result(timeout=60)

    return asyncio.run(main())


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    path = tmp_path / "ledger"
    path.touch()
    return path


def lines(ledger: Path) -> list[list[str]]:
    return [line.rsplit(" ", 1) for line in ledger.read_text().splitlines()]


@pytest.fixture
def url(ledger: Path) -> Iterator[str]:
    port = free_port()
    with served(ledger, port) as process:
        until_it_listens(port, process)
        yield f"http://127.0.0.1:{port}/mcp"


def until_it_listens(port: int, process: subprocess.Popen[bytes]) -> None:
    while process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise AssertionError("the server ended")


def test_a_tool_over_stdio(ledger: Path) -> None:
    """Its result, its own error, and the key that came with the call."""
    client = mcp_client(over_stdio("tests.mcp.server", str(ledger)))
    assert once(client, "add", {"a": 2, "b": 3})["structured"] == {"result": 5}
    ((did, key),) = lines(ledger)
    assert did == "add 2 3"
    assert key.endswith(".1")
    broken = once(client, "breaks")
    assert broken["is_error"]
    assert "breaks" in text_of(broken)


def test_a_tool_over_http_by_each_client(ledger: Path, url: str) -> None:
    """The SDK's, fastmcp's, the small one, and one that is connected before the run begins."""
    for client in (mcp_client(url), lambda: fastmcp.Client(url), FetchClient(url)):
        assert once(client, "add", {"a": 2, "b": 3})["structured"] == {"result": 5}

    async def connected() -> Any:
        async with mcp.Client(url) as client, running(calling(client), calling_session(client.session)) as runtime:
            first = await (await runtime.start("calls", ["add", {"a": 1, "b": 1}])).result(timeout=60)
            return first, await (await runtime.start("session", ["add", {"a": 1, "b": 1}])).result(timeout=60)

    assert [one["structured"] for one in asyncio.run(connected())] == [{"result": 2}, {"result": 2}]
    assert all(key != "None" for _, key in lines(ledger))


def calling_session(session: Any) -> Workflow:
    @workflow(name="session")
    async def calls(ctx: Context, call: list[Any]) -> Any:
        return await durable_tool(ctx, session, *call)

    return calls


def test_a_client_that_is_not_connected_says_what_to_do() -> None:
    """In the words of what to write."""
    with pytest.raises(InvalidInput, match="makes the client"):
        once(mcp.Client("http://127.0.0.1:1/mcp"), "add")


def test_a_large_result_comes_in_bounded(url: str) -> None:
    """Twenty megabytes over the wire are a quarter of one in the history; the small client reads as much as it may."""
    result = once(mcp_client(url), "large", {"size": 10_000_000})
    assert result["truncated"]
    assert len(text_of(result).encode()) == 256 * 1024
    with pytest.raises(Exception, match="more than 1,000,000 bytes") as failed:
        once(FetchClient(url, max_bytes=1_000_000), "large", {"size": 10_000_000})
    assert failed.value.code == "invalid"  # type: ignore[attr-defined]


@pytest.mark.parametrize("make", [mcp_client, FetchClient])
def test_an_approval_is_given_to_another_process(make: Any, ledger: Path, tmp_path: Path) -> None:
    """The server, over HTTP, is another one by then too, which has forgotten the call: it asks again, and acts once."""
    port = free_port()
    calls = calling(make(f"http://127.0.0.1:{port}/mcp"), retry=REACHED)

    async def asked(first: bool, answer: bool) -> list[str]:
        async with running(calls, folder=tmp_path) as runtime:
            run = await runtime.start(calls, ["refund", {"order": "o1"}], id="r", on_conflict="join")
            if not first:
                (waiting,) = (await runtime.get_execution("r")).waiting
                await run.signal(waiting.removeprefix("signal "), {"action": "accept", "content": {"approved": answer}})
            if first or (await run.settle(), (await runtime.get_execution("r")).status)[1] == "suspended":
                await run.settle()
                return (await runtime.get_execution("r")).waiting
            return [text_of(await run.result(timeout=60))]

    with served(ledger, port):
        waiting = asyncio.run(asked(True, False))
    with served(ledger, port):
        again = asyncio.run(asked(False, True))
        assert again != waiting
        assert lines(ledger) == []
        assert asyncio.run(asked(False, True)) == ["refunded o1"]
    assert [did for did, _ in lines(ledger)] == ["refund o1"]


@pytest.mark.parametrize("make", [mcp_client, FetchClient])
def test_a_server_that_hangs_is_left_and_another_call_goes_on(make: Any, ledger: Path, url: str) -> None:
    """The timeout is the step's."""
    with pytest.raises(Exception, match="timeout") as failed:
        once(make(url), "hangs", timeout=2)
    assert failed.value.code == "timeout"  # type: ignore[attr-defined]
    assert once(make(url), "add", {"a": 1, "b": 1})["structured"] == {"result": 2}


@pytest.mark.parametrize(
    ("manner", "code"),
    [("vanishes", "unreachable"), ("lies", "invalid"), ("malformed", "invalid"), ("hangs", "timeout")],
)
def test_a_server_that_breaks_its_word(manner: str, code: str) -> None:
    """A typed error, whatever it was."""
    with pytest.raises(Exception, match="total") as failed:
        once(mcp_client(over_stdio("tests.mcp.rude", manner)), "total", timeout=3)
    assert failed.value.type == "ToolFailed"  # type: ignore[attr-defined]
    assert failed.value.code == code  # type: ignore[attr-defined]
    assert len(str(failed.value)) < 1_000


def test_a_refusal_of_any_length_is_a_short_error() -> None:
    """With the number that the protocol gives."""
    with pytest.raises(Exception, match="was refused: xxx") as failed:
        once(mcp_client(over_stdio("tests.mcp.rude", "refuses")), "total")
    assert failed.value.detail == {"rpc": -32603}  # type: ignore[attr-defined]
    assert len(str(failed.value)) < 1_000


@pytest.mark.parametrize("manner", ["twice", "garbage"])
def test_an_answer_among_others_is_the_answer(manner: str) -> None:
    """The first of two, and the one behind what is no message; HTML with orders in it is data."""
    result = once(mcp_client(over_stdio("tests.mcp.rude", manner)), "total")
    assert result["structured"] == {"total": 1}
    assert result["untrusted"]
    assert "previous instructions" in text_of(result)


def test_a_web_page_in_place_of_a_server_is_a_typed_error() -> None:
    """HTML with status 200, and nobody at all."""
    page = (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 15\r\nConnection: close\r\n\r\n<html>hi</html>"
    )

    async def answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(page)
        await writer.drain()
        writer.close()

    async def main() -> list[str]:
        server = await asyncio.start_server(answers, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        codes = []
        for where in (f"http://127.0.0.1:{port}/mcp", f"http://127.0.0.1:{free_port()}/mcp"):
            for client in (mcp_client(where), FetchClient(where)):
                async with running(calling(client, timeout=10)) as runtime:
                    with pytest.raises(Exception, match="tool") as failed:
                        await (await runtime.start("calls", ["add", {}])).result(timeout=60)
                    codes.append(failed.value.code)  # type: ignore[attr-defined]
        server.close()
        return codes

    assert asyncio.run(main()) == ["refused", "invalid", "unreachable", "unreachable"]


# --- the small client -----------------------------------------------------------------------------------------------
DONE = {"content": [{"type": "text", "text": "done"}], "isError": False, "resultType": "complete"}


def answered(body: bytes, status: int = 200, **options: Any) -> Any:
    """What the small client makes of one answer; and what it has asked."""
    asked: list[Any] = []

    async def fetch(method: str, url: str, headers: Any, content: bytes) -> tuple[int, bytes]:
        asked.append((method, url, dict(headers), json.loads(content)))
        return status, body

    async def main() -> Any:
        client = FetchClient("https://tools.example/mcp", headers={"authorization": "Bearer t"}, fetch=fetch, **options)
        return await client.call_tool("näme", {"a": 1}, meta={"k": "v"}, input_responses={"q": {}}, request_state="s")

    return asyncio.run(main()), asked


def message(**fields: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": 1} | fields).encode()


def test_the_small_client_asks_as_the_protocol_says() -> None:
    """One POST with what servers look at, in the headers and in the body."""
    result, ((method, url, headers, body),) = answered(message(result=DONE))
    assert result == DONE
    assert (method, url) == ("POST", "https://tools.example/mcp")
    assert headers["mcp-name"] == "=?base64?bsOkbWU=?="
    assert headers["authorization"] == "Bearer t"
    params = body["params"]
    assert (params["name"], params["arguments"], params["requestState"]) == ("näme", {"a": 1}, "s")
    assert params["_meta"]["k"] == "v"
    assert params["_meta"]["io.modelcontextprotocol/clientCapabilities"]["elicitation"]


@pytest.mark.parametrize(
    "whole", [b"", b'event: message\ndata: {"jsonrpc": "2.0", "method": "notifications/progress"}\n\n']
)
def test_an_answer_that_is_cut_at_any_byte_is_an_answer_or_a_typed_error(whole: bytes) -> None:
    """As events with progress before it, and as one message: it is all there, or nothing is taken for it."""
    answer = message(result=DONE)
    least = len(answer) if not whole else len(whole) + len(b"data: ") + len(answer)
    sent = answer + b"\n" if not whole else whole + b"data: " + answer + b"\n\n"
    for cut in range(len(sent) + 1):
        if cut >= least:
            assert answered(sent[:cut])[0] == DONE
        else:
            with pytest.raises(MCPError):
                answered(sent[:cut])


def test_what_is_no_answer_is_an_error_with_a_number() -> None:
    """An error of the protocol, one without a number, a page, a list, and a gateway that nobody is behind."""
    with pytest.raises(MCPError, match="no such tool") as refused:
        answered(message(error={"code": -32602, "message": "no such tool"}), 400)
    assert refused.value.code == -32602
    for body in (message(error={"message": "odd"}), b"<html>", b"[1]", b"", b"\xff"):
        with pytest.raises(MCPError):
            answered(body)
    with pytest.raises(ConnectionError):
        answered(b"<html>", 502)
    with pytest.raises(MCPError, match="more than 10 bytes"):
        answered(message(result=DONE), max_bytes=10)


@pytest.mark.parametrize("url", ["", "tools.example", "ftp://tools.example", 7])
def test_a_url_that_is_none_is_refused(url: Any) -> None:
    """Before anything is asked."""
    with pytest.raises(InvalidInput, match="https://"):
        FetchClient(url)
