"""The file host when many tasks commit at once: they share a sync, and each has its own outcome, whatever befalls."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any
from zlib import crc32

import pytest

from alkaline_edge import Context, Runtime, workflow
from alkaline_edge.errors import ClosedError, InvalidInput, StoreError, UnknownOutcome
from alkaline_edge.host import Batch, Check, Committed, Conflict, Put
from alkaline_hosts._file import group as file_group
from alkaline_hosts._file import log as file_log
from alkaline_hosts._file.format import HEADER, new_header
from alkaline_hosts._file.group import Group, Waiting
from alkaline_hosts.file import FileHost
from tests.hosts.file_support import Contents, contents, drive, ends, put, puts, reopened

Outcome = Committed | Conflict | BaseException

WRITER = """
import asyncio, itertools, os, sys
from alkaline_edge.host import Batch, Put
from alkaline_hosts.file import FileHost
async def write(host, name):
    for n in itertools.count():
        puts = (Put(f"h/{name}/{n:06d}", os.urandom(n % 900)), Put(f"last/{name}", str(n).encode()))
        await host.commit(Batch(os.urandom(8).hex(), (), puts, ()))
        os.write(1, b"%d %d\\n" % (name, n))
async def main():
    host = FileHost(sys.argv[1])
    await asyncio.gather(*(write(host, name) for name in range(9)))
asyncio.run(main())
"""


@pytest.fixture
def syncs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What was synced, one for each sync; nothing reaches the disk."""
    made: list[int] = []
    monkeypatch.setattr(file_log, "sync", made.append)
    monkeypatch.setattr(os, "fsync", lambda _: None)
    return made


async def warmed(path: Path) -> FileHost:
    """A host that has seen two tasks commit by turns, so that the next commits of several share a sync."""
    host = FileHost(path)
    await warmed_as(host)
    return host


async def warmed_as(host: FileHost) -> None:
    await asyncio.gather(*(host.commit(put(f"warm/{n}", b"")) for n in range(3)))


async def together(host: FileHost, batches: list[Batch]) -> list[Outcome]:
    """What becomes of commits that are made in one turn of the loop, each by a task of its own."""
    return await asyncio.gather(*(host.commit(batch) for batch in batches), return_exceptions=True)


@workflow
async def counting(ctx: Context, count: int) -> int:
    """Steps that end at once."""
    total = 0
    for n in range(count):
        total += await ctx.step("one", lambda n: n, n)
    return total


# --- sharing -----------------------------------------------------------------------------------------------------


def test_runs_of_one_process_share_their_syncs(tmp_path: Path, syncs: list[int]) -> None:
    """200 runs of ten steps need less than a twentieth of their commits in syncs; each has its result."""

    async def run() -> None:
        async with Runtime(FileHost(tmp_path / "a.alkaline"), workflows=[counting]) as runtime:
            await (await runtime.start("counting", 1, id="first")).result()
            del syncs[:]
            runs = await asyncio.gather(*(runtime.start("counting", 10, id=f"r{n}") for n in range(200)))
            assert await asyncio.gather(*(run.result() for run in runs)) == [45] * 200

    drive(run)
    assert len(syncs) * 20 < 200 * 10


def test_a_task_that_is_alone_waits_for_nobody(tmp_path: Path, syncs: list[int]) -> None:
    """A commit that nobody can share is done without a turn of the loop, as are those behind it."""

    async def commit() -> None:
        host = await warmed(tmp_path / "a.alkaline")
        await host.commit(put("a", b""))
        before = len(syncs)
        for n in range(5):
            with pytest.raises(StopIteration):
                host.commit(put(f"b{n}", b"")).send(None)
        assert len(syncs) == before + 5

    drive(commit)


def test_a_commit_that_can_be_shared_is_not_made_at_once(tmp_path: Path, syncs: list[int]) -> None:
    """``commit_now`` is for a task that is alone; asked in vain by others, it leaves the group as it was."""

    async def test() -> None:
        host = FileHost(tmp_path / "store")
        assert host.commit_now(put("a", b"1")) is not None
        await warmed_as(host)
        before = len(syncs)

        async def commit(key: str) -> None:
            for n in range(4):
                batch = put(f"{key}/{n}", b"x")
                assert host.commit_now(batch) is None
                assert await host.get([f"{key}/{n}"]) == [None]
                assert await host.commit(batch) == Committed(batch.id)

        await asyncio.gather(*(commit(f"k{n}") for n in range(5)))
        assert len(syncs) - before <= 5
        await host.close()

    drive(test)


