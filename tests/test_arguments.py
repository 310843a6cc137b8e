"""Each argument of each public door: what is of the wrong kind or out of range is an error of ours that names it.

The doors and their arguments are read from the code, so that one that is new is asked too; the values are drawn.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import json
import random
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple, get_args

import pytest

import alkaline_edge
from alkaline_edge import (
    Budget,
    Codec,
    Context,
    InvalidInput,
    Retry,
    Run,
    Runtime,
    hand_over,
    in_thread,
    lifecycle,
    migrate,
    reclaim,
    replay,
    sync,
    workflow,
)
from alkaline_edge import sealing as seals
from alkaline_edge.errors import AlkalineError
from alkaline_edge.sealing import Keyring, SealedHost
from alkaline_edge.testing import SimulatedHost
from alkaline_hosts._http.signing import Access
from alkaline_hosts._http.verbs import MoveVerbs, RunVerbs
from alkaline_hosts.asgi import asgi_app
from alkaline_hosts.callbacks import CallbackHost
from alkaline_hosts.cloudflare_kv import KVHost
from alkaline_hosts.d1 import D1Host
from alkaline_hosts.durable_object import DurableObjectHost
from alkaline_hosts.file import FileHost
from alkaline_hosts.memory import MemoryHost
from alkaline_hosts.opening import open_host
from alkaline_hosts.postgres import PostgresHost
from alkaline_hosts.redis import RedisHost
from alkaline_hosts.remote import Remote

TOKEN = "a-token-for-these-tests"
ROOT = Path(__file__).parents[1]


class Odd:
    """Of no kind that any door takes."""


ODD: list[Any] = [
    None, 5, -1, 0, float("nan"), float("inf"), 2**70, True, "", "x", "\ud800", "\0", b"x", Odd(), [], ["x"], [5], {},
    {"a": 5}, {5: "a"}, (), (1, 2), int, lambda: 1, asyncio, datetime(2020, 1, 1),
]  # fmt: skip


class Door(NamedTuple):
    """Something public that is called, and what it is called with where nothing is wrong."""

    call: Callable[..., Any]
    right: Mapping[str, Any]
    only: tuple[str, ...] = ()

    @property
    def parameters(self) -> list[str]:
        kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        found = inspect.signature(self.call).parameters.items()
        return [*self.only] or [name for name, each in found if each.kind not in kinds and name != "self"]


@workflow
async def flow(ctx: Context, value: Any = None) -> Any:
    ctx.on_query("q", lambda: 1)
    ctx.on_update("u", lambda given: given)
    return await ctx.wait_for_signal("go")


async def handler(ctx: Context, value: Any = None) -> Any:
    return value


async def not_found(*_: Any) -> tuple[int, bytes]:
    return 404, json.dumps({"error": {"code": "ERR_NOT_FOUND", "message": "no"}}).encode()


KEYS = Keyring("a", {"a": b"x" * 32})
GIVEN: dict[str, Any] = {
    "id": "a", "workflow": "flow", "name": "u", "bundle": b"x", "data": b"x", "at": 1, "listener": len, "part": b"x",
    "letter": b"x", "generation": 0, "store": "ab", "keys": KEYS, "tenant": "t", "entropy": bytes, "source": b"x",
    "older_than": 60, "histories": b"x", "workflows": [flow], "a": b"x", "b": b"x", "timeout": 0.001, "commits": [],
}  # fmt: skip
NAMES = ("start", "signal", "query", "update", "pause", "cancel", "get_execution", "list_executions", "resume", "retry",
         "delete", "export", "import_", "fork", "history", "listen", "swap_host", "result", "status_of",
         "settle", "purge", "top_up")  # fmt: skip


async def first_of(runtime: Runtime, id: str, after: str = "", live: bool = False, begin: Any = None) -> Any:
    """The first event that a follower is told."""
    async with contextlib.aclosing(runtime.follow(id, after, live, begin)) as events:
        return await anext(events)


def method(call: Callable[..., Any], **right: Any) -> Door:
    needed = {
        name: GIVEN.get(name)
        for name, each in inspect.signature(call).parameters.items()
        if name != "self" and each.default is each.empty and each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)
    }
    return Door(call, needed | right)


def made_by(runtime: Runtime, other: Runtime, folder: Path) -> dict[str, Door]:
    """Every door; those of ``runtime`` find a run ``a`` that waits."""
    sealed, remote = SealedHost(SimulatedHost(), keys=KEYS, tenant="t"), Remote("http://localhost:9", fetch=not_found)
    types = ("cls", "name", "to_value", "from_value")
    doors = {
        "Runtime": Door(Runtime, {"host": SimulatedHost()}),
        "Retry": Door(Retry, {}, ("max_attempts", "backoff", "factor", "cap", "retryable")),
        "Budget": Door(Budget, {}, ("tokens", "usd", "seconds", "on_exceeded", "warn")),
        "Codec": Door(Codec, {}),
        "Codec.register": Door(
            lambda **given: Codec().register(**given),
            {"cls": Odd, "name": "Odd", "to_value": vars, "from_value": lambda _: Odd()},
            types,
        ),
        "workflow": Door(
            lambda **given: workflow(**given)(handler), {}, ("name", "version", "budget", "retry", "recursive")
        ),
        "in_thread": Door(in_thread, {"fn": len}),
        "hand_over": Door(hand_over, {"source": runtime, "id": "a", "target": other}, ("source", "id", "target")),
        "sync": Door(sync, {"source": runtime, "id": "a", "target": other}, ("source", "id", "target")),
        "reclaim": method(reclaim, source=runtime, lost="x"),
        "migrate": Door(migrate, {"source": SimulatedHost(), "target": SimulatedHost()}),
        "asgi_app": Door(asgi_app, {"runtime": runtime, "token": TOKEN}),
        "asgi_app, open": Door(asgi_app, {"runtime": runtime, "open_to_all": True}),
        "Access": Door(Access, {"tokens": TOKEN}),
        "Remote": Door(Remote, {"url": "http://localhost"}),
        "open_host": Door(lambda url="memory:", **more: open_host(url, **more), {}, ("read_only",)),
        "FileHost": Door(FileHost, {"path": folder / "a"}, ("path", "read_only", "fsync")),
        "MemoryHost": Door(MemoryHost, {}),
        "CallbackHost": Door(CallbackHost, {"get": len, "list": len, "commit": len}),
        "KVHost": Door(KVHost, {"kv": Odd(), "single_writer": True}, ("kv", "prefix", "large")),
        "D1Host": Door(D1Host, {"db": Odd()}),
        "DurableObjectHost": Door(DurableObjectHost, {"ctx": Odd()}),
        "PostgresHost": method(PostgresHost, client=Odd()),
        "RedisHost": method(RedisHost, client=Odd()),
        "Keyring": Door(Keyring, {"current": "a", "secrets": {"a": b"x" * 32}}),
        "Keyring.parse": method(Keyring.parse),
        "SealedHost": Door(SealedHost, {"host": SimulatedHost(), "keys": KEYS, "tenant": "t"}),
        "SimulatedHost": Door(SimulatedHost, {}, ("store",)),
        "reseal": Door(seals.reseal, {"host": sealed}),
        "seal_store": Door(seals.seal_store, {"host": sealed}),
        "seal_bundle": method(seals.seal_bundle),
        "open_bundle": method(seals.open_bundle),
        "serve": Door(runtime.serve, {}, ("until", "concurrency")),
    }
    doors |= {f"Runtime.{name}": method(getattr(runtime, name)) for name in NAMES}
    doors["Runtime.follow"] = method(functools.partial(first_of, runtime))
    doors |= {
        f"Run.{name}": method(getattr(Run(runtime, "a"), name))
        for name in ("signal", "query", "update", "cancel", "result")
    }
    doors |= {
        f"replay.{name}": method(getattr(replay, name)) for name in ("read", "inspect", "format", "diff", "check")
    }
    for verbs in (RunVerbs, MoveVerbs):
        doors |= {f"Remote.{name}": method(getattr(remote, name)) for name in vars(verbs) if not name.startswith("_")}
    return doors


async def ask(door: Door, given: dict[str, Any]) -> None:
    """Call it, and let go of what it made."""
    made = door.call(**given)
    if inspect.isawaitable(made):
        made = await asyncio.wait_for(made, 0.05)
    close = getattr(made, "close", None)
    if close is not None and not inspect.isclass(made):
        closing = close()
        if inspect.isawaitable(closing):
            await closing


@contextlib.asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[dict[str, Door]]:
    async with Runtime(SimulatedHost(), workflows=[flow]) as runtime, Runtime(SimulatedHost()) as other:
        await (await runtime.start(flow, id="a")).settle()
        yield made_by(runtime, other, folder)


@pytest.mark.parametrize("seed", range(1))
def test_no_argument_raises_what_is_not_ours(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A value of any kind in the place of any argument: it works, or the error is one of the nine."""
    draw, wrong = random.Random(seed), []
    monkeypatch.chdir(tmp_path)

    async def test() -> None:
        async with opened(tmp_path) as doors:
            names = [*doors]
        for name in names:
            async with opened(tmp_path) as doors:  # whatever the one before has done to the run
                door = doors[name]
                for parameter in door.parameters:
                    for value in [Odd(), *draw.sample(ODD, 4)]:
                        try:
                            await ask(door, {**door.right, parameter: value})
                        except (AlkalineError, TimeoutError):
                            pass
                        except Exception as error:
                            wrong.append(f"{name}({parameter}={value!r}): {type(error).__name__}: {error}")

    asyncio.run(asyncio.wait_for(test(), 60))
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("door", "parameter", "value"),
    [
        ("asgi_app", "token", 5), ("asgi_app", "token", [5]), ("asgi_app", "keys", 5), ("asgi_app", "origins", b"x"),
        ("asgi_app", "hosts", 5), ("asgi_app", "runtime", None), ("asgi_app", "max_body", "1"),
        ("Runtime", "workflows", flow), ("Runtime", "lease", "30"), ("Runtime", "lease", float("inf")),
        ("Runtime", "poll", 0), ("Runtime", "retry", 3), ("Runtime", "budget", 3), ("Runtime", "codec", 3),
        ("Runtime", "meter", len), ("Runtime", "on_event", 3), ("Runtime", "max_depth", True),
        ("Runtime.start", "start_at", 5), ("Runtime.list_executions", "limit", None), ("serve", "until", 5),
        ("Runtime.list_executions", "after", 5), ("Runtime.result", "timeout", "5"), ("serve", "concurrency", "5"),
        ("workflow", "retry", 3), ("workflow", "name", ""), ("workflow", "version", True), ("Remote", "timeout", 0),
        ("Remote", "fetch", 5), ("seal_bundle", "bundle", 5), ("Remote.import_", "bundle", 5), ("in_thread", "fn", 5),
        ("Keyring", "secrets", 5), ("CallbackHost", "close", 5), ("reseal", "limit", "1"), ("Codec", "convert", 5),
        ("Keyring.parse", "text", None), ("SealedHost", "cipher", 5), ("SealedHost", "host", None),
        ("Codec.register", "cls", []), ("FileHost", "path", None),
        ("MemoryHost", "store", 5), ("migrate", "source", None), ("Remote.export", "handoff", None),
    ],
)  # fmt: skip
def test_the_argument_is_named(door: str, parameter: str, value: Any, tmp_path: Path) -> None:
    """ERR_INVALID_INPUT at the call that was given it, with the argument's name: ``bytes(5)`` was five zeros."""
    said = {
        "Runtime.start": "start_at",
        "Runtime.result": "timeout",
        "Remote.import_": "what is sent is bytes",
        "Keyring.parse": "is text",
    }

    async def test() -> None:
        async with opened(tmp_path) as doors:
            found = doors[door]
            with pytest.raises(InvalidInput) as caught:
                await ask(found, {**found.right, parameter: value})
            assert said.get(door, parameter.rstrip("s")) in str(caught.value)

    asyncio.run(asyncio.wait_for(test(), 20))


