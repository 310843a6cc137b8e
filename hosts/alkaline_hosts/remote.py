"""``Remote``: the runs of another machine, over HTTP: an ASGI app of ``alkaline_hosts.asgi``, or a Worker.

    await hand_over(runtime, "exe_1", Remote("https://edge.example", token=token))
    await sync(Remote("https://edge.example", key=("laptop", secret)), runtime, "exe_1")

On a server it asks by httpx (``pip install 'alkaline-edge[http]'``), in a browser or a Worker by the platform's
``fetch``; ``fetch=`` takes any other one.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from types import TracebackType
from typing import Any, TypeVar
from urllib.parse import SplitResult, quote, urlencode, urlsplit

from alkaline_edge.codec import Codec
from alkaline_edge.errors import BY_CODE, AlkalineError, InvalidInput, StoreError, UnknownOutcome
from alkaline_edge.failures import StepError
from alkaline_edge.limits import MAX_BUNDLE_BYTES
from alkaline_edge.parts import Place

from ._http.fetching import SMALL, Bounded, default, too_large
from ._http.fetching import Fetch as Fetch  # for callers, who give their own
from ._http.json import from_json
from ._http.messages import JSON, MSGPACK
from ._http.signing import check_key, check_token, sign

T = TypeVar("T")
Query = Mapping[str, str] | list[tuple[str, str]]
_LOOPBACK = ("localhost", "127.0.0.1", "::1")

MAX_JSON, MAX_PART = 64 * 1024 * 1024, 256 * 1024 * 1024
"""Bytes of an answer: of records, of a part of a history."""


class Remote:
    """The runs behind a URL, with the methods that ``sync`` and ``hand_over`` want, and a few more.

    ``token`` is a bearer token, ``key`` a key's name and secret for signed requests. A URL without TLS is refused
    unless it is loopback, or ``insecure``. Every method raises what the other side raised, by its code; UnknownOutcome
    (ERR_STORE) when the answer was lost, is not one of ours (a login page on the way), or is larger than what was asked
    for can be: then it may be repeated, except for ``signal`` without a dedupe key and ``start`` without an id.
    ``timeout``: seconds for an answer; a large one may take longer while it comes in. Use it as ``async with``, or call
    ``close``.
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

    # --- one side of a move ----------------------------------------------------------------------------------------
    async def identity(self) -> str:
        """The store's own random name."""
        return self._checked(await self._value("GET", "/moves"), str)

    async def place(self, id: str) -> Place | None:
        """Where the run's history stands there; None without one."""
        raw = await self._value("GET", _path("moves", id))
        return None if raw is None else self._place(raw)

    async def digests(self, id: str, generation: int) -> bytes:
        """The digest of every commit of a history."""
        query = {"generation": str(generation)}
        return self._checked(await self._value("GET", _path("moves", id, "digests"), query, limit=MAX_PART), bytes)

    async def part(self, id: str, at: Place | None) -> bytes:
        """The next part for a store that stands at ``at``."""
        body = self._codec.encode(None if at is None else at.to_list())
        return await self._bytes("POST", _path("moves", id, "part"), {}, body, MAX_PART)

    async def accept(self, part: bytes) -> Place:
        """Send a part."""
        return self._place(await self._value("POST", "/moves/accept", {}, part))

    async def freeze(self, id: str, name: str, store: str) -> bytes:
        """Stop the run there, on its way to the store ``store``."""
        query = {"name": name, "store": store}
        letter = await self._bytes("POST", _path("moves", id, "freeze"), query, limit=MAX_PART)
        self._checked(self._decoded(letter, MAX_PART), list)
        return letter

    async def take_over(self, letter: bytes) -> Place:
        """Activate the run there."""
        return self._place(await self._value("POST", "/moves/take-over", {}, letter))

    async def confirm(self, id: str, store: str) -> None:
        """Note there that the store has taken the run over."""
        self._checked(await self._value("POST", _path("moves", id, "confirm"), {"store": store}), type(None))

    # --- whole runs ------------------------------------------------------------------------------------------------
    async def export(self, id: str, handoff: bool = False) -> bytes:
        """The whole run as a bundle; with ``handoff`` it is frozen there."""
        verb = "POST" if handoff else "GET"
        return await self._bytes(verb, _path("moves", id, "bundle"), limit=MAX_BUNDLE_BYTES)

    async def import_(self, bundle: bytes, mode: str = "copy") -> str:
        """Store a bundle's run there; its id."""
        return self._checked(await self._value("POST", "/moves/import", {"mode": mode}, bundle), str)

    # --- asking ----------------------------------------------------------------------------------------------------
    async def start(
        self,
        workflow: str,
        input: Any = None,
        id: str | None = None,
        settle: bool = False,
        on_conflict: str = "reject",
        attributes: dict[str, Any] | None = None,
        start_at: str | datetime | None = None,
        budget: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Start a run there; its record. ``input`` is a JSON value; with ``settle``, once it rests, or after a minute.

        ``on_conflict``, ``attributes`` and ``start_at`` (ISO 8601 with its offset) are as for Runtime.start, ``budget``
        is {"tokens": 1000, "usd": 0.5} or a part of it.
        """
        when = start_at.isoformat() if isinstance(start_at, datetime) else start_at
        given = {"workflow": workflow, "input": input, "id": id, "on_conflict": on_conflict, "attributes": attributes,
                 "start_at": when, "budget": budget}  # fmt: skip
        wanted = {name: value for name, value in given.items() if value is not None and value != "reject"}
        return self._checked(await self._json("POST", "/runs", {"settle": "1"} if settle else {}, wanted), dict)

    async def status(self, id: str) -> dict[str, Any]:
        """The run's record."""
        return self._checked(await self._json("GET", _path("runs", id)), dict)

    async def runs(
        self,
        status: str | None = None,
        workflow: str | None = None,
        after: str = "",
        limit: int = 50,
        attributes: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """A page of records, and "after", where the next one begins."""
        given = {"status": status, "workflow": workflow, "after": after or None, "limit": str(limit)}
        query = [(name, value) for name, value in given.items() if value is not None]
        query += [("attribute", f"{name}={_written(value)}") for name, value in (attributes or {}).items()]
        return self._checked(await self._json("GET", "/runs", query), dict)

    async def events(self, id: str, after: int = 0) -> list[dict[str, Any]]:
        """The run's history behind its first ``after`` events."""
        return self._checked(await self._json("GET", _path("runs", id, "events"), {"after": str(after)}), list)

    async def signal(self, id: str, name: str, payload: Any = None, dedupe: str | None = None) -> None:
        """Send a signal with a JSON value; it is durable when this returns. A ``dedupe`` key makes repeats harmless."""
        query = {} if dedupe is None else {"dedupe": dedupe}
        self._checked(await self._json("POST", _path("runs", id, "signals", name), query, payload), dict)

    async def query(self, id: str, name: str) -> Any:
        """What the run's query handler returns, as JSON has it."""
        return await self._json("GET", _path("runs", id, "queries", name))

    async def update(self, id: str, name: str, payload: Any = None) -> Any:
        """Send an update with a JSON value and return its reply, as JSON has it."""
        return await self._json("POST", _path("runs", id, "updates", name), {}, payload)

    async def pause(self, id: str) -> None:
        """Ask for a pause."""
        self._checked(await self._json("POST", _path("runs", id, "pause")), dict)

    async def resume(self, id: str) -> None:
        """Let a paused run go on there."""
        self._checked(await self._json("POST", _path("runs", id, "resume")), dict)

    async def cancel(self, id: str, reason: str | None = None) -> None:
        """Ask for the run's end."""
        query = {} if reason is None else {"reason": reason}
        self._checked(await self._json("POST", _path("runs", id, "cancel"), query), dict)

    # --- the wire --------------------------------------------------------------------------------------------------
    async def _value(
        self, method: str, path: str, query: Query | None = None, body: bytes = b"", limit: int = SMALL
    ) -> Any:
        return self._decoded(await self._bytes(method, path, query, body, limit), limit)

    def _decoded(self, data: bytes, limit: int) -> Any:
        try:
            return self._codec.decode_untrusted(data, limit)
        except InvalidInput as error:
            raise self._not_ours(data) from error

    def _place(self, raw: Any) -> Place:
        try:
            return Place.of(raw)
        except InvalidInput as error:
            raise self._not_ours(repr(raw).encode()) from error

    def _checked(self, value: Any, kind: type[T]) -> T:
        if type(value) is not kind:
            raise self._not_ours(repr(value).encode())
        return value

    def _not_ours(self, data: bytes) -> UnknownOutcome:
        """What was asked for may have been done: only the answer is not what it must be."""
        what = "with nothing" if not data else "with a web page" if data.lstrip()[:1] == b"<" else "in another form"
        return UnknownOutcome(
            f"{self.name} answered {what}: is it an alkaline_edge host, or did something on the way answer for it, "
            "such as a login page? Do it again once it answers itself"
        )

    async def _json(self, method: str, path: str, query: Query | None = None, value: Any = None) -> Any:
        try:
            body = b"" if value is None else json.dumps(value, allow_nan=False).encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidInput(f"what is sent over HTTP is a JSON value: {error}") from None
        answer = await self._send(method, path, query, body, JSON, MAX_JSON)
        try:
            return from_json(answer)
        except InvalidInput as error:
            raise self._not_ours(answer) from error

    async def _bytes(
        self, method: str, path: str, query: Query | None = None, body: bytes = b"", limit: int = SMALL
    ) -> bytes:
        return await self._send(method, path, query, body, MSGPACK, limit)

    async def _send(self, method: str, path: str, query: Query | None, body: bytes, kind: str, limit: int) -> bytes:
        target = self._base + path + (f"?{_query(query)}" if query else "")
        headers = {"accept": kind, "accept-encoding": "identity"}
        if method == "POST":
            headers["content-type"] = kind
        if self._token is not None:
            headers["authorization"] = f"Bearer {self._token}"
        elif self._key is not None:
            headers |= sign(*self._key, method, target, body)
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

    def _error(self, status: int, answer: bytes, kind: str) -> AlkalineError | StepError:
        try:
            raw = from_json(answer) if kind == JSON else self._codec.decode_untrusted(answer, 100_000)
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


def _parts(url: str) -> SplitResult:
    """A server's URL in its parts; InvalidInput for what is none."""
    with contextlib.suppress(ValueError, AttributeError):  # no port, no address, no text
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and parts.hostname and not parts.query and not parts.fragment
        if good and parts.port != 0:
            return parts
    raise InvalidInput("Remote wants a URL such as https://edge.example or https://edge.example/agents")


def _path(*segments: str) -> str:
    """A path of these names. InvalidInput for a name that no path can have: every client takes dots for a way up."""
    for segment in segments:
        if not isinstance(segment, str):
            raise InvalidInput(f"an id or a name is a text, not {type(segment).__name__}")
        if segment in ("", ".", ".."):
            raise InvalidInput(f"{segment!r} can't be asked for over HTTP: no path leads there")
    try:
        return "".join(f"/{quote(segment, safe='')}" for segment in segments)
    except UnicodeError:
        raise InvalidInput("an id or a name holds a lone surrogate, which is not text") from None


def _query(query: Query) -> str:
    try:
        return urlencode(query)
    except UnicodeError:
        raise InvalidInput("what is asked for holds a lone surrogate, which is not text") from None


def _written(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
