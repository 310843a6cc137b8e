"""What comes in from outside: refused at the door in words, or of a shape that nothing trips over later."""

from __future__ import annotations

import asyncio
import copy
import os
import random
from hashlib import sha256
from typing import Any

import pytest

from alkaline_edge import AlkalineError, Context, Runtime, replay, workflow
from alkaline_edge import events as ev
from alkaline_edge.codec import Codec
from alkaline_edge.failures import StepError
from alkaline_edge.history import MAGIC
from alkaline_edge.parts import Place
from alkaline_edge.runtime.handing import Local
from alkaline_edge.shapes import EVENTS
from alkaline_edge.testing import SimulatedHost
from tests.support import Process, drive

C = Codec()
SEEDS = int(os.environ.get("ALKALINE_SEEDS", "60"))
ODD: list[Any] = [
    None, True, -1, 0, 2**40, 2**63, 2**70, 1.5, float("nan"), "", "x", "a\0b", "x/y", b"", b"xx", [], [1], [[]], {},
    {"a": 1}, {"type": 1}, [None, None], "1", "now", "ä" * 200,
]  # fmt: skip


async def boom() -> None:
    raise ConnectionError("x")


@workflow
async def kid(ctx: Context, n: int) -> int:
    return n


@workflow
async def flow(ctx: Context, size: int) -> Any:
    ctx.on_query("q", lambda: 1)
    ctx.on_update("u", lambda payload: payload)
    ctx.now()
    ctx.random()
    ctx.spend(3, label="l")
    try:
        await ctx.step("a", boom)
    except Exception:
        await ctx.step("b", lambda: "x" * size, at_most_once=True)
    ctx.emit("t", {"a": 1})
    await ctx.child("kid", 4)
    await ctx.sleep(1)
    await ctx.wait_for_signal("first")
    return await ctx.wait_for_signal("x")


def test_every_kind_of_event_has_the_shapes_of_its_items() -> None:
    """One table, as long as the kinds are."""
    assert list(EVENTS) == list(ev.CLASSES)
    for cls, shapes in EVENTS.items():
        assert len(shapes) == len(cls._fields) - 1


async def bundles() -> list[bytes]:
    process = Process(flow, kid)
    run = await process.runtime.start("flow", 200_000, id="r", attributes={"team": "blue"})
    await run.settle()
    process.host.advance(2)
    await process.runtime.run_due()
    await run.update("u", 5)
    await run.signal("first", {"k": [1]}, dedupe="1")
    await run.settle()
    await Runtime(process.host).signal("r", "y", 1, dedupe="2")
    found = [await process.runtime.export("r"), await process.runtime.export("r", handoff=True)]
    await process.runtime.close()
    return found


def chained(commits: list[Any]) -> list[bytes]:
    """These commits as bytes, each with the digest of the one before it."""
    found, head = list[bytes](), MAGIC
    for commit in commits:
        found.append(C.encode([head, *commit]) if isinstance(commit, list) else C.encode(commit))
        head = sha256(found[-1]).digest()[:16]
    return found


def sealed(body: list[Any]) -> bytes:
    """An envelope with its digest."""
    return C.encode([*body, sha256(C.encode(body)).digest()])


def forged(data: bytes, draw: random.Random) -> bytes:
    """The bundle with one thing of it changed, and every digest right again."""
    raw = C.decode(data)
    body = [raw[0], raw[1], raw[2], [C.decode(commit)[1:] for commit in raw[3]], raw[4]]
    requests = [C.decode(pair[1]) for pair in raw[2]["requests"]]
    for _ in range(draw.choice([1, 1, 1, 2])):
        _change(draw.choice([body[2], body[2]["record"], body[3], body[3], body[3][0][1], requests or body[3]]), draw)
    body[2]["requests"] = [[f"a{n}", C.encode(one)] for n, one in enumerate(requests)]
    body[3] = chained(body[3])
    return sealed(body)


