"""What leaves a store as bytes of its own: ``[name, format, item, ..., digest]`` in canonical msgpack.

Bundles, parts and letters have this form. ``digest`` is the sha256 of the canonical bytes of all before it, as a list.
Bytes from outside are bounded and must be in canonical form. Pure: bytes in, bytes out.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from typing import Any

from .codec import AROUND, BlobRef, Codec
from .errors import InvalidInput
from .events import FORMAT_VERSION, Event
from .history import Cursor, Timed, blobs_of
from .limits import MAX_BUNDLE_BYTES
from .names import check_id, check_workflow_name
from .shapes import Shape, check_history
from .structs import NamedTuple

_ARRAY, _SEAL = 0x90, 34
"""The first byte of an array without its length, and how many bytes the digest takes at the end."""


class Form(NamedTuple):
    """One kind of envelope: its ``name``, how many ``items`` it holds, and what is said of one that is not sound."""

    name: str
    items: int
    what: str
    foreign: str
    damaged: str


def pack(form: Form, items: list[Any], codec: Codec) -> bytes:
    """The bytes of an envelope."""
    body = [form.name, FORMAT_VERSION, *items]
    return codec.encode_whole([*body, sha256(codec.encode_whole(body)).digest()])


def unpack(form: Form, data: bytes, codec: Codec) -> list[Any]:
    """The items of bytes from outside; InvalidInput for another form, a newer format, or damage."""
    data = bytes(data)
    raw = codec.decode_untrusted(data, MAX_BUNDLE_BYTES, AROUND)
    if not isinstance(raw, list) or len(raw) != form.items + 3 or raw[0] != form.name:
        raise InvalidInput(form.foreign)
    if type(raw[1]) is not int or raw[1] != FORMAT_VERSION:
        raise InvalidInput(
            f"{form.what} is of format {raw[1]}, and this alkaline_edge reads {FORMAT_VERSION}; upgrade to read it",
            format=raw[1],
        )
    body = sha256(bytes((_ARRAY + len(raw) - 1,)))  # an array of the items before the digest, whose bytes stand there
    body.update(memoryview(data)[1:-_SEAL])
    if body.digest() != raw[-1]:
        raise InvalidInput(form.damaged)
    return raw[2:-1]


def check_fields(form: Form, values: Any, fields: dict[str, type]) -> None:
    """InvalidInput unless ``values`` is a map of just these fields, each of its type and within its range."""
    if not isinstance(values, dict) or values.keys() != fields.keys():
        raise InvalidInput(f"{form.what} does not have the fields of one: nothing was written")
    for name, kind in fields.items():
        value: Any = values[name]
        if type(value) is not kind:
            raise InvalidInput(f"{name} of {form.what} is a {type(value).__name__}, not a {kind.__name__}: refused")
        if kind is int and not 0 <= values[name] < 2**63:
            raise InvalidInput(f"{name} of {form.what} is out of range: refused")
    check_id(values["id"])
    check_id(values["run"], "the random run id")
    if "workflow" in fields:
        check_workflow_name(values["workflow"])


def check_bytes(form: Form, *lists: Any) -> None:
    """InvalidInput unless these are lists of bytes."""
    if not all(isinstance(items, list) and all(type(item) is bytes for item in items) for items in lists):
        raise InvalidInput(f"the commits and blobs of {form.what} must be bytes: nothing was written")


def check_pairs(form: Form, *lists: list[Any]) -> None:
    """InvalidInput unless every item of every list is what stands under a key: [the key's last part, bytes]."""
    for pair in (pair for pairs in lists for pair in pairs):
        if not isinstance(pair, list) or len(pair) != 2 or type(pair[1]) is not bytes:
            raise InvalidInput(f"requests and markers of {form.what} must be pairs: nothing was written")
        check_id(pair[0], "the key of a request or marker")


class Contents(NamedTuple):
    """What is kept of a history that was read: the rest of it is looked at commit by commit, and let go of."""

    first: Event
    last: Event
    times: list[int]
    """The time of each commit, ms since 1970."""
    large: set[bytes]
    """The digests of the large values that its events refer to."""


class _Large:
    """The large values that came with a history. Each is decoded when a shape asks for it, and not kept."""

    def __init__(self, blobs: list[bytes], codec: Codec) -> None:
        self._codec, self._said = codec, dict[tuple[bytes, Shape], bool]()
        self._bytes = {sha256(blob).digest(): blob for blob in blobs}
        for blob in blobs:
            codec.decode_untrusted(blob, MAX_BUNDLE_BYTES, AROUND)

    def fits(self, shape: Shape, item: Any) -> bool:
        """Whether ``item``, or the large value that it refers to, is of that shape."""
        if type(item) is not BlobRef or item.digest not in self._bytes:
            return shape(item)
        asked = (item.digest, shape)
        if asked not in self._said:  # a value that many events refer to is looked at once
            self._said[asked] = shape(self._codec.decode(self._bytes[item.digest]))
        return self._said[asked]


def read_history(commits: list[bytes], blobs: list[bytes], cursor: Cursor, codec: Codec) -> Contents | None:
    """What ``commits`` hold that follow ``cursor``; None for none. The chain holds, all is canonical, of its shape."""
    times: list[int] = []
    large: set[bytes] = set()
    ends: list[Event] = []

    def events() -> Iterator[list[Timed]]:
        for commit in commits:
            codec.check_commit(commit)
            timed = cursor.advance(commit, codec)
            times.append(cursor.time_ms)
            large.update(ref.digest for ref in blobs_of(event for _, event in timed))
            yield timed  # a commit without an event is refused there
            if not ends:
                ends.append(timed[0][1])
            ends[1:] = [timed[-1][1]]

    check_history(events(), _Large(blobs, codec).fits, cursor.length)
    return Contents(ends[0], ends[-1], times, large) if ends else None
