"""A whole run as one piece of bytes, ``.alk``: made and read without a host (SPEC.md, "Bundles").

``[NAME, format, header, commits, blobs, digest]`` in canonical msgpack: ``header`` a map about the run, ``commits`` its
present history, ``blobs`` its large values, ``digest`` the sha256 of the canonical bytes of the first five items as a
list. Bytes from outside are bounded and must be in canonical form.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any

from .codec import Codec
from .envelope import Contents, Form, check_bytes, check_fields, check_pairs, pack, read_history, unpack
from .errors import InvalidInput, StoreError
from .events import Started
from .history import Cursor, digest_of
from .runs import Header
from .shapes import check_record, check_shared
from .structs import dataclass, field

SEALED = b"\xc1alkaline_edge sealed bundle"
"""What a sealed bundle begins with; the first byte is one that msgpack never writes."""


@dataclass(slots=True)
class Bundle:
    """What a bundle holds. ``requests`` are unread inbox entries and ``markers`` dedupe markers: [key's end, bytes]."""

    id: str
    run: str
    workflow: str
    version: int
    generation: int
    epoch: int
    status: str
    commits: list[bytes]
    blobs: list[bytes] = field(default_factory=list)
    record: dict[str, Any] = field(default_factory=dict)
    requests: list[list[Any]] = field(default_factory=list)
    markers: list[list[Any]] = field(default_factory=list)
    shared: list[list[Any]] = field(default_factory=list)
    handoff: bool = False

    def header(self) -> dict[str, Any]:
        """The map about the run."""
        return {name: getattr(self, name) for name in self.__slots__ if name not in ("commits", "blobs")}


_FORM = Form(
    "alkaline_edge bundle",
    3,
    "the bundle",
    "these bytes are not a bundle of alkaline_edge; a bundle is what `export` returns",
    "the bundle's digest does not fit its contents: it was damaged or edited; export it again",
)
_FIELDS: dict[str, type] = {
    "id": str, "run": str, "workflow": str, "version": int, "generation": int, "epoch": int, "status": str,
    "record": dict, "requests": list, "markers": list, "shared": list, "handoff": bool,
}  # fmt: skip


def encode(bundle: Bundle, codec: Codec) -> bytes:
    """The bundle's bytes."""
    return pack(_FORM, [bundle.header(), bundle.commits, bundle.blobs], codec)


def decode(data: bytes, codec: Codec) -> tuple[Bundle, Contents]:
    """The bundle of bytes from outside, and what its history holds. InvalidInput or StoreError if it is not sound."""
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise InvalidInput(f"a bundle is bytes, not {type(data).__name__}; read the file in binary")
    if bytes(data[: len(SEALED)]) == SEALED:
        raise InvalidInput("this bundle is sealed: open it with its key first, by alkaline_edge.sealing.open_bundle")
    header, commits, blobs = unpack(_FORM, data, codec)
    check_fields(_FORM, header, _FIELDS)
    check_bytes(_FORM, commits, blobs)
    check_pairs(_FORM, header["requests"], header["markers"])
    for triple in header["shared"]:
        check_shared(triple)
    bundle = Bundle(**header, commits=commits, blobs=blobs)
    contents = read_history(commits, blobs, Cursor(), codec)
    check_record(bundle.record)
    if contents is None or not isinstance(contents.first, Started):
        raise StoreError("the bundle's history does not begin with a Started event: export it again")
    _check_contents(bundle, contents.first, contents.large)
    return bundle, contents


def _check_contents(bundle: Bundle, first: Started, large: set[bytes]) -> None:
    header = Header.from_map(first.header)
    for name in ("workflow", "version", "generation"):
        if bundle.record.get(name, getattr(bundle, name)) != getattr(bundle, name):
            raise InvalidInput(f"the bundle's record and its history differ in {name}: it was edited; export it again")
    said = (header.id, header.run, header.workflow, header.version, header.generation)
    if said != (bundle.id, bundle.run, bundle.workflow, bundle.version, bundle.generation):
        raise InvalidInput("the bundle's header and its history name different runs: it was edited; export it again")
    if not large <= {sha256(blob).digest() for blob in bundle.blobs}:
        raise InvalidInput("a large value of the history is missing from the bundle; export it again")


def head_of(bundle: Bundle) -> bytes:
    """The digest of the last commit: an anchor to keep elsewhere."""
    return digest_of(bundle.commits[-1])
