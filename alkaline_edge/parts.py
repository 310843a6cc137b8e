"""What goes over the wire when a run moves piece by piece: parts of a history, and the letter that hands a run over.

Both are canonical msgpack with a digest at the end, bounded and refused unless they are in canonical form, as bundles
are (SPEC.md, "Parts"). Pure: bytes in, bytes out.
"""

from __future__ import annotations

import re
from hashlib import sha256
from typing import Any

from . import keys
from .codec import AROUND, Codec
from .envelope import Contents, Form, check_bytes, check_fields, check_pairs, pack, read_history, unpack
from .errors import InvalidInput
from .events import Event, Started
from .history import DIGEST, Cursor
from .limits import MAX_BUNDLE_BYTES
from .runs import Header
from .shapes import check_record, check_request, check_shared
from .structs import NamedTuple, dataclass, field

PART_BYTES = 1024 * 1024
"""Bytes of commits and large values in a part, of which at least one commit is whole: what an interruption repeats."""


class Place(NamedTuple):
    """Where a run's history stands in a store.

    ``length`` commits of ``generation``, the last of which has the digest ``head``. ``taken`` is the epoch of the last
    hand-over that this store took over, 0 without one; ``moved_to`` says where the run went, if it was handed over.
    """

    id: str
    run: str
    generation: int
    length: int
    head: bytes
    status: str
    epoch: int
    moved_to: str | None = None
    taken: int = 0

    def to_list(self) -> list[Any]:
        """For the wire."""
        return list(self)

    @classmethod
    def of(cls, raw: Any) -> Place:
        """What ``to_list`` returned, from outside; InvalidInput for anything else."""
        kinds: tuple[Any, ...] = (str, str, int, int, bytes, str, int, (str, type(None)), int)
        if not isinstance(raw, list) or len(raw) != len(kinds) or not all(map(isinstance, raw, kinds)):
            raise InvalidInput("the other side does not say where the run stands: is it an alkaline_edge host?")
        return cls(*raw)


@dataclass(slots=True)
class Part:
    """Commits of one history from ``first`` on, the digest ``before`` them, and the large values that they refer to.

    ``record`` is the record of the run at its source, without what belongs to that store alone.
    """

    id: str
    run: str
    workflow: str
    version: int
    generation: int
    epoch: int
    first: int
    before: bytes
    record: dict[str, Any]
    commits: list[bytes]
    blobs: list[bytes] = field(default_factory=list)


@dataclass(slots=True)
class Letter:
    """What hands a run over to the store ``to``, once that store has the whole history: it is frozen at its source.

    ``run`` and ``epoch`` name the hand-over: taking the same one over twice is taking it over once. ``requests`` are
    unread inbox entries and ``markers`` dedupe markers: [key's end, bytes].
    """

    to: str
    id: str
    run: str
    generation: int
    epoch: int
    length: int
    head: bytes
    requests: list[list[Any]]
    markers: list[list[Any]]
    shared: list[list[Any]]


_PART_FIELDS: dict[str, type] = {
    "id": str, "run": str, "workflow": str, "version": int, "generation": int, "epoch": int, "first": int,
    "before": bytes, "record": dict, "commits": list, "blobs": list,
}  # fmt: skip
_LETTER_FIELDS: dict[str, type] = {
    "to": str, "id": str, "run": str, "generation": int, "epoch": int, "length": int, "head": bytes, "requests": list,
    "markers": list, "shared": list,
}  # fmt: skip


def _form(name: str) -> Form:
    return Form(
        name,
        1,
        f"the {name}",
        f"these bytes are not an {name}: nothing was written",
        f"the digest of the {name} does not fit its contents: it was damaged; send it again",
    )


_PART, _LETTER = _form("alkaline_edge part"), _form("alkaline_edge handover")


def encode(item: Part | Letter, codec: Codec) -> bytes:
    """The bytes of a part or a letter."""
    form, fields = (_PART, _PART_FIELDS) if isinstance(item, Part) else (_LETTER, _LETTER_FIELDS)
    return pack(form, [{field: getattr(item, field) for field in fields}], codec)


def _opened(data: bytes, form: Form, fields: dict[str, type], codec: Codec) -> dict[str, Any]:
    values: dict[str, Any] = unpack(form, data, codec)[0]
    check_fields(form, values, fields)
    return values


def decode_part(data: bytes, codec: Codec) -> tuple[Part, Contents]:
    """The part of bytes from outside, and what its commits hold. InvalidInput or StoreError if it is not sound.

    The chain holds from ``before`` on; that ``before`` is the head of what is there is for the caller to check.
    """
    part = Part(**_opened(data, _PART, _PART_FIELDS, codec))
    check_bytes(_PART, part.commits, part.blobs)
    if not part.commits or len(part.before) != DIGEST:
        raise InvalidInput("a part holds one commit or more, and the digest of the one before them")
    cursor = Cursor() if part.first == 0 else Cursor(part.first, part.before)
    contents = read_history(part.commits, part.blobs, cursor, codec)
    assert contents is not None  # there are commits
    if part.first == 0:
        _check_start(part, contents.first)
    if contents.large != {sha256(blob).digest() for blob in part.blobs}:
        raise InvalidInput("the large values of a part are not those that its commits refer to; send it again")
    check_record(part.record)
    return part, contents


def _check_start(part: Part, first: Event) -> None:
    if not isinstance(first, Started):
        raise InvalidInput("the history does not begin with a Started event: nothing was written")
    header = Header.from_map(first.header)
    said = (header.id, header.run, header.workflow, header.version, header.generation)
    if said != (part.id, part.run, part.workflow, part.version, part.generation):
        raise InvalidInput("a part and its history name different runs: nothing was written")


def decode_letter(data: bytes, codec: Codec) -> Letter:
    """The letter of bytes from outside; InvalidInput if it is not sound."""
    letter = Letter(**_opened(data, _LETTER, _LETTER_FIELDS, codec))
    check_pairs(_LETTER, letter.requests, letter.markers)
    check_requests(letter.requests, letter.markers, codec)
    for triple in letter.shared:
        check_shared(triple)
    return letter


def check_requests(requests: list[Any], markers: list[Any], codec: Codec) -> None:
    """InvalidInput for inbox entries and dedupe markers from outside that a run could not read."""
    for pairs in (requests, markers):
        if len({end for end, _ in pairs}) < len(pairs):
            raise InvalidInput("two requests or two markers stand under one key: nothing was written")
    for end, raw in requests:
        if end[0] != "~" and not keys.is_position(end):
            raise InvalidInput("a request stands neither under a number nor under the run that sent it: refused")
        check_request(codec.decode_untrusted(raw, MAX_BUNDLE_BYTES, AROUND))
    for end, raw in markers:
        if re.fullmatch("[0-9a-f]{32}", end) is None:
            raise InvalidInput("a dedupe marker does not stand under the digest of its key: refused")
        marker = codec.decode_untrusted(raw, MAX_BUNDLE_BYTES)
        rest = marker[1:] if isinstance(marker, list) else []
        if not isinstance(marker[0] if rest and len(rest) == 2 else marker, str) or not _whole(rest):
            raise InvalidInput("a dedupe marker must be [entry, generation, accepted]: nothing was written")


def _whole(numbers: list[Any]) -> bool:
    return all(type(n) is int and 0 <= n < 2**63 for n in numbers)
