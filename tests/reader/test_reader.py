"""The reader in JavaScript reads what the kernel wrote, to the same heads and events, and refuses what it refuses."""

from __future__ import annotations

import asyncio
import random
import re
import subprocess
from collections import Counter
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgpack
import pytest

from alkaline_edge import AlkalineError, Runtime, bundle, replay
from alkaline_edge.codec import Codec
from alkaline_edge.events import CLASSES
from alkaline_edge.history import MAGIC, digest_of
from alkaline_hosts._file.log import Log
from alkaline_hosts._http.json import ForeignCodec
from alkaline_hosts.file import FileHost
from tests.histories.workflows import WORKFLOWS
from tests.reader.asking import node, verdicts

TESTS = Path(__file__).parents[1]
SPEC = (TESTS.parent / "SPEC.md").read_text()
GOLDEN = sorted((TESTS / "histories").rglob("*.alk"))
RAW = [path.read_bytes() for path in GOLDEN]


def accepted(data: bytes) -> bool:
    """Whether the kernel reads these bytes as a bundle; values of unknown types are kept as they are."""
    try:
        bundle.decode(data, ForeignCodec())
        replay.read(data, ForeignCodec())
    except AlkalineError:
        return False
    return True


def test_golden_histories_are_read_to_the_same_events_and_heads() -> None:
    """Every golden bundle: its id, the head of its chain, and each event's kind, time and commit."""
    for path, data, said in zip(GOLDEN, RAW, verdicts("bundle", RAW), strict=True):
        assert said["ok"], (path.name, said)
        found, _ = bundle.decode(data, Codec())
        history = replay.read(data)
        events = [[type(event).__name__, at, n] for n, commit in enumerate(history.commits) for at, event in commit]
        assert (said["id"], said["head"]) == (found.id, digest_of(found.commits[-1]).hex())
        assert said["events"] == events


def test_bits_that_turned_and_ends_that_are_missing_are_refused() -> None:
    """No bit of a bundle can turn, and none of it be cut off, unnoticed."""
    rng = random.Random(5)
    spoiled = []
    for data in RAW:
        for _ in range(6):
            bad = bytearray(data)
            bad[rng.randrange(len(bad))] ^= 1 << rng.randrange(8)
            spoiled += [bytes(bad), data[: rng.randrange(len(data))], data + b"\xc0"]
    assert not any(map(accepted, spoiled))
    assert [said for said in verdicts("bundle", spoiled) if said["ok"]] == []


# --- edited behind digests that are right ----------------------------------------------------------------------------
ODD: list[Any] = [
    None, False, True, -1, 0, 2, 2**40, 2**63, 1.5, float("nan"), "", "text", "nul\0", "u1", b"", b"bytes", [],
    [1, 2], [[0, 0]], {}, {"type": "T", "message": "m"}, {"type": "T", "message": "m", "code": [1]},
    {"type": 1, "message": "m"}, {"tokens": 1, "usd": 0}, ["a", "b"], "x" * 161, "é",
    msgpack.ExtType(1, b"\x05"), msgpack.ExtType(9, b"\x05"),
    msgpack.ExtType(4, b"\x92\xc4\x20" + bytes(32) + b"\x05"), msgpack.ExtType(3, b"\x92\xa1t\x01"),
]  # fmt: skip


def packed(value: Any) -> bytes:
    """Canonical but for the order of keys, which stays as it was read."""
    return msgpack.packb(value, strict_types=True)


def plain(data: bytes) -> Any:
    return msgpack.unpackb(data, ext_hook=msgpack.ExtType, strict_map_key=False)


def sealed_again(name: str, header: Any, commits: list[Any], blobs: list[bytes], rechain: bool = True) -> bytes:
    """A bundle of these parts, each digest as it has to be."""
    previous, raws = MAGIC, []
    for commit in commits:
        raws.append(packed([previous, *commit[1:]] if rechain and isinstance(commit, list) and commit else commit))
        previous = sha256(raws[-1]).digest()[:16]
    body = [name, 1, header, raws, blobs]
    return packed([*body, sha256(packed(body)).digest()])


