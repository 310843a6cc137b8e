"""The file host in use: what it keeps, what a file of it costs, who may open it, and what it says when it can't."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from zlib import crc32

import pytest

from alkaline_edge.errors import ClosedError, ConflictError, InvalidInput, NotFound, StoreError
from alkaline_edge.host import Batch, Check, Conflict, Host, Put
from alkaline_edge.testing.conformance import CASES, Case, check_case
from alkaline_hosts._file.format import HEADER, new_header
from alkaline_hosts._ranges import SortedKeys
from alkaline_hosts.file import FileHost
from tests.hosts.file_support import contents, drive, put, puts, reopened, written

OTHER_WRITER = """
import sys
from alkaline_edge.errors import AlkalineError
from alkaline_hosts.file import FileHost
try:
    FileHost(sys.argv[1])
except AlkalineError as error:
    print(type(error).__name__, error)
else:
    print("opened")
"""


def in_another_process(program: str, *arguments: object) -> str:
    """What a fresh interpreter prints."""
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


class FileStore:
    """A store for the conformance suite: the first handle writes; the file host allows no second writer."""

    def __init__(self, path: Path) -> None:
        self.path = path

    async def open(self) -> Host:
        return FileHost(self.path)

    async def destroy(self) -> None:
        return


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_conformance(case: Case, tmp_path: Path) -> None:
    """The file host keeps the host contract."""
    made = iter(range(100))

    async def maker() -> FileStore:
        return FileStore(tmp_path / f"{next(made)}.alkaline")

    drive(lambda: check_case(case, maker, gather=asyncio.gather))


# --- what is kept ------------------------------------------------------------------------------------------------


def test_everything_is_there_after_reopening(tmp_path: Path) -> None:
    """Values of every size, versions, overwrites and deletes come back exactly; checks leave no trace."""
    path = tmp_path / "a.alkaline"

    async def write() -> dict[str, tuple[bytes, str]]:
        host = FileHost(path)
        first = puts(a=b"", h__x__a0=b"\0\xff", big=b"v" * 100_000, gone=b"1")
        await host.commit(first)
        await host.commit(puts("gone", "never-there", a=b"new", checks=(Check("big", first.id),)))
        await host.commit(Batch("00000000000000ff", (), (), ("nor-this",)))
        kept = await contents(host)
        await host.close()
        return kept

    kept = drive(write)
    assert kept["a"][0] == b"new"
    assert set(kept) == {"a", "h/x/a0", "big"}
    assert reopened(path) == kept
    assert reopened(path, read_only=True) == kept


def test_a_failed_check_writes_nothing(tmp_path: Path) -> None:
    """A conflict names the keys that failed and leaves the file as long as it was."""
    path = tmp_path / "a.alkaline"

    async def race() -> None:
        host = FileHost(path)
        await host.commit(put("a", b"1"))
        size = path.stat().st_size
        outcome = await host.commit(puts(a=b"2", checks=(Check("a", None), Check("b", None), Check("a", "f" * 16))))
        assert outcome == Conflict(("a", "a"))
        assert path.stat().st_size == size

    drive(race)


def test_one_put_costs_28_bytes_beside_its_value(tmp_path: Path) -> None:
    """A step is one commit of one key; its framing is at most 28 bytes once the prefix of its history is known."""
    path = tmp_path / "a.alkaline"

    async def measure() -> int:
        host = FileHost(path)
        for n in range(500):  # 500 runs
            await host.commit(put(f"h/{n:012x}/a0", b"x"))
        for n in range(2):
            await host.commit(put(f"h/0123456789ab/a{n}", b"x"))
        before = path.stat().st_size
        await host.commit(put("h/0123456789ab/d1234", b"x" * 140))
        return path.stat().st_size - before - 140

    assert drive(measure) <= 28


def test_prefixes_that_are_used_once_are_not_kept(tmp_path: Path) -> None:
    """Timers, inboxes and blobs have prefixes of their own, used once: memory must not grow by one for each."""
    path = tmp_path / "a.alkaline"

    async def many() -> dict[str, tuple[bytes, str]]:
        host = FileHost(path, fsync=False)
        for n in range(10_000):
            await host.commit(puts(f"t/{n - 1:013d}/exe", **{f"t/{n:013d}/exe": b""}))  # type: ignore[arg-type]
        assert set(host._log.encoder.numbers) == {"t/"}
        kept = await contents(host)
        await host.close()
        return kept

    kept = drive(many)
    assert set(kept) == {"t/0000000009999/exe"}
    assert reopened(path) == kept


@pytest.mark.parametrize("id", ["", "0" * 15, "0" * 17, "ABCDEF0123456789", "0123456 89abcdef", "g" * 16])
def test_a_batch_id_has_one_form(tmp_path: Path, id: str) -> None:
    """An id that would come back as another version is refused before anything is written."""

    async def commit() -> None:
        host = FileHost(tmp_path / "a.alkaline")
        with pytest.raises(InvalidInput, match="16 lowercase"):
            await host.commit(put("a", b"1")._replace(id=id))
        assert await contents(host) == {}

    drive(commit)


def test_sorted_keys_stay_sorted() -> None:
    """Inserting and removing in any order, through splits and emptied chunks, lists like a sorted list."""
    keys = [f"{n * 7919 % 10_007:05d}" for n in range(10_000)]
    ordered = SortedKeys()
    for key in keys:
        ordered.add(key)
    assert ordered.under("", "", 10**9) == sorted(keys)
    assert ordered.under("05", "05100", 3) == [key for key in sorted(keys) if key > "05100"][:3]
    for key in keys[:9_990]:
        ordered.remove(key)
    assert ordered.under("", "", 10**9) == sorted(keys[9_990:])
    for key in keys[9_990:]:
        ordered.remove(key)
    assert ordered.under("", "", 1) == []
    ordered.add("x")
    assert ordered.under("", "", 9) == ["x"]


# --- one writer --------------------------------------------------------------------------------------------------


def test_a_second_writer_in_this_process_is_refused(tmp_path: Path) -> None:
    """Also under another name of the file; closing or dropping the first lets the next one in."""
    path, link = tmp_path / "a.alkaline", tmp_path / "link"
    link.symlink_to(path)
    host = FileHost(path)
    for name in (path, link, str(path)):
        with pytest.raises(ConflictError, match=r"this process already has a\.alkaline open .* read_only=True"):
            FileHost(name)
    drive(host.close)
    again = FileHost(link)
    del again
    drive(FileHost(path).close)


def test_a_second_process_is_refused_and_told_who(tmp_path: Path) -> None:
    """The message names the process that has the file, and what to do. The lock ends with its holder."""
    path = tmp_path / "a.alkaline"
    host = FileHost(path)
    said = in_another_process(OTHER_WRITER, path)
    assert said.startswith(f"ConflictError another process (pid {os.getpid()}) has a.alkaline open")
    assert "read_only=True" in said
    drive(host.close)
    assert in_another_process(OTHER_WRITER, path) == "opened"


def test_opening_a_reader_does_not_drop_the_lock(tmp_path: Path) -> None:
    """Closing another handle of the file in this process leaves the writer's lock alone (fcntl locks would not)."""
    path = tmp_path / "a.alkaline"
    host = FileHost(path)
    drive(FileHost(path, read_only=True).close)
    with open(path, "rb"), open(f"{path}.lock", "rb"):
        pass
    assert in_another_process(OTHER_WRITER, path).startswith("ConflictError")
    drive(host.close)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_can_not_write(tmp_path: Path) -> None:
    """The child of a fork shares the lock, so its commits are refused; the parent goes on."""
    path = tmp_path / "a.alkaline"
    host = FileHost(path)
    child = os.fork()
    if child == 0:
        try:
            drive(lambda: host.commit(put("a", b"child")))
        except StoreError:
            os._exit(7)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    drive(lambda: host.commit(put("a", b"parent")))
    assert drive(lambda: contents(host))["a"][0] == b"parent"
    assert in_another_process(OTHER_WRITER, path).startswith("ConflictError")


