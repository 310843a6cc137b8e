"""Histories in the browser's IndexedDB: a page or a Web Worker under Pyodide that can be closed mid-run.

    from alkaline_hosts.indexeddb import IndexedDBHost
    async with Runtime(IndexedDBHost("my-app"), workflows=[...]) as runtime: ...

The database is named by the application and must keep its name: another name is another, empty store. A commit is
one JavaScript function (``indexeddb.js``) in one transaction with strict durability; tabs and workers of one origin
may share a database, and the checks of a batch hold across them.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable
from contextvars import Context
from typing import Any

from alkaline_edge.errors import ClosedError, InvalidInput, StoreError, UnknownOutcome
from alkaline_edge.host import Batch, Capabilities, Committed, Conflict, Entry
from alkaline_edge.limits import check_batch

from ._system import System

__all__ = ["IndexedDBHost", "delete_store"]

_REASONS = {
    "full": "the browser's storage quota is used up and nothing was written: delete finished runs, or have the user "
    "grant this site more storage",
    "refused": "the browser refused the batch and nothing was written",
    "lost": "the connection to the database was lost and the browser did not say whether the batch was applied",
    "gone": "the store that held this application's runs is gone: the browser lost or cleared this site's data, or the "
    "user did. Nothing can be resumed; to begin a new, empty store say replace_lost=True",
    "unavailable": "this browser lends no IndexedDB here: private browsing, blocked site data, or not a page or worker",
    "blocked": "the database did not open in time: close this application's other tabs, or reload them",
    "newer": "a newer version of alkaline-edge has upgraded this database: reload the page to get that version",
    "closed": "the host was closed",
}
"""What a caller is told, by the kinds of error that ``indexeddb.js`` names. ``detail["reason"]`` holds the kind."""

_CAPABILITIES = Capabilities(
    name="IndexedDB",
    durability="disk",
    notes=(
        "A browser may clear a site's data when space runs short, unless it has granted persistence; Safari does so "
        "after seven days without a visit.",
    ),
)

_MOST = 2**32 - 1  # IndexedDB counts in 32 bits
_WELL_FORMED = re.compile("[!-~]+").fullmatch


class IndexedDBHost(System):
    """A store in the IndexedDB database ``name`` of this origin.

    ``expected_store``: a ``store_id`` that the application noted earlier, on a server for instance; a store that is
    not that one is an error instead of an empty start. Without it the host remembers, in a second database of this
    origin, which stores it has seen, which tells a deleted store from a new one unless everything was cleared.
    ``replace_lost``: begin anew where an earlier store is gone. ``open_timeout``: seconds until an open that another
    tab holds up is an error. ``ask_to_persist``: ask the browser to keep the data; a worker can only look.

    Raises StoreError where there is no IndexedDB, CPython included; no ``name`` is ERR_INVALID_INPUT.
    """

    _when_closed = "this IndexedDBHost was closed; make a new one"

    def __init__(
        self,
        name: str,
        *,
        expected_store: str | None = None,
        replace_lost: bool = False,
        open_timeout: float = 10.0,
        ask_to_persist: bool = True,
    ) -> None:
        if not name:
            raise InvalidInput("IndexedDBHost needs the name of a database, one per application")
        self._glue = _load_glue()
        if not self._glue.available():
            raise _error("unavailable", "no indexedDB")
        from pyodide.ffi import create_proxy

        self._answers = _Answers()
        self._deliver = create_proxy(self._answers.deliver)
        options = (expected_store or "", replace_lost, int(open_timeout * 1000), ask_to_persist)
        self._store = self._glue.makeStore(name, self._deliver, *options)
        self._watching: list[Callable[[], None]] = []

    @property
    def capabilities(self) -> Capabilities:
        """IndexedDB's abilities and limits."""
        return _CAPABILITIES

    @property
    def persisted(self) -> bool | None:
        """Whether the browser has promised not to clear this site's data; None while it has not answered."""
        answer: str = self._store.persisted
        return {"yes": True, "no": False}.get(answer)

    @property
    def store_id(self) -> str | None:
        """The random id that the database got when it was made; None before the first operation has opened it."""
        return self._store.identity or None

    async def get(self, keys: Iterable[str]) -> list[Entry | None]:
        """The entries of ``keys``, read in one transaction. Raises StoreError, its reason in ``detail``."""
        wanted = list(keys)
        self._open()
        # A key of another form was never put: it is absent, and need not be asked for.
        asked = [key for key in wanted if _WELL_FORMED(key)]
        found: dict[str, Entry] = {}
        if asked:
            head, values = _unpack(await self._read(self._store.get, " ".join(asked)))
            for index, key in enumerate(asked):
                version, length = head[2 * index], int(head[2 * index + 1])
                if version != "-":
                    found[key] = Entry(key, values.take(length), version)
        return [found.get(key) for key in wanted]

    async def list(self, prefix: str, after: str = "", limit: int = 500) -> list[Entry]:
        """As Host.list, in one transaction. Raises StoreError as ``get`` does."""
        self._open()
        if limit <= 0 or after >= prefix + "\x7f":
            return []
        head, values = _unpack(await self._read(self._store.list, prefix, after, min(limit, _MOST)))
        return [Entry(head[at], values.take(int(head[at + 2])), head[at + 1]) for at in range(0, len(head), 3)]

    async def commit(self, batch: Batch) -> Committed | Conflict:
        """Apply the batch in one strict transaction; returns once the browser says that it is complete.

        Raises InvalidInput for a batch over a limit, StoreError when it was refused (``detail["reason"]`` is
        ``full`` when the quota is used up), UnknownOutcome when the connection broke before the answer.
        """
        self._open()
        check_batch(batch, _CAPABILITIES)
        text, content = _batch_text(batch)
        answer = await self._answers.to(self._store.commit, batch.id, text, _to_js(content))
        if not answer:
            return Committed(batch.id)
        if answer.startswith("C "):
            return Conflict(tuple(answer[2:].split(" ")))
        raise _error_of(answer)

    async def close(self) -> None:
        """Close the connection and stop watching; a commit in flight is completed by the browser."""
        if self._closed:
            return
        await super().close()
        for unsubscribe in list(self._watching):
            unsubscribe()
        self._store.close()
        self._answers.when_empty(self._deliver.destroy)

    def is_online(self) -> bool:
        """Whether the browser may have a network, by ``navigator.onLine``; where it does not say, it has."""
        import js

        return getattr(getattr(js, "navigator", None), "onLine", True) is not False

    def when_online(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call ``callback`` at each of the page's ``online`` events; returns the way to stop."""
        import js
        from pyodide.ffi import create_proxy

        self._open()
        proxy = create_proxy(lambda *_: callback())
        js.globalThis.addEventListener("online", proxy)

        def unsubscribe() -> None:
            if unsubscribe in self._watching:
                self._watching.remove(unsubscribe)
                js.globalThis.removeEventListener("online", proxy)
                proxy.destroy()

        self._watching.append(unsubscribe)
        return unsubscribe

    def watch(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call ``callback`` whenever another tab, worker or host object may have committed; returns the way to stop.

        Several commits may make one call. It is also called when the page becomes visible again, since a frozen
        page hears nothing.
        """
        from pyodide.ffi import create_proxy

        self._open()
        proxy = create_proxy(callback)
        self._store.watchers.add(proxy)

        def unsubscribe() -> None:
            if unsubscribe in self._watching:
                self._watching.remove(unsubscribe)
                self._store.watchers.delete(proxy)
                proxy.destroy()

        self._watching.append(unsubscribe)
        return unsubscribe

    async def hold(self, owner: str) -> Callable[[], None] | None:
        """As KnowsOwners: by a Web Lock, which ends with this tab or worker. None where the browser has none."""
        self._open()
        if not await self._store.hold(owner):
            return None
        return lambda: self._store.letGo(owner)

    async def alive(self, owner: str) -> bool:
        """As KnowsOwners. While it is, those who ``watch`` are told when its tab is gone."""
        self._open()
        return bool(await self._store.alive(owner))

    async def sleep(self, seconds: float) -> None:
        """Return after ``seconds``; when a hidden page's timer was held back, as soon as the page is seen again."""
        nap = self._glue.nap(max(0.0, seconds) * 1000)
        try:
            await nap.promise
        finally:
            nap.stop()

    async def _read(self, verb: Any, *arguments: Any) -> bytes:
        answer = await self._answers.to(verb, *arguments)
        if isinstance(answer, str):
            raise _error_of(answer, reading=True)
        content: bytes = answer.to_bytes()
        return content


async def delete_store(name: str, *, timeout: float = 10.0) -> None:
    """Delete the database ``name`` with all runs in it, and forget that it was there; a new host begins anew.

    Open hosts of other tabs let go of it by themselves, and say that the store is gone when they are used again.
    Raises StoreError when something else keeps the database open for ``timeout`` seconds.
    """
    answer: str = await _load_glue().deleteStore(name, int(timeout * 1000))
    if answer:
        raise _error_of(answer)


class _Answer(asyncio.Future[Any]):
    """A future that continues who waits for it at once, not in a later turn of the event loop."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[tuple[Callable[[_Answer], object], Context | None]] = []

    def add_done_callback(self, fn: Callable[[_Answer], object], /, *, context: Context | None = None) -> None:
        """As Future; noted as well."""
        self.waiting.append((fn, context))
        super().add_done_callback(fn, context=context)

    def arrive(self, answer: Any) -> None:
        """Take the answer and run the callbacks. One that was cancelled in the meantime is let be."""
        if self.done():
            return
        for fn, _ in self.waiting:
            self.remove_done_callback(fn)
        self.set_result(answer)
        for fn, context in self.waiting:
            if context is None:
                fn(self)
            else:
                context.run(fn, self)


class _Answers:
    """Operations in flight, by number."""

    def __init__(self) -> None:
        self._loop = asyncio.get_event_loop()
        self._pending: dict[int, _Answer] = {}
        self._last = 0
        self._then: Callable[[], None] | None = None

    async def to(self, verb: Any, *arguments: Any) -> Any:
        """Begin an operation of the store and wait for its answer."""
        self._last = number = self._last + 1
        answer = self._pending[number] = _Answer()
        try:
            verb(number, *arguments)
        except BaseException:
            del self._pending[number]
            raise
        return await answer

    def deliver(self, number: int, answer: Any) -> None:
        """Called from JavaScript, once for every operation, also for one that nobody waits for any more."""
        # Under stack switching each call from JavaScript has a thread state of its own; a task steps only where its
        # loop is the running one. Pyodide's loop does the same for every callback that it runs.
        if asyncio._get_running_loop() is not self._loop:
            asyncio._set_running_loop(self._loop)
        self._pending.pop(number).arrive(answer)
        if self._then is not None and not self._pending:
            self._loop.call_soon(self._then)

    def when_empty(self, then: Callable[[], None]) -> None:
        """Call ``then`` once no operation is in flight."""
        if self._pending:
            self._then = then
        else:
            then()


class _Values:
    """The values of an answer, one behind the other."""

    def __init__(self, content: bytes, at: int) -> None:
        self.content = content
        self.at = at

    def take(self, length: int) -> bytes:
        """The next ``length`` bytes."""
        self.at += length
        return self.content[self.at - length : self.at]


def _unpack(content: bytes) -> tuple[list[str], _Values]:
    """Header words and values of what ``pack`` in ``indexeddb.js`` made."""
    end = 4 + int.from_bytes(content[:4], "little")
    return content[4:end].decode("ascii").split(), _Values(content, end)


def _batch_text(batch: Batch) -> tuple[str, bytes]:
    """The batch as one line of words (see ``parseBatch``), and its values joined."""
    words = [str(len(batch.checks)), str(len(batch.puts)), str(len(batch.deletes))]
    for check in batch.checks:
        words += (check.key, check.version or "-")
    for put in batch.puts:
        words += (put.key, str(len(put.value)))
    words += batch.deletes
    content = batch.puts[0].value if len(batch.puts) == 1 else b"".join(put.value for put in batch.puts)
    return " ".join(words), content


def _error_of(answer: str, reading: bool = False) -> StoreError | ClosedError:
    """The exception for an answer ``E kind text``."""
    _, kind, text = answer.split(" ", 2)
    return _error(kind, text, reading)


def _error(kind: str, text: str, reading: bool = False) -> StoreError | ClosedError:
    message = f"IndexedDB: {_REASONS[kind]} ({text})"
    if kind == "closed":
        return ClosedError(message)
    if kind == "lost" and not reading:
        return UnknownOutcome(message, reason=kind)
    return StoreError(message, reason=kind)


def _to_js(content: bytes) -> Any:
    """A Uint8Array of its own: a view would store the WASM heap behind it."""
    from pyodide.ffi import to_js

    return to_js(content)


def _load_glue() -> Any:
    """The functions of ``indexeddb.js``, made once per interpreter."""
    global _glue
    if _glue is None:
        try:
            from ._browser.expressions import expression
        except ImportError:
            raise _error("unavailable", "this is not Pyodide") from None
        databases, glue = (expression(name) for name in ("indexeddb_databases", "indexeddb"))
        _glue = glue(databases)
    return _glue


_glue: Any = None
