"""Every reader of bytes from outside, as a function of bytes that raises for a fault of ours and for nothing else.

Each one takes whatever comes. Typed errors are an answer; anything else that gets out is a finding, and so is a value
that was accepted and then can't be used. Digests and checksums, which no fuzzer guesses, are made right again first.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import msgpack
import msgpack.fallback

from alkaline_edge import AlkalineError, Context, InvalidInput, Runtime, bundle, history, parts, replay, workflow
from alkaline_edge.codec import Codec
from alkaline_edge.sealing import Keyring
from alkaline_edge.testing import SimulatedHost
from alkaline_hosts._file.format import Malformed, decode_items
from alkaline_hosts._kv.format import Commit, Held, State, decode_commit, decode_state, parse_token
from alkaline_hosts.asgi import asgi_app
from alkaline_hosts.file import FileHost
from alkaline_hosts.remote import Remote

C = Codec()
TOKEN = "a token of the tests, long enough"
LIMIT = 1 << 20


@workflow
async def flow(ctx: Context, n: int) -> Any:
    ctx.on_query("q", lambda *args: list(args))
    ctx.on_update("u", lambda payload: payload)
    first = await ctx.step("a", lambda: "x" * n, at_most_once=True)
    ctx.emit("t", {"a": 1})
    await ctx.sleep(1)
    return [len(first), await ctx.wait_for_signal("go", timeout=60, default=None)]


async def a_run() -> tuple[SimulatedHost, Runtime]:
    """A runtime with one run, ``r``, that waits for a signal and has one in its inbox."""
    host = SimulatedHost()
    runtime = Runtime(host, workflows=[flow])
    run = await runtime.start("flow", 20, id="r", attributes={"team": "blue"})
    await run.settle()
    host.advance(2)
    await runtime.run_due()
    await run.settle()
    await Runtime(host).signal("r", "other", 1, dedupe="2")
    return host, runtime


@contextlib.contextmanager
def typed() -> Iterator[None]:
    """Our own errors are an answer."""
    with contextlib.suppress(AlkalineError):
        yield


# --- values and histories -------------------------------------------------------------------------------------------
def codec(data: bytes) -> None:
    """A value: refused, or the one canonical form of itself, alike for the C extension and the pure decoder."""
    with typed():
        C.decode(data)
    try:
        value = C.decode_untrusted(data, LIMIT)
    except AlkalineError:
        return
    assert C.encode(value) == data
    unpacker = msgpack.fallback.Unpacker(None, ext_hook=C.ext_hook, max_buffer_size=len(data))
    unpacker.feed(data)
    assert C.encode(unpacker.unpack()) == data


def right_again(data: bytes, before: bytes, commits: Callable[[Any], list[Any] | None]) -> bytes:
    """The envelope in ``data``, a body without its digest, with its chain of commits and its digest as they must be."""
    try:
        body = msgpack.unpackb(data, ext_hook=msgpack.ExtType, strict_map_key=False)
        assert isinstance(body, list)
        found = commits(body)
        head = before
        for at, raw in enumerate(found or ()):
            commit = msgpack.unpackb(raw, ext_hook=msgpack.ExtType, strict_map_key=False)
            found[at] = msgpack.packb([head, *commit[1:]])  # type: ignore[index]  # it has an item
            head = sha256(found[at]).digest()[: history.DIGEST]  # type: ignore[index]
        return bytes(msgpack.packb([*body, sha256(msgpack.packb(body)).digest()]))
    except Exception:
        return data  # as it is, then


def bundles(data: bytes) -> None:
    """A bundle: refused, or imported as a run that every reader can read."""
    data = right_again(data, history.MAGIC, lambda body: body[3])
    try:
        bundle.decode(data, C)
    except AlkalineError:
        return

    async def use() -> None:
        runtime = Runtime(SimulatedHost(), workflows=[flow])
        try:
            with typed():
                run = await runtime.import_(data)
                await runtime.get_execution(run.id)
                await runtime.list_executions()
                found = await runtime.history(run.id)
                replay.inspect(found)
                await runtime.export(run.id)
                await runtime.resume(run.id)
                await run.settle()
        finally:
            await runtime.close()

    asyncio.run(asyncio.wait_for(use(), 20))


def a_part(data: bytes) -> None:
    """A part of a history."""
    with typed():
        parts.decode_part(right_again(data, history.MAGIC, lambda body: body[2].get("commits")), C)


def a_letter(data: bytes) -> None:
    """The letter that hands a run over."""
    with typed():
        parts.decode_letter(right_again(data, b"", lambda body: None), C)


def a_segment(data: bytes) -> None:
    """Commits in a row, as a sealed segment of a history holds them."""
    with typed():
        history.decode_all(history.split(data), C)


# --- stores ---------------------------------------------------------------------------------------------------------
def a_file(data: bytes) -> None:
    """A file of a FileHost: opened and read, healed, or refused; and what is read can be read again."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "store"
        path.write_bytes(data)

        async def use() -> list[Any]:
            host = FileHost(path, fsync=False)
            try:
                return list(await host.list("", limit=500))
            finally:
                await host.close()

        with typed():
            first = asyncio.run(use())
            assert [entry.key for entry in asyncio.run(use())] == [entry.key for entry in first]


