"""Cloudflare KV: a single-writer store, or the place for large values beside a Durable Object or D1.

KV has no compare-and-set, shows a write elsewhere after a minute or more, and remembers absences. What it can be is
chosen by name:

- ``KVHost(kv, coordinator=host)``: keys, versions and small values live in ``host``, which is a ``DurableObjectHost``
  or ``D1Host``; values above ``large`` bytes are KV keys written once. As strong as the coordinator.
- ``KVHost(kv, single_writer=True)``: everything in KV, and you see to it that one process at a time writes: not the
  ``fetch`` of a Worker, which runs in many places at once, but its ``scheduled``, say. Checks are held against what
  this writer knows, so its capabilities say ``conditional=False`` and ``single_writer=True``: a Runtime runs on it, and
  what needs several writers, such as leases, is refused. Two writers are found by the next one to open the store, which
  then refuses; they are not stopped.
- ``KVHost(kv)``: no checks at all. A Runtime refuses it at start; for storing what needs none.

``KVArchive(kv)`` holds the bundles of finished runs, whatever host they ran on.

``resume_token`` names the last commit that a host knows. Keep it where you keep the run's id, and open the store with
``resume=token``: a stale view is then a StoreError whose ``detail["reason"]`` is "stale", never a step run twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from alkaline_edge.arguments import expect
from alkaline_edge.errors import InvalidInput, StoreError
from alkaline_edge.host import Batch, Capabilities, Committed, Conflict, Entry, Host
from alkaline_edge.limits import check_batch, check_key

from ._cloudflare.platform import WorkerPlatform
from ._kv.archive import KVArchive
from ._kv.log import KVLog
from ._kv.namespace import MAX_VALUE, Counted
from ._kv.values import LargeValues

__all__ = ["KVArchive", "KVHost"]

_CAPABILITIES = Capabilities(
    name="Cloudflare KV",
    conditional=False,
    read_your_writes=False,
    durability="replicated",
    max_key=512,
    max_value=MAX_VALUE - 1024,
    max_batch_bytes=MAX_VALUE - 1024,
    max_batch_keys=1_000,
    notes=(
        "A write is seen elsewhere after a minute or more, with no bound.",
        "One invocation of a Worker may make 1,000 KV operations.",
    ),
)
_SINGLE_WRITER = replace(
    _CAPABILITIES,
    single_writer=True,
    notes=(
        "Checks hold only as long as one process at a time writes, which the author promised with single_writer=True.",
        *_CAPABILITIES.notes,
    ),
)
_Entries = list[Entry]


class KVHost(WorkerPlatform):
    """A store in the KV namespace that ``kv`` is the binding of; see this module for its three forms.

    ``coordinator`` and ``single_writer`` choose the form; ``resume`` is a ``resume_token`` to begin from. A coordinator
    takes neither of the two others (ERR_INVALID_INPUT), and must have conditional commits (ERR_STORE). ``prefix``
    separates stores in one namespace. ``large``: bytes from which a value goes to KV, with a coordinator.
    ``max_operations`` refuses, before it is sent, a KV operation over that number; ``operations`` counts them, and
    ``when_low`` says so earlier.
    """

    _name = _CAPABILITIES.name

    def __init__(
        self,
        kv: Any,
        *,
        single_writer: bool = False,
        coordinator: Host | None = None,
        prefix: str = "alkaline/",
        resume: str | None = None,
        large: int = 16 * 1024,
        max_operations: int | None = None,
    ) -> None:
        super().__init__()
        expect(prefix, str, "KVHost(prefix=)", "text")
        check_key(prefix, 256)
        if coordinator is not None and (single_writer or resume is not None):
            raise InvalidInput("a KVHost with a coordinator has no need of single_writer or resume; leave them out")
        self._kv = Counted(kv, max_operations)
        self._coordinator_low = getattr(coordinator, "when_low", None)
        self._store: KVLog | LargeValues
        if coordinator is None:
            self._store = KVLog(self._kv, prefix, resume, self.sleep)
            self._capabilities = _SINGLE_WRITER if single_writer else _CAPABILITIES
        else:
            if not coordinator.capabilities.conditional:
                raise StoreError(
                    f"{coordinator.capabilities.name} has no conditional commits, so it can't coordinate; use a "
                    "DurableObjectHost or a D1Host"
                )
            self._store = LargeValues(self._kv, coordinator, prefix, large)
            from dataclasses import replace

            self._capabilities = replace(self._store.capabilities, synchronous=False)  # a large value is put elsewhere

    @property
    def capabilities(self) -> Capabilities:
        """What this form of the host can do."""
        return self._capabilities

    @property
    def operations(self) -> int:
        """KV operations that were sent; those of a coordinator are not counted."""
        return self._kv.allowance.used

    def when_low(self, callback: Callable[[], None]) -> None:
        """Call ``callback``, such as ``Runtime.drain``, once a tenth of ``max_operations`` is left, or 20."""
        self._kv.allowance.when_low(callback)
        if self._coordinator_low is not None:
            self._coordinator_low(callback)

    @property
    def resume_token(self) -> str:
        """Position and digest of the last commit that this host knows, for ``resume``; ERR_STORE with a coordinator."""
        if not isinstance(self._store, KVLog):
            raise StoreError("a KVHost with a coordinator can't be stale and has no resume token")
        return self._store.token

    async def get(self, keys: Iterable[str]) -> list[Entry | None]:
        """As Host.get. StoreError where KV shows an old state and this host can tell."""
        self._open()
        return await self._store.get(keys)

    async def list(self, prefix: str, after: str = "", limit: int = 500) -> _Entries:
        """As Host.list, with the same error."""
        self._open()
        return await self._store.list(prefix, after, limit)

    async def commit(self, batch: Batch) -> Committed | Conflict:
        """As Host.commit. After UnknownOutcome the next call writes the same key again before it does anything."""
        self._open()
        check_batch(batch, self._capabilities)
        return await self._store.commit(batch)

    async def refresh(self) -> None:
        """Read the store again at the next call: for a reader beside the writer."""
        self._open()
        if isinstance(self._store, KVLog):
            await self._store.forget()

    async def sweep(self, older_than: float = 24 * 3600.0) -> int:
        """Delete keys that nothing refers to any more; return how many. Call it now and then, from a cron trigger say.

        A store in KV leaves a key behind with every commit, and each delete is an operation of its own: not one that a
        step should wait for. With a coordinator, large values are left by commits that conflicted and by entries that
        were replaced or deleted; ``older_than``, in seconds, must then exceed the longest time a commit can be under
        way. What does not fit under ``max_operations`` is left for the next sweep.
        """
        self._open()
        if isinstance(self._store, KVLog):
            return await self._store.sweep()
        return await self._store.sweep(older_than)
