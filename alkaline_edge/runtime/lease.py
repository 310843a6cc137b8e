"""Leases: this owner's name, whose a run is, and until when.

A lease is a promise by the clock, and no more than that: what keeps a former owner from writing is the epoch that
every commit checks. So whoever believes too early that an owner is gone repeats a step at worst.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

from ..host import Host
from ..runs import ExecutionRecord

_LIVES = ".lives"
"""The end of an owner's name that its platform vouches for: see ``KnowsOwners``."""
_KEPT = 10_000
_sessions: WeakKeyDictionary[Any, str] = WeakKeyDictionary()


def session_of(host: Host) -> str:
    """A random name of this host object: owners of one session live in one process."""
    if host not in _sessions:
        _sessions[host] = host.entropy(6).hex()
    return _sessions[host]


class Leases:
    """What one runtime knows of owners. ``host()`` is its present host, ``lease_ms`` the length of its own leases."""

    def __init__(self, host: Callable[[], Host], lease_ms: int) -> None:
        self._host, self._lease_ms = host, lease_ms
        self._token: str | None = None
        self._let_go: Callable[[], Any] | None = None
        self._begun = False
        self._seen: dict[str, tuple[str, int]] = {}

    @property
    def token(self) -> str:
        """This owner's name: the session of its host, and a random part."""
        if self._token is None:
            host = self._host()
            self._token = f"{session_of(host)}.{host.entropy(6).hex()}"
        return self._token

    async def begin(self) -> None:
        """Before the first lease: have the platform vouch for this owner, where it can."""
        if self._begun:
            return
        self._begun = True
        hold = getattr(self._host(), "hold", None)
        if hold is not None:
            name = self.token + _LIVES
            self._let_go = await hold(name)
            if self._let_go is not None:
                self._token = name

    def end(self) -> None:
        """This owner is no more: its leases were handed back."""
        let_go, self._let_go = self._let_go, None
        if let_go is not None:
            let_go()

    def begin_anew(self) -> None:
        """The host was swapped: be a new owner."""
        self.end()
        self._token, self._begun = None, False

    def ends_at(self, record: ExecutionRecord) -> int:
        """When the lease in ``record`` ends, ms since 1970, if nobody renews it.

        An owner whose clock was ahead has written an end that is too far away. So a record that has not changed for
        the length of a lease, by the clock of this process, is nobody's either.
        """
        now = self._host().now_ms()
        if record.lease_until - now <= self._lease_ms:
            return record.lease_until
        version, since = self._seen.get(record.id, ("", 0))
        if version != record.version_tag:
            since = now
            self._seen.pop(record.id, None)
            self._seen[record.id] = (record.version_tag, now)
            while len(self._seen) > _KEPT:
                self._seen.pop(next(iter(self._seen)))
        length = max(self._lease_ms, record.lease_until - record.updated_at)
        return min(record.lease_until, since + length)

    async def held_by_other(self, record: ExecutionRecord) -> bool:
        """Whether a live owner that is not us has the run."""
        owner, host = record.owner, self._host()
        if owner is None or owner == self.token or self.ends_at(record) <= host.now_ms():
            return False
        # Where only one process can write to the store, that is us, and an owner of another session is dead.
        same_session = owner.split(".")[0] == self.token.split(".")[0]
        if not same_session and (host.capabilities.exclusive or host.capabilities.single_writer):
            return False
        alive = getattr(host, "alive", None)
        return not (owner.endswith(_LIVES) and alive is not None and not await alive(owner))
