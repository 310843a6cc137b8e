"""The store that a command of ``alkaline`` is told of, and the keys that open it where it is sealed.

A file of keys has a line for each: its id, ``=``, and 64 hexadecimal digits (``openssl rand -hex 32``). The first one
seals, all of them open; what follows ``#`` is a comment. A secret is never an argument, since others see those.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from alkaline_edge.errors import InvalidInput
from alkaline_edge.host import Host
from alkaline_edge.sealing import CryptographyCipher, Keyring, SealedHost
from alkaline_edge.sealing.sealer import check_tenant

KEYS, TENANT = "ALKALINE_KEYS", "ALKALINE_TENANT"
MOST = 64 * 1024
"""Bytes of a file of keys: what is larger is another file."""


class Store(NamedTuple):
    """A store by its URL, and what opens its seal. ``keys`` is a file; None or empty where nothing is sealed."""

    url: str
    keys: str | None = None
    tenant: str | None = None

    def on(self, side: str) -> Store:
        """The same with the keys of that side of a move, where the environment has some; empty ones: no seal."""
        keys, tenant = (os.environ.get(f"ALKALINE_{side}_{name}") for name in ("KEYS", "TENANT"))
        if keys == "":
            return Store(self.url)
        return Store(self.url, keys or self.keys, tenant or self.tenant)


def seal_of(store: Store) -> Callable[[Host], Host]:
    """What puts the seal of ``store`` around its host. ERR_INVALID_INPUT before a host is opened."""
    if not store.keys:
        if store.tenant:
            raise InvalidInput(f"--tenant is for a sealed store: name the file of its keys with --keys or {KEYS}")
        return lambda host: host
    if not store.tenant:
        raise InvalidInput(f"a sealed store has a tenant as well as keys: give it with --tenant or {TENANT}")
    check_tenant(store.tenant)
    keys, tenant, cipher = keyring_in(store.keys), store.tenant, CryptographyCipher()
    return lambda host: SealedHost(host, keys=keys, tenant=tenant, cipher=cipher)


def keyring_in(file: str) -> Keyring:
    """The keyring in a file. No error says what is in it, for it may be a secret in the wrong place."""
    with Path(file).open("rb") as source:
        data = source.read(MOST + 1)
    if len(data) > MOST:
        raise InvalidInput(f"{Path(file).name} has more than {MOST:,} bytes: it is no file of keys")
    secrets: dict[str, bytes] = {}
    for number, line in enumerate(data.decode("utf-8-sig", "replace").splitlines(), 1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        id, _, digits = (part.strip() for part in text.partition("="))
        try:
            secret = bytes.fromhex(digits)
            Keyring(id, {id: secret})
        except (ValueError, InvalidInput):
            secret = b""
        if not secret or id in secrets:
            raise InvalidInput(
                f"line {number} of the keys in {Path(file).name} must be ID=<64 hexadecimal digits>, as openssl rand "
                "-hex 32 prints them, each id once and of A-Z a-z 0-9 _ . : @ ~ + -; it is not shown here"
            )
        secrets[id] = secret
    if not secrets:
        raise InvalidInput(f"there are no keys in {Path(file).name}: write ID=<64 hexadecimal digits> on a line of it")
    return Keyring(next(iter(secrets)), secrets)
