"""Server-sent events: a run's events as text, a frame each, and frames as events again. No I/O of its own.

A frame of the history has the event's place as its id, so a client that lost the connection names the last one that it
had whole. What steps publish comes in frames of the type ``published`` without an id: a client that comes back finds
the steps' results instead. ``end`` is the last frame of a run, ``problem`` that of a stream that can't go on.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Any

from alkaline_edge.errors import InvalidInput
from alkaline_edge.host import Host

from .forms import MAX_JSON
from .patience import PULSE_SECONDS

MAX_SECONDS = 900.0
"""So long a stream lasts at most; the client comes back for the rest."""
PUBLISHED, END, PROBLEM = "published", "end", "problem"
"""The types of frames that are no event of the history."""


def frame(data: str, kind: str = "", id: str = "") -> bytes:
    """One frame; ``data`` is JSON, so it has no line break."""
    lines = [f"id: {id}"] if id else []
    lines += [f"event: {kind}"] if kind else []
    return "\n".join([*lines, f"data: {data}", "", ""]).encode()


async def frames(
    events: AsyncGenerator[Any, None],
    write: Callable[[Any], bytes],
    problem: Callable[[Exception], bytes],
    host: Host,
    begin: bytes = b"retry: 1000\n\n",
    end: bytes = frame("{}", END),  # a constant
) -> AsyncGenerator[bytes, None]:
    """``events`` as frames, until they end, fail, or MAX_SECONDS have passed. Closing this closes them.

    ``begin`` and ``end`` stand in front of them and behind their end.
    """
    until = host.now_ms() + MAX_SECONDS * 1000
    nothing: Any = object()
    try:
        yield begin
        while host.now_ms() < until:
            following = asyncio.ensure_future(anext(events, nothing))
            try:
                async for pulse in _while_waiting(following, host, until):
                    yield pulse
                if not following.done():
                    return
                event = following.result()
            except Exception as error:
                yield problem(error)
                return
            finally:
                following.cancel()
                await asyncio.gather(following, return_exceptions=True)
            if event is nothing:
                yield end
                return
            yield write(event)
    finally:
        await events.aclose()


async def _while_waiting(following: asyncio.Future[Any], host: Host, until: float) -> AsyncGenerator[bytes, None]:
    """Comments while ``following`` takes long."""
    while not following.done() and host.now_ms() < until:
        pause = asyncio.ensure_future(host.sleep(PULSE_SECONDS))
        try:
            await asyncio.wait([following, pause], return_when=asyncio.FIRST_COMPLETED)
        finally:
            pause.cancel()
            await asyncio.gather(pause, return_exceptions=True)
        if not following.done():
            yield b":\n\n"


class Frames:
    """Frames from bytes that come in pieces. What is not whole when they end was no frame."""

    def __init__(self) -> None:
        self._left = bytearray()
        self._lines: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> Iterator[tuple[str, Any]]:
        """The type and the value of each frame that is whole now; InvalidInput for what is none."""
        self._left += data
        *lines, rest = bytes(self._left).split(b"\n")
        self._left = bytearray(rest)
        for line in lines:
            line = line.removesuffix(b"\r")
            if line:
                self._lines.append(line)
                self._size += len(line)
            else:
                found, self._lines, self._size = self._lines, [], 0
                yield from _frame_of(found)
        if self._size + len(self._left) > MAX_JSON:
            raise InvalidInput("a frame of the stream is larger than an event can be")


def _frame_of(lines: list[bytes]) -> Iterator[tuple[str, Any]]:
    fields: dict[bytes, bytes] = {}
    for line in lines:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        fields[name] = fields[name] + b"\n" + value if name == b"data" and name in fields else value
    if b"data" in fields:
        try:
            yield fields.get(b"event", b"").decode(), json.loads(fields[b"data"])
        except ValueError as error:
            raise InvalidInput(f"a frame of the stream is not JSON: {error}") from None
