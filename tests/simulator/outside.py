"""Those who ask from outside: who starts the run, who waits for it, who signals, cancels, pauses, and moves it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from random import Random
from typing import TYPE_CHECKING, Any

from alkaline_edge import AlkalineError
from alkaline_edge.errors import BudgetExceeded, RunCancelled
from alkaline_edge.reopening import is_of_budget
from alkaline_edge.runtime.handing import Local
from alkaline_edge.runtime.syncing import hand_over, reclaim, sync

from .handlers import Hopeless
from .programs import DEAR
from .timeline import later
from .world import Zombie, seed_of

if TYPE_CHECKING:
    from alkaline_edge import Runtime

    from .schedule import Member, Schedule

ID = "run"
PASSING = ("ERR_STORE", "ERR_NOT_FOUND", "ERR_CLOSED")
Act = Callable[["Client", "Member"], Awaitable[None]]


class Ended(Exception):
    """The run has ended: there is nothing left to ask."""


class Client:
    """A list of acts, done in order by one process after the other: each act may be begun again."""

    def __init__(self, plan: Plan, name: str, acts: list[tuple[str, Act]], serves: bool) -> None:
        self.plan, self.name, self.acts, self.serves = plan, name, acts, serves
        self.place = 0
        """The act that is due."""
        self.notes: dict[str, Any] = {}
        """What is kept on this client's disk."""

    def begin(self) -> None:
        """In a new process."""
        if self.place >= len(self.acts):
            return
        fleet = self.plan.schedule.fleet
        if fleet.swapping:
            later(self.plan.schedule.world.loop, 1.0, self.begin)
            return
        page = fleet.page if self.plan.together and fleet.page is not None and not fleet.page.dead else None
        member = page or fleet.spawn(self.name)
        member.again.append(self.begin)
        member.run(self._live(member))
        if self.serves and member is not page:
            from .schedule import _serve

            member.run(_serve(member, 0))

    async def _live(self, member: Member) -> None:
        while self.place < len(self.acts):
            name, act = self.acts[self.place]
            try:
                await act(self, member)
            except Ended:
                pass
            except AlkalineError as error:
                if error.code == "ERR_CLOSED" and not isinstance(error, RunCancelled):
                    return  # this process was closed; another one goes on
                by_code = error.code == "ERR_DETERMINISM" and self._rolled_back()
                if error.code not in (*PASSING, "ERR_CONFLICT") and not by_code:
                    self.plan.schedule.world.wrong(f"{name} was refused: {error.code} {error}")
                    self.place += 1
                await asyncio.sleep(member.fleet.random.uniform(0.5, 4))
                continue
            except Exception as error:
                self.plan.schedule.world.wrong(f"{name} raised {type(error).__name__}: {error}")
            self.place += 1

    def _rolled_back(self) -> bool:
        fleet = self.plan.schedule.fleet
        return fleet.ever_newer and not fleet.newer

    async def at(self, member: Member) -> Runtime:
        """The runtime of the store where the run is now, or where it has ended."""
        best: tuple[int, Any] | None = None
        for place in range(self.plan.schedule.stores):
            runtime = member.runtime(place)
            record = await runtime.store.find(ID)
            if record is None:
                continue
            if record.moved_to is not None and LOST in record.moved_to:
                best = None  # it comes back here: a copy elsewhere takes what it is asked, and never gets the run
                break
            rank = 3 if record.finished else 0 if record.moved_to is not None else 1 if record.status == "paused" else 2
            if best is None or rank > best[0]:
                best = (rank, runtime)
            if rank == 3:
                break
        if best is None:
            from alkaline_edge.errors import NotFound

            raise NotFound("not started yet")
        if best[0] == 3:
            raise Ended
        runtime = best[1]
        assert runtime is not None
        return runtime  # type: ignore[no-any-return]


