"""Histories in a Cloudflare Durable Object: its SQLite storage, and its alarm for timers and for waking after a crash.

    from alkaline_hosts.durable_object import DurableObjectHost
    class Runs(DurableObject):
        def __init__(self, ctx, env):
            super().__init__(ctx, env)
            self.host = DurableObjectHost(ctx)

One object is one single-threaded writer, so a commit never waits for anybody. It is one SQL statement where that is
enough, else one ``transactionSync``, with no await inside. A response or request leaves the object only once the writes
before it are durable (the platform's output gate), so a commit needs no acknowledgement of its own.

The alarm belongs to the host. Every commit that touches a timer, an inbox or the set of running runs sets it anew in
the same transaction. An object's ``alarm`` handler calls ``alarm_fired``, then ``Runtime.recover`` and
``Runtime.run_due``, and at last ``repair_alarm``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from alkaline_edge import keys
from alkaline_edge.errors import StoreError, UnknownOutcome
from alkaline_edge.host import Batch, Capabilities, Committed, Conflict, Entry
from alkaline_edge.limits import check_batch

from ._cloudflare import sqlite
from ._cloudflare.platform import WorkerPlatform, raw_binding, text_of

__all__ = ["DurableObjectHost"]

_WATCH_MS = 10_000
"""While a run is running or a request waits in an inbox, the alarm is at most this far away: should the object die,
the alarm wakes it, and the run is taken up again. Where none of them could go on, the pause doubles, ring by ring."""
_DAY_MS = 86_400_000
"""While any timer waits, the alarm is at most this far away: a clock that was ahead may have set it too late."""

_LEAST_PAUSE_MS, _LONGEST_PAUSE_MS = 100, 3_600_000
"""A timer that is overdue rings again after as long as it is overdue: its run can't go on here, or is under way."""

_TURN_COMMITS = 256
"""Commits after which other requests to the object have their turn: a run of quick steps would never wait otherwise.

A turn is also where the platform writes what came before it to its disk, which costs as much as some tens of steps."""

_TIMERS, _INBOX, _RUNNING = _ALARMING = keys.TIMERS, keys.INBOXES, keys.with_status("running")
"""The keys that ask for an alarm: the kernel's timers, inboxes and the index of running runs."""

_CAPABILITIES = Capabilities(
    name="a Durable Object",
    durability="replicated",
    exclusive=True,
    synchronous=True,
    max_key=sqlite.MAX_KEY,
    max_value=sqlite.MAX_ROW - sqlite.MAX_KEY - sqlite.ROW_OVERHEAD,
    max_batch_bytes=32 * 1024 * 1024,
    max_batch_keys=5_000,
    notes=(
        "A commit returns before it is on disk; the platform holds back every response and request of the object "
        "until it is.",
        "An object holds 10 GB at most.",
    ),
)

_Entries = list[Entry]

_NOT_KNOWN = -1
_DUE = sqlite.first_last_and_any(_TIMERS, (_INBOX, _RUNNING))


