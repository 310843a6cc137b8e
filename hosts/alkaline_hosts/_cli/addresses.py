"""The store that a command of ``alkaline`` is told of, and the keys that open it where it is sealed.

A file of keys is what ``Keyring.parse`` reads: a line ``ID=<64 hexadecimal digits>`` for each (``openssl rand -hex
32``). The first one seals, all of them open. A secret is never an argument, since others see those.
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

from ..opening import path_of

KEYS, TENANT = "ALKALINE_KEYS", "ALKALINE_TENANT"
MOST = 64 * 1024
"""Bytes of a file of keys: what is larger is another file."""


class Address(NamedTuple):
    """A store by its URL, and what opens its seal. ``keys`` is a file; None or empty where nothing is sealed."""

    url: str
    keys: str | None = None
    tenant: str | None = None

    @property
    def is_server(self) -> bool:
        """Whether it is a server's URL: what is asked there, that server opens."""
        return self.url.lower().startswith(("http://", "https://"))

    def is_that_of(self, other: Address) -> bool:
        """Whether both name one store, as far as their names and the files there say."""
        here, there = path_of(self.url), path_of(other.url)
        if here is None or there is None:
            return self.url == other.url
        return here == there or (Path(here).exists() and Path(there).exists() and Path(here).samefile(there))

    def on(self, side: str) -> Address:
        """The same with the keys of that side of a move, where the environment has some; empty ones: no seal."""
        keys, tenant = (os.environ.get(f"ALKALINE_{side}_{name}") for name in ("KEYS", "TENANT"))
        if keys == "":
            return Address(self.url)
        return Address(self.url, keys or self.keys, tenant or self.tenant)


def seal_of(store: Address) -> Callable[[Host], Host]:
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
    try:
        return Keyring.parse(data.decode("utf-8-sig", "replace"))
    except InvalidInput as error:
        raise InvalidInput(f"the keys in {Path(file).name}: {error}") from None
