"""Sealed bundles: the bytes of an ``.alk`` under one seal, for a file that leaves the house (SPEC.md, "Sealed values").

``SEALED | version | length of key id | key id | salt | nonce | ciphertext | tag``. Each has a key of its own, derived
with its random salt.
"""

from __future__ import annotations

from collections.abc import Callable

from ..arguments import expect, expect_call, octets
from ..bundle import SEALED
from ..errors import InvalidInput
from ..limits import MAX_BUNDLE_BYTES
from .ciphers import Cipher, CryptographyCipher, Derivation, Job
from .keyring import Keyring
from .layout import NONCE, TAG, shown
from .sealer import check_tenant, drawn

VERSION = 1
SALT = 16
LEAD = len(SEALED) + 2
LABEL = b"alkaline_edge sealed bundle"
PLAIN = b"\x96\xb4alkaline_edge bundle"
"""What a bundle begins with: an array of six, and its name."""


async def seal_bundle(
    bundle: bytes, keys: Keyring, *, tenant: str, entropy: Callable[[int], bytes], cipher: Cipher | None = None
) -> bytes:
    """``bundle``, which ``export`` returned, sealed with the current key of ``keys`` for ``tenant``.

    ``entropy`` is the host's (``host.entropy``). ``cipher``: what encrypts, if None the ``cryptography`` package.
    ``import_`` refuses the result by name until ``open_bundle`` has opened it. ERR_INVALID_INPUT for bytes that are no
    bundle.
    """
    check_tenant(tenant)
    data = octets(bundle, "a bundle")
    expect(keys, Keyring, "keys", "a Keyring")
    expect_call(entropy, "entropy", "a function of a number of bytes, such as host.entropy")
    if not data.startswith(PLAIN):
        what = "a bundle that is sealed already" if data.startswith(SEALED) else "not a bundle; `export` returns one"
        raise InvalidInput(f"these bytes are {what}: nothing was sealed")
    cipher = cipher or CryptographyCipher()
    header = SEALED + bytes((VERSION, len(keys.current))) + keys.current.encode() + drawn(entropy, SALT)
    nonce = drawn(entropy, NONCE)
    job = await _job(cipher, keys, keys.current, tenant, header, nonce, data)
    return header + nonce + (await cipher.encrypt([job]))[0]


async def open_bundle(data: bytes, keys: Keyring, *, tenant: str, cipher: Cipher | None = None) -> bytes:
    """The bundle in ``data``, which ``seal_bundle`` returned, for ``import_``. ``cipher``: as there.

    ERR_INVALID_INPUT: it is not sealed, cut short, changed, sealed for another tenant or with a key that ``keys``
    lacks, or past the limit of a bundle. ``import_`` checks what is inside.
    """
    check_tenant(tenant)
    data = octets(data, "a sealed bundle")
    expect(keys, Keyring, "keys", "a Keyring")
    header, id = _parse(data, keys)
    start = len(header) + NONCE
    cipher = cipher or CryptographyCipher()
    job = await _job(cipher, keys, id, tenant, header, data[len(header) : start], data[start:])
    opened = (await cipher.decrypt([job]))[0]
    if opened is None:
        raise InvalidInput(
            f"the sealed bundle does not open with the key {id!r}: it was damaged or edited, sealed for another "
            "tenant, or the keyring holds another secret under that id; export and seal it again",
            key_id=id,
        )
    return opened


def _parse(data: bytes, keys: Keyring) -> tuple[bytes, str]:
    """The header of a sealed bundle and the id of its key."""
    if not data.startswith(SEALED):
        raise InvalidInput(
            "these bytes are a bundle that is not sealed: import it as it is, if you trust where it comes from"
            if data.startswith(PLAIN)
            else "these bytes are not a sealed bundle; `seal_bundle` returns one"
        )
    if len(data) > MAX_BUNDLE_BYTES + 1024:
        raise InvalidInput(f"the sealed bundle has {len(data)} bytes, over the limit of {MAX_BUNDLE_BYTES}: refused")
    end = LEAD + data[LEAD - 1] + SALT if len(data) >= LEAD else LEAD
    if len(data) < LEAD or (data[LEAD - 2] == VERSION and len(data) < end + NONCE + TAG):
        raise InvalidInput("the sealed bundle was cut short: copy it again")
    if data[LEAD - 2] != VERSION:
        raise InvalidInput(
            f"the bundle is sealed in format {data[LEAD - 2]}, and this alkaline_edge reads {VERSION}; upgrade it"
        )
    name = data[LEAD : end - SALT]
    id = next((id for id in keys.ids if id.encode() == name), None)
    if id is None:
        raise InvalidInput(
            f"the bundle is sealed with the key {shown(name)!r}, and the keyring holds {', '.join(keys.ids)}: add that "
            "key",
            key_id=shown(name),
        )
    return data[:end], id


async def _job(cipher: Cipher, keys: Keyring, id: str, tenant: str, header: bytes, nonce: bytes, data: bytes) -> Job:
    """``data`` with the key that the salt at the end of ``header`` gives, bound to header and tenant."""
    wanted = Derivation(keys.secret(id), header[-SALT:], LABEL + b"\x00" + tenant.encode())
    return Job((await cipher.derive([wanted]))[0], nonce, data, header + tenant.encode())