def forged_part(data: bytes, draw: random.Random) -> bytes:
    """As ``forged``, of a part: its fields, the record in it, and its commits."""
    name, form, fields, _ = C.decode(data)
    commits = [C.decode(commit)[1:] for commit in fields["commits"]]
    for _ in range(draw.choice([1, 1, 2])):
        _change(draw.choice([fields, fields["record"], commits, commits, commits[0][1]]), draw)
    fields["commits"] = chained(commits) if "commits" in fields else []
    return sealed([name, form, fields])


def forged_letter(data: bytes, draw: random.Random) -> bytes:
    """As ``forged``, of a letter: its fields, the requests and the markers in it."""
    name, form, fields, _ = C.decode(data)
    inside = {kind: [[end, C.decode(raw)] for end, raw in fields[kind]] for kind in ("requests", "markers")}
    for _ in range(draw.choice([1, 1, 2])):
        _change(draw.choice([fields, inside["requests"], inside["requests"], inside["markers"]]), draw)
    for kind, pairs in inside.items():
        fields[kind] = [[one[0], *map(C.encode, one[1:])] if isinstance(one, list) and one else one for one in pairs]
    return sealed([name, form, fields])


def _change(where: Any, draw: random.Random) -> None:
    """Walk down some way, and put something odd there, or take something away, or double it."""
    while True:
        keys = list(where) if isinstance(where, dict) else list(range(len(where)))
        if not keys:
            return
        key = draw.choice(keys)
        if isinstance(where[key], (list, dict)) and where[key] and draw.random() < 0.7:
            where = where[key]
            continue
        what = draw.random()
        if what < 0.7:
            where[key] = copy.deepcopy(draw.choice(ODD))
        elif what < 0.85:
            del where[key]
        elif isinstance(where, list):
            where.insert(key, copy.deepcopy(where[key]))
        return


@pytest.mark.parametrize("block", range(4))
def test_a_forged_bundle_is_refused_or_does_no_harm(block: int) -> None:
    """Types, ranges, missing and extra items anywhere: only our errors at the door, and after it."""

    async def test() -> None:
        whole = await bundles()
        taken = 0
        for seed in range(block * 100_000, block * 100_000 + SEEDS):
            draw = random.Random(seed)
            mode = draw.choice(["copy", "take_over"])
            try:
                data = forged(whole[mode == "take_over"], draw)
            except (AlkalineError, IndexError, TypeError, KeyError):
                continue  # no bytes can say that, or the second change met what the first had left
            process = Process(flow, kid, host=SimulatedHost(seed=3))
            try:
                run = await process.runtime.import_(data, mode)
                taken += 1
                await _use(process, run.id)
            except (AlkalineError, StepError, TimeoutError):
                pass
            except Exception as error:
                raise AssertionError(f"seed {seed}: {type(error).__name__}: {error}") from error
            assert not process.runtime.crashed, (seed, process.runtime.crashed)
            await process.runtime.close()
        assert taken

    drive(test)


async def pieces() -> tuple[list[bytes], bytes]:
    """The parts and the letter of a run, with requests of each kind that it has not read."""
    process = Process(flow, kid)
    run = await process.runtime.start("flow", 200_000, id="r", attributes={"team": "blue"})
    await run.settle()
    process.host.advance(2)
    await process.runtime.run_due()
    await run.signal("first", {"k": [1]}, dedupe="1")
    await run.settle()
    quiet = Runtime(process.host)
    for name in ("y", "x"):
        await quiet.signal("r", name, {"n": [name]}, dedupe=name)
    update = asyncio.ensure_future(quiet.update("r", "u", 1))
    await asyncio.sleep(0)
    for ask in (quiet.pause, quiet.resume):
        await ask("r")
    update.cancel()
    local = Local(process.runtime)
    parts = [await local.part("r", None)]
    while more := await local.part("r", parts_end(parts)):
        parts.append(more)
    letter = await local.freeze("r", "there", await Local(target()).identity())
    await process.runtime.close()
    return parts, letter


