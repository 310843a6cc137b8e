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
from alkaline_edge.parts import Place
from alkaline_edge.runtime import Runtime
from alkaline_edge.runtime.handing import Local

from .messages import Request, pick


class MovesApi:
    """The verbs over one runtime. ``touched`` takes the ids of runs that were set in motion, where it is given."""

    def __init__(self, runtime: Runtime, touched: set[str] | None = None) -> None:
        self._runtime, self._local, self._touched = runtime, Local(runtime), touched
        self._codec = Codec()

    async def handle(self, request: Request, rest: list[str]) -> bytes:
        """The answer's bytes to a request whose path behind /moves is ``rest``; errors are raised."""
        head, method = request.head, request.method
        match rest:
            case []:
                pick({"GET": True}, method, head)
                head.query()
                return self._codec.encode(await self._local.identity())
            case ["accept"]:
                pick({"POST": True}, method, head)
                head.query()
                return self._place(await self._local.accept(request.body))
            case ["take-over"]:
                pick({"POST": True}, method, head)
                head.query()
                place = await self._local.take_over(request.body)
                self._touch(place.id)
                return self._place(place)
            case ["import"]:
                pick({"POST": True}, method, head)
                run = await self._runtime.import_(request.body, head.query("mode").get("mode", "copy"))
                self._touch(run.id)
                return self._codec.encode(run.id)
            case [id]:
                pick({"GET": True}, method, head)
                head.query()
                return self._place(await self._local.place(id))
            case [id, "bundle"]:
                handoff = pick({"GET": False, "POST": True}, method, head)
                head.query()
                return await self._runtime.export(id, handoff=handoff)
            case [id, "digests"]:
                pick({"GET": True}, method, head)
                generation = head.query("generation").get("generation", "")
                if not (generation.isascii() and generation.isdigit() and len(generation) <= 15):
                    raise InvalidInput("generation is a number")
                return self._codec.encode(await self._local.digests(id, int(generation)))
            case [id, "part" | "freeze" | "confirm" as verb]:
                pick({"POST": True}, method, head)
                return await self._of_run(request, id, verb)
        raise NotFound(f"there is no {head.path[:200]}; see docs/http.md")

    async def _of_run(self, request: Request, id: str, verb: str) -> bytes:
        if verb == "part":
            request.head.query()
            raw = self._codec.decode_untrusted(request.body, 10_000)
            return await self._local.part(id, None if raw is None else Place.of(raw))
        query = request.head.query("name", "store")
        name, store = query.get("name", ""), query.get("store", "")
        if verb == "confirm":
            await self._local.confirm(id, store)
            return self._codec.encode(None)
        if not (0 < len(name) <= 500 and 0 < len(store) <= 100 and store.isalnum()):
            raise InvalidInput("a hand-over names its target: name and store")
        return await self._local.freeze(id, name, store)

    def _touch(self, id: str) -> None:
        if self._touched is not None:
            self._touched.add(id)

    def _place(self, place: Place | None) -> bytes:
        return self._codec.encode(None if place is None else place.to_list())
