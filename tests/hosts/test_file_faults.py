"""The file host when the system refuses: a full disk, a failing sync, a compaction that can't be finished."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from alkaline_edge.errors import StoreError, UnknownOutcome
from alkaline_edge.host import Committed
from alkaline_hosts import file
from alkaline_hosts._file import log as file_log
from alkaline_hosts._file.log import temporary
from alkaline_hosts.file import FileHost
from tests.hosts.file_support import contents, drive, ends, put, puts, reopened, written


def failing(number: int, *, after: int = 0, real: Callable[..., Any] | None = None) -> Callable[..., Any]:
    """A system call that fails with ``number`` after ``after`` calls of ``real``."""
    calls = iter(range(10**9))

    def call(*arguments: Any, **options: Any) -> Any:
        if next(calls) < after:
            assert real is not None
            return real(*arguments, **options)
        raise OSError(number, os.strerror(number), "/secret/path")

    return call


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("no tmpfs can be mounted here; test_a_file_that_may_not_grow covers the refusal")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


async def filled(host: FileHost, size: int) -> int:
    """Commit values of ``size`` bytes until the host refuses. Returns how many it took."""
    for n in range(10_000):
        try:
            await host.commit(put(f"k{n}", bytes([n % 256]) * size))
        except StoreError as refused:
            said = f"{type(refused).__name__} {refused}"
        else:
            continue
        assert said.startswith("StoreError")
        assert "no space left. Nothing was written and nothing is lost" in said
        return n
    raise AssertionError("the disk never filled up")


@pytest.mark.parametrize("size", [100, 5_000, 70_000])
def test_a_full_disk(small_disk: Path, size: int) -> None:
    """ENOSPC is a StoreError and nothing is lost. Once there is space the same host goes on, and so does a new one."""
    path = small_disk / "a.alkaline"
    (small_disk / "ballast").write_bytes(bytes(20_000))

    async def fill() -> dict[str, tuple[bytes, str]]:
        host = FileHost(path)
        taken = await filled(host, size)
        assert set(await contents(host)) == {f"k{n}" for n in range(taken)}
        with pytest.raises(StoreError, match="no space left"):
            await host.commit(put("more", bytes(size)))
        assert await contents(host) == reopened_beside(path)
        (small_disk / "ballast").unlink()
        await host.commit(puts("k0", on=b"and on"))
        kept = await contents(host)
        assert len(kept) == taken
        await host.close()
        return kept

    kept = drive(fill)
    assert reopened(path) == kept


def reopened_beside(path: Path) -> dict[str, tuple[bytes, str]]:
    """What a reader sees in the file itself, read from its beginning."""
    reader = FileHost(path, read_only=True)
    return {key: (entry.value, entry.version) for key in reader._log.index.entries if (entry := reader._log.entry(key))}


def test_a_full_disk_before_there_is_a_file(small_disk: Path) -> None:
    """A store that can't be created is refused, and nothing is left behind but the lock file."""
    (small_disk / "ballast").write_bytes(bytes(200_000))
    with contextlib.suppress(OSError), open(small_disk / "rest", "wb", buffering=0) as rest:
        while rest.write(bytes(4096)):
            pass
    with pytest.raises(StoreError, match="no space left"):
        FileHost(small_disk / "a.alkaline")
    assert not {each.name for each in small_disk.iterdir()} - {"ballast", "rest", "a.alkaline.lock"}


def test_a_file_that_may_not_grow(tmp_path: Path) -> None:
    """A file size limit refuses a part of a record: the part is cut off again, and the host goes on below the limit."""
    path = tmp_path / "a.alkaline"
    before, ignored = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    async def fill() -> None:
        host = FileHost(path)
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
            taken = await filled(host, 3_000)
            size = path.stat().st_size
            assert size < 50_000
            with pytest.raises(StoreError, match="no space left"):  # a prefix defined by a refused record is forgotten
                await host.commit(put("new/prefix/a0", bytes(3_000)))
            assert path.stat().st_size == size
            await host.commit(put("new/prefix/a1", b"small"))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        await host.commit(put("new/prefix/a2", bytes(3_000)))
        assert len(await contents(host)) == taken + 2
        kept = await contents(host)
        await host.close()
        assert reopened_beside(path) == kept

    try:
        drive(fill)
    finally:
        signal.signal(signal.SIGXFSZ, ignored)


