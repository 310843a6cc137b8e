"""Conformance: get and list, and the bytes of values."""

from __future__ import annotations

from typing import Any

from ..host import Entry, Host
from .stage import Stage

LARGEST_TRIED = 4 * 1024 * 1024
"""Bytes of max_value up to which a value of that size is written."""


async def _keys(stage: Stage, host: Host, keys: list[str]) -> None:
    """Put every key, its name as its value, in batches that any host takes."""
    size = max(1, min(50, host.capabilities.max_batch_keys))
    for start in range(0, len(keys), size):
        await stage.write(host, {key: key.encode() for key in keys[start : start + size]})


async def get_answers_in_order(stage: Stage) -> None:
    """``get`` answers in the order of its keys, None where absent, once per mention, and takes any iterable."""
    host = await stage.host()
    assert await host.get([]) == [], "get of no keys must return an empty list"
    assert await host.get(["k/absent"]) == [None], "get of an absent key must return [None]"
    await _keys(stage, host, ["k/a", "k/b", "k/c"])
    found = await host.get(key for key in ("k/c", "k/none", "k/a", "k/c", "k/b"))
    assert isinstance(found, list), f"get must return a list, not {type(found).__name__}"
    names = [None if entry is None else entry.key for entry in found]
    assert names == ["k/c", None, "k/a", "k/c", "k/b"], (
        f"get(c, none, a, c, b) returned {names}: one answer per key asked, in the order asked"
    )
    entry = found[0]
    assert isinstance(entry, Entry), f"get must return Entry or None, not {type(entry).__name__}"
    assert isinstance(entry.value, bytes), f"a value must come back as bytes, not {type(entry.value).__name__}"


async def get_takes_many_keys(stage: Stage) -> None:
    """``get`` takes more keys than a statement has parameters: 600 at once."""
    host = await stage.host()
    stored = [f"k/{n:04}" for n in range(0, 600, 2)]
    await _keys(stage, host, stored)
    asked = [f"k/{n:04}" for n in range(600)]
    found = [None if entry is None else entry.key for entry in await host.get(asked)]
    assert found == [key if n % 2 == 0 else None for n, key in enumerate(asked)], (
        "get of 600 keys lost or moved some: split large reads, keep the order"
    )


async def version_is_the_batch(stage: Stage) -> None:
    """An entry's version is the id of the batch that put it last, in ``get`` and in ``list``."""
    host = await stage.host()
    first = await stage.write(host, {"k/a": b"1", "k/b": b"1"})
    second = await stage.write(host, {"k/b": b"2"})
    expected = [Entry("k/a", b"1", first), Entry("k/b", b"2", second)]
    got = await host.get(["k/a", "k/b"])
    listed = await host.list("k/")
    assert got == expected, f"get returned {got}, expected {expected}: the version is the id of the batch that put it"
    assert listed == expected, f"list returned {listed}, expected {expected}"


async def any_bytes_are_kept(stage: Stage) -> None:
    """Every byte value, the empty value, and text that looks like markup or numbers come back as they went in."""
    host = await stage.host()
    values = [
        b"", b"\x00", b"\x00" * 9, bytes(range(256)), bytes(reversed(range(256))), b"null", b"undefined", b"0",
        b"\xff\xfe\xfd", "é\u2028😀".encode(), b"'; --", b"\r\n", b"=", b"\x00trailing\x00",
    ]  # fmt: skip
    for n, value in enumerate(values):
        await stage.write(host, {f"k/{n:02}": value})
    for n, value in enumerate(values):
        got = await stage.value(host, f"k/{n:02}")
        assert got == value, f"the value {value[:16]!r} ({len(value)} bytes) came back as {got!r:.80}"
    listed = [entry.value for entry in await host.list("k/")]
    assert listed == values, "list returned other values than get"