# --- readers -----------------------------------------------------------------------------------------------------


def test_a_reader_follows_a_live_writer(tmp_path: Path) -> None:
    """Each get and list of a read-only host sees every commit so far, through a compaction too."""
    path = tmp_path / "a.alkaline"

    async def follow() -> None:
        writer, reader = FileHost(path), FileHost(path, read_only=True)
        for n in range(20):
            await writer.commit(puts(f"k{n - 3}", **{f"k{n}": b"v" * n * 1000}))  # type: ignore[arg-type]
            assert await contents(reader) == await contents(writer)
            if n % 5 == 0:
                await writer.compact()
        assert [entry and entry.key for entry in await reader.get(["k19", "k0", "k18"])] == ["k19", None, "k18"]
        await writer.close()
        assert len(await contents(reader)) == 3

    drive(follow)


def test_a_reader_beside_a_half_written_record(tmp_path: Path) -> None:
    """A reader takes the whole records, waits with the half one, and reads it once it is whole. It changes nothing."""
    path = tmp_path / "a.alkaline"
    *_, before, _ = written(path, 3)
    raw = path.read_bytes()

    async def follow() -> None:
        for cut in range(before, len(raw)):
            path.write_bytes(raw[:cut])
            reader = FileHost(path, read_only=True)
            assert set(await contents(reader)) == {"h/run/a0", "h/run/a1"}
            assert path.read_bytes() == raw[:cut]
            path.write_bytes(raw)
            assert len(await contents(reader)) == 3
            await reader.close()

    drive(follow)