class Plan:
    """The clients of one schedule."""

    def __init__(self, schedule: Schedule, random: Random) -> None:
        self.schedule, self.random = schedule, random
        self.clients: list[Client] = []
        self.forks: set[str] = set()
        """Those that are to go on: what a try that was cut off has left stays as it is."""
        self.together = random.random() < 0.65
        """Whether all of them ask from one process, as long as it lives: a page that starts, drives and waits."""
        self.span = min(schedule.weather.until, random.choice((0.0, 5.0, 60.0)))
        program = schedule.program
        self._client("starter", [("start", self._start()), *([("result", _result)] if random.random() < 0.7 else [])])
        for n in range(random.choice((0, 0, 0, 1, 2))):
            self._client(f"waiter{n}", [self._pause(), ("join", self._start()), ("result", _result)])
        waits = program.waits()
        if waits:
            extra = random.choice((0, 0, 1))
            size = random.choice((0, 0, schedule.limits.inline_limit + 10, schedule.limits.max_value // 3))
            size = min(size, schedule.limits.max_value // 3, 20_000)
            acts = [each for n in range(waits + extra) for each in (self._pause(), (f"signal {n}", _signal(n, size)))]
            self._client("sender", acts)
        for node in program.bodies[0].root.walk():
            if node.kind == "late" and random.random() < 0.8:
                self._client(f"late{node.id}", [self._pause(node.args["seconds"] * 1.5), ("late", _late(node.id))])
        self._others(random)
        if any(node.kind == "hitch" for node in program.bodies[0].root.walk()):
            self._client("mender", [("mend", _mend)])
        for name, asked in schedule.sharing.clients():
            self._client(name, asked if name == "limiter" else [self._pause(), *asked])

    def _others(self, random: Random) -> None:
        acts: list[tuple[str, Act]] = []
        if random.random() < 0.15:
            acts.append(("cancel", _cancel))
            if random.random() < 0.5:
                acts.append(("cancel", _cancel))
        limits = self.schedule.limits
        if random.random() < 0.3:
            fill = min(50_000, random.choice((0, 10, limits.inline_limit + 1, limits.max_value)))
            payload = {"n": "u1", "step": random.random() < 0.5, "fill": fill, "refuse": random.random() < 0.2}
            acts.append(("update", _update(payload)))
        if random.random() < 0.3:
            acts.append(("query", _query))
        if random.random() < 0.2:
            acts += [("pause", _pause), self._pause(), ("unpause", _unpause)]
        bodies = self.schedule.program.bodies
        kinds = {node.kind for node in bodies[0].root.walk()}
        if random.random() < 0.15:
            n = random.randrange(1, len(bodies)) if len(bodies) > 1 else 0
            if n or not kinds & {"wait", "late"}:
                end = [("delete it", _delete_it)] if random.random() < 0.5 else []
                begin = [self._pause(), ("start another", _another(n)), ("its result", _its_result)]
                if end:
                    starts = any(node.kind in ("child", "leave") for node in bodies[n].root.walk())
                    end += self._zombie([] if starts else begin)  # its children have its id, and are still there
                self._client("second", [*begin, *end])
        if random.random() < 0.1 and bodies[0].generations == 1:
            acts.append(("fork", _fork(random.random(), resumed=not kinds & {"wait", "late"})))
        if self.schedule.stores == 2:
            for _ in range(random.choice((1, 1, 2, 3))):
                act = random.choice((_move, _move, _move_by_file, _sync, _reclaim))
                acts.append((act.__name__[1:], act))
        if acts:
            self._client("other", [each for act in acts for each in (self._pause(), act)])

    def _zombie(self, again: list[tuple[str, Act]]) -> list[tuple[str, Act]]:
        """Whoever drives the second run may die with a commit on its way; what is done once the run was deleted."""
        random, schedule = Random(seed_of(self.schedule.seed, "zombie")), self.schedule
        commits = random.choice((0, 0, 1, 1, 2, 4)) if random.random() < 0.7 else 1_000
        schedule.world.zombie = Zombie(OTHER, commits, random.choice((0.001, 0.5, 5.0, 60.0)))
        return again if random.random() < 0.5 else []

    def _client(self, name: str, acts: list[tuple[str, Act]]) -> None:
        self.clients.append(Client(self, name, acts, self.random.random() < 0.15))

    def _pause(self, most: float | None = None) -> tuple[str, Act]:
        seconds = self.random.uniform(0, self.span if most is None else most)

        async def wait(client: Client, member: Member) -> None:
            await asyncio.sleep(seconds)

        return "wait", wait

    def _start(self) -> Act:
        later = self.random.random() < 0.1
        if not hasattr(self, "start_at"):
            self.start_at = 10.0 if later else None
        seconds = self.start_at
        self.schedule.world.not_before = seconds or 0.0

        async def start(client: Client, member: Member) -> None:
            runtime = member.runtime(0)
            at = (
                None if seconds is None else datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC) + timedelta(seconds=seconds)
            )
            try:
                await runtime.start("w0", {"depth": 0}, id=ID, on_conflict="join", start_at=at)
            except AlkalineError as error:
                if "was handed over" not in str(error):
                    raise

        return start

    def place_of(self, member: Member, runtime: Runtime) -> int:
        """Which store that runtime of the process is of."""
        return next(n for n in range(self.schedule.stores) if member.runtime(n) is runtime)

    def begin(self) -> None:
        """All of them."""
        for client in self.clients:
            client.begin()

    def done(self) -> bool:
        """Whether all acts are done."""
        return all(client.place >= len(client.acts) for client in self.clients)

    def left(self) -> list[str]:
        """The acts that are not done."""
        return [f"{c.name}: {c.acts[c.place][0]}" for c in self.clients if c.place < len(c.acts)]

    def described(self) -> list[str]:
        """The clients in words."""
        return [f"{c.name}: {', '.join(name for name, _ in c.acts)}" for c in self.clients]

    def seconds(self) -> float:
        """How long it takes where nothing goes wrong."""
        return self.span * sum(len(client.acts) for client in self.clients) + 100 + self.schedule.sharing.seconds()


# --- the acts --------------------------------------------------------------------------------------------------------
async def _result(client: Client, member: Member) -> None:
    """Wait for the end, where the run is."""
    schedule = client.plan.schedule
    told = schedule.told
    for place in range(schedule.stores):  # it may have ended in any of them
        record = await member.runtime(place).store.find(ID)
        if record is not None and record.finished:
            break
    else:
        runtime = await client.at(member)
        place = next(n for n in range(schedule.stores) if runtime is member.runtime(n))
    seconds = None if schedule.stores == 1 else max(30.0, schedule.poll)
    try:
        told.results.append(await member.runtime(place).result(ID, timeout=seconds))
    except TimeoutError:
        raise AlkalineErrorAgain("ERR_STORE", "it may have moved") from None
    except RunCancelled:
        told.results.append("cancelled")
    except Exception as error:
        if isinstance(error, AlkalineError) and not isinstance(error, BudgetExceeded):
            raise
        if not _is_drawn(error):
            raise
        told.results.append("failed")


def _is_drawn(error: Exception) -> bool:
    """Whether a run fails so by its program, or for a budget that nobody has topped up yet."""
    return (
        type(error).__name__ == Hopeless.__name__ or "by the program" in str(error) or "BudgetExceeded" in repr(error)
    )


class AlkalineErrorAgain(AlkalineError):
    """Asks for another try."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


def _signal(n: int, size: int) -> Act:
    payload = f"n{n:04d} " + "z" * size

    async def signal(client: Client, member: Member) -> None:
        runtime = await client.at(member)
        sent = client.plan.schedule.told.sent
        if payload not in sent:
            sent.append(payload)
        await runtime.signal(ID, "s", payload, dedupe=f"s{n}")
        client.plan.schedule.told.signals.append(payload)

    return signal


def _late(node: int) -> Act:
    async def late(client: Client, member: Member) -> None:
        told = client.plan.schedule.told
        told.sent_late.add(node)
        await (await client.at(member)).signal(ID, f"r{node}", f"late {node}", dedupe=f"r{node}")
        told.late[node] = 1_700_000_000_000 + int(member.loop.now * 1000) + 1

    return late


async def _cancel(client: Client, member: Member) -> None:
    client.plan.schedule.told.cancelled = True
    await (await client.at(member)).cancel(ID, "by the plan")


async def _pause(client: Client, member: Member) -> None:
    await (await client.at(member)).pause(ID)


async def _unpause(client: Client, member: Member) -> None:
    """Also where the pause did not take hold."""
    runtime = await client.at(member)
    record = await runtime.get_execution(ID)
    if record.moved_to is None:
        try:
            await runtime.resume(ID)
        except AlkalineError as error:
            if error.code != "ERR_CONFLICT":
                raise
            await runtime.asker.request(ID, "resume")


async def _query(client: Client, member: Member) -> None:
    answer = await (await client.at(member)).query(ID, "trace")
    if not isinstance(answer, int):
        client.plan.schedule.world.wrong(f"a query was answered with {answer!r}")


def _update(payload: dict[str, Any]) -> Act:
    async def update(client: Client, member: Member) -> None:
        told = client.plan.schedule.told
        if payload["n"] in told.tried:  # it can't be known whether the first was taken
            return
        runtime = await client.at(member)
        told.tried.add(payload["n"])
        try:
            reply = await runtime.update(ID, "note", payload)
        except ZeroDivisionError:
            if not payload["refuse"]:
                raise
        except AlkalineError as error:
            if error.code not in ("ERR_CONFLICT", "ERR_STORE", "ERR_CLOSED"):
                raise
        else:
            told.updates[payload["n"]] = reply
            if reply != [payload["n"], "y" * payload["fill"]]:
                client.plan.schedule.world.wrong(f"an update was answered with {reply!r:.100}")

    return update


async def _where(client: Client, member: Member) -> tuple[int, bool]:
    """The store that the run is in, and whether it is on its way out of it."""
    records = [await member.runtime(place).store.find(ID) for place in (0, 1)]
    if any(record is not None and record.finished for record in records):
        raise Ended
    live = [place for place, r in enumerate(records) if r is not None and r.moved_to is None and r.status != "paused"]
    if live:
        return live[0], False
    here = client.notes.get("from")
    if here is not None:
        return here, records[here] is not None and records[here].moved_to is not None
    paused = [place for place, r in enumerate(records) if r is not None and r.moved_to is None]
    if not paused:
        return 0, True
    return paused[0], False


async def _move(client: Client, member: Member) -> None:
    """Hand the run over to the other store; what was begun is ended."""
    here, _ = (client.notes["from"], True) if client.notes.get("leaving") else await _where(client, member)
    client.notes.update({"from": here, "leaving": True})
    a, b = member.runtime(here), member.runtime(1 - here)
    try:
        await hand_over(a, ID, b)
    except AlkalineError as error:
        record = await a.store.find(ID)
        if error.code in PASSING or (record is not None and record.moved_to is not None):
            client.plan.schedule.world.faults["move-cut"] += 1
            raise
        client.notes["tries"] = client.notes.get("tries", 0) + 1
        if "held by another owner" in str(error) and client.notes["tries"] <= 4:
            raise
        await _unpause(client, member)  # refused with nothing done, but an earlier try may have paused it
        client.notes.clear()
        return
    client.plan.schedule.world.faults["moved"] += 1
    client.notes.clear()


async def _move_by_file(client: Client, member: Member) -> None:
    """Hand the run over as a bundle."""
    if "bundle" not in client.notes:
        here = client.notes["from"] if client.notes.get("leaving") else (await _where(client, member))[0]
        client.notes.update({"from": here, "leaving": True})
        try:
            client.notes["bundle"] = await member.runtime(here).export(ID, handoff=True)
        except AlkalineError as error:
            record = await member.runtime(here).store.find(ID)
            if error.code in PASSING or (record is not None and record.moved_to is not None):
                raise
            await _unpause(client, member)
            client.notes.clear()
            return
    await member.runtime(1 - client.notes["from"]).import_(client.notes["bundle"], mode="take_over")
    client.plan.schedule.world.faults["moved-by-file"] += 1
    client.notes.clear()


LOST = "10570570570570ff"
"""The name of a store that is lost: nobody has ever reached it."""


async def _reclaim(client: Client, member: Member) -> None:
    """Hand the run over to a store that is lost before it has it, and go on here."""
    here, _ = (client.notes["from"], True) if client.notes.get("leaving") else await _where(client, member)
    client.notes.update({"from": here, "leaving": True})
    runtime = member.runtime(here)
    try:
        record = await runtime.store.find(ID)
        if record is not None and record.finished:
            raise Ended
        if record is None or record.moved_to is None:
            if client.notes.get("frozen"):
                client.notes.clear()
                return  # the answer was lost
            await Local(runtime).freeze(ID, "a store that is lost", LOST)
        client.notes["frozen"] = True
        await reclaim(runtime, ID, LOST)
    except AlkalineError as error:
        record = await runtime.store.find(ID)
        if error.code in PASSING or (record is not None and record.moved_to is not None):
            client.plan.schedule.world.faults["reclaim-cut"] += 1
            raise
        client.notes["tries"] = client.notes.get("tries", 0) + 1
        if "held by another owner" in str(error) and client.notes["tries"] <= 4:
            raise
        await _unpause(client, member)
        client.notes.clear()
        return
    client.plan.schedule.world.faults["reclaimed"] += 1
    client.notes.clear()


async def _sync(client: Client, member: Member) -> None:
    """Bring a copy in the other store up to date."""
    here, _ = await _where(client, member)
    try:
        await sync(member.runtime(here), member.runtime(1 - here), ID)
    except AlkalineError as error:
        if error.code != "ERR_CONFLICT":
            raise


PLENTY = 1_000 * DEAR
"""Tokens: more than all dear steps of a run."""


async def _mend(client: Client, member: Member) -> None:
    """Once the run has failed, mend what it needs and have it tried again."""
    world = client.plan.schedule.world
    for place in range(client.plan.schedule.stores):
        runtime = member.runtime(place)
        record = await runtime.store.find(ID)
        if record is None or record.moved_to is not None:
            continue
        if record.status in ("completed", "cancelled") or (client.notes.get("asked") and not record.finished):
            world.mended = True  # others may wait for it too: a task that is bound to the same workflow
            return
        if record.status == "failed":
            if client.notes.get("asked", 0) > 2:
                return
            world.mended = True
            client.notes["asked"] = client.notes.get("asked", 0) + 1
            try:
                if is_of_budget(record.failure):
                    await runtime.top_up(ID, tokens=PLENTY)
                    world.faults["topped up"] += 1
                await runtime.retry(ID)
            except AlkalineError as error:
                if error.code != "ERR_CONFLICT":
                    raise
                return  # it has undone something, or would fail at once
            world.faults["retried"] += 1
            return
    raise AlkalineErrorAgain("ERR_NOT_FOUND", "it goes on")


# --- other runs, other stores ----------------------------------------------------------------------------------------
OTHER = "other"


def _another(n: int) -> Act:
    """Start a second run that has no parent."""

    async def start(client: Client, member: Member) -> None:
        await member.runtime(0).start(f"w{n}", {"depth": 0}, id=OTHER, on_conflict="join")

    return start


async def _its_result(client: Client, member: Member) -> None:
    try:
        await member.runtime(0).result(OTHER, timeout=None)
    except Exception as error:
        if not _is_drawn(error):
            raise


async def _delete_it(client: Client, member: Member) -> None:
    """Delete the second run, which has ended, though others may still look at it."""
    try:
        await member.runtime(0).delete(OTHER)
    except AlkalineError as error:
        if error.code != "ERR_NOT_FOUND":
            raise
    client.plan.schedule.world.faults["deleted"] += 1


def _fork(where: float, resumed: bool) -> Act:
    """A fork of the run, somewhere in its history; it goes on, or is deleted as it is."""

    async def fork(client: Client, member: Member) -> None:
        notes = client.notes
        if "fork" not in notes:
            if notes.get("forking", 0) > 2:  # each try whose answer was lost may have left one
                return await _drop_forks(client, member)
            runtime = await client.at(member)
            notes["forking"] = notes.get("forking", 0) + 1
            history = await runtime.history(ID)
            commits = history[-1].commit + 1
            made = await runtime.fork(ID, 1 + int(where * (commits - 1)))
            notes["fork"], notes["forked in"] = made.id, client.plan.place_of(member, runtime)
            client.plan.schedule.world.faults["forked"] += 1
        if resumed and "resumed" not in notes:
            client.plan.forks.add(notes["fork"])
            await member.runtime(notes["forked in"]).resume(notes["fork"])
            notes["resumed"] = True
        await _drop_forks(client, member, besides=notes["fork"] if resumed else None)

    return fork


async def _drop_forks(client: Client, member: Member, besides: str | None = None) -> None:
    for place in range(client.plan.schedule.stores):
        runtime = member.runtime(place)
        for record in (await runtime.list_executions(limit=200)).items:
            if "~fork-" in record.id and record.id != besides and record.status == "paused":
                await runtime.delete(record.id)