def file_items(data: bytes) -> None:
    """The items of one record of a file, whose checksum is right."""
    with contextlib.suppress(Malformed):
        for _, start, end in decode_items(data, 0, len(data), [""]):
            assert start == end < 0 or 0 <= start <= end <= len(data)


def kv_log(data: bytes) -> None:
    """A commit and a checkpoint of the log in Cloudflare KV, and a resume token."""
    with typed():
        State().apply(decode_commit(1, data), "log/1")
    with typed():
        state = decode_state("checkpoint-" + sha256(data).hexdigest()[:16], data)
        state.apply(decode_commit(state.position + 1, State().encode()), "log/2")
    with typed():
        position, digest = parse_token(data.decode("latin-1"))
        assert position >= 0
        assert len(digest) == 32


def a_keyring(data: bytes) -> None:
    """The text of a file of keys: refused without showing a secret, or a ring."""
    text = data.decode("utf-8", "replace")
    said = ""
    try:
        Keyring.parse(text)
    except InvalidInput as error:
        said = str(error)
    for line in text.splitlines():
        secret = line.partition("=")[2].strip()
        assert len(secret) < 16 or secret not in said, "a secret was shown"


# --- the network ----------------------------------------------------------------------------------------------------
METHODS = ("GET", "POST", "DELETE", "PUT", "OPTIONS", "PATCH")


