"""Bytes from outside are bounded, and held to their form, before anything of them is built; little is spent on them."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

import msgpack
import pytest

from alkaline_edge import AlkalineError, Context, InvalidInput, Runtime, canonical, workflow
from alkaline_edge.codec import BlobRef, Codec
from alkaline_edge.history import MAGIC
from alkaline_edge.limits import MAX_DEPTH_OF_VALUE
from alkaline_edge.runtime.handing import Local
from alkaline_edge.testing import SimulatedHost
from tests.support import drive

C = Codec()
C.register(complex, "pair", lambda value: [value.real, value.imag], lambda value: complex(*value))
NUMBERS = [0, 31, 32, 33, 127, 128, 129, 255, 256, 2**15, 2**16, 2**31, 2**32, 2**63 - 1, 2**64 - 1, 2**64, 2**200]
LENGTHS = [0, 1, 15, 16, 31, 32, 255, 256, 65_535, 65_536]


def drawn(draw: random.Random, depth: int = 0) -> Any:
    """A value, at the border of some form as often as not."""
    length = draw.choice(LENGTHS[: 10 if depth == 0 else 7])
    few = draw.choice([0, 1, 2, 15, 16])
    leaves: list[Callable[[], Any]] = [
        lambda: draw.choice([None, True, False, 1.5, -0.0, float("inf"), 2 + 1j]),
        lambda: draw.choice([1, -1]) * (draw.choice(NUMBERS) + draw.choice([-1, 0, 1])),
        lambda: draw.choice(["a", "ä", "\U0001f600"]) * length,
        lambda: b"x" * length,
        lambda: (
            datetime(1970, 1, 1, tzinfo=UTC) + draw.choice([-1, 1]) * timedelta(microseconds=draw.choice(NUMBERS[:13]))
        ),
        lambda: BlobRef(b"d" * 32, draw.choice(NUMBERS[:15])),
    ]
    if depth < 4 and draw.random() < 0.4:
        return [drawn(draw, depth + 1) for _ in range(few)] if draw.random() < 0.5 else {
            draw.choice(["", "k", "ö"]) + str(n): drawn(draw, depth + 1) for n in range(few)
        }  # fmt: skip
    return draw.choice(leaves)()


def slowly(data: bytes) -> bool:
    """Whether bytes are canonical, found out by building all of it and writing it again."""
    try:
        return C.encode(C.decode(data)) == data
    except (AlkalineError, TypeError, ValueError, OverflowError):
        return False


@pytest.mark.parametrize("seed", range(4))
def test_what_passes_is_what_is_written_again_as_it_was(seed: int) -> None:
    """Values at the borders of every form; and with a byte changed, taken away or added, as the slow way says."""
    draw = random.Random(seed)
    refused = 0
    for _ in range(60):
        data = C.encode(drawn(draw))
        canonical.check(data)
        C.decode_untrusted(data, len(data))
        for _ in range(6 if len(data) < 2_000 else 0):
            at, other = (
                draw.randrange(len(data)),
                bytes([draw.choice([draw.randrange(256), draw.randrange(0xC0, 0xE0)])]),
            )
            changed = data[:at] + draw.choice([other, b"", other + data[at : at + 1]]) + data[at + 1 :]
            try:
                C.decode_untrusted(changed, len(changed))
                taken = True
            except InvalidInput:
                taken = False
            assert taken == slowly(changed), changed.hex()
            refused += not taken
    assert refused


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "cut short"), (b"\x92\x01", "cut short"), (b"\x01\x01", "not msgpack"), (b"\xc1", "not msgpack"),
        (b"\xcc\x7f", "canonical"), (b"\xcd\x00\xff", "canonical"), (b"\xd0\x01", "canonical"),
        (b"\xd0\xff", "canonical"),
        (b"\xca\0\0\0\0", "canonical"), (b"\xd9\x01a", "canonical"), (b"\xdc\0\x01\x01", "canonical"),
        (b"\x82\xa1b\x01\xa1a\x01", "canonical"), (b"\x82\xa1a\x01\xa1a\x01", "canonical"),
        (b"\x81\x01\x01", "no text"),
        (b"\x81\xc4\x01a\x01", "no text"), (b"\xc7\x01\x01\x05", "canonical"), (b"\xd4\x02\x05", "canonical"),
        (b"\xd4\x01\xc0", "canonical"), (b"\xd5\x04\x92\x01", "no digest"), (b"\xd4\xff\x05", "canonical"),
        (b"\xd4\x63\x05", "newer"), (b"\xa1\xff", "outside the profile"), (b"\xdd\xff\xff\xff\xff", "cut short"),
        (b"\x91" * 65 + b"\x01", "depth"), (b"\xc6\xff\xff\xff\xff", "cut short"),
    ],
)  # fmt: skip
def test_each_form_that_is_not_the_one_is_refused_in_words(data: bytes, why: str) -> None:
    """Longer than need be, out of order, twice, cut short, of another type, too deep, or from a newer version."""
    with pytest.raises(InvalidInput, match=why):
        C.decode_untrusted(data, 1_000)


# --- what it costs ---------------------------------------------------------------------------------------------------
SIZE = 20_000
MOST = 100 * SIZE
"""A hundred bytes for each that came: a megabyte of forged bytes costs no hundred megabytes."""
FILLINGS = {
    "lists": b"\xdc" + (SIZE - 3).to_bytes(2, "big") + b"\x90" * (SIZE - 3),
    "maps": b"\xdc" + (SIZE - 3).to_bytes(2, "big") + b"\x80" * (SIZE - 3),
    "small maps": b"\xdc" + (SIZE // 3).to_bytes(2, "big") + b"\x81\xa0\xc0" * (SIZE // 3),
    "numbers": b"\xdc" + (SIZE // 3).to_bytes(2, "big") + b"\xcd\x7f\xff" * (SIZE // 3),
}


@workflow
async def flow(ctx: Context, n: int) -> Any:
    await ctx.step("large", lambda: "x" * n)
    return await ctx.wait_for_signal("go")


def sealed(*body: Any) -> bytes:
    return C.encode([*body, sha256(C.encode(list(body))).digest()])


class Raw:
    """Bytes that stand in what is encoded as they are: put in place of a text that nothing else says."""

    MARK = "put the filling here, all of it"

    def __init__(self, filling: bytes) -> None:
        self.filling = filling

    def put(self, data: bytes) -> bytes:
        return data.replace(C.encode(self.MARK), self.filling)


def chained(commits: list[list[Any]], raw: Raw) -> list[bytes]:
    """Commits of these times and events, the digests right."""
    found, head = list[bytes](), MAGIC
    for commit in commits:
        found.append(raw.put(C.encode([head, *commit])))
        head = sha256(found[-1]).digest()[:16]
    return found


def again(body: list[Any], raw: Raw) -> bytes:
    """An envelope of that body, whose digest is right for the filling in it."""
    inner = raw.put(C.encode(body))
    return bytes([inner[0] + 1]) + inner[1:] + C.encode(sha256(inner).digest())


@pytest.fixture(scope="module")
def honest() -> dict[str, bytes]:
    """A bundle, a part and a letter of one run, with a large value and a request in them."""

    async def made() -> dict[str, bytes]:
        async with Runtime(SimulatedHost(), workflows=[flow]) as runtime, Runtime(SimulatedHost(seed=2)) as other:
            run = await runtime.start("flow", 70_000, id="r", attributes={"a": 1})
            await run.settle()
            await Runtime(runtime.host).signal("r", "other", 1)
            local = Local(runtime)
            bundle, part = await runtime.export("r"), await local.part("r", None)
            return {
                "bundle": bundle,
                "part": part,
                "letter": await local.freeze("r", "b", await Local(other).identity()),
            }

    return drive(made)  # type: ignore[no-any-return]


def forgeries(honest: dict[str, bytes], raw: Raw) -> dict[str, bytes]:
    """The filling in every place that the three kinds of envelopes have, by name."""
    mark = Raw.MARK
    bundle, part, letter = (C.decode(honest[name]) for name in ("bundle", "part", "letter"))
    found: dict[str, bytes] = {}
    for name in bundle[2]:
        found[f"bundle {name}"] = again([*bundle[:2], {**bundle[2], name: mark}, *bundle[3:5]], raw)
    for name in ("attributes", "waiting", "failure", "spent"):
        header = {**bundle[2], "record": {**bundle[2]["record"], name: mark}}
        found[f"bundle record {name}"] = again([*bundle[:2], header, *bundle[3:5]], raw)
    commits = [C.decode(one)[1:] for one in bundle[3]]
    tail = [[0, [7, "e", "s", mark]], [0, mark], [0, [7, "e", "s", 1], mark], [0, [5, 0, 0, mark, False, None]]]
    for n, commit in enumerate(tail):
        found[f"bundle commit {n}"] = again([*bundle[:3], chained([*commits, commit], raw), bundle[4]], raw)
    started = [commits[0][0], [0, {**commits[0][1][1], "carried": mark}, 1]]
    found["bundle carried"] = again([*bundle[:3], chained([started, *commits[1:]], raw), bundle[4]], raw)
    found["bundle blob"] = again([*bundle[:4], [*bundle[4], raw.filling]], raw)
    request = raw.put(C.encode(["s1", "signal", "n", mark, 1]))
    found["bundle request"] = again([*bundle[:2], {**bundle[2], "requests": [["a1", request]]}, *bundle[3:5]], raw)
    found["bundle marker"] = again([*bundle[:2], {**bundle[2], "markers": [["a1", raw.filling]]}, *bundle[3:5]], raw)
    for kind, envelope in (("part", part), ("letter", letter)):
        for name in envelope[2]:
            found[f"{kind} {name}"] = again([*envelope[:2], {**envelope[2], name: mark}], raw)
    found["part blob"] = again([*part[:2], {**part[2], "blobs": [raw.filling]}], raw)
    found["letter request"] = again([*letter[:2], {**letter[2], "requests": [["a1", request]]}], raw)
    return found


async def peak(name: str, data: bytes) -> int:
    """The most memory that is spent on it, in bytes, until it is refused."""
    async with Runtime(SimulatedHost(seed=9), workflows=[flow]) as runtime:
        doors: list[Callable[[], Awaitable[Any]]] = [lambda: Local(runtime).accept(data)]
        if name.startswith("bundle"):
            doors = [lambda: runtime.import_(data)]
        elif name.startswith("letter"):
            doors = [lambda: Local(runtime).take_over(data)]
        for door in doors:
            tracemalloc.start()
            try:
                await door()
            except AlkalineError:
                pass
            finally:
                spent = tracemalloc.get_traced_memory()[1]
                tracemalloc.stop()
        return spent


@pytest.mark.parametrize("filling", FILLINGS)
def test_forged_bytes_cost_no_hundred_times_their_size(honest: dict[str, bytes], filling: str) -> None:
    """Anywhere in a bundle, a part or a letter, a request or a blob of theirs."""
    every = forgeries(honest, Raw(FILLINGS[filling]))
    draw = random.Random(filling)
    for name in draw.sample(sorted(every), 5):
        spent = drive(lambda name=name: peak(name, every[name]))  # type: ignore[misc]  # bound now
        assert spent < MOST, (name, spent)


def nested(levels: int, registered: bool) -> bytes:
    """So many levels around a number: of lists, or of registered values."""
    data = b"\x01"
    for _ in range(levels):
        inner = b"\x92\xa4pair" + data
        data = msgpack.packb(msgpack.ExtType(3, inner)) if registered else b"\x91" + data
    return data


@pytest.mark.parametrize("registered", [False, True])
def test_a_value_from_outside_is_nested_as_deep_as_one_of_ours_and_no_deeper(registered: bool) -> None:
    """Lists and registered values alike, each of which is a level."""
    canonical.check(nested(MAX_DEPTH_OF_VALUE, registered))
    for more in (1, 2, 500):
        with pytest.raises(InvalidInput, match="limit of depth"):
            canonical.check(nested(MAX_DEPTH_OF_VALUE + more, registered))


def test_so_many_items_are_counted_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """The value itself, and all that it holds."""
    monkeypatch.setattr(canonical, "MAX_NODES_OF_VALUE", 10)
    for most in ([1] * 9, [[[1] * 7]], {str(n): n for n in range(9)}):
        canonical.check(C.encode(most))
    for more in ([1] * 10, [[[1] * 8]], {str(n): n for n in range(10)}, [[1] * 4, [1] * 4]):
        with pytest.raises(InvalidInput, match="limit of count"):
            canonical.check(C.encode(more))


@pytest.mark.parametrize("by", [-1, 1])
def test_a_registered_value_ends_where_its_extension_does(by: int) -> None:
    """What stands in it neither goes on behind that end nor leaves bytes before it, though all would add up."""
    inner = b"\x92\xa4pair\x94\x01\x01\x01\x01"
    canonical.check(b"\x92\xc7" + bytes((len(inner), 3)) + inner + b"\x01")
    with pytest.raises(InvalidInput, match=r"canonical|cut short"):
        canonical.check(b"\x92\xc7" + bytes((len(inner) + by, 3)) + inner + b"\x01")
