"""A kill in the middle of a record of LevelDB's log, and a store that Chromium has lost."""

from __future__ import annotations

from pathlib import Path

import pytest
from browser import Browser, Forgotten, wait_until
from leveldb import HEADER, Left, Log, checksum, log_of
from pages import page

COMMIT = "host = IndexedDBHost('torn')\nawait outcome(host.commit(batch(({key!r}, b'1'))))"
READ = "host = IndexedDBHost('torn')\n[entry.key for entry in await host.list('')]"
ASK = "await outcome(IndexedDBHost({name!r}).get(['a']))"


def tear(log: Path) -> None:
    """Leave what a process leaves that was killed between the two writes of a record: its header."""
    with log.open("ab") as file:
        file.write(HEADER.pack(0x12345678, 300, 1))


def damage(log: Path) -> None:
    """Change a byte in the middle of it."""
    content = bytearray(log.read_bytes())
    content[len(content) // 2] ^= 1
    log.write_bytes(content)


def test_what_is_committed_behind_a_torn_log_is_there_afterwards(own_chromium: Browser) -> None:
    """The browser is killed while it writes; what the next one acknowledges, and all before it, outlives that one too.

    Chromium alone would append to the torn log, find it corrupted at the next start, and delete the origin's databases.
    """
    assert page(own_chromium.tab(), COMMIT.format(key="a")) == "Committed"
    own_chromium.kill()
    tear(torn := log_of(own_chromium.profile))
    assert page(own_chromium.start().tab(), COMMIT.format(key="b")) == "Committed"
    wait_until(lambda: not torn.exists(), "the torn log was left behind")
    own_chromium.kill()
    assert page(own_chromium.start().tab(), READ) == ["a", "b"]


def test_a_store_that_chromium_has_lost_is_not_mistaken_for_a_new_one(own_chromium: Browser) -> None:
    """What Chromium took for corrupted and deleted is ``gone``, in every later page too, until it is replaced.

    A page that learned of it and deletes a store has said what it wants: the next one is new.
    """
    assert page(own_chromium.tab(), COMMIT.format(key="a")) == "Committed"
    own_chromium.kill()
    damage(log_of(own_chromium.profile))
    with pytest.raises(Forgotten, match="can't be read"):
        own_chromium.again()
    tab = own_chromium.tab()
    assert page(tab, ASK.format(name="torn")) == "StoreError gone"
    assert tab.python(ASK.format(name="other")) == "StoreError gone"
    assert tab.python("await delete_store('other')\n" + ASK.format(name="other")) == "list"
    assert page(tab.reload(), ASK.format(name="torn")) == "StoreError gone"
    assert page(tab.reload(), "await outcome(IndexedDBHost('torn', replace_lost=True).get(['a']))") == "list"
    assert page(tab.reload(), ASK.format(name="torn")) == "list"


def test_a_record_that_was_not_written_whole_is_seen(tmp_path: Path) -> None:
    """At its end a log may be torn; behind that what is written can't be read, and the log is corrupted."""
    log, content = tmp_path / "Default" / "IndexedDB" / "o.leveldb" / "000003.log", b"\1" + b"x" * 300
    log.parent.mkdir(parents=True)
    log.write_bytes(HEADER.pack(checksum(content), 300, 1) + content[1:])
    assert (Log(log).is_torn(), Left(tmp_path).corrupted()) == (False, "")
    tear(log)
    assert (Log(log).is_torn(), Left(tmp_path).corrupted()) == (True, "")
    log.write_bytes(log.read_bytes() + HEADER.pack(checksum(content), 300, 1) + content[1:])
    assert Left(tmp_path).corrupted() == "000003.log of 621 bytes can't be read at 307"