def test_a_failed_sync_poisons_the_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After EIO from the sync nobody knows: UnknownOutcome, then every call is a StoreError. Reopening heals."""
    path = tmp_path / "a.alkaline"

    async def fail() -> None:
        host = FileHost(path)
        await host.commit(put("a", b"1"))
        with monkeypatch.context() as patch:
            patch.setattr(file_log, "sync", failing(errno.EIO))
            with pytest.raises(UnknownOutcome, match="not known whether") as caught:
                await host.commit(put("b", b"2"))
            assert "/secret" not in str(caught.value)
        for call in (host.commit(put("c", b"3")), host.get(["a"]), host.list(""), host.compact()):
            with pytest.raises(StoreError, match=r"sync failed.*open a new one"):
                await call
        await host.close()

    drive(fail)
    assert set(reopened(path)) == {"a", "b"}  # this time it was there


def test_reopening_writes_and_syncs_the_last_record_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A record whose sync failed is in the system's memory and perhaps nowhere else, and counts as clean there.

    So a new host writes it once more and syncs, before anything is built on it; when that fails, so does opening.
    """
    path = tmp_path / "a.alkaline"
    written(path, 3)
    raw, calls = path.read_bytes(), list[tuple[str, bytes]]()
    write, sync = os.write, os.fsync

    def watched_write(fd: int, data: bytes) -> int:
        calls.append(("write", data))
        return write(fd, data)

    def watched_sync(fd: int) -> None:
        calls.append(("sync", b""))
        sync(fd)

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", watched_write)
        patch.setattr(os, "fsync", watched_sync)
        host = FileHost(path)
    last = raw[ends(raw)[-2] :]
    assert calls[-2:] == [("write", last), ("sync", b"")]
    assert path.read_bytes() == raw
    drive(host.close)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing(errno.EIO))
        with pytest.raises(StoreError, match="can't be opened"):
            FileHost(path)
    assert len(reopened(path)) == 3


