"""The forms of bodies and answers: what kind of value, how it is written, and how many bytes it can have at most."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from alkaline_edge.arguments import octets
from alkaline_edge.codec import Codec
from alkaline_edge.errors import InvalidInput
from alkaline_edge.limits import MAX_BUNDLE_BYTES
from alkaline_edge.parts import Place

from .json import from_json, to_json
from .messages import JSON, MSGPACK, SMALL, STREAM

MAX_JSON, MAX_PART = 64 * 1024 * 1024, 256 * 1024 * 1024
"""Bytes of an answer: of records, of a part of a history."""


class Form(NamedTuple):
    """A form: its media type, what its values are (None: anything), and the most bytes of one that is honest.

    ``how``: "json"; "stream", frames of JSON (see ``streaming``); "msgpack", canonical; "place", a Place or nil in
    msgpack; "raw", bytes that are passed on, of which a ``kind`` says what they hold.
    """

    how: str
    kind: type | None
    limit: int
    names: tuple[str, ...] = ()
    """What a dict has, at least."""

    @property
    def media(self) -> str:
        """The media type."""
        return {"json": JSON, "stream": STREAM}.get(self.how, MSGPACK)

    def write(self, value: Any, codec: Codec) -> bytes:
        """``value`` as bytes; ``codec`` knows the registered types of what is shown as JSON."""
        if self.how == "json":
            return to_json(value, codec).encode()
        if self.how == "raw":
            return octets(value, "what is sent")
        return Codec().encode_whole(value.to_list() if isinstance(value, Place) else value)

    def read(self, data: bytes) -> Any:
        """The value in ``data``; ERR_INVALID_INPUT where it is none of this form."""
        if self.how == "raw" and self.kind is None:
            return data
        value: Any = from_json(data) if self.how == "json" else Codec().decode_untrusted(data, self.limit)
        if self.how == "place":
            value = None if value is None and self.kind is None else Place.of(value)
        if self.kind is not None and type(value) is not self.kind:
            raise InvalidInput(f"expected a {self.kind.__name__}, not a {type(value).__name__}")
        if not all(name in value for name in self.names):
            raise InvalidInput(f"expected an object with {', '.join(self.names)}")
        return data if self.how == "raw" else value


ANY = Form("json", None, MAX_JSON)
OBJECT, ARRAY, NULL = Form("json", dict, MAX_JSON), Form("json", list, MAX_JSON), Form("json", type(None), SMALL)
EVENTS = Form("stream", dict, MAX_JSON)
RECORD, PAGE = OBJECT._replace(names=("id", "workflow", "status")), OBJECT._replace(names=("runs", "after"))
SCHEDULES, BOARDS, TASKS = (OBJECT._replace(names=(name, "after")) for name in ("schedules", "boards", "tasks"))
NAME, NIL = Form("msgpack", str, SMALL), Form("msgpack", type(None), SMALL)
DIGESTS = Form("msgpack", bytes, MAX_PART)
PLACE, PLACE_OR_NONE = Form("place", Place, SMALL), Form("place", None, SMALL)
PART, LETTER, BUNDLE = Form("raw", None, MAX_PART), Form("raw", list, MAX_PART), Form("raw", None, MAX_BUNDLE_BYTES)


def to_strict_json(value: Any) -> str:
    """``value`` as JSON; ERR_INVALID_INPUT for what JSON has not, whatever could stand for it."""
    try:
        return json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInput(f"what is sent over HTTP is a JSON value: {error}") from None