def test_one_commit_at_a_time_by_turns(tmp_path: Path, syncs: list[int]) -> None:
    """Tasks that never commit together are not held up by each other: each commit takes one turn at most."""

    async def commit() -> None:
        host = await warmed(tmp_path / "a.alkaline")
        for n in range(6):
            task = asyncio.ensure_future(host.commit(put(f"k{n}", b"")))
            for _ in range(3):
                await asyncio.sleep(0)
            assert task.done()

    drive(commit)


@pytest.mark.usefixtures("syncs")
@pytest.mark.parametrize("seed", range(30))
def test_any_group_is_its_commits_one_after_another(tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Puts, deletes, checks and refusals drawn over few keys, large values among them: each outcome, and what is in
    the file behind them, is that of the same commits in the order in which they came.
    """
    random, path = Random(seed), tmp_path / "a.alkaline"
    monkeypatch.setattr(file_group, "MOST", random.choice((60, 5_000, 2**20)))
    names = [f"{prefix}{name}" for prefix in ("h/x/", "h/y/z/", "") for name in "abc"]
    model: Contents = {}

    def drawn() -> tuple[Batch, Outcome]:
        kind, id = random.choice("ppppccdx"), random.randbytes(8).hex()
        keys = random.sample(names, random.randint(1, 4))
        values = {key: random.randbytes(random.choice((0, 3, 200, 4_097))) for key in keys}
        checks = [Check(key, model[key][1] if key in model else None) for key in random.sample(names, 2)]
        if kind == "x":
            return Batch(id, (), (Put("no key", b""),)), InvalidInput("")
        if kind == "c":
            checks[1:] = [Check(checks[1].key, "f" * 16)]
            return Batch(id, tuple(checks), tuple(Put(*item) for item in values.items())), Conflict((checks[1].key,))
        gone = keys if kind == "d" else [key for key in random.sample(names, 2) if key not in values]
        kept = {} if kind == "d" else values
        model.update({key: (value, id) for key, value in kept.items()})
        for key in gone:
            model.pop(key, None)
        return Batch(id, tuple(checks), tuple(Put(*item) for item in kept.items()), tuple(gone)), Committed(id)

    async def commit() -> None:
        host = await warmed(path)
        model.update(await contents(host))
        for _ in range(6):
            plan = [drawn() for _ in range(random.randint(1, 9))]
            for (_, expected), outcome in zip(plan, await together(host, [batch for batch, _ in plan]), strict=True):
                assert type(outcome) is type(expected)
                assert isinstance(outcome, InvalidInput) or outcome == expected
            assert await contents(host) == model
            if random.random() < 0.2:
                await host.compact()
        await host.close()

    drive(commit)
    assert reopened(path) == reopened(path, read_only=True) == model


def test_a_file_of_before_takes_one_batch_a_record(tmp_path: Path, syncs: list[int]) -> None:
    """A file without the flag is read by releases that know no groups, so it gets none until it is compacted."""
    path, old = tmp_path / "a.alkaline", HEADER.pack(b"\x89alklog\n", 1, 0, b"saltsalt", 0)[:-4]
    path.write_bytes(old + crc32(old).to_bytes(4, "big"))

    async def commit() -> None:
        host = await warmed(path)
        await together(host, [put(f"k{n}", b"v") for n in range(5)])
        assert len(ends(path.read_bytes())) == 8
        await host.compact()
        await host.commit(put("alone", b""))
        before = len(ends(path.read_bytes()))
        assert await together(host, [put(f"m{n}", b"v") for n in range(5)])
        assert len(ends(path.read_bytes())) == before + 1
        await host.close()

    drive(commit)
    assert len(reopened(path)) == 14
    assert path.read_bytes()[8:12] == new_header(b"saltsalt")[8:12]


# --- crashes -----------------------------------------------------------------------------------------------------


def grouped(path: Path, size: int) -> tuple[list[int], Contents, Contents]:
    """A file whose last record is a group: where its records end, what it holds without the group, and with it."""

    async def write() -> tuple[Contents, Contents]:
        host = await warmed(path)
        await host.commit(puts(h__run__a0=b"0" * size, gone=b"1"))
        without = await contents(host)
        group = [puts("gone", h__run__a1=b"1" * size), puts(h__run__a2=b"2" * size, big=b"b" * 500), put("c", b"")]
        assert all(isinstance(outcome, Committed) for outcome in await together(host, group))
        kept = await contents(host)
        await host.close()
        return without, kept

    without, kept = drive(write)
    return ends(path.read_bytes()), without, kept


@pytest.mark.usefixtures("syncs")
def test_a_group_torn_at_every_byte_is_gone_whole(tmp_path: Path) -> None:
    """None of its commits was acknowledged, so none is there; those before are, and commits go on behind them."""
    path = tmp_path / "a.alkaline"
    (*_, before, end), without, kept = grouped(path, 1)
    raw = path.read_bytes()
    assert reopened(path) == kept

    async def read(cut: int) -> None:
        path.write_bytes(raw[:cut])
        assert await contents(FileHost(path, read_only=True)) == without
        host = FileHost(path)
        assert host.healed == cut - before
        assert await contents(host) == without
        if cut % 16 == 0:
            await together(host, [put("x", b"1"), put("y", b"2")])
            assert (await contents(FileHost(path, read_only=True))).keys() == without.keys() | {"x", "y"}
        await host.close()

    async def read_all() -> None:
        for cut in range(before, end):
            await read(cut)

    drive(read_all)


@pytest.mark.usefixtures("syncs")
def test_a_group_with_holes_of_zeros_is_gone_whole(tmp_path: Path) -> None:
    """A disk writes sectors in any order: after a power loss any of them may be zeros, the last ones being there."""
    path = tmp_path / "a.alkaline"
    (*_, before, end), without, _ = grouped(path, 600)
    raw = path.read_bytes()
    for sector in range(-(-before // 512) * 512, end - 512, 512):
        path.write_bytes(raw[:sector] + bytes(512) + raw[sector + 512 :])
        assert reopened(path) == without


@pytest.mark.usefixtures("syncs")
def test_a_flipped_bit_in_a_group_is_an_error(tmp_path: Path) -> None:
    """All of it is there, so it was acknowledged, perhaps: damage, and nothing is cut."""
    path = tmp_path / "a.alkaline"
    (*_, before, end), _, _ = grouped(path, 1)
    raw = path.read_bytes()
    for at in range(before, end, 31):
        flipped = bytearray(raw)
        flipped[at] ^= 0x10
        path.write_bytes(flipped)
        with pytest.raises(StoreError, match=f"damaged at record {len(ends(raw))}, byte {before}"):
            FileHost(path)
        assert path.read_bytes() == flipped


def test_sigkill_loses_no_acknowledged_commit_of_a_group(tmp_path: Path) -> None:
    """Nine tasks write until they are killed: what each had been told of is there, and at most one more of each."""
    path = tmp_path / "a.alkaline"
    with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(300)]
        process.send_signal(signal.SIGKILL)
        lines += process.stdout.read().splitlines(keepends=True)
    told = dict.fromkeys(range(9), -1)
    for line in lines:
        if line.endswith(b"\n"):
            name, n = map(int, line.split())
            told[name] = max(told[name], n)
    found = reopened(path)
    for name, last in told.items():
        reached = int(found[f"last/{name}"][0])
        assert last <= reached <= last + 1
        mine = [len(value) for key, (value, _) in sorted(found.items()) if key.startswith(f"h/{name}/")]
        assert mine == [n % 900 for n in range(reached + 1)]


# --- refusals ----------------------------------------------------------------------------------------------------


def refusing(number: int, above: int) -> Callable[[int, bytes], int]:
    """A write that the system refuses for records of more than so many bytes."""
    real = os.write

    def write(fd: int, raw: bytes) -> int:
        if len(raw) > above:
            raise OSError(number, os.strerror(number), "/secret/path")
        return real(fd, raw)

    return write


def test_a_group_that_does_not_fit_is_committed_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ENOSPC is the outcome of those that find no room, and of no other: what depends on them meets a conflict."""
    path = tmp_path / "a.alkaline"

    async def commit() -> Contents:
        host = await warmed(path)
        large = put("large", bytes(500))
        batches = [
            puts(new__a=b"1"),
            large,
            puts(b=b"2", checks=(Check("large", large.id),)),
            puts("new/a", c=b"3"),
            puts(d=b"4", checks=(Check("new/a", None),)),
        ]
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", refusing(errno.ENOSPC, 200))
            first, refused, conflict, *others = await together(host, batches)
        assert [first, *others] == [Committed(batches[n].id) for n in (0, 3, 4)]
        assert isinstance(refused, StoreError)
        assert "no space left. Nothing was written" in str(refused)
        assert conflict == Conflict(("large",))
        await together(host, [put("new/e", b"5"), put("new/f", b"6")])  # the prefix of a refused group is defined anew
        kept = await contents(host)
        await host.close()
        return kept

    kept = drive(commit)
    assert kept.keys() == {"warm/0", "warm/1", "warm/2", "c", "d", "new/e", "new/f"}
    assert reopened(path) == kept


@pytest.mark.parametrize(("fault", "outcome"), [("sync", UnknownOutcome), ("write", StoreError)])
def test_a_failed_group_poisons_the_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str, outcome: type[StoreError]
) -> None:
    """Each of its commits has the outcome of one that fails alone, as an error of its own; reopening heals."""
    path = tmp_path / "a.alkaline"

    def failed(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO), "/secret/path")

    async def commit() -> None:
        host = await warmed(path)
        with monkeypatch.context() as patch:
            if fault == "sync":
                patch.setattr(file_log, "sync", failed)
            else:
                patch.setattr(os, "write", refusing(errno.EIO, 0))
            outcomes = await together(host, [put(f"k{n}", b"1") for n in range(3)])
        assert [type(each) for each in outcomes] == [outcome] * 3
        assert len({id(each) for each in outcomes}) == 3
        assert "/secret" not in str(outcomes)
        refused = await together(host, [put("m", b""), put("n", b"")])
        assert [type(each) for each in refused] == [StoreError] * 2
        assert all("open a new one" in str(each) for each in refused)
        await host.close()

    drive(commit)
    assert len(reopened(path)) == (6 if fault == "sync" else 3)