def edits(data: bytes, rng: random.Random) -> list[bytes]:
    """The bundle with one thing in it that is another: an item of an event, a field, a commit, a blob."""
    found = []
    for _ in range(10):
        name, _, header, raws, blobs, _ = plain(data)
        commits = [plain(raw) for raw in raws]
        commit = rng.choice(commits)
        event = rng.choice(commit[2:])
        match rng.randrange(9):
            case 0 | 1 | 2 | 3:
                event[rng.randrange(len(event))] = rng.choice(ODD)
            case 4:
                fields = rng.choice([header, header["record"], commits[0][2][1]])
                fields[rng.choice(sorted(fields))] = rng.choice(ODD)
            case 5:
                fields = rng.choice([header, header["record"], commits[0][2][1]])
                del fields[rng.choice(sorted(fields))]
            case 6:
                match rng.randrange(3):
                    case 0:
                        event.append(None)
                    case 1:
                        event.pop()
                    case _:
                        commit.append(rng.choice(ODD))
            case 7:
                place = rng.randrange(len(commits))
                commits[place : place + 1] = rng.choice([[], [commits[place]] * 2])
            case _:
                commit[1] = rng.choice([-1, 2**60, "soon", 0, 5.0])
        found.append(sealed_again(name, header, commits, blobs))
    return found


def test_what_was_edited_behind_right_digests_is_refused_where_the_kernel_refuses_it() -> None:
    """Items of another type, fields more or less, commits left out, kinds of a newer version: both say the same."""
    rng = random.Random(11)
    spoiled = [each for data in RAW for each in edits(data, rng)]
    ours = [accepted(each) for each in spoiled]
    theirs = verdicts("bundle", spoiled)
    differ = [(n, ok, said) for n, (ok, said) in enumerate(zip(ours, theirs, strict=True)) if said["ok"] != ok]
    assert differ == []
    assert True in ours
    assert False in ours


def test_a_gap_a_swap_and_a_newer_format_are_named() -> None:
    """The chain is followed commit by commit, and another format says which."""
    name, _, header, raws, blobs, _ = plain(RAW[GOLDEN.index(TESTS / "histories" / "v1-every.alk")])
    commits = [plain(raw) for raw in raws]
    gap = sealed_again(name, header, [*commits[:3], *commits[4:]], blobs, rechain=False)
    swap = sealed_again(name, header, [commits[0], commits[2], commits[1], *commits[3:]], blobs, rechain=False)
    newer = sealed_again(name, header, [[MAGIC[:-1] + b"\7", *commits[0][1:]]], blobs, rechain=False)
    said = verdicts("bundle", [gap, swap, newer, b"\xc1alkaline_edge sealed bundle" + bytes(90), b"PK\3\4", b""])
    assert [each["code"] for each in said] == ["damaged", "damaged", "newer", "sealed", "damaged", "damaged"]
    assert "commit 3 does not follow" in said[0]["message"]
    assert "format 7" in said[2]["message"]


@pytest.mark.parametrize("what", ["time", "kind", "format of the header"])
def test_time_that_goes_back_and_true_for_a_number_are_refused_by_both(what: str) -> None:
    """The kernel took a commit before the one before it, and Python takes true for 1."""
    name, _, header, raws, blobs, _ = plain((TESTS / "histories" / "v1-every.alk").read_bytes())
    commits = [plain(raw) for raw in raws]
    assert accepted(sealed_again(name, header, commits, blobs))
    match what:
        case "time":
            commits[3][1] = -1
        case "kind":
            commit = next(each for each in commits if each[2][0] == 1)
            commit[2][0] = True
        case _:
            commits[0][2][1]["format"] = True
    spoiled = sealed_again(name, header, commits, blobs)
    assert not accepted(spoiled)
    assert not verdicts("bundle", [spoiled])[0]["ok"]


# --- values ----------------------------------------------------------------------------------------------------------
def test_the_vectors_are_read_and_long_forms_are_refused() -> None:
    """SPEC.md's own vectors, and values that only another spelling of the same would be: as the kernel has it."""
    vectors = [
        bytes.fromhex(data)
        for _, data in re.findall(r"^\| `(.+)` \| `([0-9a-f]+)` \|$", SPEC.split("\nCommits of one")[0], re.M)
    ]
    assert len(vectors) == 23
    assert all(said["ok"] for said in verdicts("value", vectors))
    rng = random.Random(3)
    spoiled = [bytes(rng.choices(FORMS, k=rng.randrange(1, 12))) for _ in range(4_000)]
    spoiled += [bytes.fromhex(each) for each in LONG.split()]
    spoiled += [b"\x91" * n + b"\x90" for n in (63, 64, 65)] + [b"\xc7" + bytes([n]) + b"\3" for n in range(9)]
    ours = []
    for each in spoiled:
        try:
            ForeignCodec().decode_untrusted(each, 1_000)
        except AlkalineError:
            ours.append(False)
        else:
            ours.append(True)
    assert [
        (raw.hex(), said)
        for raw, ok, said in zip(spoiled, ours, verdicts("value", spoiled), strict=True)
        if said["ok"] != ok
    ] == []
    assert sum(ours) > 100


