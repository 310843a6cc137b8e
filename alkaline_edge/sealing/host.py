"""``SealedHost``: a host whose store holds sealed values only."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

from ..arguments import expect
from ..errors import UnreadableValue
from ..host import Batch, Capabilities, Committed, Conflict, Entry, Host
from ..limits import check_batch
from .ciphers import Cipher
from .keyring import Keyring
from .layout import OVERHEAD
from .sealer import Sealer

BESIDE_VALUES = frozenset((
    "alarm_fired", "alive", "clock", "compact", "hold", "is_online", "new_invocation", "operations", "path",
    "persisted", "queries", "read_only", "refresh", "repair_alarm", "resume_token", "run_in_thread", "set_alarm",
    "store_id", "sweep", "watch", "watch_may_miss", "when_low", "when_online",
))  # fmt: skip
"""What hosts have beyond the contract that neither takes nor gives a value. Anything else might write one unsealed."""


class SealedHost:
    """``host``, with every value sealed by AES-256-GCM before it is committed, and opened when it is read.

    A value is bound to its key in the store, to ``tenant`` and to the id of the key that sealed it. One that is plain,
    cut short, moved, changed, or sealed with a key that ``keys`` does not hold is an UnreadableValue
    (ERR_STORE), with the place in ``detail["place"]`` and a word in ``detail["reason"]``; then nothing is written. Keys
    of the store stay in clear: SECURITY.md says what they tell. ``tenant`` names the store or the customer, and can't
    be changed later.

    ``cipher`` is ``cryptography`` unless another one is given (``alkaline_hosts.webcrypto.WebCrypto()``). Make one
    SealedHost for a host and give it to every runtime: two look like two processes. Closing it closes ``host``. What
    ``host`` has beyond the contract (``watch``, ``run_in_thread``, an alarm) is there as well.
    """

    def __init__(self, host: Host, *, keys: Keyring, tenant: str, cipher: Cipher | None = None) -> None:
        expect(host, Host, "SealedHost(host=)", "a host")
        self._host = host
        self._sealer = Sealer(keys, tenant, host.entropy, cipher)
        self._capabilities = _with_room(host.capabilities)

    @property
    def capabilities(self) -> Capabilities:
        """Those of the host, with room for what sealing adds to a value."""
        return self._capabilities

    async def get(self, keys: Iterable[str]) -> list[Entry | None]:
        """As Host.get. StoreError for a value that does not open; the others are in its ``page`` alone."""
        found = await self._host.get(keys)
        try:
            opened = iter(await self._sealer.open([entry for entry in found if entry is not None]))
        except UnreadableValue as error:
            if error.page is not None:
                page = iter(error.page)
                error.page = [None if entry is None else next(page) for entry in found]
            raise
        return [None if entry is None else next(opened) for entry in found]

    async def list(self, prefix: str, after: str = "", limit: int = 500) -> list[Entry]:
        """As Host.list. StoreError for a value that does not open; the others are in its ``page`` alone."""
        return await self._sealer.open(await self._host.list(prefix, after, limit))

    async def commit(self, batch: Batch) -> Committed | Conflict:
        """As Host.commit. Sealing comes first, so the host's own transaction waits for nothing."""
        check_batch(batch, self._capabilities)
        puts = await self._sealer.seal(batch.puts)
        return await self._host.commit(Batch(batch.id, batch.checks, puts, batch.deletes))

    async def close(self) -> None:
        """Close the host."""
        await self._host.close()

    def now_ms(self) -> int:
        """The host's clock."""
        return self._host.now_ms()

    def entropy(self, n: int) -> bytes:
        """The host's entropy."""
        return self._host.entropy(n)

    async def sleep(self, seconds: float) -> None:
        """As Host.sleep, by the host inside."""
        await self._host.sleep(seconds)

    def __getattr__(self, name: str) -> Any:
        """What a host has beyond the contract, as far as it is known to touch no value."""
        if name not in BESIDE_VALUES:
            raise AttributeError(f"a sealed host hands on nothing that may touch values, so it has no {name!r}")
        return getattr(self._host, name)


def parts_of(sealed: SealedHost) -> tuple[Host, Sealer]:
    """The host behind the seal, and what seals, for this package."""
    return sealed._host, sealed._sealer


def _with_room(can: Capabilities) -> Capabilities:
    """Limits of plain values such that the sealed ones are within ``can``."""
    keys = max(1, min(can.max_batch_keys, can.max_batch_bytes // (2 * OVERHEAD)))
    batch = can.max_batch_bytes - OVERHEAD * keys
    value = min(can.max_value - OVERHEAD, batch)
    return dataclasses.replace(
        can,
        synchronous=False,  # sealing is asked of the platform, which answers later
        max_value=value,
        max_batch_bytes=batch,
        max_batch_keys=keys,
        inline_limit=min(can.inline_limit, value),
        notes=(*can.notes, "Values are sealed; the keys of the store, the sizes of values and their times are not."),
    )
