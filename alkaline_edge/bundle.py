"""A whole run as one piece of bytes, ``.alk``: made and read without a host (SPEC.md, "Bundles").

``[NAME, format, header, commits, blobs, digest]`` in canonical msgpack: ``header`` a map about the run, ``commits`` its
present history, ``blobs`` its large values, ``digest`` the sha256 of the canonical bytes of the first five items as a
list. Bytes from outside are bounded and must be in canonical form.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any

from .codec import Codec
from .errors import InvalidInput, StoreError
from .events import FORMAT_VERSION, Started
from .history import Cursor, Timed, blobs_of, digest_of
from .limits import MAX_BUNDLE_BYTES
from .names import check_id, check_workflow_name
from .records import dataclass, field
from .runs import Header
from .shapes import check_history, check_record, check_shared

NAME = "alkaline_edge bundle"
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


def encode(bundle: Bundle, codec: Codec) -> bytes:
    """The bundle's bytes."""
    body = [NAME, FORMAT_VERSION, bundle.header(), bundle.commits, bundle.blobs]
    return codec.encode([*body, sha256(codec.encode(body)).digest()])


def decode(data: bytes, codec: Codec) -> tuple[Bundle, list[list[Timed]]]:
    """The bundle of bytes from outside, and its commits' events. InvalidInput or StoreError if it is not sound."""
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise InvalidInput(f"a bundle is bytes, not {type(data).__name__}; read the file in binary")
    if bytes(data[: len(SEALED)]) == SEALED:
        raise InvalidInput("this bundle is sealed: open it with its key first, by alkaline_edge.sealing.open_bundle")
    raw = codec.decode_untrusted(bytes(data), MAX_BUNDLE_BYTES)
    if not isinstance(raw, list) or len(raw) != 6 or raw[0] != NAME:
        raise InvalidInput("these bytes are not a bundle of alkaline_edge; a bundle is what `export` returns")
    if raw[1] != FORMAT_VERSION:
        raise InvalidInput(
            f"the bundle is of format {raw[1]}, and this alkaline_edge reads {FORMAT_VERSION}; upgrade to read it",
            format=raw[1],
        )
    if sha256(codec.encode(raw[:5])).digest() != raw[5]:
        raise InvalidInput("the bundle's digest does not fit its contents: it was damaged or edited; export it again")
    bundle = _checked(raw[2], raw[3], raw[4])
    cursor = Cursor()
    events = [cursor.advance(commit, codec) for commit in bundle.commits]
    for commit in bundle.commits:
        codec.check_commit(commit)
    blobs = {sha256(blob).digest(): codec.decode_untrusted(blob, MAX_BUNDLE_BYTES) for blob in bundle.blobs}
    check_history(events, blobs)
    check_record(bundle.record)
    _check_contents(bundle, events)
    return bundle, events


def _checked(header: Any, commits: Any, blobs: Any) -> Bundle:
    names = [name for name in Bundle.__slots__ if name not in ("commits", "blobs")]
    if not isinstance(header, dict) or sorted(header) != sorted(names):
        raise InvalidInput("the bundle's header does not have the fields of a bundle: it was not made by `export`")
    if not all(isinstance(items, list) and all(isinstance(i, bytes) for i in items) for items in (commits, blobs)):
        raise InvalidInput("the bundle's commits and blobs must be bytes: it was not made by `export`")
    wanted: dict[str, type] = {
        "run": str, "version": int, "generation": int, "epoch": int, "status": str, "record": dict, "requests": list,
        "markers": list, "shared": list, "handoff": bool,
    }  # fmt: skip
    for name, kind in wanted.items():
        if type(header[name]) is not kind:
            raise InvalidInput(
                f"the bundle's {name} is a {type(header[name]).__name__}, not a {kind.__name__}: refused"
            )
    for name in ("version", "generation", "epoch"):
        if not 0 <= header[name] < 2**63:
            raise InvalidInput(f"the bundle's {name} is out of range: refused")
    check_id(header["id"])
    check_id(header["run"], "the bundle's random run id")
    check_workflow_name(header["workflow"])
    for pair in [*header["requests"], *header["markers"]]:
        if not isinstance(pair, list) or len(pair) != 2 or not isinstance(pair[1], bytes):
            raise InvalidInput("the bundle's requests and markers must be pairs: it was not made by `export`")
        check_id(pair[0], "the key of a request or marker")
    for triple in header["shared"]:
        check_shared(triple)
    return Bundle(**header, commits=commits, blobs=blobs)


def _check_contents(bundle: Bundle, events: list[list[Timed]]) -> None:
    if not events or not isinstance(events[0][0][1], Started):
        raise StoreError("the bundle's history does not begin with a Started event: export it again")
    header = Header.from_map(events[0][0][1].header)
    for name in ("workflow", "version", "generation"):
        if bundle.record.get(name, getattr(bundle, name)) != getattr(bundle, name):
            raise InvalidInput(f"the bundle's record and its history differ in {name}: it was edited; export it again")
    said = (header.id, header.run, header.workflow, header.version, header.generation)
    if said != (bundle.id, bundle.run, bundle.workflow, bundle.version, bundle.generation):
        raise InvalidInput("the bundle's header and its history name different runs: it was edited; export it again")
    there = {sha256(blob).digest() for blob in bundle.blobs}
    for commit in events:
        for ref in blobs_of(event for _, event in commit):
            if ref.digest not in there:
                raise InvalidInput("a large value of the history is missing from the bundle; export it again")


def head_of(bundle: Bundle) -> bytes:
    """The digest of the last commit: an anchor to keep elsewhere."""
    return digest_of(bundle.commits[-1])