FORMS = bytes.fromhex("0001057f80818290 9192a0a16162c0c1c2c3c4c7cacbcccdcecfd0d1d2d3d4d5d6d9dcdee0ff020304")
LONG = """
82a16102a16103 82a16202a16103 cd0003 d90178 ca3f800000 c7010105 c70102 d40205 c7090201ffffffffffffffffff d40501 c70101
c70902010000000000000000 c70902ff7fffffffffffffff c70902ffffffffffffffffff a1ff a2c328 a3eda080 d401cc d401ff d4ff05
c70901cf000660e646648001 c70901d38000000000000000 c70901cf7fffffffffffffff d50392a0 c70a0392a5706f696e74920102
d3ffffffffffffffff d3ffffffff7fffffff d0df d0e0 d1ff7f d1ff80 81c0c0 810100
"""


# --- files -----------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that a runtime wrote: runs that ended, wait and are paused, large values, records of several batches."""
    path = tmp_path_factory.mktemp("store") / "agent.alkaline"

    async def fill() -> None:
        async with Runtime(FileHost(path), workflows=WORKFLOWS) as runtime:
            many = await asyncio.gather(*(runtime.start("fails", id=f"f{n}") for n in range(3)))
            every = await runtime.start("every_kind", {"topic": "golden"}, id="every")
            flight = await runtime.start("in_flight", id="in-flight")
            for run in (*many, flight):
                await run.settle()
            await every.update("add", 3)
            await every.pause()
            await every.settle()

    asyncio.run(fill())
    return path


def log_of(path: Path) -> dict[str, Any] | None:
    """What the file host finds in a file; None where it refuses it."""
    try:
        log = Log(str(path), writable=False)
    except AlkalineError:
        return None
    try:
        entries = {key: log.entry(key) for key in log.index.entries}
        found = sorted([key, sha256(entry.value).hexdigest()] for key, entry in entries.items() if entry)
        return {"torn": path.stat().st_size - log.end, "entries": found}
    finally:
        log.close()


def test_a_file_is_read_as_its_host_reads_it_whole_torn_and_damaged(store: Path, tmp_path: Path) -> None:
    """The same live keys from the whole file; a torn tail is passed over, and damage is refused, by both."""
    rng = random.Random(7)
    whole = store.read_bytes()
    ends = [len(whole) - n for n in range(1, 60)]
    spoiled = [whole, b"", whole[:10], whole[:24], *(whole[:end] for end in ends)]
    for _ in range(120):
        bad = bytearray(whole)
        bad[rng.randrange(len(bad) if rng.random() < 0.5 else 40)] ^= 1 << rng.randrange(8)
        spoiled.append(bytes(bad))
    for size in (1, 13, 40, 600, 1_500):  # what a crash leaves: a part of the last record, or zeros in place of it
        spoiled += [whole + whole[-size:], whole[:-size] + bytes(size), whole + bytes(size)]
    path = tmp_path / "spoiled.alkaline"
    said = verdicts("log", spoiled)
    for n, (raw, theirs) in enumerate(zip(spoiled, said, strict=True)):
        path.write_bytes(raw)
        ours = log_of(path)
        shown = {"torn": theirs.get("torn"), "entries": theirs.get("entries")} if theirs["ok"] else None
        assert shown == ours, (n, len(raw), theirs.get("message"))
    assert said[0]["ok"]
    assert len([each for each in said if not each["ok"]]) > 20


def test_runs_of_a_file_are_listed_and_verified(store: Path) -> None:
    """Records, histories with segments and large values, and what was asked of the runs."""
    (found,) = verdicts("timeline", [store.read_bytes()])
    assert {id: found[id]["status"] for id in ("every", "f0", "f1", "f2", "in-flight")} == {
        "every": "paused", "f0": "failed", "f1": "failed", "f2": "failed", "in-flight": "suspended",
    }  # fmt: skip