def parts_end(parts: list[bytes]) -> Place:
    """Where a store stands that has taken these."""
    fields = [C.decode(part)[2] for part in parts]
    length = sum(len(one["commits"]) for one in fields)
    head = sha256(fields[-1]["commits"][-1]).digest()[:16]
    return Place("r", fields[0]["run"], fields[0]["generation"], length, head, "paused", fields[0]["epoch"])


def target(seed: int = 3) -> Runtime:
    """Where they go: always a store of the same name."""
    return Runtime(SimulatedHost(seed=seed), workflows=[flow, kid])


@pytest.mark.parametrize("what", ["part", "letter"])
def test_a_forged_part_or_letter_is_refused_or_does_no_harm(what: str) -> None:
    """The fields, the record, the commits, the requests and the markers: only our errors at the door, and after it."""

    async def test() -> None:
        parts, letter = await pieces()
        taken = 0
        for seed in range(SEEDS):
            draw = random.Random(f"{what} {seed}")
            try:
                forgery = forged_part(parts[0], draw) if what == "part" else forged_letter(letter, draw)
            except (AlkalineError, IndexError, TypeError, KeyError):
                continue  # no bytes can say that, or the second change met what the first had left
            process = Process(flow, kid, host=SimulatedHost(seed=3))
            local = Local(process.runtime)
            assert await local.identity() == C.decode(letter)[2]["to"]
            try:
                for part in [forgery, *parts] if what == "part" else parts:
                    await local.accept(part)
                await local.take_over(forgery if what == "letter" else letter)
                taken += 1
            except (AlkalineError, StepError):
                pass
            except Exception as error:
                raise AssertionError(f"seed {seed}: {type(error).__name__}: {error}") from error
            try:
                await _use(process, "r")
            except Exception as error:
                raise AssertionError(f"seed {seed}: {type(error).__name__}: {error}") from error
            assert not process.runtime.crashed, (seed, process.runtime.crashed)
            await process.runtime.close()
        assert taken

    drive(test)


@pytest.mark.parametrize("block", range(2))
def test_a_forged_history_is_read_or_refused_in_words(block: int) -> None:
    """By everything that reads histories offline: as commits, and as the bundle that they stand in."""

    async def honest() -> bytes:
        return (await bundles())[0]

    whole = C.decode(drive(honest))
    read = 0
    for seed in range(block * 100_000, block * 100_000 + SEEDS):
        draw = random.Random(f"history {seed}")
        commits = [C.decode(commit)[1:] for commit in whole[3]]
        started = commits[0][1]
        for _ in range(draw.choice([1, 1, 2])):
            _change(draw.choice([commits, commits, started]), draw)
        try:
            raws = chained(commits)
        except AlkalineError:
            continue
        for source in (raws, sealed([*whole[:3], raws, whole[4]])):
            for act in (
                lambda source: replay.format(source),
                lambda source: replay.check({"a": source}, [flow, kid]),
                lambda source: replay.diff(source, whole[3]),
            ):
                try:
                    act(source)
                    read += 1
                except AlkalineError:
                    pass
                except Exception as error:
                    raise AssertionError(f"seed {seed}: {type(error).__name__}: {error}") from error
    assert read


async def _use(process: Process, id: str) -> None:
    runtime = process.runtime
    acts = [
        lambda: runtime.get_execution(id), lambda: runtime.history(id), lambda: runtime.list_executions(),
        lambda: runtime.export(id), lambda: runtime.fork(id, 1), lambda: runtime.fork(id, 5),
        lambda: runtime.query(id, "q"), lambda: Local(runtime).place(id), lambda: runtime.run_due(),
        lambda: runtime.recover(), lambda: runtime.signal(id, "x", 1), lambda: runtime.resume(id),
        lambda: runtime.result(id, 1),
    ]  # fmt: skip
    for act in acts:
        try:
            await act()
        except (AlkalineError, StepError, TimeoutError):
            pass
