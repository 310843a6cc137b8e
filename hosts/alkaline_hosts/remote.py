"""``Remote``: the runs of another machine, over HTTP: an ASGI app of ``alkaline_hosts.asgi``, or a Worker.

    await hand_over(runtime, "exe_1", Remote("https://edge.example", token=token))
    await sync(Remote("https://edge.example", key=("laptop", secret)), runtime, "exe_1")

On a server it asks by httpx (``pip install 'alkaline-edge[http]'``), in a browser or a Worker by the platform's
``fetch``; ``fetch=`` takes any other one.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from datetime import datetime
from types import TracebackType
from typing import Any, TypeVar
from urllib.parse import SplitResult, urlencode, urlsplit

from alkaline_edge.arguments import expect, expect_call
from alkaline_edge.codec import AROUND, Codec
from alkaline_edge.errors import BY_CODE, ERR_CLOSED, AlkalineError, InvalidInput, StoreError, UnknownOutcome
from alkaline_edge.failures import StepError
from alkaline_edge.limits import check_seconds

from ._http.fetching import Bounded, default, too_large
from ._http.fetching import Fetch as Fetch  # for callers, who give their own
from ._http.fetching import Streaming as Streaming
from ._http.forms import RECORD, Form, to_strict_json
from ._http.json import from_json
from ._http.messages import JSON, SMALL
from ._http.routes import ALL, Verb, verb_of
from ._http.signing import check_key, check_token, sign
from ._http.streaming import END, PROBLEM, Frames
from ._http.verbs import MoveVerbs, RunVerbs

__all__ = ["Fetch", "Remote", "Streaming"]

_T = TypeVar("_T")
_Query = list[tuple[str, str]]
_TRIES = 6
"""After so many connections in a row that brought nothing a stream gives up."""
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Remote(RunVerbs, MoveVerbs):
    """The runs behind a URL, with every verb of the API, those that ``sync`` and ``hand_over`` want among them.

    ``token`` is a bearer token, ``key`` a key's name and secret for signed requests: one of the two, or none. A URL
    without TLS is ERR_INVALID_INPUT unless it is loopback, or ``insecure``, and so is one that holds a secret.
    ``fetch``: what sends a request, if None httpx, or in a browser its own fetch. Every method raises what the other
    side raised, by its code; UnknownOutcome (ERR_STORE) when the answer was lost, is not one of ours (a login page on
    the way), or is larger than what was asked for can be: then it may be repeated, except for ``signal`` without a
    dedupe key and ``start`` without an id. ``timeout``: seconds for an answer; a large one may take longer while it
    comes in. Use it as ``async with``, or call ``close``.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        key: tuple[str, str | bytes] | None = None,
        fetch: Fetch | None = None,
        timeout: float = 60.0,
        insecure: bool = False,
    ) -> None:
        parts = _parts(url)
        expect_call(fetch, "Remote(fetch=)", "a function as Fetch says")
        timeout = check_seconds(timeout, "Remote(timeout=)", 0.001)
        expect(insecure, bool, "Remote(insecure=)", "True or False")
        if parts.username or parts.password:
            raise InvalidInput("a URL is shown and stored: give the secret as token or key, not inside of it")
        if parts.scheme == "http" and parts.hostname not in _LOOPBACK and not insecure:
            raise InvalidInput("the secret would travel in the clear: use https, or insecure=True on a trusted network")
        if token is not None and key is not None:
            raise InvalidInput("give a token or a key, not both")
        if token is not None:
            check_token(token)
        if key is not None:
            if not isinstance(key, tuple) or len(key) != 2:
                raise InvalidInput("key is a pair: the key's name and its secret")
            check_key(*key)
        self.name = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"
        self._origin, self._base = f"{parts.scheme}://{parts.netloc}", parts.path.rstrip("/")
        self._token, self._key = token, key
        # A proxy is for the way to other machines: one would read the secret of a request to this one.
        self._fetch = fetch or default(timeout, parts.scheme == "https" or parts.hostname not in _LOOPBACK)
        self._codec = Codec()

    async def __aenter__(self) -> Remote:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Let go of connections that this object opened."""
        close: Callable[[], Awaitable[None]] | None = getattr(self._fetch, "close", None)
        if close is not None:
            await close()

    # --- the wire --------------------------------------------------------------------------------------------------
    async def _do(self, verb: str, /, **given: Any) -> Any:
        """Ask for a verb, and return what its answer holds."""
        entry = verb_of(verb, given)
        path, query = entry.target(given)
        answer = await self._send(entry.method, path, query, self._body(entry, given), entry.gives)
        try:
            value = entry.gives.read(answer)
        except InvalidInput as error:
            raise self._not_ours(answer) from error
        if "{id}" in entry.parts and entry.gives is RECORD and entry.status != 201 and value["id"] != given["id"]:
            raise self._not_ours(answer)  # a fork has an id of its own
        return None if entry.status == 202 else value

    async def _stream(self, verb: str, /, **given: Any) -> AsyncGenerator[dict[str, Any], None]:
        """What a verb gives one after the other; where the connection is lost, the rest by another one."""
        entry, tries = verb_of(verb, given), 0
        while True:
            frames = self._frames(entry, given)
            try:
                async for kind, value in frames:
                    if kind == END:
                        return
                    if kind == PROBLEM:
                        error = self._error(200, json.dumps(value).encode(), JSON)
                        raise _Cut(str(error)) if error.code == ERR_CLOSED else error  # it may be about to come back
                    if "place" in value:
                        given["after"] = value["place"]
                    tries = 0
                    yield value
            except _Cut as cut:
                tries += 1
                if tries > _TRIES:
                    raise UnknownOutcome(
                        f"{self.name} was not reached {tries} times in a row ({cut}): ask for the stream again, after "
                        "the last place that you had"
                    ) from cut
            finally:
                await frames.aclose()
            if tries > 1:
                await asyncio.sleep(min(5.0, 0.1 * 2**tries))

    async def _frames(self, entry: Verb, given: Mapping[str, Any]) -> AsyncGenerator[tuple[str, Any], None]:
        """The frames of one connection. _Cut where it was lost, or there was none."""
        stream: Any = getattr(self._fetch, "stream", None)
        if stream is None:
            raise InvalidInput(
                "the fetch= of this Remote reads whole answers: give it a method stream, as Streaming says"
            )
        path, query = entry.target(given)
        target, headers = self._asking(entry.method, path, query, b"", entry.gives.media)
        read = Frames()
        try:
            async with stream(entry.method, self._origin + target, headers) as (status, came_as, chunks):
                if status == 204:
                    yield END, None
                    return
                if status != 200:
                    error = self._error(status, await _first(chunks, SMALL), JSON)
                    raise _Cut(str(error)) if status >= 500 else error
                if came_as.partition(";")[0].strip().lower() != entry.gives.media:
                    raise self._not_ours(await _first(chunks, SMALL))
                async for chunk in chunks:
                    for frame in read.feed(chunk):
                        yield frame
        except (_Cut, AlkalineError, StepError, GeneratorExit):
            raise
        except Exception as error:
            raise _Cut(type(error).__name__) from error
        raise _Cut("it ended before the run")

    def _body(self, entry: Verb, given: Mapping[str, Any]) -> bytes:
        if not entry.body:
            return b""
        value = given.get(entry.body)
        if entry.body == ALL:
            kept = {name: each for name, each in given.items() if name not in entry.query and each is not None}
            value = {name: each.isoformat() if isinstance(each, datetime) else each for name, each in kept.items()}
        if entry.takes.how == "json":
            return b"" if value is None else to_strict_json(value).encode()
        return entry.takes.write(value, self._codec)

    def _not_ours(self, data: bytes) -> UnknownOutcome:
        """What was asked for may have been done: only the answer is not what it must be."""
        what = "with nothing" if not data else "with a web page" if data.lstrip()[:1] == b"<" else "in another form"
        return UnknownOutcome(
            f"{self.name} answered {what}: is it an alkaline_edge host, or did something on the way answer for it, "
            "such as a login page? Do it again once it answers itself"
        )

    async def _send(self, method: str, path: str, query: _Query, body: bytes, gives: Form) -> bytes:
        kind, limit = gives.media, gives.limit
        target, headers = self._asking(method, path, query, body, kind)
        try:
            if isinstance(self._fetch, Bounded):
                status, answer, came_as = await self._fetch.bounded(method, self._origin + target, headers, body, limit)
            else:
                status, answer = await self._fetch(method, self._origin + target, headers, body)
                came_as = kind
        except AlkalineError:
            raise
        except Exception as error:
            raise UnknownOutcome(
                f"{self.name} was not reached, or its answer was lost ({type(error).__name__}): do it again"
            ) from error
        if 200 <= status < 300:
            if len(answer) > limit:
                raise too_large(self.name, limit)
            # An answer that was cut in its headers looks like an empty one, which means something for some verbs.
            if came_as.partition(";")[0].strip().lower() != kind:
                raise self._not_ours(answer)
            return answer
        raise self._error(status, answer, kind)

    def _asking(self, method: str, path: str, query: _Query, body: bytes, kind: str) -> tuple[str, dict[str, str]]:
        """The target and the headers of a request."""
        target = self._base + path + (f"?{_query(query)}" if query else "")
        headers = {"accept": kind, "accept-encoding": "identity"}
        if method == "POST":
            headers["content-type"] = kind
        if self._token is not None:
            headers["authorization"] = f"Bearer {self._token}"
        elif self._key is not None:
            headers |= sign(*self._key, method, target, body)
        return target, headers

    def _error(self, status: int, answer: bytes, kind: str) -> AlkalineError | StepError:
        try:
            raw = from_json(answer) if kind == JSON else self._codec.decode_untrusted(answer, 100_000, AROUND)
            found = raw["error"]
            code, message, detail = found["code"], str(found["message"]), dict(found.get("detail") or {})
            known = BY_CODE.get(code)
            if known is None:
                return StoreError(f"{self.name} answered: {message}", http=status)
            return known(message, **{str(name): value for name, value in detail.items()} | {"http": status})
        except (ValueError, KeyError, TypeError, AttributeError, AlkalineError):
            went = " (it sends elsewhere, and that is not followed)" if status == 0 or 300 <= status < 400 else ""
            return StoreError(
                f"{self.name} answered with HTTP status {status}{went}: is it an alkaline_edge host?", http=status
            )


class _Cut(Exception):
    """A connection was lost, or there was none to be had."""


async def _first(chunks: AsyncIterator[bytes], limit: int) -> bytes:
    """At most ``limit`` bytes of an answer, to see what it is."""
    data = bytearray()
    async for chunk in chunks:
        data += chunk
        if len(data) > limit:
            break
    return bytes(data[:limit])


def _parts(url: str) -> SplitResult:
    """A server's URL in its parts; InvalidInput for what is none."""
    with contextlib.suppress(ValueError, AttributeError, TypeError):  # no port, no address, no text
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and parts.hostname and not parts.query and not parts.fragment
        if good and parts.port != 0:
            return parts
    raise InvalidInput("Remote wants a URL such as https://edge.example or https://edge.example/agents")


def _query(query: _Query) -> str:
    try:
        return urlencode(query)
    except UnicodeError:
        raise InvalidInput("what is asked for holds a lone surrogate, which is not text") from None
