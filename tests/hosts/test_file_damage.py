"""The file host after a crash and after damage: a torn tail is cut, anything else is an error, and nothing is lost
without a word.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from alkaline_edge.errors import StoreError
from alkaline_hosts._file import log as file_log
from alkaline_hosts._file.format import FRAME, FRAME_SIZE, HEADER, Encoder, Malformed, decode_items
from alkaline_hosts._file.log import temporary
from alkaline_hosts.file import FileHost
from tests.hosts.file_support import contents, drive, ends, put, puts, reopened, written

WRITER = """
import asyncio, itertools, os, sys
from alkaline_edge.host import Batch, Put
from alkaline_hosts import file
from alkaline_hosts.file import FileHost
file._MIN_GARBAGE = 200_000
async def main():
    host = FileHost(sys.argv[1])
    host._compact_from = file._MIN_GARBAGE
    for n in itertools.count():
        puts = (Put(f"h/run/{n:06d}", os.urandom(n % 3000)), Put("last", str(n).encode() * 1000))
        await host.commit(Batch(os.urandom(8).hex(), (), puts, (f"h/run/{n - 20:06d}",)))
        os.write(1, b"%d\\n" % n)
asyncio.run(main())
"""


# --- torn tails --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 20, 700])
def test_a_tail_torn_at_every_byte_is_cut(tmp_path: Path, size: int) -> None:
    """Whatever part of the last record was written, the records before it are all there, and commits go on."""
    path = tmp_path / "a.alkaline"
    *_, before, end = written(path, 4, size)
    raw, kept = path.read_bytes(), None
    for cut in range(before, end):
        path.write_bytes(raw[:cut])
        read_only = reopened(path, read_only=True)
        assert path.stat().st_size == cut, "a reader changed the file"
        host = FileHost(path)
        assert host.healed == cut - before
        assert path.stat().st_size == before
        found = drive(lambda: contents(host))  # noqa: B023 - driven at once
        assert set(found) == {"h/run/a0", "h/run/a1", "h/run/a2"}
        assert found == read_only == (kept or found)
        kept = found
        drive(lambda: host.commit(put("h/run/a9", b"on")))  # noqa: B023
        drive(host.close)
        assert len(reopened(path)) == 4


def test_a_tail_of_zeros_is_cut(tmp_path: Path) -> None:
    """After a power loss the file may have grown and a part of the last write be zeros: that is a torn tail."""
    path = tmp_path / "a.alkaline"
    *_, before, end = written(path, 4, 3000)
    raw = path.read_bytes()
    first_sector = -(-before // 512) * 512
    for start in (before, *range(first_sector, end - 512, 512)):
        path.write_bytes(raw[:start] + bytes(end - start))
        assert len(reopened(path)) == 3
        assert path.stat().st_size == before
    for sector in range(first_sector, end - 512, 512):  # written around it
        path.write_bytes(raw[:sector] + bytes(512) + raw[sector + 512 :])
        assert len(reopened(path)) == 3
    for zeros in (1, 11, 12, 13, 600, 5000):  # grown, nothing written
        path.write_bytes(raw + bytes(zeros))
        assert len(reopened(path)) == 4
        assert path.stat().st_size == end


def test_a_torn_tail_that_holds_another_log_is_cut(tmp_path: Path) -> None:
    """Records of another file inside the torn value are not taken for records of this one."""
    path, other = tmp_path / "a.alkaline", tmp_path / "b.alkaline"
    *_, before = written(path, 4)
    written(other, 50)

    async def store() -> None:
        host = FileHost(path)
        await host.commit(put("backup", other.read_bytes() * 2))
        await host.close()

    drive(store)
    os.truncate(path, path.stat().st_size - 1)
    assert len(reopened(path)) == 4
    assert path.stat().st_size == before


# --- damage ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("record", [0, 1, 2, 3])
def test_a_flipped_bit_in_any_record_is_an_error(tmp_path: Path, record: int) -> None:
    """One bit flipped at any byte of any record, the last one too: StoreError with record and offset, nothing cut."""
    path = tmp_path / "a.alkaline"
    bounds = [HEADER.size, *written(path, 4)]
    raw = path.read_bytes()
    for at in range(bounds[record], bounds[record + 1]):
        for bit in (0x01, 0x80):
            flipped = bytearray(raw)
            flipped[at] ^= bit
            path.write_bytes(flipped)
            for read_only in (False, True):
                with pytest.raises(StoreError, match=f"record {record + 1}, byte {bounds[record]}:.*backup") as caught:
                    FileHost(path, read_only=read_only)
                assert caught.value.detail == {"record": record + 1, "offset": bounds[record]}
            assert path.read_bytes() == flipped


@pytest.mark.parametrize("lost", [1, 40, 3000])
def test_missing_bytes_in_the_middle_are_an_error(tmp_path: Path, lost: int) -> None:
    """Bytes overwritten with zeros or cut out before valid records are damage, never a tail."""
    path = tmp_path / "a.alkaline"
    bounds = written(path, 200)
    raw, at = path.read_bytes(), bounds[20] + 1
    assert at + lost < bounds[-2]
    for damaged in (raw[:at] + bytes(lost) + raw[at + lost :], raw[:at] + raw[at + lost :]):
        path.write_bytes(damaged)
        with pytest.raises(StoreError, match="damaged at record 22"):
            FileHost(path)
        assert path.read_bytes() == damaged


def test_lost_repeated_and_swapped_records_are_found(tmp_path: Path) -> None:
    """Whole, valid records in a wrong order are damage: each carries its number."""
    path = tmp_path / "a.alkaline"
    b = [HEADER.size, *written(path, 4)]
    raw = path.read_bytes()
    parts = [raw[b[n] : b[n + 1]] for n in range(4)]
    for order in ([0, 2, 3], [0, 1, 1, 2, 3], [0, 2, 1, 3], [1, 2, 3], [0, 1, 2, 2], [0, 1, 3]):
        path.write_bytes(raw[: b[0]] + b"".join(parts[n] for n in order))
        with pytest.raises(StoreError, match="damaged at record"):
            FileHost(path)


def test_damage_before_a_torn_tail_is_an_error(tmp_path: Path) -> None:
    """A damaged record followed by a torn one: there is no valid record behind it, and still nothing is cut."""
    path = tmp_path / "a.alkaline"
    *_, second, third, end = written(path, 4)
    raw = bytearray(path.read_bytes())
    raw[second + 20] ^= 1
    for cut in range(third + 1, end):
        path.write_bytes(raw[:cut])
        with pytest.raises(StoreError, match=f"record 3, byte {second}"):
            FileHost(path)
        assert path.stat().st_size == cut


def test_a_reader_notices_damage_that_comes_while_it_is_open(tmp_path: Path) -> None:
    """A read-only host reports damage in what is appended, at each read, as an error and not as the end."""
    path = tmp_path / "a.alkaline"
    *_, before, _, _ = written(path, 5)
    raw = bytearray(path.read_bytes())
    path.write_bytes(raw[:before])
    reader = FileHost(path, read_only=True)
    raw[before + 15] ^= 4
    path.write_bytes(raw)
    for _ in range(2):
        with pytest.raises(StoreError, match="damaged at record 4"):
            drive(lambda: reader.list(""))


def test_a_large_value_that_was_cut_off_is_an_error(tmp_path: Path) -> None:
    """Somebody truncates the file under an open host: reading a value that is gone is a StoreError."""
    path = tmp_path / "a.alkaline"
    host = FileHost(path)
    drive(lambda: host.commit(put("big", b"v" * 10_000)))
    os.truncate(path, 5_000)
    with pytest.raises(StoreError, match="ends within a value"):
        drive(lambda: host.get(["big"]))


@pytest.mark.parametrize(
    "items",
    [
        b"\x00",
        b"\x00\x05abc",
        b"\x04\x01a",
        b"\x02\x7fa",
        b"\x01\x01a\x09v",
        b"\x00\x01\xff",
        b"\xff\xff\xff\xff\xff\x01\x00",
    ],
)
def test_items_that_make_no_sense(items: bytes) -> None:
    """Bytes with a right CRC and wrong items are Malformed, not an IndexError and not an entry."""
    with pytest.raises(Malformed):
        decode_items(items + b"next record", 0, len(items), [""])


def test_malformed_items_in_a_file_are_damage(tmp_path: Path) -> None:
    """Such a record in a file is reported like any other damage."""
    path = tmp_path / "a.alkaline"
    written(path, 1)
    raw = path.read_bytes()
    encoder = Encoder(int.from_bytes(raw[HEADER.size - 4 : HEADER.size], "big"), (), 1)
    path.write_bytes(raw + encoder._frame(b"12345678", b"\x40\x01a"))
    with pytest.raises(StoreError, match="damaged at record 2"):
        FileHost(path)


def test_sequence_numbers_wrap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After 2**32 records the numbers go on from 0, and a torn tail there is still told from damage."""
    path = tmp_path / "a.alkaline"
    written(path, 1)
    raw = path.read_bytes()
    monkeypatch.setattr(file_log, "FIRST_SEQUENCE", 2**32 - 3)
    encoder = Encoder(int.from_bytes(raw[HEADER.size - 4 : HEADER.size], "big"), (), 2**32 - 3)
    records = [encoder.one_put(b"12345678", f"k{n}", b"v") for n in range(6)]
    assert [FRAME.unpack_from(record)[2] for record in records[:3]] == [2**32 - 2, 2**32 - 1, 0]
    log = raw[: HEADER.size] + b"".join(records)
    path.write_bytes(log[:-1])
    assert len(reopened(path)) == 5
    flipped = bytearray(log)
    flipped[HEADER.size + len(records[0]) + FRAME_SIZE] ^= 1
    path.write_bytes(flipped)
    with pytest.raises(StoreError, match="whole record follows"):
        FileHost(path)