def test_an_interrupt_while_a_group_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C lands in the sync: it goes on to the loop, no commit of the group is acknowledged, and the host stops."""
    path, outcomes, hosts = tmp_path / "a.alkaline", list[Any](), list[FileHost]()

    def interrupted(_: int) -> None:
        raise KeyboardInterrupt

    async def commit(host: FileHost, n: int) -> None:
        try:
            await host.commit(put(f"k{n}", b"1"))
        except BaseException as error:
            outcomes.append(error)

    async def run() -> None:
        host = await warmed(path)
        hosts.append(host)
        monkeypatch.setattr(file_log, "sync", interrupted)
        await asyncio.gather(*(commit(host, n) for n in range(3)))

    with pytest.raises(KeyboardInterrupt):
        drive(run)
    with pytest.raises(StoreError, match="interrupted"):
        drive(lambda: hosts[0].get(["k0"]))
    drive(hosts[0].close)
    assert len(outcomes) == 3
    assert all(isinstance(error, (UnknownOutcome, asyncio.CancelledError)) for error in outcomes)
    monkeypatch.undo()
    assert len(reopened(path)) == 6


def test_cancelled_while_it_waits(tmp_path: Path, syncs: list[int]) -> None:
    """A commit whose caller is gone before the group is written is left out of it; the others are made."""
    path = tmp_path / "a.alkaline"

    async def commit() -> None:
        host = await warmed(path)
        tasks = [asyncio.ensure_future(host.commit(put(f"k{n}", b""))) for n in range(3)]
        asyncio.get_running_loop().call_soon(tasks[1].cancel)
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(outcomes[1], asyncio.CancelledError)
        assert [key for key in await contents(host) if key[0] == "k"] == ["k0", "k2"]
        await host.close()

    drive(commit)


def test_closing_makes_the_commits_that_wait(tmp_path: Path, syncs: list[int]) -> None:
    """They were accepted; what comes behind the close is refused."""
    path = tmp_path / "a.alkaline"

    async def close() -> None:
        host = await warmed(path)
        tasks = [asyncio.ensure_future(host.commit(put(f"k{n}", b""))) for n in range(2)]
        asyncio.get_running_loop().call_soon(lambda: drained(host.close()))
        assert len(await asyncio.gather(*tasks)) == 2
        with pytest.raises(ClosedError):
            await host.commit(put("late", b""))

    drive(close)
    assert {"k0", "k1"} < reopened(path).keys()


def drained(coroutine: Any) -> None:
    """Run what never waits."""
    with pytest.raises(StopIteration):
        coroutine.send(None)


def test_a_loop_that_ended_leaves_nothing_behind(tmp_path: Path, syncs: list[int]) -> None:
    """Commits that waited on it are not made, and those of the next loop share their syncs again."""
    path, hosts = tmp_path / "a.alkaline", list[FileHost]()

    async def leave() -> None:
        hosts.append(await warmed(path))  # the loop ends behind the turn of what follows
        asyncio.get_running_loop().call_soon(lambda: hosts[0].commit(put("left", b"")).send(None))

    async def go_on() -> None:
        before = len(syncs)
        assert len(await together(hosts[0], [put(f"k{n}", b"") for n in range(4)])) == 4
        assert len(syncs) <= before + 2
        await hosts[0].close()

    loop = asyncio.new_event_loop()
    loop.run_until_complete(leave())
    loop.close()
    drive(go_on)
    assert "left" not in reopened(path)


def test_two_threads_on_one_host(tmp_path: Path, syncs: list[int]) -> None:
    """Two loops commit to one host: each is answered on its own loop, and nothing is lost."""
    path = tmp_path / "a.alkaline"
    host = FileHost(path)

    async def many(name: str) -> None:
        for n in range(20):
            outcomes = await together(host, [put(f"{name}/{n}/{m}", b"") for m in range(3)])
            assert all(isinstance(outcome, Committed) for outcome in outcomes)

    async def both() -> None:
        await asyncio.gather(*(asyncio.to_thread(asyncio.run, many(name)) for name in "ab"))

    drive(both)
    drive(host.close)
    assert len(reopened(path)) == 120


def waiting_of(group: Group, key: str) -> Waiting | None:
    """Who waits for that group, once it has joined it."""
    batch = put(key, b"")
    return group.join(batch, bytes.fromhex(batch.id), lambda members: [one.succeed(Committed("a")) for one in members])


def test_a_commit_waits_for_no_loop_of_another_thread() -> None:
    """That loop would answer it, and nobody would wake its own: it is committed alone, also where both came at once."""
    group = Group()

    async def elsewhere() -> Waiting | None:
        return waiting_of(group, "b")

    async def here() -> None:
        one = waiting_of(group, "a")
        with ThreadPoolExecutor() as pool:  # the turn of this loop has not ended meanwhile
            assert pool.submit(asyncio.run, elsewhere()).result() is None
        assert one is not None
        assert await one.answer == Committed("a")
        with ThreadPoolExecutor() as pool:
            assert pool.submit(asyncio.run, elsewhere()).result() is not None

    drive(here)


def test_who_is_answered_by_another_thread_is_woken() -> None:
    """As where a host is closed on another loop than the one whose commits wait."""

    async def test() -> None:
        asyncio.get_running_loop().set_debug(True)  # it refuses what another thread does without waking it
        for tell, answer in ((Waiting.succeed, Committed("a")), (Waiting.fail, StoreError("full"))):
            batch = put("k", b"")
            one = Waiting(batch, bytes.fromhex(batch.id), asyncio.get_running_loop().create_future())
            told = asyncio.ensure_future(asyncio.wait([one.answer]))
            await asyncio.sleep(0)
            with ThreadPoolExecutor() as pool:
                pool.submit(tell, one, answer).result()
            await told
            assert (one.answer.exception() or one.answer.result()) == answer

    drive(test)
