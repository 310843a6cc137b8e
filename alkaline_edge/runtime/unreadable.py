"""What of a store can't be read: it is set apart, named once in the log, and left alone, so that it ends nothing else.

A record, a request or a key may be damaged, foreign, or sealed with a key that is not here. Whoever asks for that very
run is told; whoever looks through many of them goes on with the others.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .. import keys
from ..codec import BlobRef
from ..errors import AlkalineError, InvalidInput, StoreError, Unopened, UnreadableValue
from ..host import Entry, Host
from ..names import check_id
from ..runs import STATUSES, ExecutionRecord
from ..structs import Protocol
from . import reporting

_MANY = 1_000
_PROBE = 20
"""Values of a store that are looked at to find out whether any can be opened."""
_TEXT, _NUMBER, _TEXT_OR_NONE, _NUMBER_OR_NONE = (str,), (int,), (str, type(None)), (int, type(None))
_FIELDS: dict[str, tuple[type, ...]] = {
    "id": _TEXT, "run": _TEXT, "workflow": _TEXT, "version": _NUMBER, "status": _TEXT, "created_at": _NUMBER,
    "updated_at": _NUMBER, "generation": _NUMBER, "attempt": _NUMBER, "spent": (dict,), "cursor_length": _NUMBER,
    "head": (bytes,), "waiting": (list, BlobRef), "wake_at": _NUMBER_OR_NONE, "parent": _TEXT_OR_NONE, "depth": _NUMBER,
    "attributes": (dict, BlobRef), "owner": _TEXT_OR_NONE, "lease_until": _NUMBER, "epoch": _NUMBER,
    "failure": (dict, BlobRef, type(None)), "moved_to": _TEXT_OR_NONE,
    "ahead": _NUMBER, "ahead_since": _NUMBER, "doubted_since": _NUMBER, "clocks": (list,), "copy": (bool,),
}  # fmt: skip
"""The types of a record's fields: what another one would trip a reader over."""
_HOLDS = (("waiting", frozenset(_TEXT)), ("clocks", frozenset(_NUMBER)),
          ("attributes", frozenset((str, int, float, bool))))  # fmt: skip
"""The types of what is in them."""
_NEEDS = ("id", "run", "workflow", "version", "status", "created_at", "updated_at")
SPILLED = ("result", "failure", "attributes", "waiting")
"""What of a record may be a blob reference."""


class Holder(Protocol):
    """The store, as far as this needs it."""

    host: Host

    async def record_of(self, entry: Entry) -> ExecutionRecord:
        """The record that an entry holds."""
        ...


