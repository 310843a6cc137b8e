"""A batch in the making, and the keys by which a run is found."""

from __future__ import annotations

from .. import keys
from ..runs import ExecutionRecord

NOTHING = b"\xc0"
"""What an index key holds that says all by its name."""


class Write:
    """A batch in the making. ``proof``: the key that tells whether it was applied; if None, the first that it puts."""

    __slots__ = ("checks", "deletes", "proof", "puts")

    def __init__(
        self,
        checks: dict[str, str | None] | None = None,
        puts: dict[str, bytes] | None = None,
        deletes: set[str] | None = None,
    ) -> None:
        self.checks = {} if checks is None else checks
        self.puts = {} if puts is None else puts
        self.deletes: set[str] = set() if deletes is None else deletes
        self.proof: str | None = None

    def index(self, before: set[str], after: set[str], written: bytes = NOTHING) -> None:
        """Move a run's index keys from one set to the other. ``written`` is what a timer says: when it was set."""
        self.puts.update((key, written if key.startswith(keys.TIMERS) else NOTHING) for key in sorted(after - before))
        for key in before - after:
            self.deletes.add(key)
            self.deletes.update(keys.misplaced(key))


def indexes_of(record: ExecutionRecord) -> set[str]:
    """The index keys of a record."""
    return keys.indexes(record.id, record.workflow, record.status, record.attributes, record.wake_at)
