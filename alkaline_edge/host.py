"""The host contract: an ordered key-value store with an atomic conditional batch, a clock, entropy and sleep.

The kernel owns what the keys mean. The host owns how they are kept. A host is one class with the methods of
``Host``; ``alkaline_edge.testing.conformance`` is the suite that says whether it keeps the contract.

The four outcomes of a commit:

- ``Committed``: every put and delete of the batch is durable, by the host's durability class.
- ``Conflict``: a check failed; nothing was written.
- an ``AlkalineError`` that is not ``UnknownOutcome``: rejected; nothing was written, and the same batch would be
  rejected again (a limit, a full store, a closed host).
- ``UnknownOutcome``, or any other exception: the answer was lost. The batch was applied whole or not at all, or may
  still be. The kernel finds out by reading back a key of the batch: an entry's version is the id of the batch that
  put it last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal

from .structs import NamedTuple, Protocol, dataclass, runtime_checkable

Durability = Literal["volatile", "weak", "process", "disk", "replicated"]
"""What survives. volatile: nothing; weak: may lose the last seconds; process: a kill of the process, not of the
machine; disk: power loss of this machine, as far as its disk is honest; replicated: loss of this machine."""


class Entry(NamedTuple):
    """One stored key. ``version`` is the id of the batch that put it last."""

    key: str
    value: bytes
    version: str


class Check(NamedTuple):
    """A condition of a batch: ``key`` is at ``version``, or absent when ``version`` is None."""

    key: str
    version: str | None


class Put(NamedTuple):
    """One key to write. Keys are printable ASCII without spaces, 1 to ``Capabilities.max_key`` bytes."""

    key: str
    value: bytes


class Batch(NamedTuple):
    """All or nothing: when every check holds, every put and delete is applied at once.

    ``id`` is 16 lowercase hexadecimal digits, random, new for every attempt; it becomes the version of every key
    that the batch puts. A key appears at most once among puts and deletes together. Deleting an absent key is
    allowed and does nothing. An empty ``puts`` and ``deletes`` is allowed: it only checks.
    """

    id: str
    checks: tuple[Check, ...] = ()
    puts: tuple[Put, ...] = ()
    deletes: tuple[str, ...] = ()


class Committed(NamedTuple):
    """The batch is durable. ``version`` is the batch's id."""

    version: str


class Conflict(NamedTuple):
    """Nothing was written. ``keys``: the keys whose checks failed, at least one of them."""

    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a host can do, said before anything is asked of it. Sizes are in bytes."""

    name: str
    """What an error message calls this host, such as ``memory`` or ``Cloudflare D1``."""
    conditional: bool = True
    """Checks are honoured: two writers racing on one key have one winner."""
    atomic: bool = True
    """A batch of several keys is applied whole or not at all."""
    read_your_writes: bool = True
    """A ``get`` or ``list`` after a commit sees it, from any client."""
    durability: Durability = "disk"
    threads: bool = False
    """``run_in_thread`` exists: sync steps run in threads, unless they are known to be quick."""
    exclusive: bool = False
    """Only one process can write at a time, and the host sees to it (a lock, a single instance). Then an owner of
    another session is known to be dead, and its runs are taken over at once instead of when their lease ends."""
    single_writer: bool = False
    """Checks hold against what this handle knows, no more: that nobody else writes is its author's promise, which
    nothing enforces. Said with ``conditional=False``. A runtime runs on it; what needs several writers is refused."""
    synchronous: bool = False
    """``commit_now(batch)`` exists: as ``commit``, without a wait, or None and nothing done where ``commit`` is to be
    asked this time. A step that ends at once is then recorded without a turn of the loop."""
    max_key: int = 512
    max_value: int = 16 * 1024 * 1024
    max_batch_bytes: int = 64 * 1024 * 1024
    max_batch_keys: int = 10_000
    inline_limit: int = 128 * 1024
    """A single step result or input above this many bytes goes into blob keys of its own."""
    segment_commits: int = 256
    """How many history commits are sealed into one segment; 0: never (a store whose keys are written once)."""
    notes: tuple[str, ...] = ()
    """What a reader should know about this host's safety, each a sentence."""

    @property
    def checks(self) -> bool:
        """Whether a batch may hold checks: against every writer, or against the one that there is."""
        return self.conditional or self.single_writer


def commits_now(host: Any) -> Callable[[Batch], Committed | Conflict | None] | None:
    """The host's ``commit_now``, where it says that it is synchronous; None where each commit is to go by ``commit``.

    It counts only beside the ``commit`` of the very same class. A wrapper that hands on what it does not know, such as
    one that seals, and a subclass or a test that has a ``commit`` of its own, mean to see each commit.
    """
    if not host.capabilities.synchronous or "commit" in getattr(host, "__dict__", ()):
        return None
    for kind in type(host).__mro__:
        if "commit" in vars(kind) or "commit_now" in vars(kind):
            both = "commit" in vars(kind) and "commit_now" in vars(kind)
            return host.commit_now if both else None
    return None


@runtime_checkable
class Host(Protocol):
    """Storage, clock, entropy and sleep, handed to a Runtime. One host may serve several runtimes."""

    @property
    def capabilities(self) -> Capabilities:
        """What this host can do. Constant for the life of the host."""
        ...

    async def get(self, keys: Iterable[str]) -> list[Entry | None]:
        """The entries of ``keys``, in their order, None where absent. One consistent read where the store can."""
        ...

    async def list(self, prefix: str, after: str = "", limit: int = 500) -> list[Entry]:
        """Entries whose key starts with ``prefix`` and is greater than ``after``, ascending by ASCII bytes.

        At most ``limit`` of them. A shorter answer than ``limit`` means that there are no more.
        """
        ...

    async def commit(self, batch: Batch) -> Committed | Conflict:
        """Apply ``batch`` whole or not at all; see this module's docstring for the four outcomes."""
        ...

    async def close(self) -> None:
        """Let go of handles and connections. Calling it twice is allowed; any other call after it is ERR_CLOSED."""
        ...

    def now_ms(self) -> int:
        """Wall-clock time, milliseconds since 1970 UTC. It may jump; the kernel never lets recorded time go back."""
        ...

    def entropy(self, n: int) -> bytes:
        """``n`` random bytes from the platform's secure source."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after about ``seconds``; cancelled like any await."""
        ...


@runtime_checkable
class KnowsNetwork(Protocol):
    """Optional, for a host whose platform can tell that it is offline: steps wait that ask for it by their Retry."""

    def is_online(self) -> bool:
        """Whether there may be a network. False is certain, True is not."""
        ...

    def when_online(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call ``callback`` when there may be one again; the answer ends that.

        A host without it is asked every second while something waits.
        """
        ...


@runtime_checkable
class KnowsOwners(Protocol):
    """Optional, for a host whose platform can tell at once that an owner is gone: a tab that was closed, say.

    Then its runs are taken over at once, and elsewhere when their lease ends. It is an optimisation, not a fence: what
    keeps a former owner from writing are the checks of its commits.
    """

    async def hold(self, owner: str) -> Callable[[], None] | None:
        """Vouch for ``owner`` until the answer is called, this host is closed, or this process ends.

        None where the platform can't, after all.
        """
        ...

    async def alive(self, owner: str) -> bool:
        """Whether an owner for which some host of this store vouched is still there.

        After True, a host that can ``watch`` tells its watchers when the owner is gone.
        """
        ...
