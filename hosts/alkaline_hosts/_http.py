"""Requests and responses as plain values, and what every answer shares: errors, CORS, bounds. No I/O.

``HttpApi`` answers for a runtime: the verbs over runs (``_runs_api``) and those that move runs (``_moves_api``). An
adapter (``asgi``, ``worker``) turns its platform's requests into these values:

    refusal = api.refuse(head)                  before the body is read; a Response if that is all there is to say
    body = ... at most api.max_body bytes ...   otherwise api.too_large(head)
    response = await api.handle(Request(*head, body))
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol
from urllib.parse import parse_qsl, unquote

from alkaline_edge.codec import Codec
from alkaline_edge.errors import (
    ERR_CLOSED,
    ERR_CONFLICT,
    ERR_INVALID_INPUT,
    ERR_NOT_FOUND,
    ERR_STORE,
    AlkalineError,
    InvalidInput,
    NotFound,
)
from alkaline_edge.failures import StepError

if TYPE_CHECKING:
    from alkaline_edge.runtime import Runtime

STATUS = {ERR_INVALID_INPUT: 400, ERR_NOT_FOUND: 404, ERR_CONFLICT: 409, ERR_STORE: 503, ERR_CLOSED: 503}
"""HTTP statuses by code; every other error of a workflow is 422."""
MSGPACK, JSON = "application/msgpack", "application/json"
MAX_BODY = 64 * 1024 * 1024


class Head(NamedTuple):
    """A request without its body. ``target`` is the path with its query as it was sent, header names are lowercase."""

    method: str
    target: str
    headers: Mapping[str, str]

    @property
    def path(self) -> str:
        """The path, still percent-encoded."""
        return self.target.partition("?")[0]

    @property
    def query(self) -> dict[str, str]:
        """The query's values by name."""
        return dict(parse_qsl(self.target.partition("?")[2], True))

    @property
    def segments(self) -> list[str]:
        """The parts of the path, decoded."""
        return [unquote(part) for part in self.path.split("/") if part]


class Request(NamedTuple):
    """A whole request."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes = b""

    @property
    def head(self) -> Head:
        """The request without its body."""
        return Head(self.method, self.target, self.headers)


class Response(NamedTuple):
    """A whole answer."""

    status: int
    headers: dict[str, str]
    body: bytes


class Refused(InvalidInput):
    """The request is refused as it is, with this HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Gate(Protocol):
    """What decides who may ask; see ``_signing.Access``."""

    def admit(self, head: Head) -> None:
        """Before the body is read."""
        ...

    def verify(self, request: Request) -> None:
        """With the body."""
        ...


class HttpApi:
    """Answers requests for one runtime. Every request is asked for by ``access``; None lets everybody in.

    Without ``access`` the verbs that move runs are refused, unless ``open_moves``. ``origins`` are the web origins
    whose pages may ask ("https://app.example"). ``touched`` are the runs that were set in motion.
    """

    def __init__(
        self,
        runtime: Runtime,
        access: Gate | None = None,
        origins: Iterable[str] = (),
        max_body: int = MAX_BODY,
        open_moves: bool = False,
    ) -> None:
        from ._moves_api import MovesApi
        from ._runs_api import RunsApi

        self._runs = RunsApi(runtime)
        self._moves = MovesApi(runtime, self._runs.touched)
        self._access, self.max_body = access, max_body
        self._origins = frozenset([origins] if isinstance(origins, str) else origins)
        self._moving = access is not None or open_moves
        for origin in self._origins:
            if origin == "*" or origin.endswith("/") or "://" not in origin:
                raise InvalidInput(
                    f"an origin is written https://app.example, by name and without a path: not {origin}"
                )

    @property
    def touched(self) -> set[str]:
        """Ids of runs that were set in motion."""
        return self._runs.touched

    def refuse(self, head: Head) -> Response | None:
        """The answer to a request that needs no body: a preflight, a refusal, or what says that it is too large."""
        if head.method == "OPTIONS":
            return self._preflight(head)
        try:
            if self._access is not None:
                self._access.admit(head)
        except Refused as refused:
            return self._error(head, refused)
        length = head.headers.get("content-length", "0")
        if not length.isdigit() or int(length) > self.max_body:
            return self.too_large(head)
        return None

    def too_large(self, head: Head) -> Response:
        """What is answered to a body above ``max_body``."""
        return self._error(head, Refused(413, f"the body is over {self.max_body} bytes, the limit of this server"))

    async def handle(self, request: Request) -> Response:
        """Answer a request that ``refuse`` let pass. Whatever goes wrong becomes an answer without a stack trace."""
        head = request.head
        try:
            if self._access is not None:
                self._access.verify(request)
            return self._shared(head, await self._answer(request))
        except (AlkalineError, StepError) as error:
            return self._error(head, error)
        except Exception:
            import logging  # only when it is needed: a Worker pays for each import at its start

            logging.getLogger(__name__).exception("a request could not be answered")
            wrong = {"code": ERR_STORE, "message": "something went wrong inside the server; its log says what"}
            return self._shared(head, _encoded(head, 500, {"error": wrong}))

    async def _answer(self, request: Request) -> Response:
        head = request.head
        area = next((part for part in head.segments if part in ("runs", "moves")), None)
        if area == "moves":
            if not self._moving:
                raise Refused(403, "this server moves no runs: it was set up without a token or keys")
            data = await self._moves.handle(request)
            return Response(200, {"content-type": MSGPACK}, data)
        if area is None:
            raise NotFound("there is nothing here; runs are under /runs")
        try:
            text = request.body.decode()
        except UnicodeDecodeError:
            raise InvalidInput("the body is not UTF-8") from None
        answer = await self._runs.handle(request.method, head.path, head.query, text)
        return Response(answer.status, {"content-type": JSON}, answer.body.encode())

    def _error(self, head: Head, error: AlkalineError | StepError) -> Response:
        value: dict[str, Any] = {"code": error.code, "message": str(error)}
        if isinstance(error, AlkalineError):
            value["detail"] = {k: v for k, v in error.detail.items() if isinstance(v, (str, int, float, bool))}
        status = error.status if isinstance(error, Refused) else STATUS.get(error.code or "", 422)
        response = self._shared(head, _encoded(head, status, {"error": value}))
        if status == 401:
            response.headers["www-authenticate"] = "Bearer"
        return response

    # --- CORS ------------------------------------------------------------------------------------------------------
    def _preflight(self, head: Head) -> Response:
        response = self._shared(head, Response(204, {}, b""))
        if "access-control-allow-origin" in response.headers:
            response.headers.update({
                "access-control-allow-methods": "GET, POST",
                "access-control-allow-headers": "authorization, content-type, accept",
                "access-control-max-age": "600",
            })  # fmt: skip
        return response

    def _shared(self, head: Head, response: Response) -> Response:
        response.headers["cache-control"] = "no-store"
        if self._origins:
            response.headers["vary"] = "origin"
            origin = head.headers.get("origin")
            if origin in self._origins and origin is not None:
                response.headers["access-control-allow-origin"] = origin
        return response


def _encoded(head: Head, status: int, value: dict[str, Any]) -> Response:
    if MSGPACK in head.headers.get("accept", ""):
        return Response(status, {"content-type": MSGPACK}, Codec().encode(value))
    return Response(status, {"content-type": JSON}, json.dumps(value).encode())
