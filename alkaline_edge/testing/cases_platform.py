"""Conformance: limits, closing, the clock, entropy, sleep, and what a host says about itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, get_args

from ..errors import ClosedError, InvalidInput
from ..host import Durability, Host
from .stage import Skipped, Stage

YEAR_2020_MS = 1_577_836_800_000
YEAR_2200_MS = 7_258_118_400_000
LONGEST_KEY = 400
"""Bytes of the longest key that the kernel makes."""
LARGEST = 64 * 1024 * 1024
"""A limit above this many bytes is believed, not tried."""
MOST_KEYS = 20_000
"""A limit above this many keys is believed, not tried."""


class _Stop(BaseException):
    """Stands for a cancellation."""


async def keys_have_a_form(stage: Stage) -> None:
    """A key that is empty, not ASCII, or holds a space or a control character is InvalidInput; nothing is written."""
    host = await stage.host()
    for bad in ("", "k/é", "k/a b", "k/\n", "k/\x00", "k/\x7f", " k", "k/\u2028"):
        await stage.rejected(host, stage.batch({"k/ok": b"1", bad: b"1"}), InvalidInput, f"a put of the key {bad!r}")
        await stage.rejected(
            host, stage.batch({"k/ok": b"1"}, deletes=[bad]), InvalidInput, f"a delete of the key {bad!r}"
        )


async def keys_have_a_length(stage: Stage) -> None:
    """A key of ``max_key`` bytes is kept and listed; one byte more is InvalidInput naming the limit."""
    host = await stage.host()
    longest = host.capabilities.max_key
    key = "k/" + "x" * (longest - 2)
    await stage.write(host, {key: b"1"})
    assert await stage.value(host, key) == b"1", f"a key of max_key={longest} bytes was not kept"
    assert await stage.keys(host, key[:-1]) == [key], f"a key of max_key={longest} bytes is not listed"
    batch = stage.batch({"k/ok": b"1", key + "x": b"1"})
    await stage.rejected(host, batch, InvalidInput, f"a key of {longest + 1} bytes", str(longest))


async def values_have_a_size(stage: Stage) -> None:
    """A value over ``max_value`` is InvalidInput naming the limit, and no other put of its batch is written."""
    host = await stage.host()
    limit = host.capabilities.max_value
    if limit >= LARGEST:
        raise Skipped(f"max_value={limit} is too large to try")
    batch = stage.batch({"k/ok": b"1", "k/large": bytes(limit + 1)})
    await stage.rejected(host, batch, InvalidInput, f"a value of {limit + 1} bytes", str(limit))


async def batches_have_a_size(stage: Stage) -> None:
    """A batch over ``max_batch_bytes`` or ``max_batch_keys`` is InvalidInput naming the limit; nothing is written."""
    host = await stage.host()
    can = host.capabilities
    value = bytes(min(can.max_value, can.max_batch_bytes))
    count = can.max_batch_bytes // max(1, len(value)) + 1
    if count <= can.max_batch_keys and can.max_batch_bytes <= LARGEST:
        batch = stage.batch({f"k/{n}": value for n in range(count)})
        what = f"a batch of {count * len(value)} bytes"
        await stage.rejected(host, batch, InvalidInput, what, str(can.max_batch_bytes))
    if can.max_batch_keys > MOST_KEYS:
        return
    many = can.max_batch_keys + 1
    batch = stage.batch({f"k/{n}": b"1" for n in range(many)})
    await stage.rejected(host, batch, InvalidInput, f"a batch of {many} puts", str(can.max_batch_keys))
    batch = stage.batch({"k/ok": b"1"}, deletes=[f"k/{n}" for n in range(can.max_batch_keys)])
    await stage.rejected(host, batch, InvalidInput, f"a batch of {many} puts and deletes", str(can.max_batch_keys))


async def a_key_once_per_batch(stage: Stage) -> None:
    """A key named twice among puts and deletes is InvalidInput: no order is left to chance."""
    host = await stage.host()
    twice = stage.batch({"k/a": b"1"})
    batch = twice._replace(puts=twice.puts * 2)
    await stage.rejected(host, batch, InvalidInput, "a batch that puts a key twice")
    await stage.rejected(host, twice._replace(deletes=("k/a",)), InvalidInput, "a batch that puts and deletes a key")
    await stage.rejected(host, twice._replace(deletes=("k/b", "k/b")), InvalidInput, "a batch that deletes a key twice")


async def closed_is_closed(stage: Stage) -> None:
    """After ``close`` every storage call raises ClosedError, also one that asks for nothing; closing twice is fine."""
    host = await stage.host()
    await stage.write(host, {"k/a": b"1"})
    await host.close()
    await host.close()
    calls: list[tuple[str, Callable[[], Awaitable[Any]]]] = [
        ("get", lambda: host.get(["k/a"])),
        ("list", lambda: host.list("k/")),
        ("commit", lambda: host.commit(stage.batch({"k/a": b"2"}))),
        ("get of no keys", lambda: host.get([])),
        ("commit of an empty batch", lambda: host.commit(stage.batch())),
    ]
    for name, call in calls:
        try:
            await call()
        except ClosedError:
            continue
        except Exception as error:
            raise AssertionError(f"{name} on a closed host raised {type(error).__name__}: raise ClosedError") from error
        raise AssertionError(f"{name} on a closed host returned: raise ClosedError")


async def the_clock_is_sane(stage: Stage) -> None:
    """``now_ms`` is an int, in milliseconds since 1970, and does not run backwards by itself."""
    host = await stage.host()
    now, later = host.now_ms(), host.now_ms()
    assert type(now) is int, f"now_ms returned {type(now).__name__}: return an int"
    assert YEAR_2020_MS < now < YEAR_2200_MS, f"now_ms returned {now}: milliseconds since 1970 UTC are meant"
    assert now <= later, "now_ms went back between two calls"


async def entropy_is_fresh(stage: Stage) -> None:
    """``entropy(n)`` is n bytes, for 0 as well, and does not repeat itself."""
    host = await stage.host()
    for size in (0, 1, 8, 16, 33, 1_000, 10_000):
        drawn = host.entropy(size)
        assert type(drawn) is bytes, f"entropy returned {type(drawn).__name__}: return bytes"
        assert len(drawn) == size, f"entropy({size}) returned {len(drawn)} bytes"
    seen = {host.entropy(8) for _ in range(1_000)}
    assert len(seen) == 1_000, f"entropy(8) repeated itself {1_000 - len(seen)} times in 1,000 draws"
    assert len(set(host.entropy(1_000))) > 200, "entropy is not evenly spread over the byte values"


async def sleep_returns(stage: Stage) -> None:
    """``sleep`` of nothing, of a negative time and of a little returns; the clock has moved by about that."""
    host = await stage.host()
    await host.sleep(0)
    await host.sleep(-1)
    await host.get(["r/none"])  # the timers of some platforms count from the last I/O
    before = host.now_ms()
    await host.sleep(0.02)
    assert host.now_ms() - before >= 15, "sleep(0.02) returned before 20 ms had passed: sleep takes seconds"


async def sleep_can_be_cancelled(stage: Stage) -> None:
    """Whatever is thrown into a sleep comes out of it at once."""
    host = await stage.host()
    sleeping = host.sleep(3_600).__await__()
    try:
        next(sleeping)
    except StopIteration:
        raise AssertionError("sleep(3600) returned at once: it must wait") from None
    try:
        sleeping.throw(_Stop())
    except _Stop:
        return
    except StopIteration:
        raise AssertionError("sleep swallowed its cancellation and returned: let exceptions pass") from None
    raise AssertionError("sleep goes on after its cancellation: let exceptions pass")


async def capabilities_are_well_formed(stage: Stage) -> None:
    """What a host says about itself has the right types, fits together, suffices for the kernel, and never changes."""
    host = await stage.host()
    can = host.capabilities
    assert isinstance(host, Host), "the host lacks a method or property of alkaline_edge.host.Host"
    assert can.name, "capabilities.name is empty: error messages need it"
    assert can.durability in get_args(Durability), f"durability={can.durability!r} is not one of {get_args(Durability)}"
    for name in ("conditional", "atomic", "read_your_writes", "threads", "exclusive", "single_writer"):
        assert type(getattr(can, name)) is bool, f"capabilities.{name} must be a bool"
    for name in ("max_key", "max_value", "max_batch_bytes", "max_batch_keys", "inline_limit"):
        value = getattr(can, name)
        assert type(value) is int, f"capabilities.{name} must be an int"
        assert value > 0, f"capabilities.{name}={value} must be above 0"
    assert can.max_key >= LONGEST_KEY, f"max_key={can.max_key}: the kernel's keys have up to {LONGEST_KEY} bytes"
    assert can.inline_limit <= can.max_value, "inline_limit is above max_value: an inline value must fit into one key"
    assert can.max_value <= can.max_batch_bytes, "max_value is above max_batch_bytes: one value must fit into a batch"
    assert can.segment_commits >= 0, "segment_commits is negative"
    assert all(isinstance(note, str) and note for note in can.notes), "capabilities.notes must be sentences"
    await stage.write(host, {"k/a": b"1"})
    assert host.capabilities == can, "capabilities changed: they are constant for the life of the host"


async def threads_run_functions(stage: Stage) -> None:
    """``run_in_thread`` returns what the function returns and raises what it raises."""
    host = await stage.host()
    if not host.capabilities.threads:
        raise Skipped("this host has no threads")
    run: Any = getattr(host, "run_in_thread", None)
    assert run is not None, "capabilities.threads is true, but there is no run_in_thread"
    try:
        assert await run(divmod, 7, 2) == (3, 1), "run_in_thread did not return the function's result"
    except RuntimeError as error:
        if stage.races:
            raise
        raise Skipped(f"threads need an event loop: pass gather=asyncio.gather ({error})") from None
    try:
        await run(divmod, 7, 0)
    except ZeroDivisionError:
        return
    raise AssertionError("run_in_thread swallowed the function's exception")


async def owners_are_known(stage: Stage) -> None:
    """An owner that was vouched for is alive for each handle, until it is let go or its host is closed; no other is."""
    host: Any = await stage.host()
    if not (hasattr(host, "hold") and hasattr(host, "alive")):  # a host around another one may hand them through
        raise Skipped("this host does not know its owners: see KnowsOwners")
    other: Any = await stage.another(host)
    let_go, stays = await host.hold("first"), await host.hold("second")
    if let_go is None or stays is None:
        raise Skipped("the platform vouches for nobody here")
    for each in (host, other):
        assert await each.alive("first"), "an owner that is held is said to be gone"
        assert not await each.alive("nobody"), "an owner that nobody has held is said to be alive"
    let_go()
    await _gone(other, "first")
    assert await other.alive("second"), "letting go of one owner let go of another"
    await host.close()
    await _gone(other, "second")


async def _gone(host: Any, owner: str) -> None:
    """A platform may take a moment."""
    for _ in range(50):
        if not await host.alive(owner):
            return
        await host.sleep(0.02)
    raise AssertionError("an owner that was let go, or whose host was closed, is still said to be alive")
