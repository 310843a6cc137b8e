"""One run between three stores: moves of every kind in any order, each cut anywhere, against what must always hold.

Whatever happens, the stores' histories are beginnings of one history; at most one store can go on, and exactly one can
once what was cut off is done again; every signal that was accepted is in the history once.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import Any

from alkaline_edge import AlkalineError, ConflictError, Context, Runtime, hand_over, keys, sync, workflow
from alkaline_edge.codec import Codec
from alkaline_edge.errors import RunCancelled
from alkaline_edge.events import SignalReceived
from alkaline_edge.host import Capabilities
from alkaline_edge.runs import ExecutionRecord
from alkaline_edge.runtime.handing import Local
from alkaline_edge.runtime.moved import ARRIVING, BUNDLE, DELETING
from alkaline_edge.testing import SimulatedCrash, SimulatedHost, SimulatedStore, VirtualClock

ID = "r"
KINDS = ["crash", "crash-after", "applied-then-error", "error-before", "applied-then-conflict"]


def value(n: int) -> str:
    return "x" * (n * 97 % 900)


@workflow
async def collect(ctx: Context) -> Any:
    """Everything that it is sent until it is told to stop; a step for each, some of them with a large result."""
    seen: list[Any] = []
    while True:
        payload = await ctx.wait_for_signal("s")
        if payload == "stop":
            return seen
        seen.append(payload)
        ctx.now()
        await ctx.step("work", value, len(seen))


class Place:
    """A store with one process after the other on it."""

    def __init__(self, number: int, clock: VirtualClock, draw: random.Random) -> None:
        can = Capabilities(
            f"s{number}", durability="volatile", segment_commits=draw.choice([0, 2, 3, 8]), inline_limit=300,
            max_value=draw.choice([1600, 4000, 100_000]), max_batch_keys=draw.choice([30, 10_000]),
        )  # fmt: skip
        self.host = SimulatedHost(SimulatedStore(clock=clock), seed=number, capabilities=can)
        self.runtime = Runtime(self.host, workflows=[collect])

    async def crash(self) -> None:
        """The process is dead; the next one starts when its leases have run out."""
        self.host.dead = True
        with contextlib.suppress(SimulatedCrash):
            await self.runtime.close()
        self.host = self.host.reopen()
        self.host.advance(60)
        self.runtime = Runtime(self.host, workflows=[collect])

    async def record(self) -> ExecutionRecord | None:
        return await self.runtime.store.find(ID)


class World:
    """Three places, what was accepted, and what must hold."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        clock = VirtualClock()
        self.places = [Place(n, clock, self.draw) for n in range(3)]
        self.accepted: set[str] = set()
        self.maybe: set[str] = set()
        self.cancelled = False
        self.files: dict[int, tuple[bytes, Place]] = {}
        self.letters: list[bytes] = []
        self.sent = 0
        self.log: list[str] = []

    # --- what may happen ---------------------------------------------------------------------------------------------
    async def act(self) -> None:
        """One verb, perhaps with a fault in one of its callbacks, and then what must hold."""
        x, y = self.draw.sample(self.places, 2)
        verb = self.draw.choice(VERBS)
        fault = None
        if self.draw.random() < 0.6:
            hit = self.draw.choice([x, y])
            kind, at = self.draw.choice(KINDS), self.draw.randint(1, 25) + hit.host.calls
            hit.host.fault = lambda n, _: kind if n == at else None
            fault = f"{hit.host.capabilities.name}:{kind}@{at - hit.host.calls}"
        how = "done"
        try:
            await verb(self, x, y)
        except SimulatedCrash:
            how = "crashed"
        except AlkalineError as error:
            how = f"{type(error).__name__}: {error}"
        self.log.append(
            f"{verb.__name__} {x.host.capabilities.name}->{y.host.capabilities.name} [{fault}]: {how[:160]}"
        )
        for place in self.places:
            place.host.fault = None
        for _ in range(3):  # what a call that is under way was to suffer
            await asyncio.sleep(0)
        for place in self.places:
            if place.host.dead or self.draw.random() < 0.05:
                await place.crash()
        await self.check()

    async def sync(self, x: Place, y: Place) -> None:
        await sync(x.runtime, y.runtime, ID)

    async def hand_over(self, x: Place, y: Place) -> None:
        await hand_over(x.runtime, ID, y.runtime)

    async def freeze(self, x: Place, y: Place) -> None:
        """As far as the letter; whoever has it may bring it at any time, and more than once."""
        letter = await Local(x.runtime).freeze(ID, "y", await Local(y.runtime).identity())
        if letter:
            self.letters.append(letter)

    async def late_letter(self, x: Place, y: Place) -> None:
        if self.letters:
            await Local(y.runtime).take_over(self.draw.choice(self.letters))

    async def renounce(self, x: Place, y: Place) -> None:
        """As hand_over does that takes a run back: for the store that it comes from, and any letter of it."""
        record, name = await x.record(), await Local(y.runtime).identity()
        if self.letters and record is not None and str(record.moved_to).endswith(f"[{name}], not confirmed yet"):
            letter = self.draw.choice(self.letters)
            self.letters.append(await Local(y.runtime).renounce(letter, await Local(x.runtime).identity()))

    async def copy(self, x: Place, y: Place) -> None:
        await y.runtime.import_(await x.runtime.export(ID))

    async def bundle(self, x: Place, y: Place) -> None:
        data = await x.runtime.export(ID, handoff=True)
        self.files.setdefault(Codec().decode(data)[2]["epoch"], (data, y))
        await self.imported(data)

    async def late_bundle(self, x: Place, y: Place) -> None:
        if self.files:
            await self.imported(self.draw.choice(list(self.files.values()))[0])

    async def imported(self, data: bytes) -> None:
        """A file is the run of whoever imports it first: it always goes to the same store."""
        _, target = self.files[Codec().decode(data)[2]["epoch"]]
        await target.runtime.import_(data, "take_over")

    async def signal(self, x: Place, y: Place) -> None:
        self.sent += 1
        name = f"n{self.sent if self.draw.random() < 0.7 else self.draw.randint(1, self.sent)}"
        self.maybe.add(name)
        await x.runtime.signal(ID, "s", name, dedupe=name)
        self.accepted.add(name)

    async def pause(self, x: Place, y: Place) -> None:
        await x.runtime.pause(ID)

    async def cancel(self, x: Place, y: Place) -> None:
        if self.draw.random() < 0.1:
            self.cancelled = True  # an answer that is lost may have been accepted
            await x.runtime.cancel(ID)

    async def resume(self, x: Place, y: Place) -> None:
        record = await x.record()
        if record is not None and not record.copy:  # a copy that is resumed is another run from then on
            await (await x.runtime.resume(ID)).settle()

    async def work(self, x: Place, y: Place) -> None:
        for place in (x, y):
            await place.runtime.run_due()
            await place.runtime.recover()
        for _ in range(self.draw.randint(0, 40)):
            await asyncio.sleep(0)

    async def fork(self, x: Place, y: Place) -> None:
        await x.runtime.fork(ID, self.draw.randint(1, 4))

    async def delete(self, x: Place, y: Place) -> None:
        record = await x.record()
        if record is None or self.cancelled or record.moved_to == BUNDLE:  # that file may be nowhere yet
            return
        if not await x.host.list(f"i/{ID}/"):  # what a copy was sent would go with it
            await x.runtime.delete(ID)

    async def swap(self, x: Place, y: Place) -> None:
        fresh = SimulatedHost(
            SimulatedStore(clock=x.host.clock), seed=self.draw.randint(10, 10**9), capabilities=x.host.capabilities
        )
        await x.runtime.swap_host(fresh)
        x.host = fresh

    # --- what must hold ----------------------------------------------------------------------------------------------
    async def check(self) -> None:
        """Beginnings of one history, and one store at most that can go on."""
        histories: dict[int, list[list[bytes]]] = {}
        alive: list[str] = []
        for place in self.places:
            record = await place.record()
            if record is None or record.moved_to in (ARRIVING, DELETING):
                continue
            commits = await place.runtime.store.commits(keys.history(record.run, record.generation))
            histories.setdefault(record.generation, []).append(commits)
            if record.moved_to is None and not record.copy and not record.finished:
                alive.append(place.host.capabilities.name)
        assert len(alive) <= 1, (alive, self.log)
        for found in histories.values():
            longest = max(found, key=len)
            for commits in found:
                assert commits == longest[: len(commits)], self.log

    async def healed(self) -> Place:
        """Do again what was cut off, as its messages say, until one store has the run."""
        self.places[0].host.advance(60)  # a lease of a process that is no more may hold it
        for _ in range(6):
            records = [(place, await place.record()) for place in self.places]
            for place, record in records:
                if record is not None and record.moved_to == DELETING:
                    await place.runtime.delete(ID)
            for place, record in records:
                if record is not None and record.moved_to is None and not record.copy:
                    return place
            for place, record in records:
                if record is not None and (record.moved_to or "").endswith("not confirmed yet"):
                    for other in self.places:
                        if f"[{await Local(other.runtime).identity()}]" in str(record.moved_to):
                            await self._finish(place, other)
            files = [(r.epoch, place) for place, r in records if r is not None and r.moved_to == BUNDLE]
            if files:
                await self.bundle(max(files, key=lambda one: one[0])[1], self.draw.choice(self.places))
        raise AssertionError(f"nobody can go on: {[await p.record() for p in self.places]} {self.log}")

    async def _finish(self, source: Place, target: Place) -> None:
        """End a hand-over that was cut off: one way or the other, or by taking it back where it was renounced."""
        a, b = (source, target) if self.draw.random() < 0.5 else (target, source)
        try:
            await hand_over(a.runtime, ID, b.runtime)
        except ConflictError as error:
            if "renounced" not in str(error):
                raise
            await hand_over(target.runtime, ID, source.runtime)

    async def end(self) -> None:
        """Bring the run by every store, let it end, and look at all that it was sent."""
        place = await self.healed()
        for other in self.draw.sample(self.places, 3):
            record = await place.record()
            if other is not place and record is not None and not record.finished:
                await hand_over(place.runtime, ID, other.runtime)
                place = other
                await (await place.runtime.resume(ID)).settle()
                await self.check()
        run = await place.runtime.resume(ID)
        await run.settle()
        record = await place.record()
        assert record is not None
        if not record.finished:
            await run.signal("s", "stop")
            with contextlib.suppress(RunCancelled):
                await run.result()
        await self.check()
        record = await place.record()
        assert record is not None
        assert record.finished, record
        got = [r.event.payload for r in await place.runtime.history(ID) if isinstance(r.event, SignalReceived)]
        got = [payload for payload in got if payload != "stop"]
        assert len(set(got)) == len(got), (got, self.log)
        assert set(got) <= self.maybe
        if record.status == "completed":
            assert self.accepted <= set(got), (self.accepted - set(got), self.log)
            assert record.result == got
        else:
            assert self.cancelled, (record.status, record.failure, self.log)


VERBS = [
    World.sync, World.sync, World.hand_over, World.hand_over, World.hand_over, World.copy, World.bundle, World.freeze,
    World.freeze, World.late_letter, World.renounce,
    World.late_bundle, World.signal, World.signal, World.signal, World.pause, World.cancel, World.resume, World.resume,
    World.work, World.work, World.fork, World.delete, World.swap,
]  # fmt: skip


async def schedule(seed: int) -> None:
    """One random schedule, from start to end."""
    world = World(seed)
    await (await world.places[0].runtime.start("collect", id=ID)).settle()
    try:
        for _ in range(world.draw.randint(3, 25)):
            await world.act()
        await world.end()
    except BaseException:
        print("\n".join(world.log))
        raise
    finally:
        for place in world.places:
            await place.runtime.close()
