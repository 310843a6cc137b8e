"""The HTTP API of a runtime: how a request becomes a verb, and what every answer shares: errors, CORS, bounds. No I/O.

``HttpApi`` answers for a runtime with the verbs of ``verbs``; docs/http.md is the page for users. An adapter
(``asgi``, ``worker``) turns its platform's requests into these values:

    refusal = api.refuse(head)                  before the body is read; a Response if that is all there is to say
    body = ... at most api.max_body bytes ...   otherwise api.too_large(head), or api.too_slow(head)
    response = await api.handle(Request(*head, body))
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from alkaline_edge.codec import Codec
from alkaline_edge.errors import (
    ERR_CLOSED,
    ERR_CONFLICT,
    ERR_INVALID_INPUT,
    ERR_NOT_FOUND,
    ERR_STORE,
    AlkalineError,
)
from alkaline_edge.failures import StepError
from alkaline_edge.runs import FINISHED
from alkaline_edge.runtime.following import place_of

from . import doors, streaming
from .around import asked_in
from .json import to_json
from .messages import JSON, MAX_BODY, MSGPACK, STREAM, Head, Refused, Request, Response, pick, shown
from .moves import MovesApi
from .patience import WAIT_SECONDS, within
from .routes import DOCUMENT, METHODS, is_document, route
from .runs import RunsApi
from .verbs import perform

if TYPE_CHECKING:
    from alkaline_edge import Runtime

MAX_STREAMS = 1_000
"""How many streams go on at once; each holds a connection and what its client has not taken yet."""
STATUS = {ERR_INVALID_INPUT: 400, ERR_NOT_FOUND: 404, ERR_CONFLICT: 409, ERR_STORE: 503, ERR_CLOSED: 503}
"""HTTP statuses by code; every other error of a workflow is 422."""


class Gate(Protocol):
    """What decides who may ask; see ``signing.Access``."""

    def admit(self, head: Head) -> None:
        """Before the body is read."""
        ...

    def verify(self, request: Request) -> None:
        """With the body."""
        ...


class HttpApi:
    """Answers requests for one runtime. Every request is asked for by ``access``; None lets everybody in.

    Without ``access`` the verbs that move runs are refused, unless ``open_moves``. ``origins`` are the web origins
    whose pages may ask ("https://app.example"), ``hosts`` the names by which a server may be asked that lets everybody
    in; None: any name. ``touched`` takes the ids of the runs that were set in motion, where it is given.
    """

    def __init__(
        self,
        runtime: Runtime,
        access: Gate | None = None,
        origins: Iterable[str] = (),
        max_body: int = MAX_BODY,
        open_moves: bool = False,
        hosts: Iterable[str] | None = None,
        touched: set[str] | None = None,
    ) -> None:
        self._runtime, self._touched, self._moves = runtime, touched, MovesApi(runtime, touched)
        self._access, self.max_body = access, max_body
        self._origins, self._moving = doors.origins_of(origins), access is not None or open_moves
        self._streams = 0
        self._hosts, self._any_host = doors.hosts_of(hosts or ()), hosts is None

    def refuse(self, head: Head) -> Response | None:
        """The answer to a request that needs no body: a preflight, a refusal, or what says that it is too large."""
        if head.method == "OPTIONS":
            return self._preflight(head)
        try:
            if self._access is not None:
                self._access.admit(head)
            else:
                why = doors.refusal(head.headers, self._origins, self._hosts, self._any_host)
                if why is not None:
                    raise Refused(403, why)
        except Refused as refused:
            return self.answer(head, refused)
        length = head.headers.get("content-length", "0").strip()
        if not (length.isascii() and length.isdigit()):
            return self.answer(head, Refused(400, "the content-length is no number"))
        if len(length) > 18 or int(length) > self.max_body:
            return self.too_large(head)
        return None

    def too_large(self, head: Head) -> Response:
        """What is answered to a body above ``max_body``."""
        return self.answer(head, Refused(413, f"the body is over {self.max_body} bytes, the limit of this server"))

    def too_slow(self, head: Head) -> Response:
        """What is answered to a body that did not come in as fast as ``patience.arriving`` wants it."""
        return self.answer(head, Refused(408, f"the body took over {WAIT_SECONDS:.0f} seconds: send it again, faster"))

    async def handle(self, request: Request) -> Response:
        """Answer a request that ``refuse`` let pass. Whatever goes wrong becomes an answer without a stack trace."""
        head = request.head
        try:
            if self._access is not None:
                self._access.verify(request)
            return self._shared(head, await self._answer(request))
        except (AlkalineError, StepError) as error:
            return self.answer(head, error)
        except Exception:
            return self._shared(head, _encoded(head, 500, {"error": _defect(head)}))

    async def _answer(self, request: Request) -> Response:
        head = request.head
        if is_document(head):
            from . import openapi  # only who asks for it needs it: a Worker pays for each import at its start

            pick({"GET": openapi}, head.method, head)
            found = openapi.document(head.path.removesuffix(DOCUMENT).rstrip("/"), self._access is not None)
            return Response(200, {"content-type": JSON}, to_json(found).encode())
        verb, given = route(head)
        moves = verb.path.startswith("/moves")
        if moves and not self._moving:
            raise Refused(403, "this server moves no runs: it was set up without a token or keys")
        if not moves:
            _check_kind(head.headers)
        given |= verb.asked(head) | verb.received(request.body)
        runs = RunsApi(self._runtime, self._touched, within(self._runtime.host, request.gone))
        if verb.gives.how == "stream":
            return await self._streamed(head, given, runs)
        with asked_in(head.headers):
            value = await perform(self._moves if moves else runs, verb.name, dict(given))
        if verb.status == 202:
            value = await runs.status(given["id"])
        return Response(verb.status, {"content-type": verb.gives.media}, verb.gives.write(value, self._runtime.codec))

    # --- streams ---------------------------------------------------------------------------------------------------
    async def _streamed(self, head: Head, given: dict[str, Any], runs: RunsApi) -> Response:
        """A run's events, as they come; 204 where nothing follows, which ends an EventSource that comes back."""
        if self._streams >= MAX_STREAMS:
            raise Refused(503, f"this server streams to {MAX_STREAMS:,} at once; come back later")
        after = head.headers.get("last-event-id", "").strip() or given.get("after", "")
        place_of(after)
        record = await runs.status(given["id"])
        events = runs.stream(given["id"], after)
        if after and record["status"] in FINISHED:
            first = await anext(events, None)
            if first is None:
                return Response(204, {}, b"")
            events = _begun(first, events)
        chunks = streaming.frames(events, self._frame, lambda error: self._problem(head, error), self._runtime.host)
        return Response(200, {"content-type": STREAM, "x-accel-buffering": "no"}, b"", self._counted(chunks))

    async def _counted(self, chunks: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        self._streams += 1
        try:
            async for chunk in chunks:
                yield chunk
        finally:
            self._streams -= 1
            await chunks.aclose()

    def _frame(self, event: dict[str, Any]) -> bytes:
        place = event.get("place", "")
        return streaming.frame(to_json(event, self._runtime.codec), "" if place else streaming.PUBLISHED, place)

    def _problem(self, head: Head, error: Exception) -> bytes:
        """The last frame of a stream that can't go on."""
        value = _said(error) if isinstance(error, (AlkalineError, StepError)) else _defect(head)
        return streaming.frame(to_json({"error": value}), streaming.PROBLEM)

    # --- errors ----------------------------------------------------------------------------------------------------
    def answer(self, head: Head, error: AlkalineError | StepError) -> Response:
        """What is answered where ``error`` was raised."""
        value = _said(error)
        status = error.status if isinstance(error, Refused) else STATUS.get(error.code or "", 422)
        response = self._shared(head, _encoded(head, status, {"error": value}))
        if status == 401:
            response.headers["www-authenticate"] = "Bearer"
        if isinstance(error, Refused) and error.allow:
            response.headers["allow"] = error.allow
        return response

    # --- CORS ------------------------------------------------------------------------------------------------------
    def _preflight(self, head: Head) -> Response:
        response = self._shared(head, Response(204, {}, b""))
        if "access-control-allow-origin" in response.headers:
            response.headers.update({
                "access-control-allow-methods": ", ".join(METHODS),
                "access-control-allow-headers": "authorization, content-type, accept, last-event-id",
                "access-control-max-age": "600",
            })  # fmt: skip
        return response

    def _shared(self, head: Head, response: Response) -> Response:
        response.headers["cache-control"] = "no-store"
        if self._origins:
            response.headers["vary"] = "origin"
            origin = head.headers.get("origin", "")
            if origin.lower() in self._origins:
                response.headers["access-control-allow-origin"] = origin
        return response


def _said(error: AlkalineError | StepError) -> dict[str, Any]:
    """An error as callers see it."""
    value: dict[str, Any] = {"code": error.code, "message": str(error)}
    if isinstance(error, AlkalineError):
        value["detail"] = {k: v for k, v in error.detail.items() if isinstance(v, (str, int, float, bool))}
    return value


def _defect(head: Head) -> dict[str, Any]:
    """What callers see of the exception that is being handled, which is a defect of ours: nothing. The log has it."""
    import logging  # only when it is needed: a Worker pays for each import at its start

    logging.getLogger("alkaline_edge").exception("a request could not be answered: %s %s", *shown(head))
    return {"code": ERR_STORE, "message": "something went wrong inside the server; its log says what"}


async def _begun(first: dict[str, Any], rest: AsyncGenerator[Any, None]) -> AsyncGenerator[Any, None]:
    """``rest`` with what was taken of it."""
    try:
        yield first
        async for each in rest:
            yield each
    finally:
        await rest.aclose()


def _check_kind(headers: Mapping[str, str]) -> None:
    """Refused for a body that says of itself that it is not JSON in UTF-8.

    What clients say without being told to, such as curl's urlencoded, is let pass: the body is read as JSON anyway.
    """
    kind, _, rest = headers.get("content-type", "").lower().partition(";")
    if kind.strip().startswith(("multipart/", "image/", "audio/", "video/")) or kind.strip() == MSGPACK:
        raise Refused(415, f"bodies under /runs are {JSON}, not {kind.strip()[:60]}")
    charset = re.search(r"charset=\"?([\w-]+)", rest)
    if charset is not None and charset[1] not in ("utf-8", "utf8", "us-ascii"):
        raise Refused(415, f"bodies are UTF-8, not {charset[1][:60]}")
    coding = headers.get("content-encoding", "identity").strip().lower()
    if coding not in ("", "identity"):
        raise Refused(415, f"bodies are sent as they are, not packed as {coding[:60]}")


def _encoded(head: Head, status: int, value: dict[str, Any]) -> Response:
    if MSGPACK in head.headers.get("accept", ""):
        return Response(status, {"content-type": MSGPACK}, Codec().encode_whole(value))
    return Response(status, {"content-type": JSON}, to_json(value).encode())
