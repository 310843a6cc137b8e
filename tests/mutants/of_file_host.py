"""Bugs of the file host: what is on the disk when a commit is acknowledged, and what is read back."""

from __future__ import annotations

from .table import CONFORMS, FILE, Mutant

F = "hosts/alkaline_hosts/"
HOST, LOG, SCAN, GROUP, INDEX, FORMAT = (
    F + "file.py", *(F + f"_file/{name}.py" for name in ("log", "scan", "group", "index", "format")),
)  # fmt: skip
ALL = (*FILE, *CONFORMS)

MUTANTS = [
    Mutant(
        "a torn tail is left in front of the next commit",
        HOST,
        "                    log.cut_tail()\n",
        "",
        ALL,
    ),
    Mutant(
        "damage in the middle is cut off as a torn tail",
        SCAN,
        'return f"its bytes are wrong, and a whole record follows at byte {found}"',
        "return None",
        ALL,
    ),
    Mutant(
        "a whole record with wrong bytes is cut off",
        SCAN,
        'return "all of it is there and its bytes are wrong"',
        "return None",
        ALL,
    ),
    Mutant(
        "a record of another number is read",
        SCAN,
        "if number != sequence or length < MIN_LENGTH or following > size:",
        "if length < MIN_LENGTH or following > size:",
        ALL,
    ),
    Mutant(
        "a record's checksum is not looked at",
        SCAN,
        "        if crc32(view[at + 4 : following - base], seed) != crc:\n            return\n",
        "",
        ALL,
    ),
    Mutant(
        "a host goes on after a failed sync",
        HOST,
        '            self._break("a sync failed")\n',
        "",
        ALL,
    ),
    Mutant(
        "a failed sync is told as nothing written",
        HOST,
        "            raise self._unknown(error.__cause__) from error\n",
        '            raise StoreError("the sync failed") from error\n',
        ALL,
    ),
    Mutant(
        "a commit is acknowledged without a sync",
        LOG,
        "        if durable:\n            try:\n                sync(self.fd)",
        "        if not self.fd:\n            try:\n                sync(self.fd)",
        ALL,
    ),
    Mutant(
        "what a failed write left stays in the file",
        LOG,
        "        except OSError:\n            self._take_back()\n            raise\n",
        "        except OSError:\n            raise\n",
        ALL,
    ),
    Mutant(
        "a short write is taken for a whole one",
        LOG,
        "            if written < len(record):\n                write_all(self.fd, record[written:])\n",
        "            assert written\n",
        ALL,
    ),
    Mutant(
        "the last record is built on without being made durable",
        HOST,
        "                if self._fsync:\n                    log.secure()\n",
        "",
        ALL,
    ),
    Mutant(
        "the directory is not synced behind a compaction",
        HOST,
        "            sync_directory(self._path)\n            log.adopt(fresh)\n",
        "            log.adopt(fresh)\n",
        ALL,
    ),
    Mutant(
        "a new file's directory is not synced",
        LOG,
        "        raise\n    sync_directory(path)\n",
        "        raise\n",
        ALL,
    ),
    Mutant(
        "a compacted file is renamed before it is synced",
        LOG,
        "            fresh = self._write_live(fd, path, new_header(salt))\n            os.fsync(fd)\n",
        "            fresh = self._write_live(fd, path, new_header(salt))\n",
        ALL,
    ),
    Mutant(
        "large values are read from where they stood before a compaction",
        LOG,
        "        self.index.entries.update((extent.key, extent) for extent in fresh.moved)\n",
        "",
        ALL,
    ),
    Mutant(
        "a file that something else has cut is written on",
        LOG,
        "if status.st_size != self.end or status.st_nlink < self._links:",
        "if status.st_nlink < self._links:",
        ALL,
    ),
    Mutant(
        "a check for an absent key is not made",
        HOST,
        "if (None if kept is None else kept.version) != version:",
        "if kept is not None and version is not None and kept.version != version:",
        ALL,
    ),
    Mutant(
        "checks of a group do not see what stands before them in it",
        GROUP,
        "        written.update([(key, batch.id) for key, _ in batch.puts])\n",
        "",
        ALL,
    ),
    Mutant(
        "a group writes the commit of one who was cancelled",
        GROUP,
        "left = [one for one in waiting if not one.answer.done()]",
        "left = waiting",
        ALL,
    ),
    Mutant(
        "a key that is deleted in a group counts as there",
        GROUP,
        "        written.update(dict.fromkeys(one.deletes))\n",
        "",
        ALL,
    ),
    Mutant(
        "keys of a group's second batch have the first one's version",
        LOG,
        "                    version = key  # of the next batch of a group\n",
        "                    pass\n",
        ALL,
    ),
    Mutant(
        "a large value is one byte off",
        LOG,
        "self.index.put(key, value, batch.id, self.end - len(value))",
        "self.index.put(key, value, batch.id, self.end - len(value) - 1)",
        ALL,
    ),
    Mutant(
        "a list begins with the key that it is to begin behind",
        "hosts/alkaline_hosts/_ranges.py",
        "    start = bisect_left(keys, prefix) if after < prefix else bisect_right(keys, after)\n",
        "    start = bisect_left(keys, prefix) if after < prefix else bisect_left(keys, after)\n",
        ALL,
    ),
    Mutant(
        "garbage is counted as live, so that a log is never compacted",
        INDEX,
        "            self.live -= self._cost(old)\n\n    def delete",
        "            pass\n\n    def delete",
        ALL,
    ),
    Mutant(
        "a log is compacted at each commit once it is large",
        HOST,
        "if garbage > self._compact_from and garbage > log.index.live:",
        "if log.end > self._compact_from:",
        ALL,
    ),
    Mutant(
        "a flag that this release does not know is not refused",
        LOG,
        "if header.version != VERSION or header.flags & ~GROUPS:",
        "if header.version != VERSION:",
        ALL,
    ),
    Mutant(
        "bytes of another file are taken for records of this one",
        FORMAT,
        '    return head + crc32(head).to_bytes(4, "big")',
        '    return head + crc32(head[:8]).to_bytes(4, "big")',
        ALL,
    ),
]
