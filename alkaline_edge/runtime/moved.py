"""What a record's ``moved_to`` says of a run that does not go on here, and which verb ends a limbo."""

from __future__ import annotations

from ..errors import ConflictError
from ..runs import ExecutionRecord

BUNDLE = "a bundle"
"""What a record's ``moved_to`` says of a run that was handed over to whoever imports the file."""
ARRIVING = "this store, where all of it has not arrived yet; import it again"
"""What ``moved_to`` says while a bundle is being imported."""
DELETING = "nowhere: it is being deleted here"
"""What ``moved_to`` says while a run is being deleted: part of it may be gone."""
UNCONFIRMED = ", not confirmed yet"
"""The end of ``moved_to`` until the other store has said that it has the run."""


def gone(record: ExecutionRecord, verb: str) -> ConflictError:
    """What keeps the run from being ``verb`` here: where it is, and what ends the limbo if it is on its way."""
    id, to = record.id, record.moved_to or ""
    if to == ARRIVING:
        text = (
            f"run {id!r} has not arrived here yet: import it again, or call hand_over again where it comes from; then "
            f"{verb} it here. If it is to come no more, delete what is here of it"
        )
    elif to == DELETING:
        text = f"run {id!r} is being deleted here, and part of it may be gone: call delete again, which ends that"
    elif to == BUNDLE:
        text = (
            f"run {id!r} was handed over to {to}: {verb} it where that is imported. To go on here, export it with "
            'handoff again, which gives the same bundle, and import_ it with mode="take_over"'
        )
    elif to.endswith(UNCONFIRMED):
        place = to.removesuffix(UNCONFIRMED)
        text = (
            f"run {id!r} was handed over to {place}, which has not confirmed it yet: {verb} it there, and call "
            "hand_over to that store again, which finishes the move, or from that store to this one, which takes the "
            "run back. If that store is lost for good, reclaim goes on here"
        )
    else:
        text = f"run {id!r} was handed over to {to}: {verb} it there"
    return ConflictError(text, id=id, moved_to=to)
