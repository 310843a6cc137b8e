"""Cloudflare KV as the KV host uses it: four calls on bytes, each counted, over the raw binding or a stand-in."""

from __future__ import annotations

from typing import Any, Protocol

from alkaline_edge.errors import StoreError

from .._cloudflare.platform import Allowance, raw_binding, text_of

MAX_VALUE = 25 * 1024 * 1024
"""Bytes of one value."""
MAX_KEY = 512
"""Bytes of one key."""


class Namespace(Protocol):
    """The four calls. Any of them may raise whatever the platform raises."""

    async def get(self, key: str) -> bytes | None:
        """The value, None where the platform sees none."""
        ...

    async def put(self, key: str, value: bytes) -> None:
        """Write one key."""
        ...

    async def delete(self, key: str) -> None:
        """Remove one key."""
        ...

    async def list(self, prefix: str, cursor: str | None) -> tuple[list[str], str | None]:
        """Some keys under ``prefix``, and where to go on, None at the end."""
        ...


class Binding:
    """A KV binding of a Worker, as a Namespace."""

    def __init__(self, kv: Any) -> None:
        self._kv = raw_binding(kv, "getWithMetadata", "a KV binding")

    async def get(self, key: str) -> bytes | None:
        """As Namespace.get. What JavaScript calls null has no bytes: it is None, or jsnull in newer runtimes."""
        value = await self._kv.get(key, "arrayBuffer")
        return bytes(value.to_bytes()) if hasattr(value, "to_bytes") else None

    async def put(self, key: str, value: bytes) -> None:
        """As Namespace.put."""
        from pyodide.ffi import to_js

        await self._kv.put(key, to_js(value))

    async def delete(self, key: str) -> None:
        """As Namespace.delete."""
        await self._kv.delete(key)

    async def list(self, prefix: str, cursor: str | None) -> tuple[list[str], str | None]:
        """As Namespace.list. A page may be empty and not the last: ``list_complete`` alone says so."""
        from js import Object
        from pyodide.ffi import to_js

        options = {"prefix": prefix} if cursor is None else {"prefix": prefix, "cursor": cursor}
        page = await self._kv.list(to_js(options, dict_converter=Object.fromEntries))
        return [item.name for item in page.keys], None if page.list_complete else str(page.cursor)


class Counted:
    """A Namespace that counts its operations and refuses those over ``limit``, before they are sent."""

    def __init__(self, kv: Any, limit: int | None) -> None:
        self._inner: Namespace = kv if _is_namespace(kv) else Binding(kv)
        self.allowance = Allowance(limit)

    async def get(self, key: str) -> bytes | None:
        """As Namespace.get; StoreError where KV does not answer."""
        self._count()
        try:
            return await self._inner.get(key)
        except Exception as error:
            raise StoreError(f"Cloudflare KV did not answer a read: {text_of(error)}") from None

    async def put(self, key: str, value: bytes) -> None:
        """As Namespace.put; what the platform raises goes on to the caller, who knows what it means."""
        self._count()
        await self._inner.put(key, value)

    async def delete(self, key: str) -> None:
        """As Namespace.delete."""
        self._count()
        await self._inner.delete(key)

    async def keys(self, prefix: str) -> list[str]:
        """Every key that KV lists under ``prefix``; StoreError where it does not answer."""
        found: list[str] = []
        cursor: str | None = None
        while True:
            self._count()
            try:
                names, cursor = await self._inner.list(prefix, cursor)
            except Exception as error:
                raise StoreError(f"Cloudflare KV did not answer a list: {text_of(error)}") from None
            found += names
            if cursor is None:
                return found

    def room_for(self, operations: int) -> bool:
        """Whether that many operations still fit."""
        return self.allowance.has(operations)

    def _count(self) -> None:
        if not self.room_for(1):
            raise StoreError(
                f"this invocation made its {self.allowance.limit} KV operations; nothing was sent. Go on in another",
                operations=self.allowance.used,
                limit=self.allowance.limit,
            )
        self.allowance.use(1)


def _is_namespace(kv: Any) -> bool:
    """Whether ``kv`` speaks Python: a JavaScript binding has getWithMetadata beside get."""
    inner = getattr(kv, "_binding", kv)
    return getattr(inner, "getWithMetadata", None) is None and hasattr(kv, "put") and hasattr(kv, "list")