def http(data: bytes) -> None:
    """A request with the right token: a byte for the method, then path, headers and body, each behind a zero byte.

    Every answer is one of ours, and none says that the server is at fault.
    """
    method = METHODS[data[0] % len(METHODS)] if data else "GET"
    path, _, rest = data[1:].partition(b"\0")
    fields, _, body = rest.partition(b"\0")
    headers = [(b"authorization", b"Bearer " + TOKEN.encode())]
    for line in fields.split(b"\n")[:20]:
        name, colon, value = line.partition(b":")
        if colon and name:
            headers.append((name.strip().lower(), value.strip()))
    raw, _, query = path.partition(b"?")
    scope = {
        "type": "http", "method": method, "path": raw.decode("latin-1"), "raw_path": raw, "query_string": query,
        "headers": headers, "scheme": "http", "http_version": "1.1", "server": ("127.0.0.1", 80), "client": None,
    }  # fmt: skip
    sent: list[Any] = []

    async def use() -> None:
        _, runtime = await a_run()
        incoming = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> Any:
            return incoming.pop() if incoming else {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        try:
            await asgi_app(runtime, token=TOKEN)(scope, receive, send)
        finally:
            await runtime.close()

    asyncio.run(asyncio.wait_for(use(), 20))
    assert sent[0]["status"] < 500, sent
    answer = b"".join(message.get("body", b"") for message in sent[1:])
    if dict(sent[0]["headers"]).get(b"content-type", b"").startswith(b"application/json"):
        json.loads(answer, parse_constant=lambda name: 1 / 0)


def an_answer(data: bytes) -> None:
    """What a server, or whatever stands in its place, answers a Remote: a first byte for the status, then the body."""
    status = (200, 201, 204, 302, 400, 404, 409, 500, 502)[data[0] % 9] if data else 200

    async def fetch(method: str, url: str, headers: Any, body: bytes) -> tuple[int, bytes]:
        return status, data[1:]

    async def use() -> None:
        async with Remote("http://127.0.0.1:1", token=TOKEN, fetch=fetch) as remote:
            for ask in (
                remote.status("r"), remote.runs(), remote.events("r"), remote.signal("r", "go"), remote.query("r", "q"),
                remote.place("r"), remote.part("r", None), remote.export("r"), remote.identity(),
            ):  # fmt: skip
                with typed():
                    await ask

    asyncio.run(asyncio.wait_for(use(), 20))


def command_line(data: bytes) -> None:
    """A bundle that is given to `alkaline`: imported and shown, and held against itself, or refused in words.

    Each command ends with one of its exit codes, and no trace.
    """
    from click.testing import CliRunner  # the extra `cli`

    from alkaline_hosts._cli.commands import alkaline

    with tempfile.TemporaryDirectory() as folder:
        path, store = str(Path(folder) / "r.alk"), str(Path(folder) / "store")
        Path(path).write_bytes(right_again(data, history.MAGIC, lambda body: body[3]))
        for command in (
            ["diff", path, path], ["import", store, path], ["list", store],
            ["show", store, "r"], ["events", store, "r"],
        ):  # fmt: skip
            done = CliRunner().invoke(alkaline, command)
            assert done.exit_code in range(5), done.output
            assert done.exception is None or isinstance(done.exception, SystemExit), done.exception


class Reader(NamedTuple):
    """A reader, and bytes that it takes, from which others are made."""

    read: Callable[[bytes], None]
    seeds: list[bytes]


def without_digest(data: bytes) -> bytes:
    """The body of an envelope: ``right_again`` puts the digest there."""
    return bytes(msgpack.packb(msgpack.unpackb(data, ext_hook=msgpack.ExtType)[:-1]))


async def _of_a_run() -> dict[str, list[bytes]]:
    _, runtime = await a_run()
    whole = [await runtime.export("r"), await runtime.export("r", handoff=True)]
    await runtime.close()
    found, _ = bundle.decode(whole[1], C)
    part = parts.Part(
        found.id, found.run, found.workflow, found.version, found.generation, found.epoch, 0, history.MAGIC,
        found.record, found.commits, found.blobs,
    )  # fmt: skip
    letter = parts.Letter(
        "store", found.id, found.run, found.generation, found.epoch, len(found.commits), bundle.head_of(found),
        found.requests, found.markers, found.shared,
    )  # fmt: skip
    return {
        "bundle": [without_digest(data) for data in whole],
        "part": [without_digest(parts.encode(part, C))],
        "letter": [without_digest(parts.encode(letter, C))],
        "segment": [b"".join(found.commits), found.commits[0]],
    }


def _file() -> list[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "store"

        async def fill() -> None:
            host = FileHost(path, fsync=False)
            async with Runtime(host, workflows=[flow]) as runtime:
                await (await runtime.start("flow", 20, id="r")).settle()
            await host.close()

        asyncio.run(fill())
        return [path.read_bytes()]


def readers() -> dict[str, Reader]:
    """All of them by name."""
    made = asyncio.run(_of_a_run())
    file = _file()
    values = [None, True, -1, 2**40, 2**70, 1.5, "text", b"bytes", [1, [2, {"a": datetime(2026, 1, 1, tzinfo=UTC)}]]]
    commit = Commit(1, "id", b"", [["k", b"v", ""]], ["d"]).encode().raw
    state = State(3, b"d" * 16, "base", 3, {"k": Held("v", b"x", "")}, ["k"])
    ring = f"2026-11={'0f' * 32}\n# older\n2025-01={'1e' * 32}\n"
    requests = [
        b"\0/runs?limit=2&status=suspended\0\0", b"\0/runs/r\0accept: application/json\0", b"\0/runs/r/events\0\0",
        b'\1/runs\0content-type: application/json\0{"workflow": "flow", "input": 1, "id": "s"}',
        b"\1/runs/r/signals/go?dedupe=1\0content-type: application/json\0[1]", b"\0/runs/r/queries/q?arg=1\0\0",
        b"\1/runs/r/cancel\0\0{}", b"\2/runs/r\0\0", b"\1/moves/accept\0\0x", b"\4/runs\0origin: http://localhost\0",
    ]  # fmt: skip
    answers = [
        b"\0" + json.dumps(one).encode() for one in ({"id": "r"}, {"runs": []}, {"error": {"code": "ERR_STORE"}})
    ]
    return {
        "codec": Reader(codec, [C.encode(value) for value in [*values, values]]),
        "bundle": Reader(bundles, made["bundle"]),
        "part": Reader(a_part, made["part"]),
        "letter": Reader(a_letter, made["letter"]),
        "segment": Reader(a_segment, made["segment"]),
        "file": Reader(a_file, file),
        "file_items": Reader(file_items, [file[0][40:300]]),
        "kv_log": Reader(kv_log, [commit, state.encode(), b"kv1.3." + b"0" * 32]),
        "keyring": Reader(a_keyring, [ring.encode()]),
        "http": Reader(http, requests),
        "answer": Reader(an_answer, answers),
        "command_line": Reader(command_line, made["bundle"]),
    }
