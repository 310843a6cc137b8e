"""A file: one append-only log on a local disk, one writer, any number of readers. See ``_file.format`` for its bytes.

A commit is one write and one sync, which the runs of a process that commit at the same time share. Large files are no
problem for the log; every key and every value up to 4 KiB is held in memory, so a store wants as much memory as its
live small values. Not meant for network file systems, and not tried on Windows.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
import threading
from collections.abc import Callable, Iterable, Sequence

from alkaline_edge.arguments import expect
from alkaline_edge.errors import AlkalineError, InvalidInput, NotFound, StoreError, UnknownOutcome
from alkaline_edge.host import Batch, Capabilities, Committed, Conflict, Entry
from alkaline_edge.limits import check_batch

from ._file.group import Group, Waiting, first_part
from ._file.lock import WriterLock
from ._file.log import CutFailed, Displaced, Log, SyncFailed, check, create, remove, sync_directory, temporary
from ._system import Threaded

__all__ = ["FileHost"]

_MIN_GARBAGE = 4 * 1024 * 1024
"""Bytes of garbage below which a log is not compacted by itself."""
_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC), errno.EFBIG)
_DENIED = (errno.EACCES, errno.EPERM, errno.EROFS)


class FileHost(Threaded):
    """Keeps everything in the file ``path``, which is created when it is not there; its directory must be.

    ``read_only=True`` takes no lock and follows the file beside its writer: each ``get`` and ``list`` sees what had
    been written by then (a commit may be seen a moment before it is durable). ``fsync=False`` leaves the sync to the
    system: commits survive a kill of the process, not of the machine.

    A ``path`` that can be no file's is ERR_INVALID_INPUT. Opening raises StoreError (not our file, damaged, written by
    a newer release, not permitted), ConflictError (another writer has it) and, read-only, NotFound. A torn last record,
    left by a crash, is cut off; ``healed`` is how many bytes. One writer per file, for all processes; use a host from
    one process, not across a fork.
    """

    def __init__(self, path: str | os.PathLike[str], *, read_only: bool = False, fsync: bool = True) -> None:
        expect(path, (str, os.PathLike), "FileHost(path=)", "a path")
        for given, what in ((read_only, "read_only"), (fsync, "fsync")):
            expect(given, bool, f"FileHost({what}=)", "True or False")
        try:
            os.fsencode(path)
        except UnicodeError:
            raise InvalidInput("FileHost(path=) holds a lone surrogate, which no file's name can") from None
        if b"\0" in os.fsencode(path):
            raise InvalidInput("FileHost(path=) holds a NUL, which no file's name can")
        self.read_only = read_only
        self.healed = 0
        self.capabilities = Capabilities(
            "file",
            durability="disk" if fsync else "process",
            threads=sys.platform != "emscripten",
            exclusive=True,
            synchronous=True,
            segment_commits=0,
            notes=() if fsync else ("A power loss can take the last seconds, and leave a file that is damaged.",),
        )
        self._fsync = fsync
        self._path = os.path.realpath(path)  # a rename over a symbolic link would replace the link
        self._name = os.path.basename(self._path)
        self._mutex = threading.Lock()
        self._group = Group() if fsync and not read_only else None
        self._broken: str | None = None
        self._lock: WriterLock | None = None
        self._compact_from = _MIN_GARBAGE
        self._log = self._opened(self._open_reader if read_only else self._open_writer)

    # --- opening -----------------------------------------------------------------------------------------------------
    def _opened(self, opener: Callable[[], Log]) -> Log:
        try:
            return opener()
        except OSError as error:
            raise self._refused("opened", error) from error

    def _open_reader(self) -> Log:
        try:
            return Log(self._path, writable=False)
        except FileNotFoundError as error:
            raise NotFound(
                f"there is no file {self._name}: check the path, or open it without read_only=True to create it"
            ) from error

    def _open_writer(self) -> Log:
        self._refuse_foreign()
        self._lock = WriterLock(self._path)
        try:
            if not os.path.exists(self._path) or os.stat(self._path).st_size == 0:
                create(self._path, os.urandom(8))
            log = Log(self._path, writable=True)
            try:
                remove(temporary(self._path))  # left by a compaction that did not finish
                torn = log.follow()
                if torn:
                    log.cut_tail()
                    self.healed = torn
                if self._fsync:
                    log.secure()
            except BaseException:
                log.close()
                raise
            return log
        except BaseException:
            self._lock.release()
            raise

    def _refuse_foreign(self) -> None:
        # Before the lock: no lock file is left beside a file that is not ours.
        try:
            status = os.stat(self._path)
        except FileNotFoundError:
            return
        if not stat.S_ISREG(status.st_mode):
            kind = "a directory" if stat.S_ISDIR(status.st_mode) else "not a regular file"
            raise StoreError(f"{self._name} is {kind}: give FileHost the path of a file")
        if status.st_size:
            check(self._path)

    # --- the contract ------------------------------------------------------------------------------------------------
    async def get(self, keys: Iterable[str]) -> list[Entry | None]:
        """As Host.get. Large values are read from the file, blocking."""
        with self._mutex:
            log = self._readable()
            entries = log.index.entries
            found: list[Entry | None] = []
            for key in keys:
                kept = entries.get(key)
                found.append(kept if kept is None or type(kept) is Entry else self._reading(log.entry, key))
            return found

    async def list(self, prefix: str, after: str = "", limit: int = 500) -> list[Entry]:
        """As Host.list."""
        with self._mutex:
            log = self._readable()
            found = (self._reading(log.entry, key) for key in log.index.keys().under(prefix, after, limit))
            return [entry for entry in found if entry is not None]

    async def commit(self, batch: Batch) -> Committed | Conflict:
        """As Host.commit; blocks for the write and the sync, at once or together with those of other tasks.

        StoreError: nothing was written (the disk is full, the host is read-only or broken). UnknownOutcome: the sync
        failed; the host is broken from then on, and a new one for the same file finds out what is there.
        """
        group = self._group
        if group is not None and not group.is_alone():
            with self._mutex:
                shared = self._writable().groups
            if shared:
                check_batch(batch, self.capabilities)
                waiting = group.join(batch, _id_bytes(batch.id), self._commit_all)
                if waiting is not None:
                    return await waiting.answer
        return self._commit_alone(batch)

    def commit_now(self, batch: Batch) -> Committed | Conflict | None:
        """As ``commit`` of a task that commits alone; None where others do by turns, with whom it shares a sync."""
        if self._group is not None and not self._group.takes_now():
            return None
        return self._commit_alone(batch)

    def _commit_alone(self, batch: Batch) -> Committed | Conflict:
        with self._mutex:
            log = self._writable()
            check_batch(batch, self.capabilities)
            entries = log.index.entries
            if batch.checks:
                failed: list[str] = []
                for key, version in batch.checks:
                    kept = entries.get(key)
                    if (None if kept is None else kept.version) != version:
                        failed.append(key)
                if failed:
                    return Conflict(tuple(failed))
            id = _id_bytes(batch.id)
            deletes = [key for key in batch.deletes if key in entries] if batch.deletes else []
            if batch.puts or deletes:
                self._append(log, log.append, batch, id, deletes)
            return Committed(batch.id)

    async def close(self) -> None:
        """As Host.close. Commits that wait for others are made; then the next writer is let in."""
        if self._group is not None:
            self._group.flush(self._commit_all)
        with self._mutex:
            if not self._closed:
                self._closed = True
                self._log.close()
                if self._lock is not None:
                    self._lock.release()

    async def compact(self) -> None:
        """Rewrite the file with nothing but the live keys; blocks. A crash at any point leaves a whole file.

        StoreError leaves the old file in use, unless it says that the host must be reopened. It needs as much free
        space as the live data. Done by itself when garbage is over 4 MiB and more than the live data.
        """
        with self._mutex:
            self._compact(self._writable())

    # --- states ------------------------------------------------------------------------------------------------------
    def _readable(self) -> Log:
        self._open()
        if self._broken is not None:
            raise StoreError(self._broken)
        if self.read_only:
            self._follow()
        return self._log

    def _writable(self) -> Log:
        self._open()
        if self._broken is not None:
            raise StoreError(self._broken)
        if self._lock is None:
            raise StoreError(f"{self._name} was opened with read_only=True; open it without to write")
        if not self._lock.held:
            raise StoreError(f"{self._name} was opened by the process that forked this one; open a new host here")
        return self._log

    def _follow(self) -> None:
        try:
            status = os.stat(self._path)
            log = self._log
            if (status.st_dev, status.st_ino) != log.identity or status.st_size < log.end:
                self._log = Log(self._path, writable=False)  # compacted, or replaced: everything is read again
                log.close()
            elif status.st_size != log.end:
                log.follow()
        except FileNotFoundError as error:
            raise StoreError(f"{self._name} is gone: it was moved or deleted while it was open") from error
        except OSError as error:
            raise self._refused("read", error) from error

    def _reading(self, read: Callable[[str], Entry | None], key: str) -> Entry | None:
        try:
            return read(key)
        except OSError as error:
            raise self._refused("read", error) from error

    # --- writing -----------------------------------------------------------------------------------------------------
    def _commit_all(self, waiting: Sequence[Waiting]) -> None:
        """Commit those that waited for each other, in their order, and answer each of them."""
        with self._mutex:
            try:
                log = self._writable()
            except AlkalineError as error:
                for one in waiting:
                    one.fail_as(error)
                return
            while waiting:
                part, waiting = first_part(log.index.entries, waiting)
                if part:
                    self._commit_part(log, part)

    def _commit_part(self, log: Log, part: Sequence[Waiting]) -> None:
        """Write and sync what goes into one record; where the system refuses all of it, each by itself."""
        try:
            if len(part) == 1:
                self._append(log, log.append, part[0].batch, part[0].id, part[0].deletes)
            else:
                self._append(log, log.append_group, [(one.id, one.batch.puts, one.deletes) for one in part])
        except AlkalineError as error:
            if self._broken is not None or len(part) == 1:
                for one in part:
                    one.fail_as(error)
                return
            for one in part:  # one after another: a smaller one may find room, and one that depends on it is refused
                alone, _ = first_part(log.index.entries, [one])
                if alone:
                    self._commit_part(log, alone)
        except BaseException as error:
            for one in part:
                one.fail(self._unknown(error))
            raise
        else:
            for one in part:
                one.succeed(Committed(one.batch.id))

    def _unknown(self, error: BaseException | None) -> UnknownOutcome:
        return UnknownOutcome(
            f"the system could not sync {self._name} ({_reason(error)}): it is not known whether the commit is on the "
            "disk. Open a new host for the file: it goes on from what is really there"
        )

    def _append(self, log: Log, append: Callable[..., None], *what: object) -> None:
        try:
            append(*what, self._fsync)
        except SyncFailed as error:
            self._break("a sync failed")
            raise self._unknown(error.__cause__) from error
        except Displaced as error:
            self._break("the file was deleted, replaced or cut by something else while it was open")
            raise StoreError(f"{self._broken}; nothing was committed") from error
        except CutFailed as error:
            self._break("a write failed")
            raise StoreError(f"{self._broken} ({_reason(error.__cause__)}); nothing was committed") from error
        except OSError as error:
            if error.errno not in _FULL:
                self._break("a write failed")
            raise self._refused("written", error) from error
        except BaseException:
            # A KeyboardInterrupt between the write and the index: memory no longer says what the file says.
            self._break("a commit was interrupted")
            raise
        garbage = log.end - log.index.live
        if garbage > self._compact_from and garbage > log.index.live:
            try:
                self._compact(log)
            except AlkalineError:
                # The commit is durable and must not fail for this; try again when there is twice the garbage.
                self._compact_from = 2 * garbage

    def _compact(self, log: Log) -> None:
        try:
            fresh = log.compacted(os.urandom(8))
            try:
                os.replace(fresh.path, self._path)
            except OSError:
                with contextlib.suppress(OSError):
                    remove(fresh.path)
                raise
        except OSError as error:
            raise self._refused("compacted", error) from error
        # From here on the old file has no name, and nothing may be acknowledged that only it holds.
        try:
            sync_directory(self._path)
            log.adopt(fresh)
        except BaseException as error:
            self._break("a compaction could not be finished")
            if not isinstance(error, OSError):
                raise
            raise StoreError(f"{self._broken} ({_reason(error)})") from error
        self._compact_from = _MIN_GARBAGE

    def _break(self, why: str) -> None:
        self._broken = (
            f"{why}, so this host can't be trusted with {self._name} any more: close it and open a new one, which "
            "goes on from what is on the disk"
        )

    def _refused(self, what: str, error: OSError) -> StoreError:
        if error.errno in _FULL:
            advice = "there is no space left. Nothing was written and nothing is lost: make room and try again"
        elif error.errno in _DENIED:
            advice = (
                "this process may not do that: check the permissions of the file and of its directory, or open it "
                "with read_only=True"
            )
        elif error.errno == errno.ENOENT:
            advice = "its directory does not exist: create it first"
        else:
            advice = "nothing was written; look into the state of the disk, then open a new host for the file"
        return StoreError(f"{self._name} can't be {what} ({_reason(error)}): {advice}", errno=error.errno)


def _id_bytes(id: str) -> bytes:
    try:
        raw = bytes.fromhex(id)
    except (ValueError, TypeError):
        raw = b""
    if len(raw) != 8 or raw.hex() != id:
        raise InvalidInput("a batch id is 16 lowercase hexadecimal digits; nothing was written")
    return raw


def _reason(error: BaseException | None) -> str:
    # strerror only: str(error) holds the path
    return getattr(error, "strerror", None) or type(error).__name__