def test_a_torn_tail_replaced_by_a_record_of_its_size(tmp_path: Path) -> None:
    """A reader that saw a torn tail sees the record that a new writer puts in its place, at the same file size."""
    path = tmp_path / "a.alkaline"
    written(path, 3)
    raw = path.read_bytes()
    path.write_bytes(raw + b"\0\0\0\1\0\0\1\0" + bytes([7]) * 40)

    async def follow() -> None:
        reader = FileHost(path, read_only=True)
        assert len(await contents(reader)) == 3
        torn = path.stat()
        writer = FileHost(path)
        framing = 20 + 1 + 1 + 2
        await writer.commit(put("h/run/a9", bytes(torn.st_size - len(raw) - framing)))
        os.utime(path, ns=(torn.st_atime_ns, torn.st_mtime_ns))
        assert path.stat().st_size == torn.st_size
        assert len(await contents(reader)) == 4
        await writer.close()

    drive(follow)


def test_a_reader_can_not_write(tmp_path: Path) -> None:
    """Commit and compact are StoreErrors that say so, and the file stays as it is; no lock file is made."""
    path = tmp_path / "a.alkaline"
    written(path, 1)
    Path(f"{path}.lock").unlink()
    raw = path.read_bytes()

    async def write() -> None:
        reader = FileHost(path, read_only=True)
        with pytest.raises(StoreError, match="read_only=True"):
            await reader.commit(put("a", b"1"))
        with pytest.raises(StoreError, match="read_only=True"):
            await reader.compact()
        await reader.close()

    drive(write)
    assert path.read_bytes() == raw
    assert [each.name for each in tmp_path.iterdir()] == ["a.alkaline"]


def test_a_reader_of_no_file(tmp_path: Path) -> None:
    """Read-only creates nothing: a missing file is ERR_NOT_FOUND, one that vanishes later is ERR_STORE."""
    path = tmp_path / "a.alkaline"
    with pytest.raises(NotFound, match=r"no file a\.alkaline"):
        FileHost(path, read_only=True)
    assert list(tmp_path.iterdir()) == []
    written(path, 1)
    reader = FileHost(path, read_only=True)
    path.unlink()
    with pytest.raises(StoreError, match="moved or deleted"):
        drive(lambda: reader.get(["a"]))


# --- files that can't be opened ------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"hello", b"\x89alk", b"x" * 5000, b"\0" * 100, b"SQLite format 3\0" * 10])
def test_a_foreign_file_is_left_alone(tmp_path: Path, content: bytes) -> None:
    """A file that is not ours is refused, unchanged, and without a lock file beside it."""
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    for read_only in (False, True):
        with pytest.raises(StoreError, match=r"notes\.txt is not an alkaline file"):
            FileHost(path, read_only=read_only)
    assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


def test_an_empty_file_is_a_new_store(tmp_path: Path) -> None:
    """``touch`` and ``mkstemp`` make empty files: there is nothing in them to lose."""
    path = tmp_path / "a.alkaline"
    path.touch()
    written(path, 2)
    assert len(reopened(path)) == 2


