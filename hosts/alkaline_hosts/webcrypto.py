"""WebCrypto as the cipher of sealed values: in a page, a Web Worker, a Cloudflare Worker, and Pyodide under Node.

    from alkaline_hosts.webcrypto import WebCrypto
    host = SealedHost(IndexedDBHost("my-app"), keys=keys, tenant="my-app", cipher=WebCrypto())

What it seals opens with ``cryptography`` on a server, and the other way round. A secret of the keyring may be a
CryptoKey instead of bytes: one for HKDF with the usage ``deriveKey`` that was made with ``extractable: false`` can be
kept in IndexedDB by the page, and no script reads it. A page has WebCrypto on https:// and on localhost alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from alkaline_edge.errors import InvalidInput, StoreError
from alkaline_edge.sealing.ciphers import Derivation, Job

__all__ = ["WebCrypto"]

_TAG_BITS = 128
_KEY_BITS = 256
_NOT_AUTHENTIC = "OperationError"
"""What WebCrypto calls an AES-GCM tag that does not fit. Any other error is a fault of the platform or of a key."""


class WebCrypto:
    """By ``crypto.subtle``; ERR_INVALID_INPUT where there is none.

    All values of a batch or a page are in flight together, and none is awaited alone. Keys are not extractable.
    """

    def __init__(self) -> None:
        try:
            import js
            from pyodide.ffi import JsException, to_js
        except ImportError:
            raise InvalidInput(
                "WebCrypto is for browsers and Workers: leave cipher= out here, and install the extra crypto"
            ) from None
        self._subtle: Any = getattr(getattr(js, "crypto", None), "subtle", None)
        if self._subtle is None:
            raise InvalidInput("there is no crypto.subtle here: a page has it on https:// and on localhost alone")
        self._promise, self._entries = js.Promise, js.Object.fromEntries
        self._to_js, self._js_error = to_js, JsException

    async def derive(self, wanted: Sequence[Derivation]) -> list[Any]:
        """As Cipher.derive: a CryptoKey for each."""
        secrets = {id(each.secret): each.secret for each in wanted}
        usages = self._to_js(["deriveKey"])
        imported = [
            self._subtle.importKey("raw", self._to_js(secret), "HKDF", False, usages)
            if isinstance(secret, bytes)
            else self._promise.resolve(secret)
            for secret in secrets.values()
        ]
        masters = dict(zip(secrets, await self._all(imported), strict=True))
        aes = self._options(name="AES-GCM", length=_KEY_BITS)
        usages = self._to_js(["encrypt", "decrypt"])
        derived = [
            self._subtle.deriveKey(
                self._options(name="HKDF", hash="SHA-256", salt=salt, info=info),
                masters[id(secret)],
                aes,
                False,
                usages,
            )
            for secret, salt, info in wanted
        ]
        return await self._all(derived)

    async def encrypt(self, jobs: Sequence[Job]) -> list[bytes]:
        """As Cipher.encrypt."""
        sealed = await self._all([self._subtle.encrypt(self._gcm(job), job.key, self._to_js(job.data)) for job in jobs])
        return [each.to_bytes() for each in sealed]

    async def decrypt(self, jobs: Sequence[Job]) -> list[bytes | None]:
        """As Cipher.decrypt."""
        begun = [self._subtle.decrypt(self._gcm(job), job.key, self._to_js(job.data)) for job in jobs]
        try:
            return [each.to_bytes() for each in await self._all(begun)]
        except self._js_error:
            return [await self._tried(promise) for promise in begun]  # one of them failed: which?

    async def _tried(self, promise: Any) -> bytes | None:
        try:
            plain: bytes = (await promise).to_bytes()
        except self._js_error as error:
            if getattr(error, "name", "") != _NOT_AUTHENTIC:
                raise StoreError(f"WebCrypto could not open a value: {error}") from None
            return None
        return plain

    async def _all(self, promises: list[Any]) -> list[Any]:
        """What the promises come to, in order. One that fails is the error."""
        return list(await self._promise.all(self._to_js(promises)))

    def _gcm(self, job: Job) -> Any:
        return self._options(name="AES-GCM", iv=job.nonce, additionalData=job.bound, tagLength=_TAG_BITS)

    def _options(self, **named: Any) -> Any:
        """A plain object; bytes become a Uint8Array of their own."""
        return self._to_js(named, dict_converter=self._entries, create_pyproxies=False)
