"""The table of docs/hosts.md is that of the code; `python -m tests.test_hosts_page` writes it anew."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

from alkaline_edge.host import Capabilities
from alkaline_hosts import callbacks, cloudflare_kv, durable_object, indexeddb, postgres
from alkaline_hosts.d1 import D1Host
from alkaline_hosts.file import FileHost
from alkaline_hosts.memory import MemoryHost
from alkaline_hosts.redis import RedisHost

PAGE = Path(__file__).parents[1] / "docs" / "hosts.md"
TABLE = re.compile(r"(<!-- made by .*? -->\n).*?(<!-- to here -->)", re.DOTALL)
KNOWS_OWNERS = {"memory", "IndexedDB"}
"""Those with ``hold`` and ``alive``; an exclusive host knows by itself."""


def all_capabilities(folder: Path) -> Iterator[Capabilities]:
    """What each host says of itself."""
    yield MemoryHost().capabilities
    yield FileHost(folder / "store").capabilities
    yield callbacks._UNKNOWN
    yield indexeddb._CAPABILITIES
    yield durable_object._CAPABILITIES
    yield D1Host(SimpleNamespace(prepare=print)).capabilities
    yield cloudflare_kv._SINGLE_WRITER
    yield postgres._CAPABILITIES
    with mock.patch("alkaline_hosts.redis.client_of"):
        yield RedisHost(None).capabilities


def size(count: int) -> str:
    """Bytes, in the largest unit that makes 1 or more of it."""
    for unit, of in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count >= of:
            return f"{count / of:.4g} {unit}"
    return f"{count} B"


def table(folder: Path) -> str:
    """The rows of the page."""
    heads = (
        "Host",
        "Durability",
        "Several writers",
        "Gone at once",
        "Threads",
        "Largest key",
        "value",
        "commit",
        "keys in it",
    )
    lines = [f"| {' | '.join(heads)} |", f"|{' --- |' * len(heads)}"]
    for each in all_capabilities(folder):
        cells = [
            each.name,
            each.durability,
            "yes" if each.conditional and not each.exclusive else "one at a time",
            "yes" if each.exclusive or each.name in KNOWS_OWNERS else "no",
            "yes" if each.threads else "no",
            size(each.max_key),
            size(each.max_value),
            size(each.max_batch_bytes),
            f"{each.max_batch_keys:,}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    notes = {f"- {each.name}: {note}" for each in all_capabilities(folder) for note in each.notes}
    return "\n".join(["", *lines, "", *sorted(notes), "", ""])


def written(page: str, folder: Path) -> str:
    """The page with its table as it should be."""
    return TABLE.sub(lambda found: f"{found[1]}{table(folder)}{found[2]}", page, count=1)


def test_the_table_of_hosts_is_that_of_the_code(tmp_path: Path) -> None:
    """Durability, writers, threads and limits; `python -m tests.test_hosts_page` mends it."""
    page = PAGE.read_text("utf-8")
    assert TABLE.search(page)
    assert page == written(page, tmp_path)


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        PAGE.write_text(written(PAGE.read_text("utf-8"), Path(folder)), "utf-8")
