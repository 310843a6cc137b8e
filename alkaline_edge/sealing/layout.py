"""The bytes of a sealed value (SPEC.md, "Sealed values"), and what is wrong with bytes that are not one.

``MAGIC | version | length of key id | key id | nonce | ciphertext | tag``. The first byte is one that msgpack never
writes, so no plain value of the kernel begins like a sealed one.
"""

from __future__ import annotations

from collections.abc import Collection

from ..codec import SEALED_VALUE as MAGIC
from ..errors import UnreadableValue

VERSION = 1
LEAD = len(MAGIC) + 2
"""Bytes before the key id."""
NONCE, TAG = 12, 16
MAX_KEY_ID = 32
OVERHEAD = LEAD + MAX_KEY_ID + NONCE + TAG
"""The most bytes that a sealed value has beyond those of the plain one."""
LABEL = b"alkaline_edge sealed value"


def header_of(key_id: str) -> bytes:
    """What a value that this key sealed begins with."""
    return MAGIC + bytes((VERSION, len(key_id))) + key_id.encode()


def scope_of(place: str) -> str:
    """Which places share a derived key: those of a run's id, those of its random id, those of one history.

    The second part of a key; in the indexes, where that is not the run, the last one. A place of one part is its own.
    """
    first, _, rest = place.partition("/")
    if not rest:
        return place
    return rest.rpartition("/")[2] if first in ("x", "t") else rest.partition("/")[0]


def info_of(tenant: str, scope: str) -> bytes:
    """What a derived key is derived for."""
    return b"\x00".join((LABEL, tenant.encode(), scope.encode()))


def bound_to(header: bytes, tenant: bytes, place: str) -> bytes:
    """The associated data: a value opens only with this header, for this tenant, at this place."""
    return b"%b%b\x00%b" % (header, tenant, place.encode())


def is_sealed(value: bytes) -> bool:
    """Whether ``value`` begins as a sealed one does, of whatever version."""
    return value.startswith(MAGIC)


def refusal(place: str, value: bytes, known: Collection[str]) -> UnreadableValue:
    """Why ``value``, which did not open at ``place``, did not. ``known`` are the key ids of the keyring."""
    if not is_sealed(value):
        return _refused(
            place,
            "plaintext",
            "is not sealed, and this store is: it was written past the seal, or damaged. Nothing was taken from it. "
            "A store from before sealing is sealed once, with alkaline_edge.sealing.seal_store",
        )
    if len(value) >= LEAD and value[LEAD - 2] != VERSION:
        return _refused(
            place,
            "version",
            f"is sealed in format {value[LEAD - 2]}, and this alkaline_edge reads {VERSION}: upgrade, or restore it",
        )
    end = LEAD + (value[LEAD - 1] if len(value) >= LEAD else 0)
    if len(value) < end + NONCE + TAG:
        return _refused(place, "truncated", "is shorter than a sealed value can be: it was cut short; restore it")
    id = shown(value[LEAD:end])
    if id not in known:
        return _refused(
            place,
            "unknown key",
            f"is sealed with the key {id!r}, and the keyring holds {', '.join(sorted(known))}: add that key, or, if "
            "there never was one of that id, restore the value",
            key_id=id,
        )
    return _refused(
        place,
        "not authentic",
        f"does not open with the key {id!r} here: it was damaged, moved from another place, sealed for another tenant, "
        "or the keyring holds another secret under that id. Nothing was taken from it; restore it",
        key_id=id,
    )


def shown(id: bytes) -> str:
    """A key id that may come from anybody, fit for a message."""
    return "".join(chr(byte) if 0x21 <= byte < 0x7F else "?" for byte in id[:MAX_KEY_ID])


def _refused(place: str, reason: str, text: str, **detail: str) -> UnreadableValue:
    return UnreadableValue(f"the value at {place!r} {text}", place=place, reason=reason, **detail)
