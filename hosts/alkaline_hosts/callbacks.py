"""Callbacks: a host made of plain callables, for a store that has no host yet. JavaScript functions are welcome.

    get(keys: list[str])                -> a list, in the order of ``keys``, of an entry or None
    list(prefix, after, limit)          -> a list of entries, ascending, behind ``after``, at most ``limit``
    commit({"id": str,
            "checks": [[key, version or None], ...],
            "puts": [[key, bytes], ...],
            "deletes": [key, ...]})     -> True or {"committed": True}, or {"conflict": [keys whose check failed]}
    now_ms() -> int      entropy(n) -> n bytes      sleep(seconds)      close()

An entry is an ``Entry``, a mapping with ``key``, ``value`` and ``version``, a sequence of these three, or an object
with these attributes; the version is the ``id`` of the commit that put it last. ``Committed`` and ``Conflict`` will do
as well. Each callable may be sync or return something to await, but for ``now_ms`` and ``entropy``, which are sync.

Under Pyodide a JavaScript function gets arrays, plain objects and Uint8Arrays of its own, undefined or null for None,
and may return a promise, arrays, objects, Uint8Arrays and null. Checks, puts and deletes must be one transaction.

An exception of ``commit`` leaves its outcome unknown, and the kernel reads back; raise an ``AlkalineError`` such as
``StoreError`` to say that nothing was written.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from alkaline_edge.arguments import expect, expect_call
from alkaline_edge.errors import InvalidInput, StoreError, UnknownOutcome
from alkaline_edge.host import Batch, Capabilities, Committed, Conflict, Entry
from alkaline_edge.limits import check_batch

from ._system import Threaded

__all__ = ["CallbackHost"]

_ENTRY = "an Entry, {key, value, version} or [key, value, version]"
_OUTCOME = 'True, {"committed": True} or {"conflict": [key, ...]}'
_UNKNOWN = Capabilities(
    "callbacks",
    durability="weak",
    notes=("What the callables keep, and for how long, is theirs to know: pass capabilities= to say it.",),
)


class CallbackHost(Threaded):
    """The contract over the callables that it is given; see this module's docstring for how they are called.

    ``now_ms``, ``entropy`` and ``sleep`` are the system's unless given, and ``close`` is called once. What is no
    function is ERR_INVALID_INPUT. ``capabilities`` says what the store behind the callables can do; the host enforces
    the limits in it. An answer of the wrong shape is a StoreError that says what came. ``is_online``: whether
    there is a network, for steps that wait for one.
    """

    def __init__(
        self,
        *,
        get: Callable[..., Any],
        list: Callable[..., Any],
        commit: Callable[..., Any],
        now_ms: Callable[[], Any] | None = None,
        entropy: Callable[[int], Any] | None = None,
        sleep: Callable[[float], Any] | None = None,
        close: Callable[[], Any] | None = None,
        capabilities: Capabilities | None = None,
        is_online: Callable[[], Any] | None = None,
    ) -> None:
        for name, given in (("get", get), ("list", list), ("commit", commit)):
            if not callable(given):
                raise InvalidInput(f"CallbackHost wants a callable as {name}=, not a {type(given).__name__}")
        others = {"now_ms": now_ms, "entropy": entropy, "sleep": sleep, "close": close}
        for name, optional in {**others, "is_online": is_online}.items():
            expect_call(optional, f"CallbackHost({name}=)", "a function, or None")
        expect(capabilities, (Capabilities, type(None)), "CallbackHost(capabilities=)", "a Capabilities")
        self.capabilities = capabilities or _UNKNOWN
        self._get, self._list, self._commit = get, list, commit
        self._now_ms, self._entropy, self._sleep, self._close = now_ms, entropy, sleep, close
        self._is_online = is_online

    async def get(self, keys: Iterable[str]) -> list[Entry | None]:
        """As Host.get."""
        self._open()
        return await _get(self._get, [*keys])

    async def list(self, prefix: str, after: str = "", limit: int = 500) -> list[Entry]:
        """As Host.list."""
        self._open()
        return await _list(self._list, prefix, after, limit)

    async def commit(self, batch: Batch) -> Committed | Conflict:
        """As Host.commit."""
        self._open()
        check_batch(batch, self.capabilities)
        answer = await _call(
            self._commit,
            {
                "id": batch.id,
                "checks": [[key, version] for key, version in batch.checks],
                "puts": [[key, bytes(value)] for key, value in batch.puts],
                "deletes": [*batch.deletes],
            },
        )
        return _outcome(answer, batch)

    async def close(self) -> None:
        """As Host.close; the callable is called once."""
        if not self._closed:
            await super().close()
            if self._close is not None:
                await _call(self._close)

    def now_ms(self) -> int:
        """The clock that was given, otherwise the system's."""
        if self._now_ms is None:
            return super().now_ms()
        now = self._now_ms()
        if isinstance(now, bool) or not isinstance(now, (int, float)) or now != now:
            raise StoreError(f"now_ms returned {_shape(now)}; return milliseconds since 1970, a number, not awaited")
        return int(now)

    def entropy(self, n: int) -> bytes:
        """The entropy that was given, otherwise the system's."""
        if self._entropy is None:
            return super().entropy(n)
        drawn = _bytes(_plain(self._entropy(n)))
        if drawn is None or len(drawn) != n:
            came = "something that is no bytes" if drawn is None else f"{len(drawn)} bytes"
            raise StoreError(f"entropy({n}) returned {came}; return {n} random bytes, not awaited")
        return drawn

    def is_online(self) -> bool:
        """What the callable that was given says, otherwise True."""
        return self._is_online is None or bool(_plain(self._is_online()))

    async def sleep(self, seconds: float) -> None:
        """As Host.sleep, by the one that was given, otherwise by the system's."""
        if self._sleep is None:
            await super().sleep(seconds)
        else:
            await _call(self._sleep, seconds)