def test_a_newer_format_names_the_version_it_needs(tmp_path: Path) -> None:
    """A file of a later release is refused with its version, untouched; an unknown flag likewise."""
    path = tmp_path / "a.alkaline"
    for version, flags in ((2, 0), (7, 0), (1, 4)):
        head = HEADER.pack(b"\x89alklog\n", version, flags, b"saltsalt", 0)[:-4]
        raw = head + crc32(head).to_bytes(4, "big") + b"what the future holds"
        path.write_bytes(raw)
        for read_only in (False, True):
            with pytest.raises(StoreError, match=f"format version {version}, flags {flags:#x}") as caught:
                FileHost(path, read_only=read_only)
            assert caught.value.detail["version"] == version
        assert path.read_bytes() == raw


def test_every_bit_of_the_header_is_guarded(tmp_path: Path) -> None:
    """A flipped bit in the header is an error, and the file stays as it is."""
    path = tmp_path / "a.alkaline"
    written(path, 1)
    raw = path.read_bytes()
    assert len(new_header(b"saltsalt")) == HEADER.size
    for bit in range(HEADER.size * 8):
        flipped = bytearray(raw)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        with pytest.raises(StoreError):
            FileHost(path)
        assert path.read_bytes() == flipped


def test_places_that_can_not_hold_a_file(tmp_path: Path) -> None:
    """A directory, a FIFO and a missing directory are StoreErrors at once, without a path in the message."""
    (tmp_path / "dir").mkdir()
    os.mkfifo(tmp_path / "fifo")
    for name, said in (("dir", "is a directory"), ("fifo", "not a regular file"), ("no/a", "does not exist")):
        with pytest.raises(StoreError, match=said) as caught:
            FileHost(tmp_path / name)
        assert str(tmp_path) not in str(caught.value)


def test_a_read_only_place_is_named(tmp_path: Path) -> None:
    """No permission to write the file or its directory: a StoreError about permissions; reading goes on to work."""
    path = tmp_path / "a.alkaline"
    kept = written(path, 1) and reopened(path)
    # Root may write everywhere, so the program becomes nobody, after its imports: it may not read those then.
    nobody = "import asyncio, os\nif os.getuid() == 0: os.setgid(65534); os.setuid(65534)\ntry:"
    program = OTHER_WRITER.replace("try:", nobody)
    program += "print(len(asyncio.run(FileHost(sys.argv[1], read_only=True).list(''))))"
    for each in (tmp_path, *tmp_path.parents):
        if each.name.startswith("pytest-"):
            each.chmod(0o755)
    Path(f"{path}.lock").unlink()
    path.chmod(0o444)
    tmp_path.chmod(0o555)
    try:
        said = in_another_process(program, path).splitlines()
    finally:
        tmp_path.chmod(0o755)
    assert said[0].startswith("StoreError a.alkaline can't be opened")
    assert "permissions" in said[0]
    assert said[1:] == [str(len(kept))]


def test_closed_is_closed(tmp_path: Path) -> None:
    """Closing twice is fine; anything else afterwards is ERR_CLOSED."""

    async def close() -> None:
        host = FileHost(tmp_path / "a.alkaline")
        await host.close()
        await host.close()
        for call in (host.get(["a"]), host.list(""), host.commit(put("a", b"")), host.compact()):
            with pytest.raises(ClosedError):
                await call

    drive(close)


def test_the_modules_import_without_fcntl() -> None:
    """On a Python without fcntl (Windows, a browser) the host can be imported, and one process is still kept to one."""
    program = OTHER_WRITER.replace("import sys\n", "import sys\nsys.modules['fcntl'] = None\n")
    assert in_another_process(program, "/nonexistent/a").startswith("StoreError")


def test_a_large_log_without_garbage_is_not_written_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is as long as what it holds: only what was replaced or deleted is worth the writing."""

    async def main() -> None:
        path = tmp_path / "store.alkaline"
        host = FileHost(path)
        monkeypatch.setattr(host, "_compact_from", 1_000)
        before = path.stat().st_ino
        for n in range(40):
            await host.commit(Batch(f"{n:016x}", (), (Put(f"k/{n:03d}", b"x" * 100),), ()))
        assert path.stat().st_ino == before
        for n in range(40, 120):
            await host.commit(Batch(f"{n:016x}", (), (Put("k/000", b"y" * 100),), ()))
        assert path.stat().st_ino != before
        await host.close()

    drive(main)