def test_a_failed_write_poisons_the_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """EIO from a write, or a half written record that can't be cut off: nothing was committed, and reopening heals."""
    path = tmp_path / "a.alkaline"
    real = os.write

    def half(fd: int, raw: bytes) -> int:
        return real(fd, raw[: len(raw) // 2])

    async def fail(patches: dict[str, Callable[..., Any]]) -> None:
        host = FileHost(path)
        with monkeypatch.context() as patch:
            for name, fake in patches.items():
                patch.setattr(os, name, fake)
            with pytest.raises(StoreError) as caught:
                await host.commit(put("lost", b"x" * 100))
            assert not isinstance(caught.value, UnknownOutcome)
        with pytest.raises(StoreError, match="write failed"):
            await host.commit(put("c", b"3"))
        await host.close()

    drive(lambda: fail({"write": failing(errno.EIO)}))
    assert reopened(path) == {}
    drive(lambda: fail({"write": failing(errno.ENOSPC, after=1, real=half), "ftruncate": failing(errno.EIO)}))
    assert path.stat().st_size > 24, "the half is there"
    assert reopened(path) == {}


@pytest.mark.parametrize("what", ["deleted", "replaced", "cut", "grown"])
def test_a_file_that_something_else_changed(tmp_path: Path, what: str) -> None:
    """Nothing is acknowledged into a file that nobody will find, or behind bytes that are not ours: StoreError."""
    path = tmp_path / "a.alkaline"
    written(path, 3)

    async def commit() -> None:
        host = FileHost(path)
        if what == "deleted":
            path.unlink()
        elif what == "replaced":
            path.with_suffix(".copy").write_bytes(path.read_bytes())
            path.with_suffix(".copy").replace(path)
        elif what == "cut":
            os.truncate(path, ends(path.read_bytes())[1])
        else:
            os.truncate(path, path.stat().st_size + 5)
        for _ in range(2):
            with pytest.raises(StoreError, match="deleted, replaced or cut by something else") as caught:
                await host.commit(put("h/run/a3", b"3"))
            assert not isinstance(caught.value, UnknownOutcome)
        await host.close()

    drive(commit)
    assert len(reopened(path)) == {"deleted": 0, "replaced": 3, "cut": 2, "grown": 3}[what]


def test_short_writes_are_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system may take a record in pieces."""
    path = tmp_path / "a.alkaline"
    real = os.write

    async def commit() -> None:
        host = FileHost(path)
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", lambda fd, raw: real(fd, raw[:7]))
            assert isinstance(await host.commit(put("a", bytes(range(200)))), Committed)
        await host.close()

    drive(commit)
    assert reopened(path)["a"][0] == bytes(range(200))


def test_an_interrupted_commit_poisons_the_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C between the write and the index: the host stops, since its memory may not say what the file says."""
    path = tmp_path / "a.alkaline"

    def interrupted(fd: int) -> None:
        raise KeyboardInterrupt

    async def commit() -> None:
        host = FileHost(path)
        with monkeypatch.context() as patch:
            patch.setattr(file_log, "sync", interrupted)
            with pytest.raises(KeyboardInterrupt):
                await host.commit(put("a", b"1"))
        with pytest.raises(StoreError, match="interrupted"):
            await host.commit(put("b", b"1"))
        await host.close()

    drive(commit)
    assert set(reopened(path)) == {"a"}


def test_fsync_false_never_syncs_a_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its durability says so: ``process``, not ``disk``."""
    host = FileHost(tmp_path / "a.alkaline", fsync=False)
    monkeypatch.setattr(file_log, "sync", failing(errno.EIO))
    drive(lambda: host.commit(put("a", b"1")))
    assert host.capabilities.durability == "process"
    drive(host.close)
    assert FileHost(tmp_path / "b.alkaline").capabilities.durability == "disk"


# --- compaction --------------------------------------------------------------------------------------------------


def test_compaction_comes_by_itself(tmp_path: Path) -> None:
    """When garbage is over 4 MiB and more than what lives, the file is rewritten; versions and mode stay."""
    path = tmp_path / "a.alkaline"

    async def churn() -> dict[str, tuple[bytes, str]]:
        host = FileHost(path, fsync=False)
        path.chmod(0o640)
        first = put("first", b"1")
        await host.commit(first)
        for n in range(90):
            await host.commit(puts(f"h__x__{n}".replace("__", "/"), a=os.urandom(100_000)))
            assert path.stat().st_size < file._MIN_GARBAGE + 400_000
        kept = await contents(host)
        assert kept["first"] == (b"1", first.id)
        await host.close()
        return kept

    kept = drive(churn)
    assert reopened(path) == kept
    assert path.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("step", ["os.open", "write_all", "os.fsync", "os.replace"])
def test_a_compaction_that_fails_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """Before its rename a failed compaction leaves the old file in use and no other; commits go on."""
    path = tmp_path / "a.alkaline"

    async def compact() -> dict[str, tuple[bytes, str]]:
        host = FileHost(path)
        await host.commit(puts(a=b"1", big=b"v" * 9000))
        with monkeypatch.context() as patch:
            owner = os if step.startswith("os.") else file_log
            patch.setattr(owner, step.removeprefix("os."), failing(errno.ENOSPC))
            with pytest.raises(StoreError, match=r"can't be compacted.*no space left"):
                await host.compact()
        assert not Path(temporary(str(path))).exists()
        await host.commit(put("b", b"2"))
        kept = await contents(host)
        await host.close()
        return kept

    kept = drive(compact)
    assert set(kept) == {"a", "b", "big"}
    assert reopened(path) == kept


def test_a_failed_compaction_does_not_fail_the_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commit that set it off is durable, so it is acknowledged; the next try waits for twice the garbage."""
    path, tries = tmp_path / "a.alkaline", []

    def refuse(*_: object) -> None:
        tries.append(path.stat().st_size)
        raise OSError(errno.ENOSPC, "full")

    async def churn() -> None:
        host = FileHost(path, fsync=False)
        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", refuse)
            for _ in range(100):
                assert isinstance(await host.commit(put("a", bytes(200_000))), Committed)
        assert len(tries) == 3  # at 4, 8 and 16 MiB
        await host.close()

    drive(churn)
    assert len(reopened(path)) == 1


def test_a_compaction_that_can_not_be_finished_poisons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the rename nothing may be acknowledged until the directory is synced: the host stops, reopening heals."""
    path = tmp_path / "a.alkaline"

    async def compact() -> None:
        host = FileHost(path)
        await host.commit(put("a", b"1"))
        with monkeypatch.context() as patch:
            patch.setattr(file, "sync_directory", failing(errno.EIO))
            with pytest.raises(StoreError, match="compaction could not be finished"):
                await host.compact()
        with pytest.raises(StoreError, match="open a new one"):
            await host.commit(put("b", b"2"))
        await host.close()

    drive(compact)
    assert set(reopened(path)) == {"a"}
