"""``sync`` and ``hand_over``: bringing a run to another store piece by piece, over any connection.

Both talk to a ``Peer`` on each side: ``Local`` is that of a runtime, and a client of a remote host has the same
methods. Every piece leaves a copy that is whole up to some commit, so what was interrupted at any byte is begun again
and goes on from there.
"""

from __future__ import annotations

from typing import Protocol

from ..errors import ConflictError, InvalidInput, NotFound
from ..history import DIGEST
from ..parts import PART_BYTES, Place
from ..runs import FINISHED
from ..structs import dataclass
from .handing import Local
from .moved import UNCONFIRMED
from .runtime import Runtime


class Peer(Protocol):
    """One side of a move. ``handing.Local`` says what each method promises."""

    @property
    def name(self) -> str:
        """What a person calls this store, such as its URL."""
        ...

    async def identity(self) -> str:
        """The store's own random name."""
        ...

    async def place(self, id: str) -> Place | None:
        """Where the run's history stands here; None without one."""
        ...

    async def digests(self, id: str, generation: int) -> bytes:
        """The digest of every commit of a history, one after the other."""
        ...

    async def part(self, id: str, at: Place | None) -> bytes:
        """The next part for a store that stands at ``at``; empty when that store has it all."""
        ...

    async def accept(self, part: bytes) -> Place:
        """Store a part."""
        ...

    async def freeze(self, id: str, name: str, store: str) -> bytes:
        """Stop the run here, on its way to the store ``store``; the letter that hands it over."""
        ...

    async def take_over(self, letter: bytes) -> Place:
        """Activate the run here."""
        ...

    async def confirm(self, id: str, store: str) -> None:
        """Note that the store has taken the run over."""
        ...

    async def renounce(self, letter: bytes, to: str) -> bytes:
        """Take the hand-over of ``letter`` over no more; the letter that takes the run back to ``to``."""
        ...

    async def reclaim(self, id: str, lost: str) -> Place:
        """Go on here with a run that was handed over to the store ``lost``, which is gone for good."""
        ...


@dataclass(frozen=True, slots=True)
class Synced:
    """What a ``sync`` did: ``parts`` of ``sent`` bytes in all. ``place``: where the target stands now."""

    place: Place
    parts: int
    sent: int


async def sync(source: Runtime | Peer, target: Runtime | Peer, id: str) -> Synced:
    """Bring ``target``'s copy of the run up to ``source``: only what it lacks is sent. It may be repeated at any time.

    What the run has recorded by now is sent; what it records meanwhile may be, and comes with the next call.
    The copy is paused, as one that was imported: nothing advances it unless somebody resumes it. What is not a
    fast-forward is ERR_CONFLICT, and changes nothing: ``detail`` holds ``position``, the number of commits that both
    have in common, and the heads ``source`` and ``target``. A run that goes on at the target is ERR_CONFLICT as well.
    """
    a, b = _peer(source), _peer(target)
    return await _brought(a, b, id, await a.place(id), await b.place(id))


