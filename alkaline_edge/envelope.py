"""What leaves a store as bytes of its own: ``[name, format, item, ..., digest]`` in canonical msgpack.

Bundles, parts and letters have this form. ``digest`` is the sha256 of the canonical bytes of all before it, as a list.
Bytes from outside are bounded and must be in canonical form. Pure: bytes in, bytes out.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any

from .codec import Codec
from .errors import InvalidInput
from .events import FORMAT_VERSION
from .history import Cursor, Timed
from .limits import MAX_BUNDLE_BYTES
from .names import check_id, check_workflow_name
from .records import NamedTuple
from .shapes import check_history


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
    return codec.encode([*body, sha256(codec.encode(body)).digest()])


def unpack(form: Form, data: bytes, codec: Codec) -> list[Any]:
    """The items of bytes from outside; InvalidInput for another form, a newer format, or damage."""
    raw = codec.decode_untrusted(bytes(data), MAX_BUNDLE_BYTES)
    if not isinstance(raw, list) or len(raw) != form.items + 3 or raw[0] != form.name:
        raise InvalidInput(form.foreign)
    if raw[1] != FORMAT_VERSION:
        raise InvalidInput(
            f"{form.what} is of format {raw[1]}, and this alkaline_edge reads {FORMAT_VERSION}; upgrade to read it",
            format=raw[1],
        )
    if sha256(codec.encode(raw[:-1])).digest() != raw[-1]:
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


def read_history(commits: list[bytes], blobs: list[bytes], cursor: Cursor, codec: Codec) -> list[list[Timed]]:
    """The events of ``commits`` that follow ``cursor``: the chain holds, all of it is canonical and of its shape."""
    first = cursor.length
    events = [cursor.advance(commit, codec) for commit in commits]
    for commit in commits:
        codec.check_commit(commit)
    values = {sha256(blob).digest(): codec.decode_untrusted(blob, MAX_BUNDLE_BYTES) for blob in blobs}
    check_history(events, values, first)
    return events
