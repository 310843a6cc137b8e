"""Moving runs over HTTP: the verbs of a ``Peer`` (``alkaline_edge.sync``, ``alkaline_edge.hand_over``) and bundles.

    GET  /moves                           the store's own name
    GET  /moves/ID                        where the run stands: a place, or nil
    GET  /moves/ID/digests?generation=N
    POST /moves/ID/part                   a place, or nil; the answer is the next part, empty when there is none
    POST /moves/ID/freeze?name=&store=    the letter that hands the run over to that store
    POST /moves/ID/confirm?store=
    POST /moves/accept                    a part; where the copy stands then
    POST /moves/take-over                 a letter; where the run stands then
    GET  /moves/ID/bundle                 the run as .alk
    POST /moves/ID/bundle                 the same, frozen here: it goes on where it is imported
    POST /moves/import?mode=copy          an .alk; mode take_over for one that was frozen; the run's id

Bodies and answers are the canonical bytes of SPEC.md. Each of them may be repeated.
"""

from __future__ import annotations

from alkaline_edge.codec import Codec
from alkaline_edge.errors import InvalidInput, NotFound
from alkaline_edge.runtime import Runtime
from alkaline_edge.runtime.handing import Local
from alkaline_edge.runtime.parts import Place

from ._http import Request


class MovesApi:
    """The verbs over one runtime. ``touched`` takes the ids of runs that were set in motion."""

    def __init__(self, runtime: Runtime, touched: set[str]) -> None:
        self._runtime, self._local, self._touched = runtime, Local(runtime), touched
        self._codec = Codec()

    async def handle(self, request: Request) -> bytes:
        """The answer's bytes; errors are raised."""
        head = request.head
        segments = head.segments
        rest, query = segments[segments.index("moves") + 1 :], head.query
        match request.method, rest:
            case "GET", []:
                return self._codec.encode(await self._local.identity())
            case "POST", ["accept"]:
                return self._place(await self._local.accept(request.body))
            case "POST", ["take-over"]:
                place = await self._local.take_over(request.body)
                self._touched.add(place.id)
                return self._place(place)
            case "POST", ["import"]:
                run = await self._runtime.import_(request.body, query.get("mode", "copy"))
                self._touched.add(run.id)
                return self._codec.encode(run.id)
            case _, [id]:
                if request.method == "GET":
                    return self._place(await self._local.place(id))
            case _, [id, verb]:
                return await self._of_run(request, id, verb)
        raise NotFound(f"there is no {request.method} {head.path}")

    async def _of_run(self, request: Request, id: str, verb: str) -> bytes:
        query = request.head.query
        match request.method, verb:
            case "GET", "digests":
                generation = query.get("generation", "")
                if not generation.isdigit():
                    raise InvalidInput("generation is a number")
                return self._codec.encode(await self._local.digests(id, int(generation)))
            case "POST", "part":
                raw = self._codec.decode_untrusted(request.body, 10_000)
                return await self._local.part(id, None if raw is None else Place.of(raw))
            case "POST", "freeze":
                name, store = query.get("name", ""), query.get("store", "")
                if not (0 < len(name) <= 500 and 0 < len(store) <= 100 and store.isalnum()):
                    raise InvalidInput("a hand-over names its target: name and store")
                return await self._local.freeze(id, name, store)
            case "POST", "confirm":
                await self._local.confirm(id, query.get("store", ""))
                return self._codec.encode(None)
            case "GET", "bundle":
                return await self._runtime.export(id)
            case "POST", "bundle":
                return await self._runtime.export(id, handoff=True)
        raise NotFound(f"there is no {request.method} {request.head.path}")

    def _place(self, place: Place | None) -> bytes:
        return self._codec.encode(None if place is None else place.to_list())
