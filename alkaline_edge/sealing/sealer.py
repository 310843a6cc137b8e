"""Plain values to sealed ones and back, with a key of its own for each run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..arguments import refused
from ..errors import AlkalineError, InvalidInput, StoreError, Unopened, UnreadableValue
from ..host import Entry, Put
from .ciphers import Cipher, CryptographyCipher, Derivation, Job
from .keyring import Keyring
from .layout import LEAD, NONCE, TAG, bound_to, header_of, info_of, refusal, scope_of

MOST_KEYS = 1_000
"""Derived keys that are kept; when there would be more, all are derived anew as they are needed."""


def check_tenant(tenant: str) -> None:
    """InvalidInput for what can't be bound: a tenant is 1 to 200 printable characters."""
    if not isinstance(tenant, str) or not 1 <= len(tenant) <= 200 or not tenant.isprintable():
        raise InvalidInput(
            "tenant is a text of 1 to 200 printable characters, one for each store or customer: a value that was "
            "sealed for one does not open for another"
        )


def drawn(entropy: Callable[[int], bytes], n: int) -> bytes:
    """``n`` random bytes. StoreError for a source that gives fewer: a value with a short nonce would never open."""
    random = entropy(n)
    if not isinstance(random, bytes) or len(random) != n:
        raise StoreError(f"the host's entropy({n}) did not give {n} bytes: nothing was sealed, and nothing written")
    return random


class Sealer:
    """Seals with the current key of ``keys`` and opens with all of them, for ``tenant``."""

    def __init__(
        self, keys: Keyring, tenant: str, entropy: Callable[[int], bytes], cipher: Cipher | None = None
    ) -> None:
        if not isinstance(keys, Keyring):
            raise InvalidInput(f"keys is a Keyring, not a {type(keys).__name__}")
        check_tenant(tenant)
        methods = ("derive", "encrypt", "decrypt")
        if cipher is not None and not all(callable(getattr(cipher, name, None)) for name in methods):
            raise refused("cipher", "a Cipher, which has derive, encrypt and decrypt", cipher)
        self.keys, self.tenant = keys, tenant
        self._tenant = tenant.encode()
        self._entropy, self._cipher = entropy, cipher or CryptographyCipher()
        self._header = header_of(keys.current)
        self._ids = {header_of(id): id for id in keys.ids}
        self._derived: dict[tuple[str, str], Any] = {}

    def is_current(self, value: bytes) -> bool:
        """Whether ``value`` says that the current key sealed it; opening it shows whether that is true."""
        return value.startswith(self._header)

    async def seal(self, puts: Sequence[Put]) -> tuple[Put, ...]:
        """``puts`` with sealed values. StoreError, or what the cipher says, before anything is written."""
        if not puts:
            return ()
        plain = [bytes(value) for _, value in puts]  # copied before the first await
        current = self.keys.current
        try:
            keys = await self._derive([(current, scope_of(place)) for place, _ in puts])
            random = drawn(self._entropy, NONCE * len(puts))
            header, tenant = self._header, self._tenant
            jobs = [
                Job(key, random[n * NONCE : (n + 1) * NONCE], plain[n], bound_to(header, tenant, puts[n].key))
                for n, key in enumerate(keys)
            ]
            sealed = await self._cipher.encrypt(jobs)
        except AlkalineError:
            raise
        except Exception as error:
            raise StoreError(f"sealing failed ({type(error).__name__}) and nothing was written") from error
        return tuple(
            Put(place, header + job.nonce + data) for (place, _), job, data in zip(puts, jobs, sealed, strict=True)
        )

    async def open(self, entries: Sequence[Entry]) -> list[Entry]:
        """``entries`` with plain values. StoreError for the first one that does not open, naming its place."""
        found: list[Entry] = []
        refused: UnreadableValue | None = None
        for (key, _, version), value in zip(entries, await self.try_open(entries), strict=True):
            if isinstance(value, UnreadableValue):
                refused = refused or value
                found.append(Entry(key, Unopened(value), version))
            else:
                found.append(Entry(key, value, version))
        if refused is not None:
            refused.page = found
            raise refused
        return found

    async def try_open(self, entries: Sequence[Entry]) -> list[bytes | UnreadableValue]:
        """The plain value of each entry, or why it does not open."""
        headers = {n: header for n, (_, value, _) in enumerate(entries) if (header := self._header_in(value))}
        try:
            keys = await self._derive([(self._ids[header], scope_of(entries[n].key)) for n, header in headers.items()])
            jobs: list[Job] = []
            for (n, header), key in zip(headers.items(), keys, strict=True):
                place, value, _ = entries[n]
                start = len(header) + NONCE
                jobs.append(Job(key, value[len(header) : start], value[start:], bound_to(header, self._tenant, place)))
            opened = dict(zip(headers, await self._cipher.decrypt(jobs) if jobs else (), strict=True))
        except AlkalineError:
            raise
        except Exception as error:
            raise StoreError(f"opening sealed values failed ({type(error).__name__}); nothing was changed") from error
        return [
            refusal(entry.key, entry.value, self.keys.ids) if (plain := opened.get(n)) is None else plain
            for n, entry in enumerate(entries)
        ]

    def _header_in(self, value: bytes) -> bytes:
        """The header of ``value``; empty where that is not one of ours, or what follows is too short."""
        header = value[: LEAD + value[LEAD - 1]] if len(value) >= LEAD else b""
        return header if header in self._ids and len(value) >= len(header) + NONCE + TAG else b""

    async def _derive(self, names: Sequence[tuple[str, str]]) -> list[Any]:
        """The derived key for each key id and scope. Those that are not kept are derived in one go."""
        derived = self._derived
        held = {name: derived[name] for name in names if name in derived}
        lacking = [name for name in dict.fromkeys(names) if name not in held]
        if lacking:
            work = [Derivation(self.keys.secret(id), b"", info_of(self.tenant, scope)) for id, scope in lacking]
            fresh = dict(zip(lacking, await self._cipher.derive(work), strict=True))
            held.update(fresh)  # not read from `derived`, which another task may have emptied in the meantime
            if len(derived) + len(fresh) > MOST_KEYS:
                derived.clear()
            derived.update(fresh)
        return [held[name] for name in names]
