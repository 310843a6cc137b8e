"""What seals: HKDF-SHA256 and AES-256-GCM, by whatever the platform has. ``cryptography`` on servers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from ..errors import InvalidInput
from ..structs import NamedTuple

KEY_BYTES = 32


class Derivation(NamedTuple):
    """One key to derive by HKDF-SHA256 (RFC 5869), 32 bytes of it, for AES-256-GCM.

    From ``secret``, ``salt`` and ``info``, as that RFC has them.
    """

    secret: Any
    salt: bytes
    info: bytes


class Job(NamedTuple):
    """One value to encrypt or decrypt. ``key`` is what ``derive`` gave; ``bound`` the associated data.

    ``nonce``: 12 bytes, used once with that key. ``data``: the value, or what encrypting gave, its tag behind it.
    """

    key: Any
    nonce: bytes
    data: bytes
    bound: bytes


class Cipher(Protocol):
    """AES-256-GCM with tags of 16 bytes. Each method takes many at once, since a crossing may cost more than the work.

    What a method raises ends the operation that needed it, before anything is written.
    """

    async def derive(self, wanted: Sequence[Derivation]) -> list[Any]:
        """A key for each, in order. The caller keeps it and hands it back in a Job; it is of no other use."""
        ...

    async def encrypt(self, jobs: Sequence[Job]) -> list[bytes]:
        """Ciphertext and tag of each, in order."""
        ...

    async def decrypt(self, jobs: Sequence[Job]) -> list[bytes | None]:
        """The plaintext of each, in order; None for one that is not authentic."""
        ...


class CryptographyCipher:
    """By the package ``cryptography``; ERR_INVALID_INPUT where it is not installed."""

    def __init__(self) -> None:
        try:
            from cryptography.exceptions import InvalidTag
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM
            from cryptography.hazmat.primitives.hashes import SHA256
            from cryptography.hazmat.primitives.kdf.hkdf import HKDF
        except ImportError:
            raise InvalidInput(
                "sealing needs the package cryptography: pip install 'alkaline-edge[crypto]'. In a browser or a Worker "
                "pass cipher=alkaline_hosts.webcrypto.WebCrypto() instead"
            ) from None
        self._aes, self._hkdf, self._sha256, self._invalid = AESGCM, HKDF, SHA256(), InvalidTag

    async def derive(self, wanted: Sequence[Derivation]) -> list[Any]:
        """As Cipher.derive. Secrets are bytes."""
        keys: list[Any] = []
        for secret, salt, info in wanted:
            if not isinstance(secret, bytes):
                raise InvalidInput(f"the package cryptography takes a secret of bytes, not a {type(secret).__name__}")
            keys.append(self._aes(self._hkdf(self._sha256, KEY_BYTES, salt, info).derive(secret)))
        return keys

    async def encrypt(self, jobs: Sequence[Job]) -> list[bytes]:
        """As Cipher.encrypt."""
        return [key.encrypt(nonce, data, bound) for key, nonce, data, bound in jobs]

    async def decrypt(self, jobs: Sequence[Job]) -> list[bytes | None]:
        """As Cipher.decrypt."""
        opened: list[bytes | None] = []
        for key, nonce, data, bound in jobs:
            try:
                opened.append(key.decrypt(nonce, data, bound))
            except self._invalid:
                opened.append(None)
        return opened