async def _brought(a: Peer, b: Peer, id: str, here: Place | None, there: Place | None, most: bool = False) -> Synced:
    """``sync`` from a source that stands at ``here`` to a target that stands at ``there``.

    What is ``here`` is sent, and little more: a run may go on faster than it travels, and for ever. ``most``: a little
    may be missing.
    """
    parts = sent = 0
    while True:
        try:
            part = await a.part(id, there)
        except ConflictError as error:
            if there is None or not error.detail.get("parted"):
                raise
            raise await _parted(a, b, there) from None
        if not part:
            assert there is not None  # a source without the run has raised ERR_NOT_FOUND
            return Synced(there, parts, sent)
        there = await b.accept(part)
        parts, sent = parts + 1, sent + len(part)
        behind = here is None or (there.generation, there.length) < (here.generation, here.length)
        if not behind or (most and len(part) < PART_BYTES // 2):
            return Synced(there, parts, sent)


async def _parted(a: Peer, b: Peer, there: Place) -> ConflictError:
    """The error that says where two histories part."""
    here = await a.place(there.id)
    assert here is not None
    ours, theirs = await a.digests(there.id, there.generation), await b.digests(there.id, there.generation)
    position = 0
    while (
        position < min(len(ours), len(theirs))
        and ours[position : position + DIGEST] == theirs[position : position + DIGEST]
    ):
        position += DIGEST
    position //= DIGEST
    heads = {"source": here.head.hex(), "target": there.head.hex()}
    if position * DIGEST == len(ours) and here.generation <= there.generation:
        what = f"the target is ahead: it has {there.length} commits, and the source {here.length}"
    else:
        what = f"the histories part behind commit {position}"
    return ConflictError(
        f"run {there.id!r} can't be fast-forwarded: {what} (heads: source {heads['source']}, target "
        f"{heads['target']}). Nothing was changed; sync the other way, or delete the copy and sync again",
        id=there.id,
        position=position,
        generation=there.generation,
        **heads,
    )


async def hand_over(source: Runtime | Peer, id: str, target: Runtime | Peer) -> Place:
    """Move the run to ``target`` for good, and return where it stands there. Interrupted anywhere, call it again.

    What the target lacks is sent first, while the run goes on; then the run is frozen here, the rest is sent, and the
    target activates it: at no moment do two stores advance it. A run that has ended is only copied. One that is on its
    way from the target to the source, which has not taken it over, is taken back: the source renounces it first.
    ERR_CONFLICT: the run is on its way to another store already, or the target holds something else under its id.
    ERR_INVALID_INPUT: both are one store.
    """
    a, b = _peer(source), _peer(target)
    home, store = await a.identity(), await b.identity()
    if home == store:
        raise InvalidInput("source and target are the same store: there is nothing to hand over")
    here, there = await a.place(id), await b.place(id)
    if there is not None and _is_on_its_way(there, home, here):
        letter = await b.freeze(id, a.name, home)  # it is frozen: the letter that was made for it
        return await b.take_over(await a.renounce(letter, store))
    if here is None or here.moved_to is None:
        await _check_runs(a, b, id)
        # Most of it while the run goes on; and whatever is refused is refused before it stops.
        done = await _brought(a, b, id, here, there, most=True)
        if done.place.status in FINISHED:
            return done.place
        if done.place.moved_to is None and done.place.status != "paused":
            raise ConflictError(
                f"run {id!r} is {done.place.status} at the target and may go on: only a paused copy is taken over; "
                "nothing was changed",
                id=id,
            )
    letter = await a.freeze(id, b.name, store)
    if not letter:
        return (await sync(a, b, id)).place
    frozen = await a.place(id)
    there = await b.place(id)
    assert frozen is not None
    if there is None or there.run != frozen.run:
        there = await _taken_and_deleted(b, letter, there)
    if there is None or there.run != frozen.run or there.taken < frozen.epoch:
        await sync(a, b, id)
        there = await b.take_over(letter)
    await a.confirm(id, store)
    return there


def _is_on_its_way(there: Place, home: str, here: Place | None) -> bool:
    """Whether the run at ``there`` went to the store ``home``, which stands at ``here`` and has not taken it over."""
    if not (there.moved_to or "").endswith(f"[{home}]{UNCONFIRMED}"):
        return False
    return here is None or here.run != there.run or here.taken < there.epoch


async def reclaim(source: Runtime | Peer, id: str, lost: str) -> Place:
    """Go on at ``source`` with a run that was handed over to a store which is lost for good; where it stands.

    ``lost``: that store's random name, which stands in brackets in ``moved_to`` of the run's record, so that no other
    one is meant. The run goes on from what ``source`` has of it: steps that the lost store ran since are run again,
    with the same idempotency keys, also those with ``at_most_once``. Should that store come back, delete the run there
    before anything advances it. As long as the store is there, use ``hand_over`` from it to ``source``.
    ERR_INVALID_INPUT: the run went to another store. ERR_CONFLICT: it did not go to a store. One that goes on at
    ``source`` already is left as it is.
    """
    return await _peer(source).reclaim(id, lost)


async def _taken_and_deleted(b: Peer, letter: bytes, there: Place | None) -> Place | None:
    """What a target without the run says of it: it took it over, and deleted it since. Otherwise what stands there."""
    try:
        return await b.take_over(letter)
    except NotFound:
        return None
    except ConflictError:
        if there is None:
            raise
        return there


async def _check_runs(a: Peer, b: Peer, id: str) -> None:
    """ERR_CONFLICT where both sides are at hand, and the target runs other workflows, or other versions, than this."""
    if not isinstance(a, Local) or not isinstance(b, Local):
        return
    record = await a.record(id)
    why = None if record.finished else await b.refuses(record.workflow, record.version)
    if why is not None:
        raise ConflictError(
            f"run {id!r} could not go on at the target: {why}. Register it there first; nothing was changed, and "
            "`sync` brings a copy without handing the run over",
            id=id,
            workflow=record.workflow,
            version=record.version,
        )


def _peer(side: Runtime | Peer) -> Peer:
    if not isinstance(side, Runtime) and not hasattr(side, "take_over"):
        raise InvalidInput(f"a run moves from a Runtime or a Remote to another one, not a {type(side).__name__}")
    return Local(side) if isinstance(side, Runtime) else side
