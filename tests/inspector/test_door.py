"""The inspector beside an API: who gets the page, and what a server that only looks lets through."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest

from alkaline_edge import Context, Runtime, workflow
from alkaline_hosts._inspector.door import inspected
from alkaline_hosts._inspector.page import page
from alkaline_hosts.asgi import asgi_app
from alkaline_hosts.memory import MemoryHost

TOKEN = "a-token-of-32-characters-for-tests"


@workflow
async def approval(ctx: Context) -> Any:
    return await ctx.wait_for_signal("answer")


async def asked(read_only: bool, *requests: tuple[str, str, str]) -> list[httpx.Response]:
    """The answers to requests: method, path and token."""
    async with Runtime(MemoryHost(), workflows=[approval]) as runtime:
        await (await runtime.start(approval, id="a")).settle()
        app: Any = inspected(asgi_app(runtime, token=TOKEN, serve=False), read_only=read_only)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
            return [
                await client.request(method, path, headers={"authorization": f"Bearer {token}"} if token else {})
                for method, path, token in requests
            ]


def test_the_page_is_given_to_all_and_the_runs_to_who_has_the_token() -> None:
    """The page holds nothing of the store; it comes with its policy, and is kept by nobody."""
    got, head, about, bare, let_in, away = asyncio.run(
        asked(
            False, ("GET", "/", ""), ("HEAD", "/", ""), ("GET", "/inspector.json", ""), ("GET", "/runs", ""),
            ("GET", "/runs", TOKEN), ("GET", "/else", TOKEN),
        )
    )  # fmt: skip
    assert (got.status_code, got.content) == (200, page().html)
    assert got.headers["content-security-policy"] == page().policy
    assert got.headers["x-content-type-options"] == "nosniff"
    assert got.headers["referrer-policy"] == "no-referrer"
    assert got.headers["cache-control"] == "no-store"
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(len(page().html)))
    assert about.json() == {"inspector": 1, "read_only": False, "token": True}
    assert [bare.status_code, let_in.status_code, away.status_code] == [401, 200, 404]
    assert [run["id"] for run in let_in.json()["runs"]] == ["a"]


@pytest.mark.parametrize("path", ["/runs", "/runs/a/signals/answer", "/runs/a/cancel", "/moves/a/freeze"])
@pytest.mark.parametrize("method", ["POST", "DELETE", "PUT", "PATCH"])
def test_a_server_that_only_looks_changes_nothing(path: str, method: str) -> None:
    """Also with the token: what is no look is refused before the API hears of it, and says how to be let."""
    refused, record, about = asyncio.run(
        asked(True, (method, path, TOKEN), ("GET", "/runs/a", TOKEN), ("GET", "/inspector.json", TOKEN))
    )
    assert refused.status_code == 403
    assert "--write" in refused.json()["error"]["message"]
    assert record.json()["status"] == "suspended"
    assert json.loads(about.content)["read_only"]
