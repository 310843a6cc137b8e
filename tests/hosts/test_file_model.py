"""Any sequence of commits, reopenings and compactions leaves the file host with what a dict would hold."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from alkaline_edge.host import Batch, Check, Committed, Conflict, Put
from alkaline_hosts.file import FileHost
from tests.hosts.file_support import contents, drive, ends

KEYS = st.sampled_from([f"{prefix}{name}" for prefix in ("", "h/x/", "h/y/", "h/x/z/") for name in "abcd"])
VALUES = st.one_of(st.binary(max_size=40), st.sampled_from([4096, 4097, 9000]).map(bytes))


class FileAgainstDict(RuleBasedStateMachine):
    """A writer and a reader on one file, and the dict that they must equal."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self.path = self.directory / "a.alkaline"
        self.writer = FileHost(self.path, fsync=False)
        self.reader = FileHost(self.path, read_only=True)
        self.model: dict[str, tuple[bytes, str]] = {}
        self.number = 0

    @rule(puts=st.dictionaries(KEYS, VALUES, max_size=5), deletes=st.sets(KEYS, max_size=4), stale=st.sets(KEYS))
    def commit(self, puts: dict[str, bytes], deletes: set[str], stale: set[str]) -> None:
        """A batch whose checks all hold, or some of which do not."""
        self.number += 1
        checks = [Check(key, self.model[key][1] if key in self.model else None) for key in puts]
        wrong = sorted(stale) if self.number % 4 == 0 else []
        checks += [Check(key, "0" * 16) for key in wrong]
        gone = deletes - puts.keys()
        id = f"{self.number:016x}"
        batch = Batch(id, tuple(checks), tuple(Put(*item) for item in puts.items()), tuple(gone))
        outcome = drive(lambda: self.writer.commit(batch))
        if wrong:
            assert outcome == Conflict(tuple(wrong))
            return
        assert outcome == Committed(id)
        self.model.update({key: (value, id) for key, value in puts.items()})
        for key in gone:
            self.model.pop(key, None)

    @rule()
    def compact(self) -> None:
        """Rewrite the file: one record for each live key."""
        drive(self.writer.compact)
        assert len(ends(self.path.read_bytes())) == len(self.model)

    @rule(tear=st.integers(0, 30))
    def reopen(self, tear: int) -> None:
        """Close, leave a torn record of up to 30 bytes, open."""
        drive(self.writer.close)
        with open(self.path, "ab") as log:
            log.write(b"\1\2\3\4\0\1\0\0\0\0\0\1 and no more of it"[:tear])
        self.writer = FileHost(self.path, fsync=False)
        assert self.writer.healed == tear

    @rule(prefix=st.sampled_from(["", "h/", "h/x/", "q"]), after=st.one_of(st.just(""), KEYS), limit=st.integers(1, 9))
    def list_a_page(self, prefix: str, after: str, limit: int) -> None:
        """A page is a slice of the sorted keys."""
        expected = sorted(key for key in self.model if key.startswith(prefix) and key > after)[:limit]
        assert [entry.key for entry in drive(lambda: self.writer.list(prefix, after, limit))] == expected

    @invariant()
    def both_equal_the_model(self) -> None:
        """Writer and reader hold exactly the model, and the count of live bytes has not drifted."""
        assert drive(lambda: contents(self.writer)) == self.model
        assert drive(lambda: contents(self.reader)) == self.model
        keys = [*self.model, "absent"]
        found = drive(lambda: self.reader.get(keys))
        assert [entry and entry.value for entry in found] == [self.model.get(key, (None,))[0] for key in keys]
        fresh = FileHost(self.path, read_only=True)
        assert fresh._log.index.live == self.writer._log.index.live

    def teardown(self) -> None:
        """Remove the file."""
        drive(self.writer.close)
        drive(self.reader.close)
        shutil.rmtree(self.directory)


TestFileAgainstDict = FileAgainstDict.TestCase
TestFileAgainstDict.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
