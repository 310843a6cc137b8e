"""``Remote``: the runs of another machine, over HTTP: an ASGI app of ``alkaline_hosts.asgi``, or a Worker.

    await hand_over(runtime, "exe_1", Remote("https://edge.example", token=token))
    await sync(Remote("https://edge.example", key=("laptop", secret)), runtime, "exe_1")

On a server it asks by httpx (``pip install 'alkaline-edge[http]'``), in a browser or a Worker by the platform's
``fetch``; ``fetch=`` takes any other one.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Any, Protocol
from urllib.parse import quote, urlencode, urlsplit

from alkaline_edge.codec import Codec
from alkaline_edge.errors import BY_CODE, AlkalineError, InvalidInput, StoreError, UnknownOutcome
from alkaline_edge.failures import StepError
from alkaline_edge.limits import MAX_BUNDLE_BYTES
from alkaline_edge.runtime.parts import Place

from ._http import JSON, MSGPACK
from ._signing import sign

_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Fetch(Protocol):
    """One request: its answer's status and body. Whatever goes wrong on the way is an exception of any kind."""

    def __call__(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> Awaitable[tuple[int, bytes]]:
        """It must not follow redirects: the secret in the headers is for one server."""
        ...


class Remote:
    """The runs behind a URL, with the methods that ``sync`` and ``hand_over`` want, and a few more.

    ``token`` is a bearer token, ``key`` a key's name and secret for signed requests. A URL without TLS is refused
    unless it is loopback, or ``insecure``. Every method raises what the other side raised, by its code; UnknownOutcome
    (ERR_STORE) when the answer was lost: then it may be repeated, except for ``signal`` without a dedupe key and
    ``start`` without an id. Use it as ``async with``, or call ``close``.
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
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise InvalidInput("Remote wants a URL such as https://edge.example or https://edge.example/agents")
        if parts.username or parts.password:
            raise InvalidInput("a URL is shown and stored: give the secret as token or key, not inside of it")
        if parts.scheme == "http" and parts.hostname not in _LOOPBACK and not insecure:
            raise InvalidInput("the secret would travel in the clear: use https, or insecure=True on a trusted network")
        if token is not None and key is not None:
            raise InvalidInput("give a token or a key, not both")
        self.name = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"
        self._origin, self._base = f"{parts.scheme}://{parts.netloc}", parts.path.rstrip("/")
        self._token, self._key = token, key
        self._fetch = fetch or _default(timeout)
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
        return str(await self._value("GET", "/moves"))

    async def place(self, id: str) -> Place | None:
        """Where the run's history stands there; None without one."""
        raw = await self._value("GET", _path("moves", id))
        return None if raw is None else Place.of(raw)

    async def digests(self, id: str, generation: int) -> bytes:
        """The digest of every commit of a history."""
        found = await self._value("GET", _path("moves", id, "digests"), {"generation": str(generation)})
        return found if isinstance(found, bytes) else b""

    async def part(self, id: str, at: Place | None) -> bytes:
        """The next part for a store that stands at ``at``."""
        return await self._bytes(
            "POST", _path("moves", id, "part"), {}, self._codec.encode(None if at is None else at.to_list())
        )

    async def accept(self, part: bytes) -> Place:
        """Send a part."""
        return Place.of(await self._value("POST", "/moves/accept", {}, part))

    async def freeze(self, id: str, name: str, store: str) -> bytes:
        """Stop the run there, on its way to the store ``store``."""
        return await self._bytes("POST", _path("moves", id, "freeze"), {"name": name, "store": store})

    async def take_over(self, letter: bytes) -> Place:
        """Activate the run there."""
        return Place.of(await self._value("POST", "/moves/take-over", {}, letter))

    async def confirm(self, id: str, store: str) -> None:
        """Note there that the store has taken the run over."""
        await self._bytes("POST", _path("moves", id, "confirm"), {"store": store})

    # --- whole runs ------------------------------------------------------------------------------------------------
    async def export(self, id: str, handoff: bool = False) -> bytes:
        """The whole run as a bundle; with ``handoff`` it is frozen there."""
        return await self._bytes("POST" if handoff else "GET", _path("moves", id, "bundle"))

    async def import_(self, bundle: bytes, mode: str = "copy") -> str:
        """Store a bundle's run there; its id."""
        return str(await self._value("POST", "/moves/import", {"mode": mode}, bundle))

    # --- asking ----------------------------------------------------------------------------------------------------
    async def start(self, workflow: str, input: Any = None, id: str | None = None) -> dict[str, Any]:
        """Start a run there; its record. ``input`` is a JSON value."""
        return dict(await self._json("POST", "/runs", {}, {"workflow": workflow, "input": input, "id": id}))

    async def status(self, id: str) -> dict[str, Any]:
        """The run's record."""
        return dict(await self._json("GET", _path("runs", id)))

    async def signal(self, id: str, name: str, payload: Any = None, dedupe: str | None = None) -> None:
        """Send a signal with a JSON value; it is durable when this returns. A ``dedupe`` key makes repeats harmless."""
        query = {} if dedupe is None else {"dedupe": dedupe}
        await self._json("POST", _path("runs", id, "signals", name), query, payload)

    async def resume(self, id: str) -> None:
        """Let a paused run go on there."""
        await self._json("POST", _path("runs", id, "resume"))

    async def cancel(self, id: str, reason: str | None = None) -> None:
        """Ask for the run's end."""
        await self._json("POST", _path("runs", id, "cancel"), {} if reason is None else {"reason": reason})

    # --- the wire --------------------------------------------------------------------------------------------------
    async def _value(self, method: str, path: str, query: Mapping[str, str] | None = None, body: bytes = b"") -> Any:
        return self._codec.decode_untrusted(await self._bytes(method, path, query, body), MAX_BUNDLE_BYTES)

    async def _json(self, method: str, path: str, query: Mapping[str, str] | None = None, value: Any = None) -> Any:
        body = b"" if value is None else json.dumps(value).encode()
        answer = await self._send(method, path, query, body, JSON)
        try:
            return json.loads(answer)
        except ValueError:
            raise StoreError(f"{self.name} answered what is not JSON: is it an alkaline_edge host?") from None

    async def _bytes(self, method: str, path: str, query: Mapping[str, str] | None = None, body: bytes = b"") -> bytes:
        return await self._send(method, path, query, body, MSGPACK)

    async def _send(self, method: str, path: str, query: Mapping[str, str] | None, body: bytes, kind: str) -> bytes:
        target = self._base + path + (f"?{urlencode(query)}" if query else "")
        headers = {"accept": kind}
        if method == "POST":
            headers["content-type"] = kind
        if self._token is not None:
            headers["authorization"] = f"Bearer {self._token}"
        elif self._key is not None:
            headers |= sign(*self._key, method, target, body)
        try:
            status, answer = await self._fetch(method, self._origin + target, headers, body)
        except AlkalineError:
            raise
        except Exception as error:
            raise UnknownOutcome(
                f"{self.name} was not reached, or its answer was lost ({type(error).__name__}): do it again"
            ) from error
        if 200 <= status < 300:
            return answer
        raise self._error(status, answer, kind)

    def _error(self, status: int, answer: bytes, kind: str) -> AlkalineError | StepError:
        try:
            raw = json.loads(answer) if kind == JSON else self._codec.decode_untrusted(answer, 100_000)
            found = raw["error"]
            code, message, detail = found["code"], str(found["message"]), dict(found.get("detail") or {})
        except (ValueError, KeyError, TypeError, AlkalineError):
            return StoreError(
                f"{self.name} answered with HTTP status {status}: is it an alkaline_edge host?", http=status
            )
        if code in BY_CODE:
            detail["http"] = status
            return BY_CODE[code](message, **detail)
        return StoreError(f"{self.name} answered: {message}", http=status)


def _path(*segments: str) -> str:
    return "".join(f"/{quote(segment, safe='')}" for segment in segments)


def _default(timeout: float) -> Fetch:
    return _javascript if sys.platform == "emscripten" else _Httpx(timeout)


class _Httpx:
    """httpx, opened with the first request."""

    def __init__(self, timeout: float) -> None:
        try:
            import httpx
        except ModuleNotFoundError:
            raise InvalidInput(
                "Remote needs httpx to ask over the network: pip install 'alkaline-edge[http]', or pass fetch="
            ) from None
        self._new: Callable[[], Any] = lambda: httpx.AsyncClient(
            timeout=timeout, follow_redirects=False, trust_env=True
        )
        self._client: Any = None

    async def __call__(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> tuple[int, bytes]:
        if self._client is None:
            self._client = self._new()
        response = await self._client.request(method, url, headers=dict(headers), content=body)
        return response.status_code, response.content

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()


async def _javascript(method: str, url: str, headers: Mapping[str, str], body: bytes) -> tuple[int, bytes]:
    """The platform's ``fetch``, in a browser or a Worker."""
    import js
    from pyodide.ffi import to_js

    window: Any = js

    options: dict[str, Any] = {"method": method, "headers": dict(headers), "redirect": "manual"}
    if method == "POST":
        options["body"] = body
    response = await window.fetch(url, to_js(options, dict_converter=window.Object.fromEntries))
    buffer = await response.arrayBuffer()
    return int(response.status), bytes(buffer.to_bytes())