# --- calling --------------------------------------------------------------------------------------------------------
async def _call(fn: Callable[..., Any], *args: Any) -> Any:
    """What ``fn`` returns, awaited where it can be, as Python values. A JavaScript function gets JavaScript values."""
    if _is_javascript(fn):
        args = tuple(_to_js(arg) for arg in args)
    answer = fn(*args)
    return _plain(await answer if inspect.isawaitable(answer) else answer)


def _is_javascript(value: Any) -> bool:
    return hasattr(value, "js_id") and hasattr(value, "typeof")  # what every JsProxy has


def _to_js(value: Any) -> Any:
    if isinstance(value, (str, int, float)):
        return value
    from js import Object
    from pyodide.ffi import to_js

    return to_js(value, dict_converter=Object.fromEntries)


def _plain(value: Any) -> Any:
    """A JavaScript value as a Python one; whatever else as it is. null and undefined are None."""
    if type(value).__name__ in ("JsNull", "JsUndefined"):
        return None
    return value.to_py() if hasattr(value, "to_py") else value


def _bytes(value: Any) -> bytes | None:
    """A copy of whatever holds bytes, None where it is something else."""
    value = _plain(value)
    if isinstance(value, memoryview):
        return value.tobytes()
    if isinstance(value, (bytes, bytearray)):
        return bytes(value)
    if hasattr(value, "to_bytes") and not isinstance(value, int):
        return bytes(value.to_bytes())
    return None


# --- answers --------------------------------------------------------------------------------------------------------
def _shape(value: Any) -> str:
    """What a value is, for a message: its type, and the names or number of its parts, never what it holds."""
    if value is None or isinstance(value, bool):
        return str(value)
    name = type(value).__name__
    if isinstance(value, Mapping):
        return f"a {name} with the keys {sorted(map(str, value))[:8]}"
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes, bytearray)):
        return f"a {name} of {len(value)}"
    return f"a {name}"


def _entry(value: Any, call: str) -> Entry:
    """The entry that a callable returned, in any of its forms."""
    value = _plain(value)
    parts: Any = None
    if isinstance(value, Mapping):
        parts = [value.get(name) for name in Entry._fields]
    elif isinstance(value, Sequence) and not isinstance(value, (str, bytes, bytearray)):
        parts = value if len(value) == 3 else None
    elif all(hasattr(value, name) for name in Entry._fields):
        parts = [getattr(value, name) for name in Entry._fields]
    if parts is None:
        raise StoreError(f"{call} returned {_shape(value)} for an entry; expected {_ENTRY}")
    key, data, version = parts[0], _bytes(parts[1]), parts[2]
    if not isinstance(key, str) or data is None or not isinstance(version, str):
        types = ", ".join(type(part).__name__ for part in parts)
        raise StoreError(f"{call} returned an entry of the types ({types}); expected a key: str, bytes, a version: str")
    return Entry(str(key), data, str(version))


def _items(value: Any, call: str, expected: str) -> list[Any]:
    if not isinstance(value, Sequence) or isinstance(value, (str, bytes, bytearray)):
        raise StoreError(f"{call} returned {_shape(value)}; expected {expected}")
    return [*value]


async def _get(fn: Callable[..., Any], keys: list[str]) -> list[Entry | None]:
    if not keys:
        return []
    found = _items(await _call(fn, keys), "get", f"a list of {len(keys)}: for each key an entry or None")
    if len(found) != len(keys):
        raise StoreError(f"get returned {len(found)} items for {len(keys)} keys; return one each, None where absent")
    entries = [None if _plain(item) is None else _entry(item, "get") for item in found]
    for key, entry in zip(keys, entries, strict=True):
        if entry is not None and entry.key != key:
            raise StoreError(f"get returned the entry of {entry.key!r} in the place of {key!r}; keep the keys' order")
    return entries


async def _list(fn: Callable[..., Any], prefix: str, after: str, limit: int) -> list[Entry]:
    found = _items(await _call(fn, prefix, after, limit), "list", "a list of entries")
    if len(found) > limit:
        raise StoreError(f"list returned {len(found)} entries with limit={limit}; return at most that many")
    entries = [_entry(item, "list") for item in found]
    last = after
    for entry in entries:
        if not entry.key.startswith(prefix):
            raise StoreError(f"list returned the key {entry.key!r} for the prefix {prefix!r}; return its keys alone")
        if entry.key <= last:
            raise StoreError(f"list returned the key {entry.key!r} behind {last!r}; order by bytes, after is exclusive")
        last = entry.key
    return entries


def _outcome(answer: Any, batch: Batch) -> Committed | Conflict:
    """What a commit's answer means. One that can't be understood leaves the outcome unknown."""
    if isinstance(answer, Committed) and answer.version == batch.id:
        return answer
    committed = answer if isinstance(answer, bool) else None
    conflict: Any = answer.keys if isinstance(answer, Conflict) else None
    if isinstance(answer, Mapping):
        committed, conflict = answer.get("committed"), _plain(answer.get("conflict"))
    if conflict is not None:
        keys = tuple(_items(conflict, "commit", _OUTCOME))
        if not keys or not {*keys} <= {check.key for check in batch.checks}:
            raise StoreError(
                f"commit returned a conflict on {len(keys)} keys that are not among those it was to check; "
                "name at least one key whose check failed, and no other"
            )
        return Conflict(keys)
    if committed is True:
        return Committed(batch.id)
    raise UnknownOutcome(f"commit returned {_shape(answer)}; expected {_OUTCOME}. It may have been applied")