class Unreadable:
    """What of one store can't be read, as far as it was met; and reading that goes on without it."""

    def __init__(self, store: Holder) -> None:
        self._store = store
        self._keys: dict[str, str] = {}
        self._opened: Host | None = None
        """The host of which some value could be read: its keys are the right ones."""

    def note(self, key: str, error: BaseException | str) -> None:
        """Name the key in the log, once for each reason."""
        text = str(error)
        if self._keys.get(key) == text:
            return
        self._keys[key] = text
        while len(self._keys) > _MANY:
            del self._keys[next(iter(self._keys))]
        reporting.set_apart(key, text)

    # --- reading ---------------------------------------------------------------------------------------------------
    async def entries(self, prefix: str, after: str = "", limit: int = 500) -> list[Entry]:
        """As Host.list, with an ``Unopened`` for each value that can't be opened, unless none of the store can."""
        try:
            return await self._store.host.list(prefix, after, limit)
        except UnreadableValue as error:
            return await self._with_unopened(error)

    async def record(self, id: str) -> ExecutionRecord | None:
        """The record of ``id``; None where there is none, or it can't be read."""
        found, _ = await self.records([id])
        return found[0] if found else None

    async def records(self, ids: list[str]) -> tuple[list[ExecutionRecord], dict[str, UnreadableValue]]:
        """The records of those of ``ids`` that there are, and by id why some of them can't be read."""
        if not ids:
            return [], {}
        try:
            entries = await self._store.host.get([keys.record(id) for id in ids])
        except UnreadableValue as error:
            entries = await self._with_unopened(error)
        return await self.records_in(entries)

    async def records_in(
        self, entries: Iterable[Entry | None]
    ) -> tuple[list[ExecutionRecord], dict[str, UnreadableValue]]:
        """The records that ``entries`` hold, and by id why some of them can't be read."""
        found: list[ExecutionRecord] = []
        damaged: dict[str, UnreadableValue] = {}
        for entry in entries:
            if entry is None:
                continue
            try:
                found.append(await self._store.record_of(entry))
            except UnreadableValue as error:
                if is_of_all(error):
                    raise
                damaged[entry.key.removeprefix(keys.RECORDS)] = error
                self.note(entry.key, error)
        return found, damaged

    async def _with_unopened(self, error: UnreadableValue) -> list[Any]:
        """What was read beside what could not be; the error is raised where nothing of the store can be read."""
        host, page = self._store.host, error.page
        if self._opened is not host and not _any_opened(page or []):
            try:
                some: list[Any] = await host.list("", "", _PROBE)
            except UnreadableValue as other:
                some = other.page or []
            if not _any_opened(some):
                raise error
        if page is None:
            raise error
        self._opened = host
        return page

    def timers(self, entries: list[Entry]) -> list[tuple[int, str, Entry]]:
        """When each timer is due (ms since 1970) and whose it is. What is no timer's key is left out."""
        found: list[tuple[int, str, Entry]] = []
        for entry in entries:
            try:
                found.append((*keys.timer_of(entry.key), entry))
            except ValueError:
                self.note(entry.key, "no timer has such a key")
        return found

    def ids(self, entries: list[Entry]) -> list[str]:
        """The run's id at the end of each index key. What can be none is left out."""
        found: list[str] = []
        for entry in entries:
            id = entry.key.rsplit("/", 1)[1]
            try:
                found.append(check_id(id))
            except InvalidInput:
                self.note(entry.key, "no index has such a key")
        return found


def record_of(values: Any, entry: Entry) -> ExecutionRecord:
    """The record of decoded values; ValueError for what is none, or is not the one of its key."""
    if type(values) is not dict:
        raise ValueError("a record is a map")
    for name, value in values.items():
        types = _FIELDS.get(name)
        if types is not None and type(value) not in types:
            raise ValueError(f"{name} is a {type(value).__name__}")
    for name in _NEEDS:
        if name not in values:
            raise ValueError(f"it lacks {name}")
    for name, kinds in _HOLDS:
        held = values.get(name)
        if held and type(held) is not BlobRef and not kinds.issuperset(map(type, _items(held))):
            raise ValueError(f"{name}: it holds something else")
    if keys.record(values["id"]) != entry.key or values["status"] not in STATUSES:
        raise ValueError(f"it is one of run {values['id']!r}, with the status {values['status']!r}")
    return ExecutionRecord.from_map(values, entry.version)


def _items(held: dict[str, Any] | list[Any]) -> Iterable[Any]:
    return held.values() if type(held) is dict else held


def why(what: str, key: str, error: BaseException) -> AlkalineError:
    """What to say of ``what``, which is kept under ``key`` and could not be read for ``error``."""
    if isinstance(error, UnreadableValue):
        return error
    said = str(error) if isinstance(error, (AlkalineError, ValueError)) else type(error).__name__
    text = f"{what} can't be read: {said}. It is left as it is: restore it"
    return UnreadableValue(text, place=key, reason="damaged")


def _any_opened(page: Iterable[Entry | None]) -> bool:
    return any(entry is not None and type(entry.value) is not Unopened for entry in page)


def is_of_all(error: StoreError) -> bool:
    """Whether nothing of the store can be read: it is sealed, and was opened without its keys."""
    return bool(error.detail.get("reason") == "sealed")
