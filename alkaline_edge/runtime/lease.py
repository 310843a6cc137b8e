"""Leases: this owner's name, whose a run is, and until when. All that is reckoned from the length of a lease is here.

A lease is a promise by the clock, and no more than that: what keeps a former owner from writing is the epoch that
every commit checks. So whoever believes too early that an owner is gone repeats a step at worst.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

from .. import keys
from ..errors import AlkalineError, InvalidInput, StoreError
from ..host import Host
from ..limits import CLOCKS_DIFFER_MS, LEASE_SECONDS
from ..runs import ExecutionRecord
from .store import Store
from .write import Write

_LIVES = ".lives"
"""The end of an owner's name that its platform vouches for: see ``KnowsOwners``."""
_OF_HOST = ("capabilities", "get", "list", "commit", "close", "now_ms", "entropy", "sleep")
_KEPT = 10_000
_sessions: WeakKeyDictionary[Any, str] = WeakKeyDictionary()


def session_of(host: Host) -> str:
    """A random name of this host object: owners of one session live in one process."""
    if host not in _sessions:
        _sessions[host] = host.entropy(6).hex()
    return _sessions[host]


def in_memory() -> Host:
    """The host of a runtime that is given none. By its name: the kernel needs no host, and has none where this is not.

    ERR_INVALID_INPUT where the package of the hosts is left out.
    """
    try:
        from importlib import import_module

        made: Host = import_module("alkaline_hosts.memory").MemoryHost()
    except ImportError as error:
        text = "a Runtime without a host keeps its runs by alkaline_hosts.memory, which is not here: give it a host"
        raise InvalidInput(text) from error
    return made


def require(host: Host, by_lease: bool = False) -> None:
    """ERR_STORE for a host that can't keep a run safe, or can't keep a lease where one is asked for by name."""
    if not all(hasattr(host, name) for name in _OF_HOST):  # isinstance of a Protocol costs as much as the rest
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
    if by_lease and not can.conditional:
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
        """Leases that end too far away: the version of each one's record, and since when it is so, ms since 1970."""
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

    def take(self, record: ExecutionRecord, write: Write | None = None) -> None:
        """The run is ours from here on, as soon as its record is committed; every earlier owner is fenced off.

        ``write``: the batch that says so; what was noted of an earlier lease goes with it.
        """
        self._seen.pop(record.id, None)
        if write is not None and record.owner not in (None, self.token):  # it may have been doubted, by whomever
            write.deletes.add(keys.doubted(record.run))
        record.owner, record.lease_until = self.token, self.until(record.id)
        record.epoch += 1

    def renew(self, record: ExecutionRecord) -> None:
        """The run stays ours for the length of a lease, as soon as its record is committed."""
        record.lease_until = self.until(record.id)

    def renew_at(self, record: ExecutionRecord, now: int) -> int:
        """When to renew our lease, at ``now``, both ms since 1970: at a third of it, so that two renewals may fail.

        One that ends later than any of ours is of a moment at which our clock was ahead: nobody believes that end.
        """
        length = self._length_of(record.id)
        return record.lease_until - length * 2 // 3 if record.lease_until - now <= length else now

    def is_fresh(self, record: ExecutionRecord) -> bool:
        """Whether nine tenths of our lease are left: enough for what keeps this process from renewing it."""
        return 0 <= self.until(record.id) - record.lease_until <= self._length_of(record.id) // 10

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
        if version != record.version_tag or since > now:
            since = now
            self._saw(record, now)
        return min(record.lease_until, since + _longest(record, self._length))

    def _saw(self, record: ExecutionRecord, since: int) -> None:
        self._seen.pop(record.id, None)
        self._seen[record.id] = (record.version_tag, since)
        while len(self._seen) > _KEPT:
            self._seen.pop(next(iter(self._seen)))

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
        if owner.endswith(_LIVES) and alive is not None:
            return bool(await alive(owner))
        if is_misdated(record, self._length, host.now_ms()):
            await self._look_at_note(record)
            return self.ends_at(record) > host.now_ms()
        return True

    async def _look_at_note(self, record: ExecutionRecord) -> None:
        """Know since when a lease stands there whose end can't be right, from whoever saw it first.

        Else only a process that lives for the length of a lease could tell that its owner is gone. A live owner renews
        it meanwhile, and then the note is of another lease. What others noted counts from a minute later, since clocks
        differ by as much.
        """
        now, key, codec = self._store.host.now_ms(), keys.doubted(record.run), self._store.codec
        if self._seen[record.id] != (record.version_tag, now):
            return  # it was looked at before
        lease = [record.epoch, record.lease_until]
        try:
            entry = (await self._store.host.get([key]))[0]
            noted = None if entry is None else self._store.opened(entry)
            if isinstance(noted, list) and noted[:-1] == lease and type(noted[-1]) is int and noted[-1] <= now:
                self._saw(record, min(now, noted[-1] + CLOCKS_DIFFER_MS))
                return
            version = None if entry is None else entry.version
            await self._store.commit(Write({key: version}, {key: codec.encode([*lease, now])}))
        except AlkalineError:
            pass  # a store that takes nothing: then this process has to watch for itself


def may_be_held(record: ExecutionRecord, now: int) -> bool:
    """Whether the lease in ``record`` has not ended at ``now``, ms since 1970, by what any owner may have asked for."""
    if record.owner is None or record.lease_until <= now:
        return False
    return not is_misdated(record, round(LEASE_SECONDS * 1000), now)


def is_misdated(record: ExecutionRecord, length: int, now: int) -> bool:
    """Whether the lease in ``record`` ends so late that a clock which was ahead has written it.

    ``length``: ms of a lease of ours. Its owner's may be longer, and the two clocks differ by as much as clocks do.
    """
    return record.owner is not None and record.lease_until > now + _longest(record, length) + CLOCKS_DIFFER_MS


def _longest(record: ExecutionRecord, length: int) -> int:
    """How long the lease in ``record`` is at most, in ms."""
    return max(length, record.lease_until - record.updated_at)


def free(record: ExecutionRecord) -> None:
    """The run is nobody's, as soon as its record is committed."""
    record.owner, record.lease_until = None, 0
