"""Finished histories in Cloudflare KV: a bundle per run, written once, read anywhere, beside the store of live runs."""

from __future__ import annotations

from typing import Any

from alkaline_edge import Runtime
from alkaline_edge.errors import ConflictError, InvalidInput, StoreError, UnknownOutcome
from alkaline_edge.limits import check_key
from alkaline_edge.names import check_id

from .._cloudflare.platform import text_of
from .namespace import MAX_VALUE, Counted


class KVArchive:
    """Bundles of finished runs under ``prefix`` in the namespace that ``kv`` is the binding of.

    A finished history never changes, so nothing of it can be stale but its absence: elsewhere, it is seen a minute or
    more after it was stored. A bundle is what ``Runtime.export`` gives, and ``alkaline`` and ``Runtime.import_`` read.
    """

    def __init__(self, kv: Any, prefix: str = "archive/") -> None:
        check_key(prefix, 256)
        self._kv, self._prefix = Counted(kv, None), prefix

    async def store(self, runtime: Runtime, id: str, *, delete: bool = False) -> None:
        """Put the bundle of a finished run, and with ``delete`` remove the run from its store once KV has confirmed it.

        A run that has not ended is ERR_CONFLICT, a bundle that KV can't hold ERR_INVALID_INPUT; nothing is written.
        UnknownOutcome (ERR_STORE) where KV did not confirm it: store it again.
        """
        record = await runtime.get_execution(id)
        if not record.finished:
            raise ConflictError(f"run {id!r} is {record.status}: archive it when it has ended", id=id)
        bundle = await runtime.export(id)
        if len(bundle) > MAX_VALUE:
            raise InvalidInput(
                f"the bundle of run {id!r} has {len(bundle)} bytes, and a value in Cloudflare KV {MAX_VALUE}; nothing "
                "was written. Keep it where larger objects go",
                limit=MAX_VALUE,
            )
        try:
            await self._kv.put(self._name(id), bundle)
        except StoreError:
            raise
        except Exception as error:
            raise UnknownOutcome(
                f"Cloudflare KV did not confirm the bundle: {text_of(error)}; store it again"
            ) from None
        if delete:
            await runtime.delete(id)

    async def load(self, id: str) -> bytes | None:
        """The bundle of a run, None where KV shows none. Asking too early makes KV remember, for a minute, that."""
        return await self._kv.get(self._name(id))

    async def ids(self) -> list[str]:
        """The ids of the runs that KV lists, in order."""
        return [name[len(self._prefix) :] for name in await self._kv.keys(self._prefix)]

    def _name(self, id: str) -> str:
        return f"{self._prefix}{check_id(id)}"
