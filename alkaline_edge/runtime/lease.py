"""Leases: this owner's name, whose a run is, and until when. All that is reckoned from the length of a lease is here.

A lease is a promise by the clock, and no more than that: what keeps a former owner from writing is the epoch that
every commit checks. So whoever believes too early that an owner is gone repeats a step at worst.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

from ..errors import InvalidInput, StoreError
from ..host import Host
from ..limits import LEASE_SECONDS
from ..runs import ExecutionRecord
from .store import Store

_LIVES = ".lives"
"""The end of an owner's name that its platform vouches for: see ``KnowsOwners``."""
_KEPT = 10_000
_sessions: WeakKeyDictionary[Any, str] = WeakKeyDictionary()


def session_of(host: Host) -> str:
    """A random name of this host object: owners of one session live in one process."""
    if host not in _sessions:
        _sessions[host] = host.entropy(6).hex()
    return _sessions[host]


def require(host: Host, lease: float | None = None) -> None:
    """ERR_STORE for a host that can't keep a run safe, or can't keep a lease where one is asked for by name."""
    if not isinstance(host, Host):
        raise InvalidInput(
            f"a host has get, list, commit, close, now_ms, entropy and sleep; {type(host).__name__} lacks some"
        )
    can = host.capabilities
    for held, what in ((can.checks, "conditional commits"), (can.atomic, "atomic batches")):
        if not held:
            raise StoreError(
                f"{can.name} has no {what}, so two writers could both believe that they own a run; put a coordinator "
                "in front of it, or use another host",
                host=can.name,
            )
    if lease is not None and not can.conditional:
        raise StoreError(
            f"{can.name} has no conditional commits, so no lease keeps a second writer out, and none may be asked for: "
            "leave lease= out and see to it that one process writes, or use another host",
            host=can.name,
        )


class Leases:
    """What one runtime knows of owners. ``seconds``: how long a run stays its own without a word of it."""

    def __init__(self, store: Store, seconds: float | None) -> None:
        self._store = store
        self._length = round((seconds or LEASE_SECONDS) * 1000)
        self._token: str | None = None
        self._let_go: Callable[[], Any] | None = None
        self._begun = False
        self._seen: dict[str, tuple[str, int]] = {}
        self._lapsed: dict[str, tuple[int, int]] = {}
        """Runs that were lost as their leases had run out: how often in a row, and how long that took, in ms."""

    @property
    def token(self) -> str:
        """This owner's name: the session of its host, and a random part."""
        if self._token is None:
            host = self._store.host
            self._token = f"{session_of(host)}.{host.entropy(6).hex()}"
        return self._token

    async def begin(self) -> None:
        """Before the first lease: have the platform vouch for this owner, where it can."""
        if self._begun:
            return
        self._begun = True
        hold = getattr(self._store.host, "hold", None)
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

    # --- our own ---------------------------------------------------------------------------------------------------
    def until(self, id: str = "") -> int:
        """When a lease of the run ``id`` that begins now ends, ms since 1970."""
        return self._store.host.now_ms() + self._length_of(id)

    def _length_of(self, id: str) -> int:
        """How long a lease of ours for this run is, in ms.

        Where what it does kept this process from renewing one, such as a step that blocks the loop, the next one is
        twice as long, up to what that took: otherwise two processes would start it in turn, for ever.
        """
        if id not in self._lapsed:
            return self._length
        times, ms = self._lapsed[id]
        return min(self._length << min(times, 20), ms + ms // 2 + self._length)

    def lost(self, id: str, held_until: int) -> None:
        """Another owner has the run that was ours until ``held_until``, ms since 1970."""
        over = self._store.host.now_ms() - held_until
        if over >= 0:
            length = self._length_of(id)
            times, _ = self._lapsed.pop(id, (0, 0))
            self._lapsed[id] = (times + 1, length + over)
            while len(self._lapsed) > _KEPT:
                self._lapsed.pop(next(iter(self._lapsed)))

    def kept(self, id: str) -> None:
        """The run went on until it had nothing to do, and nobody took it from us."""
        self._lapsed.pop(id, None)

    def take(self, record: ExecutionRecord) -> None:
        """The run is ours from here on, as soon as its record is committed; every earlier owner is fenced off."""
        record.owner, record.lease_until = self.token, self.until(record.id)
        record.epoch += 1

    def renew(self, record: ExecutionRecord) -> None:
        """The run stays ours for the length of a lease, as soon as its record is committed."""
        record.lease_until = self.until(record.id)

    def renew_at(self, record: ExecutionRecord) -> int:
        """When to renew our lease, ms since 1970: at a third of it, so that two renewals may fail."""
        return record.lease_until - self._length_of(record.id) * 2 // 3

    def is_fresh(self, record: ExecutionRecord) -> bool:
        """Whether nine tenths of our lease are left: enough for what keeps this process from renewing it."""
        return self.until(record.id) - record.lease_until <= self._length_of(record.id) // 10

    @property
    def half(self) -> int:
        """Half the length of a lease, in ms: whoever looks for owners that are gone sees each lease twice."""
        return self._length // 2

    # --- anybody's -------------------------------------------------------------------------------------------------
    def ends_at(self, record: ExecutionRecord) -> int:
        """When the lease in ``record`` ends, ms since 1970, if nobody renews it.

        An owner whose clock was ahead has written an end that is too far away. So a record that has not changed for
        the length of a lease, by the clock of this process, is nobody's either.
        """
        now = self._store.host.now_ms()
        if record.lease_until - now <= self._length:
            return record.lease_until
        version, since = self._seen.get(record.id, ("", 0))
        if version != record.version_tag:
            since = now
            self._seen.pop(record.id, None)
            self._seen[record.id] = (record.version_tag, now)
            while len(self._seen) > _KEPT:
                self._seen.pop(next(iter(self._seen)))
        length = max(self._length, record.lease_until - record.updated_at)
        return min(record.lease_until, since + length)

    async def held_by_other(self, record: ExecutionRecord) -> bool:
        """Whether a live owner that is not us has the run."""
        owner, host = record.owner, self._store.host
        if owner is None or owner == self.token or self.ends_at(record) <= host.now_ms():
            return False
        # Where only one process can write to the store, that is us, and an owner of another session is dead.
        same_session = owner.split(".")[0] == self.token.split(".")[0]
        if not same_session and (host.capabilities.exclusive or host.capabilities.single_writer):
            return False
        alive = getattr(host, "alive", None)
        return not (owner.endswith(_LIVES) and alive is not None and not await alive(owner))


def free(record: ExecutionRecord) -> None:
    """The run is nobody's, as soon as its record is committed."""
    record.owner, record.lease_until = None, 0