# --- crashes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("acknowledged", [1, 30, 200])
def test_sigkill_loses_no_acknowledged_commit(tmp_path: Path, acknowledged: int) -> None:
    """A process killed while it writes and compacts: every commit it had reported is in the file, whole."""
    path = tmp_path / "a.alkaline"
    with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        for _ in range(acknowledged):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        said = process.stdout.read().split()
    last = acknowledged - 1 + len([line for line in said if line])
    found = reopened(path)
    reached = int(found["last"][0][: len(found["last"][0]) // 1000])
    assert last <= reached <= last + 1  # one more may have been written and not reported
    assert set(found) == {"last", *(f"h/run/{n:06d}" for n in range(max(0, reached - 19), reached + 1))}
    assert all(len(found[f"h/run/{n:06d}"][0]) == n % 3000 for n in range(max(0, reached - 19), reached + 1))


STEPS = (
    "os.open",
    "os.fchmod",
    "write_all",
    "os.fsync",
    "os.close",
    "os.replace",
    "sync_directory",
    "Log.adopt",
    "end",
)


@pytest.mark.parametrize("step", STEPS)
def test_a_crash_at_each_step_of_a_compaction(tmp_path: Path, step: str) -> None:
    """The process dies right before the step: the next one finds everything, and no temporary file is left."""
    path = tmp_path / "a.alkaline"

    async def fill() -> dict[str, tuple[bytes, str]]:
        host = FileHost(path)
        for n in range(50):
            await host.commit(puts(f"k{n - 10}", **{f"k{n}": b"v" * 500, "big": b"b" * 9000}))  # type: ignore[arg-type]
        kept = await contents(host)
        await host.close()
        return kept

    kept = drive(fill)
    program = f"""
import asyncio, os, sys
from alkaline_hosts import file
from alkaline_hosts._file import log as file_log
host = file.FileHost(sys.argv[1])
def die(*arguments, **options):
    os._exit(9)
step = {step!r}
owner = os if step.startswith("os.") else file_log if step == "write_all" else file
if step == "Log.adopt":
    file_log.Log.adopt = die
elif step != "end":
    setattr(owner, step.removeprefix("os."), die)
asyncio.run(host.compact())
os._exit(9)
"""
    died = subprocess.run([sys.executable, "-c", program, str(path)], check=False)
    assert died.returncode == 9
    assert reopened(path, read_only=True) == kept
    assert reopened(path) == kept
    assert not Path(temporary(str(path))).exists()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a.alkaline", "a.alkaline.lock"]


@pytest.mark.parametrize("step", ["os.open", "write_all", "os.fsync", "os.replace", "sync_directory"])
def test_a_crash_at_each_step_of_a_creation(tmp_path: Path, step: str) -> None:
    """A process that dies while it creates the file leaves no file or a whole one; the next one goes on."""
    path = tmp_path / "a.alkaline"
    program = f"""
import os, sys
from alkaline_hosts import file
from alkaline_hosts._file import log as file_log
die = lambda *arguments, **options: os._exit(9)
step = {step!r}
setattr(os if step.startswith("os.") else file_log, step.removeprefix("os."), die)
file.FileHost(sys.argv[1])
"""
    assert subprocess.run([sys.executable, "-c", program, str(path)], check=False).returncode == 9
    assert not path.exists() or ends(path.read_bytes()) == []
    written(path, 2)
    assert len(reopened(path)) == 2
