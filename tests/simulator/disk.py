"""The batches of a schedule as a log of the file host, ended where a kill or a failed sync may end it.

A record that was never synced is not there, or in part, or with sectors that were never written; whatever is behind it
does not exist, since a host that could not sync writes nothing more. What was synced is there, whole.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from itertools import pairwise
from random import Random

from alkaline_edge.errors import AlkalineError
from alkaline_edge.host import Batch
from alkaline_hosts._file.format import Encoder, Member, new_header, read_header
from alkaline_hosts._file.log import Log
from alkaline_hosts._file.scan import SECTOR

Model = dict[str, tuple[bytes, str]]
MEMORY = "/dev/shm"
"""Where files are in memory: thousands of logs are cut, and each is made durable after it."""


def tried(batches: Sequence[Batch] | None, random: Random) -> list[str]:
    """What is wrong with what is read of the log, in words."""
    raw, states = _written(batches or (), random)
    ends = sorted(states)
    at = random.randrange(len(ends))
    synced = ends[at]
    lost = raw[synced : ends[at + 1]] if at + 1 < len(ends) else b""
    there = raw[:synced] + _part_of(lost, synced, random)
    wanted = states[ends[at + 1]] if lost and there == raw[: ends[at + 1]] else states[synced]
    with tempfile.NamedTemporaryFile(delete=False, dir=MEMORY if os.path.isdir(MEMORY) else None) as file:
        file.write(there)
    try:
        log = Log(file.name, writable=True)
        try:
            if log.follow():
                log.cut_tail()
            found = {key: log.entry(key) for key in log.index.entries}
        finally:
            log.close()
    except AlkalineError as error:
        return [f"a log of which the end was torn at {len(there)} of {len(raw)} bytes is refused: {error}"]
    finally:
        os.unlink(file.name)
    read = {key: (entry.value, entry.version) for key, entry in found.items() if entry is not None}
    return (
        [] if read == wanted else [f"a log torn at {len(there)} bytes has another content: {set(read) ^ set(wanted)}"]
    )


def _written(batches: Sequence[Batch], random: Random) -> tuple[bytes, dict[int, Model]]:
    """The file of all batches, some of them in groups, and what it holds behind each record."""
    header = new_header(random.randbytes(8))
    known = read_header(header)
    assert known is not None
    encoder, parts, model = Encoder(known.seed), [header], Model()
    states, size, at = {len(header): dict(model)}, len(header), 0
    while at < len(batches):
        members: list[Member] = []
        for batch in batches[at : at + random.choice((1, 1, 1, 2, 5))]:
            at += 1
            deletes = [key for key in batch.deletes if key in model]
            if not batch.puts and not deletes:
                continue
            for key in deletes:
                del model[key]
            model.update((key, (bytes(value), batch.id)) for key, value in batch.puts)
            members.append((bytes.fromhex(batch.id), batch.puts, deletes))
        if members:
            record = encoder.batch(*members[0])[0] if len(members) == 1 else encoder.group(members)[0]
            parts.append(record)
            size += len(record)
            states[size] = dict(model)
    return b"".join(parts), states


def _part_of(record: bytes, offset: int, random: Random) -> bytes:
    """What is on the disk of a record that was never synced."""
    way = random.choice(("none", "some", "holes", "all"))
    if way == "none" or not record:
        return b""
    if way == "some":
        return record[: random.randrange(len(record))]
    if way == "all":
        return record
    edge = -offset % SECTOR
    cuts = [0, *range(edge, len(record), SECTOR), len(record)]
    sectors = [record[a:b] for a, b in pairwise(cuts)]
    return b"".join(bytes(len(one)) if random.random() < 0.5 else one for one in sectors)