async def large_values_are_kept(stage: Stage) -> None:
    """Values around powers of two, up to the inline limit, and of max_value bytes come back whole."""
    host = await stage.host()
    limit = min(host.capabilities.inline_limit, host.capabilities.max_value)
    for size in sorted({255, 256, 4095, 4096, 65535, 65536, limit - 1, limit}):
        if size <= limit:
            value = (bytes(range(256)) * (size // 256 + 1))[:size]
            await stage.write(host, {"k/large": value})
            got = await stage.value(host, "k/large")
            assert got == value, f"a value of {size} bytes came back with {len(got or b'')} bytes, or changed"
    if host.capabilities.max_value <= LARGEST_TRIED:
        largest = b"\x5a" * host.capabilities.max_value
        await stage.write(host, {"k/large": largest})
        assert await stage.value(host, "k/large") == largest, f"a value of max_value={len(largest)} bytes did not fit"


async def values_are_copied(stage: Stage) -> None:
    """What the caller does to its buffer after the commit changes nothing in the store, and values are bytes."""
    host = await stage.host()
    buffer = bytearray(b"before")
    given: Any = {"k/a": buffer, "k/b": memoryview(buffer)[1:]}  # not bytes: a caller that is careless with types
    await stage.write(host, given)
    buffer[:] = b"xxxxxx"
    for key, expected in (("k/a", b"before"), ("k/b", b"efore")):
        got = await stage.value(host, key)
        assert got == expected, f"{key} is {got!r}, expected {expected!r}: copy a value with bytes() when it is put"
        assert type(got) is bytes, f"a value came back as {type(got).__name__}: return bytes"


async def list_is_in_ascii_order(stage: Stage) -> None:
    """``list`` is ascending by ASCII bytes: not by locale, not by case, not by insertion."""
    host = await stage.host()
    keys = [f"k/{chr(code)}" for code in range(0x21, 0x7F)] + ["k/aa", "k/a/b", "k/a-b", "k/AB", "k/~~", "k/10", "k/1!"]
    await _keys(stage, host, sorted(keys, key=lambda key: key[::-1].swapcase()))
    listed = await stage.keys(host, "k/")
    wrong = [pair for pair in zip(listed, sorted(keys), strict=False) if pair[0] != pair[1]]
    assert listed == sorted(keys), (
        f"list returned {len(listed)} of {len(keys)} keys, not in ASCII order at (got, expected) {wrong[:1]}: compare "
        "the raw bytes of the keys"
    )


async def list_keeps_to_its_prefix(stage: Stage) -> None:
    """``list`` gives the keys that start with the prefix, the prefix itself included, and no neighbours."""
    host = await stage.host()
    keys = ["a", "a/", "a/1", "a/1/2", "a/2", "a0", "a!", "b", "b/1", "A/1", "a/~", "a.1"]
    await _keys(stage, host, keys)
    for prefix in ("a/", "a", "a/1", "b", "a/1/", "z", "a/~", "A"):
        expected = sorted(key for key in keys if key.startswith(prefix))
        listed = await stage.keys(host, prefix)
        assert listed == expected, f"list({prefix!r}) returned {listed}, expected {expected}"
    assert await stage.keys(host, "") == sorted(keys), "list('') must return every key"


async def list_takes_prefixes_literally(stage: Stage) -> None:
    """Characters that mean something to SQL, globs or regular expressions mean themselves, however long the prefix."""
    host = await stage.host()
    odd = ["k/%/1", "k/_/1", "k/*/1", "k/?/1", "k/[a]/1", "k/\\/1", "k/'/1", 'k/"/1', "k/{a}/1", "k/.*/1", "k/a/1"]
    long = "k/" + "x" * 120 + "/"
    await _keys(stage, host, [*odd, f"{long}1", f"{long}2"])
    for key in odd:
        listed = await stage.keys(host, key[:-1])
        assert listed == [key], f"list({key[:-1]!r}) returned {listed}, expected {[key]}: the prefix is plain text"
    listed = await stage.keys(host, long)
    assert listed == [f"{long}1", f"{long}2"], f"list with a prefix of {len(long)} bytes returned {len(listed)} keys"


async def list_goes_on_after(stage: Stage) -> None:
    """``after`` is exclusive, need not be a stored key, and may lie before or behind the prefix."""
    host = await stage.host()
    await _keys(stage, host, ["j/9", "k/1", "k/2", "k/3", "l/1"])
    for after, expected in (
        ("", ["k/1", "k/2", "k/3"]),
        ("k/1", ["k/2", "k/3"]),
        ("k/10", ["k/2", "k/3"]),
        ("k/3", []),
        ("j/9", ["k/1", "k/2", "k/3"]),
        ("a", ["k/1", "k/2", "k/3"]),
        ("l", []),
        ("k/", ["k/1", "k/2", "k/3"]),
    ):
        listed = await stage.keys(host, "k/", after)
        assert listed == expected, f"list('k/', after={after!r}) returned {listed}, expected {expected}"


async def list_is_paged(stage: Stage) -> None:
    """At most ``limit`` entries; a shorter answer means that there are no more; pages join without gap or repeat."""
    host = await stage.host()
    keys = [f"k/{n:02}" for n in range(23)]
    await _keys(stage, host, [*keys, "k0", "j/9"])
    for limit in (1, 2, 7, 22, 23, 24, 500):
        found: list[str] = []
        while True:
            page = await stage.keys(host, "k/", found[-1] if found else "", limit)
            assert len(page) <= limit, f"list(limit={limit}) returned {len(page)} entries"
            found.extend(page)
            if len(page) < limit:
                break
            assert len(found) <= len(keys), f"paging with limit={limit} does not end: `after` must be exclusive"
        assert found == keys, f"pages of {limit} joined to {len(found)} keys, expected {len(keys)}: {found}"


async def list_is_never_cut_short(stage: Stage) -> None:
    """An answer shorter than ``limit`` has everything, also beyond 1,000 keys, where some stores stop by themselves."""
    host = await stage.host()
    keys = [f"k/{n:05}" for n in range(1_100)]
    await _keys(stage, host, keys)
    listed = await stage.keys(host, "k/", "", 5_000)
    assert listed == keys, (
        f"list(limit=5000) of 1,100 keys returned {len(listed)}: a shorter answer than `limit` says that there are no "
        "more, so follow the store's own pages until `limit` is reached or nothing is left"
    )
    assert len(await host.list("k/")) == 500, "list without a limit must return 500 of 1,100 entries"
