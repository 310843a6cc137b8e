"""What the tests of sealing share: a keyring, a sealed host, and a cipher where ``cryptography`` is not installed."""

from __future__ import annotations

import hashlib
import hmac
import importlib.util
from collections.abc import Sequence
from typing import Any

from alkaline_edge.host import Host
from alkaline_edge.sealing import Cipher, CryptographyCipher, Derivation, Job, Keyring, SealedHost

INSTALLED = importlib.util.find_spec("cryptography") is not None
OLD, NEW = bytes(range(32)), bytes(range(32, 64))
KEYS = Keyring("new", {"new": NEW, "old": OLD})
ONLY_OLD = Keyring("old", {"old": OLD})
TENANT = "acme"


def hkdf(secret: bytes, salt: bytes, info: bytes) -> bytes:
    """RFC 5869 with SHA-256, the first 32 bytes: written out, so that it is not the code under test."""
    pseudorandom = hmac.digest(salt or bytes(32), secret, "sha256")
    return hmac.digest(pseudorandom, info + b"\x01", "sha256")


class StandIn:
    """A cipher that is not AES-GCM and keeps its promises all the same: for Pyodide's tests, and a count of calls."""

    def __init__(self) -> None:
        self.derived: list[bytes] = []

    async def derive(self, wanted: Sequence[Derivation]) -> list[Any]:
        self.derived += [info for _, _, info in wanted]
        return [hkdf(secret, salt, info) for secret, salt, info in wanted]

    async def encrypt(self, jobs: Sequence[Job]) -> list[bytes]:
        masked = [(job, self._mask(job, job.data)) for job in jobs]
        return [data + self._tag(job, data) for job, data in masked]

    async def decrypt(self, jobs: Sequence[Job]) -> list[bytes | None]:
        return [
            self._mask(job, job.data[:-16])
            if hmac.compare_digest(self._tag(job, job.data[:-16]), job.data[-16:])
            else None
            for job in jobs
        ]

    def _mask(self, job: Job, data: bytes) -> bytes:
        stream = hashlib.shake_128(job.key + job.nonce).digest(len(data))
        return (int.from_bytes(data, "big") ^ int.from_bytes(stream, "big")).to_bytes(len(data), "big")

    def _tag(self, job: Job, data: bytes) -> bytes:
        return hmac.digest(job.key, b"%d %b%b%b" % (len(job.bound), job.bound, job.nonce, data), "sha256")[:16]


def cipher() -> Cipher:
    """The real one where it is installed."""
    return CryptographyCipher() if INSTALLED else StandIn()


def sealed(host: Host, keys: Keyring = KEYS, tenant: str = TENANT) -> SealedHost:
    """``host`` behind a seal."""
    return SealedHost(host, keys=keys, tenant=tenant, cipher=cipher())