class DurableObjectHost(WorkerPlatform):
    """A store in the SQLite storage of the Durable Object that ``ctx`` is the state of.

    ``alarm=False`` leaves the object's alarm alone: then nothing wakes the object for timers or after a crash, and
    the author sees to it. The class of the object must be bound with SQLite storage (``new_sqlite_classes``), and
    have an ``alarm`` method unless ``alarm=False``. Make one host for one object, in its constructor. ERR_STORE: the
    object has no SQLite storage.
    """

    _name = _CAPABILITIES.name

    def __init__(self, ctx: Any, *, alarm: bool = True) -> None:
        super().__init__()
        state = raw_binding(ctx, "blockConcurrencyWhile", "the ctx of a Durable Object")
        self._storage = state.storage
        if getattr(self._storage, "sql", None) is None:
            raise StoreError(
                "this Durable Object has no SQLite storage; list its class under new_sqlite_classes in a migration"
            )
        self._exec = self._storage.sql.exec
        self._prepared: dict[tuple[str, ...], Any] = {}
        self._blob = _to_js()
        self._sets_alarm = alarm
        self._commits = 0
        self._alarm: int | None = _NOT_KNOWN  # where the alarm is, ms; None: there is none
        self._pause: int | None = None  # how far the alarm is away while something is watched; None: as it is stored
        self._exec(sqlite.create_table("BLOB"))
        self._exec("CREATE TABLE IF NOT EXISTS alkaline_pause (id INTEGER PRIMARY KEY, ms INTEGER NOT NULL)")

    @property
    def capabilities(self) -> Capabilities:
        """A Durable Object's abilities and limits."""
        return _CAPABILITIES

    async def get(self, keys: Iterable[str]) -> list[Entry | None]:
        """As Host.get. One consistent read."""
        self._open()
        wanted = list(keys)
        found: dict[str, Entry] = {}
        for statement in sqlite.get_statements(wanted):
            found.update((entry.key, entry) for entry in self._entries(statement))
        return [found.get(key) for key in wanted]

    async def list(self, prefix: str, after: str = "", limit: int = 500) -> _Entries:
        """As Host.list."""
        self._open()
        return self._entries(sqlite.list_statement(prefix, after, limit))

    async def commit(self, batch: Batch) -> Committed | Conflict:
        """As Host.commit: applied when it returns, durable before anything leaves the object."""
        outcome = self._commit(batch)
        if self._commits % _TURN_COMMITS == 0:
            await self._turn()
        return outcome

    def commit_now(self, batch: Batch) -> Committed | Conflict | None:
        """As ``commit``, which waits for nothing here but to let others have their turn: None when that is due."""
        return None if (self._commits + 1) % _TURN_COMMITS == 0 else self._commit(batch)

    def _commit(self, batch: Batch) -> Committed | Conflict:
        self._open()
        check_batch(batch, _CAPABILITIES)
        statements = sqlite.commit_statements(batch, self._blob)
        alarm = self._sets_alarm and _wants_alarm(batch)
        try:
            if len(statements) == 1 and not alarm:
                self._run(*statements[0])
            elif statements:
                self._transaction(lambda: self._apply(statements, alarm))
        except Exception as error:
            if sqlite.is_conflict(text_of(error)):
                return Conflict(sqlite.failed_checks(batch, self._versions(batch)))
            raise _refused(error) from None
        self._commits += 1
        return Committed(batch.id)

    async def set_alarm(self, at_ms: int | None) -> None:
        """Set the object's alarm to ``at_ms``, ms since 1970, or delete it. The next commit may move it again."""
        self._open()
        if at_ms is None:
            await self._storage.deleteAlarm()
        else:
            await self._storage.setAlarm(at_ms)
        self._alarm = at_ms

    def alarm_fired(self) -> None:
        """Say that the alarm has gone off, which consumes it. The first thing that an ``alarm`` handler does."""
        self._alarm = None

    async def repair_alarm(self, idle: bool = False) -> int | None:
        """Set the alarm to what the store asks for; return where it is now, ms since 1970, None without one.

        For the end of an ``alarm`` handler and for a woken object: a deleted alarm, or one that the platform gave up
        on after its retries, is set again. ``idle``: nothing of what waits could go on, so it rings less and less often
        for that, up to once an hour, until a commit asks for more.
        """
        self._open()
        if idle:
            self._keep_pause(min(_LONGEST_PAUSE_MS, 2 * self._watch_ms()))
        current = await self._storage.getAlarm()
        self._alarm = int(current) if _is_number(current) else None
        if self._sets_alarm:
            self._transaction(self._arm)
        return self._alarm

    async def _turn(self) -> None:
        """Let other events of the object have their turn. asyncio's own sleep of nothing stays within this one."""
        from js import scheduler

        await scheduler.wait(0)

    # --- inside a transaction --------------------------------------------------------------------------------------
    def _apply(self, statements: Sequence[sqlite.Statement], alarm: bool) -> None:
        for statement in statements:
            self._exec(statement.sql, *statement.parameters)
        if alarm:
            if self._watch_ms() != _WATCH_MS:
                self._keep_pause(_WATCH_MS)
            self._arm()

    def _watch_ms(self) -> int:
        if self._pause is None:
            rows = self._exec("SELECT ms FROM alkaline_pause").raw().toArray().to_py()
            self._pause = int(rows[0][0]) if rows else _WATCH_MS
        return self._pause

    def _keep_pause(self, ms: int) -> None:
        """It outlives the object, which the platform lets go of between two alarms."""
        self._exec("INSERT OR REPLACE INTO alkaline_pause (id, ms) VALUES (0, ?)", ms)
        self._pause = ms

    def _arm(self) -> None:
        """Move the alarm to the lowest timer, or nearer while something runs or waits."""
        now = self.now_ms()
        bound = keys.timers_after(now)
        later, overdue, watched = self._exec(_DUE, bound, bound).raw().toArray().to_py()[0]
        timer = _time_of(later, now)
        if isinstance(overdue, str):
            timer = self._again(_time_of(overdue, now) or now, now, timer)
        if timer is not None:
            timer = min(timer, now + _DAY_MS)
        if watched:
            latest = now + self._watch_ms() if timer is None else min(timer, now + self._watch_ms())
            if self._alarm is not None and now < self._alarm <= latest:
                return
            timer = latest
        if timer == self._alarm:
            return
        # Neither is awaited: both write into this transaction at once, and their promises say only that it is durable.
        if timer is None:
            self._storage.deleteAlarm()
        else:
            self._storage.setAlarm(timer)
        self._alarm = timer

    def _again(self, due: int, now: int, later: int | None) -> int:
        """When to ring for a timer that is overdue: at once, but one that could not be woken less and less often."""
        if self._alarm is not None and 0 <= self._alarm <= now:
            return self._alarm  # it is about to ring
        at = now + min(_LONGEST_PAUSE_MS, max(_LEAST_PAUSE_MS, now - due))
        return at if later is None else min(at, later)

    # --- the raw storage -------------------------------------------------------------------------------------------
    def _transaction(self, body: Callable[[], None]) -> None:
        """Run ``body`` in one transaction; what it raises undoes it."""
        from pyodide.ffi import create_once_callable

        alarm, pause = self._alarm, self._pause
        try:
            self._storage.transactionSync(create_once_callable(body))
        except BaseException:
            self._alarm, self._pause = alarm, pause
            raise

    def _run(self, sql: str, parameters: tuple[Any, ...]) -> None:
        """Execute a statement by an ``exec`` that has its text bound, and the fence of a step, the same from step to
        step: turning those into JavaScript strings takes as long as a short statement."""
        count = sqlite.FENCE if sql in sqlite.FENCED else 0
        known = (sql, *parameters[:count])
        (self._prepared.get(known) or self._prepare(known))(*parameters[count:])

    def _prepare(self, known: tuple[str, ...]) -> Any:
        if len(self._prepared) >= 64:  # batches of a shape share theirs; rare shapes are not kept for ever
            self._prepared.clear()
        self._prepared[known] = self._exec.bind(self._storage.sql, *known)
        return self._prepared[known]

    def _entries(self, statement: sqlite.Statement) -> _Entries:
        try:
            rows = self._exec(statement.sql, *statement.parameters).raw().toArray().to_py()
        except Exception as error:
            raise StoreError(f"the Durable Object's storage did not answer a read: {text_of(error)}") from None
        return [Entry(key, bytes(value), version) for key, value, version in rows]

    def _versions(self, batch: Batch) -> dict[str, str]:
        keys = [check.key for check in batch.checks]
        versions: dict[str, str] = {}
        for statement in sqlite.get_statements(keys, "key, version"):
            versions.update(self._exec(statement.sql, *statement.parameters).raw().toArray().to_py())
        return versions


def _wants_alarm(batch: Batch) -> bool:
    """Whether ``batch`` may move the alarm."""
    for key, _ in batch.puts:
        if key.startswith(_ALARMING):
            return True
    return bool(batch.deletes) and any(key.startswith(_ALARMING) for key in batch.deletes)


def _to_js() -> Callable[[bytes], Any]:
    """What makes of bytes what SQLite takes for a BLOB."""
    from pyodide.ffi import to_js

    return to_js  # type: ignore[no-any-return]  # pyodide has no types here


def _time_of(key: Any, now: int) -> int | None:
    """When the timer of a key is due; None for none. What is no timer's key hides others: they are looked for soon."""
    try:
        return keys.timer_of(key)[0] if isinstance(key, str) else None
    except ValueError:
        return now + _WATCH_MS


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _refused(error: Exception) -> StoreError:
    """A commit's error: what SQLite refused was not written; of anything else nothing is known."""
    message = text_of(error)
    if "SQLITE_" in message and "SQLITE_IOERR" not in message:
        return StoreError(f"the Durable Object's storage refused the batch and nothing was written: {message}")
    return UnknownOutcome(f"the Durable Object's storage failed during a commit: {message}")