def test_a_timeline_shows_steps_attempts_waits_children_and_charges() -> None:
    """The golden run that has everything: what took how long, what was tried twice, and what it cost."""
    path = TESTS / "histories" / "v1-every.alk"
    (found,) = verdicts("timeline", [path.read_bytes()])
    run = found["every"]
    spans = {(span["kind"], span["name"], span["id"]): span for span in run["spans"]}
    flaky = next(span for span in run["spans"] if span["name"] == "flaky")
    assert [attempt["status"] for attempt in flaky["attempts"]] == ["failed", "completed"]
    assert (flaky["start"], flaky["end"]) == (0, 1000)
    kinds = {kind for kind, _, _ in spans}
    assert kinds == {"step", "timer", "child", "signal", "update", "paused"}
    branches = [span for span in run["spans"] if span["name"] == "branch"]
    assert [(span["id"].count("."), span["start"]) for span in branches] == [(1, 1000)] * 3
    assert run["spent"] == {"tokens": 15, "micro": 500_000}
    assert [charge["what"] for charge in run["charges"]] == ["planning", "step 1"]


def test_two_histories_are_the_same_where_the_kernels_diff_says_so() -> None:
    """Each golden history beside each of a sample: sound rows, every event once, and the kernel's verdict."""
    sample = [data for path, data in zip(GOLDEN, RAW, strict=True) if path.parent.name == "histories"][::4]
    pairs = [(a, b) for a in sample for b in RAW]
    asked = [len(a).to_bytes(4, "big") + a + b for a, b in pairs]
    for (a, b), said in zip(pairs, verdicts("pairs", asked), strict=True):
        assert said["same"] == (not replay.diff(a, b).changes)
        counts = Counter(said["whats"])
        left, right = (sum(map(len, replay.read(each).commits)) for each in (a, b))
        assert counts["same"] + counts["changed"] + counts["removed"] == left
        assert counts["same"] + counts["changed"] + counts["added"] == right
        assert bool(said["where"]) == bool(counts["changed"])


def test_what_was_taken_back_by_a_retry_counts_no_more() -> None:
    """A run that was tried again twice: what had failed is a moment on the timeline, and is charged once."""
    data = (TESTS / "histories" / "v1-retried.alk").read_bytes()
    (found,) = verdicts("timeline", [data])
    ((_, run),) = ((id, each) for id, each in found.items() if id != "ok")
    assert {span["status"] for span in run["spans"]} == {"completed"}
    kinds = [mark["kind"] for mark in run["marks"]]
    assert kinds.count("retry") == 2
    assert kinds.count("void") == 4
    assert run["spent"]["tokens"] == bundle.decode(data, Codec())[0].record["spent"]["tokens"]


def test_the_kinds_are_those_of_the_kernel() -> None:
    """A kind that the kernel gets is one that the reader must be told of, by SPEC.md's table."""
    text = (TESTS.parent / "hosts/alkaline_hosts/_inspector/reader/events.js").read_text()
    rows = [re.findall(r'"(\w+)"', row) for row in re.findall(r"^  (\[\".*\]),$", text, re.M)]
    assert [row[0] for row in rows] == [cls.__name__ for cls in CLASSES]
    assert [len(row) for row in rows] == [len(cls._fields) for cls in CLASSES]


def test_the_packages_page_runs(tmp_path: Path) -> None:
    """What its README shows, with the package as npm installs it: found by its name, and with all of its files."""
    package = TESTS.parent / "hosts" / "alkaline_hosts" / "_inspector" / "reader"
    (tmp_path / "node_modules").mkdir()
    (tmp_path / "node_modules" / "alkaline-edge-reader").symlink_to(package)
    (script,) = re.findall(r"^```js\n(.*?)^```$", (package / "README.md").read_text(), re.M | re.S)
    (tmp_path / "look.mjs").write_text(script)

    async def fill() -> None:
        host = FileHost(tmp_path / "agent.alkaline")
        async with Runtime(host, workflows=WORKFLOWS) as runtime:
            await (await runtime.start("in_flight", id="exe_1")).settle()
        await host.close()

    asyncio.run(fill())
    done = subprocess.run([node(), "look.mjs"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith("exe_1 suspended\ntrue "), done.stderr
