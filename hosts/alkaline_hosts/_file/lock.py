"""One writer at a time: a lock on a file of its own, beside the log.

The lock is ``flock``, which the system drops when its holder dies, on ``<log>.lock``, never on the log itself, which
compaction replaces. The lock file is never deleted: deleting it would let two processes lock two files of one name.
``fcntl`` record locks are not used: the system grants them twice within one process and drops them when any handle
of the file is closed. A table of the locks that this process holds stands beside ``flock``, for file systems (NFS)
that build one out of the other.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import threading
from weakref import WeakValueDictionary

from alkaline_edge.errors import ConflictError

if sys.platform == "win32":
    import msvcrt

    def _lock(fd: int) -> None:
        os.lseek(fd, 0, os.SEEK_SET)
        msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
else:
    try:
        import fcntl
    except ImportError:  # a build of Python without it, as in the browser: the table of this process is all there is

        def _lock(fd: int) -> None:
            return
    else:

        def _lock(fd: int) -> None:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)


_TAKEN = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES, errno.EDEADLK)

# Weak: a host that was dropped without close() lets its lock go.
_held: WeakValueDictionary[str, WriterLock] = WeakValueDictionary()
_guard = threading.RLock()  # reentrant: the collector may drop a host while another is being opened


class WriterLock:
    """Held from construction until ``release``. ``held`` turns False in a process forked from the holder."""

    held = False

    def __init__(self, log: str) -> None:
        """Lock the log at the real path ``log``. ConflictError: it is held; OSError: no lock file can be made."""
        self._log = log
        name = os.path.basename(log)
        with _guard:
            if log in _held:
                raise ConflictError(
                    f"this process already has {name} open for writing: use that host (one host may serve several "
                    "runtimes), close it first, or open the file with read_only=True"
                )
            fd = os.open(log + ".lock", os.O_RDWR | os.O_CREAT, 0o600)
            try:
                _lock(fd)
            except OSError as error:
                holder = _holder(fd)
                os.close(fd)
                if error.errno not in _TAKEN:
                    raise  # a file system that has no locks at all
                raise ConflictError(
                    f"another process{holder} has {name} open for writing: stop it, or open the file with "
                    "read_only=True, which works beside a writer"
                ) from error
            with contextlib.suppress(OSError):  # the number is for the message above; the lock does without it
                os.ftruncate(fd, 0)
                os.write(fd, str(os.getpid()).encode())
            self._fd = fd
            self.held = True
            _held[log] = self

    def release(self) -> None:
        """Let the next writer in. Calling it twice is allowed."""
        with _guard:
            if self.held:
                self.held = False
                _held.pop(self._log, None)
                os.close(self._fd)

    def __del__(self) -> None:
        if self.held:
            self.release()

    def _forget(self) -> None:
        self.held = False
        os.close(self._fd)  # closes this process's handle; the lock stays with the parent's


def _holder(fd: int) -> str:
    try:
        os.lseek(fd, 0, os.SEEK_SET)
        pid = os.read(fd, 20)
    except OSError:
        return ""
    return f" (pid {pid.decode()})" if pid.isdigit() else ""


def _after_fork() -> None:
    # A child shares the parent's lock, and would write beside it.
    global _guard
    _guard = threading.RLock()
    for lock in list(_held.values()):
        lock._forget()
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
