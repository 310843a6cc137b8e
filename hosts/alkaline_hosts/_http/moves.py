"""What the verbs that move runs do: ``MovesApi``, on a runtime. No I/O."""

from __future__ import annotations

from alkaline_edge import Runtime
from alkaline_edge.errors import InvalidInput
from alkaline_edge.parts import Place
from alkaline_edge.runtime.handing import Local

from .verbs import MoveVerbs


class MovesApi(MoveVerbs):
    """The verbs over one runtime. ``touched`` takes the ids of runs that were set in motion, where it is given."""

    def __init__(self, runtime: Runtime, touched: set[str] | None = None) -> None:
        self._runtime, self._local, self._touched = runtime, Local(runtime), touched

    async def identity(self) -> str:
        """As MoveVerbs.identity."""
        return await self._local.identity()

    async def place(self, id: str) -> Place | None:
        """As MoveVerbs.place."""
        return await self._local.place(id)

    async def digests(self, id: str, generation: int) -> bytes:
        """As MoveVerbs.digests."""
        return await self._local.digests(id, generation)

    async def part(self, id: str, at: Place | None) -> bytes:
        """As MoveVerbs.part."""
        return await self._local.part(id, at)

    async def accept(self, part: bytes) -> Place:
        """As MoveVerbs.accept."""
        return await self._local.accept(part)

    async def freeze(self, id: str, name: str, store: str) -> bytes:
        """As MoveVerbs.freeze; ``name`` and ``store`` are kept in the run's record, so they are bounded."""
        if not (0 < len(name) <= 500 and 0 < len(store) <= 100 and store.isalnum()):
            raise InvalidInput("a hand-over names its target: name and store")
        return await self._local.freeze(id, name, store)

    async def take_over(self, letter: bytes) -> Place:
        """As MoveVerbs.take_over."""
        place = await self._local.take_over(letter)
        self._touch(place.id)
        return place

    async def confirm(self, id: str, store: str) -> None:
        """As MoveVerbs.confirm."""
        await self._local.confirm(id, store)

    async def renounce(self, letter: bytes, to: str) -> bytes:
        """As MoveVerbs.renounce."""
        return await self._local.renounce(letter, to)

    async def reclaim(self, id: str, lost: str) -> Place:
        """As MoveVerbs.reclaim."""
        place = await self._local.reclaim(id, lost)
        self._touch(id)
        return place

    async def export(self, id: str, handoff: bool = False) -> bytes:
        """As MoveVerbs.export."""
        return await self._runtime.export(id, handoff=handoff)

    async def import_(self, bundle: bytes, mode: str = "copy") -> str:
        """As MoveVerbs.import_."""
        run = await self._runtime.import_(bundle, mode)
        self._touch(run.id)
        return run.id

    def _touch(self, id: str) -> None:
        if self._touched is not None:
            self._touched.add(id)