def test_every_public_call_is_among_the_doors(tmp_path: Path) -> None:
    """What the package and a Runtime offer, but for what takes nothing or values of its own alone."""

    async def test() -> list[str]:
        async with opened(tmp_path) as doors:
            return [*doors]

    names = asyncio.run(test())
    plain = {
        "AlkalineError", "Context", "Followed", "Meter", "Page", "Peer", "Recorded", "Run", "StepInfo", "Synced",
        "Workflow",
    }  # fmt: skip
    public = {name for name in alkaline_edge.__all__ if callable(getattr(alkaline_edge, name))} - plain
    errors = {name for name in public if isinstance(getattr(alkaline_edge, name), type)
              and issubclass(getattr(alkaline_edge, name), BaseException)}  # fmt: skip
    told = {cls.__name__ for cls in get_args(lifecycle.LifecycleEvent)} | {"LifecycleEvent"}
    assert public - errors - told - set(names) - {"ExecutionInfo", "ExecutionRecord"} == set()
    verbs = {name for name, each in vars(Runtime).items() if inspect.isfunction(each) and not name.startswith("_")}
    silent = {name for name in verbs if len(inspect.signature(getattr(Runtime, name)).parameters) == 1}
    assert {f"Runtime.{name}" for name in verbs - silent} - {"Runtime.serve"} - set(names) == set()
