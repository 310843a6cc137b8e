"""Commits that share a round trip to a server: how many go together, in which order, and whose outcome is whose."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from random import Random

import pytest

from alkaline_edge.errors import StoreError, UnknownOutcome
from alkaline_hosts._servers import lanes
from alkaline_hosts._servers.lanes import ALONE, Lanes
from tests.hosts.file_support import drive


class Server:
    """Answers each request with itself and a mark; ``trips``: what came together; ``alone``: what came by itself."""

    def __init__(self) -> None:
        self.trips: list[list[int]] = []
        self.alone: list[int] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.flying = self.most = 0
        self.lanes: Lanes[int, str] = Lanes(self.many, self.one)

    async def many(self, requests: Sequence[int]) -> Sequence[object]:
        self.trips.append(list(requests))
        self.flying += 1
        self.most = max(self.most, self.flying)
        await self.gate.wait()
        await asyncio.sleep(0)
        self.flying -= 1
        return [self.answer(n) for n in requests]

    def answer(self, n: int) -> object:
        return f"shared {n}"

    async def one(self, request: int) -> str:
        self.alone.append(request)
        await asyncio.sleep(0)
        return f"alone {request}"


def test_a_run_that_is_alone_waits_for_nobody() -> None:
    """One commit after another goes at once, by itself."""

    async def main() -> None:
        server = Server()
        for n in range(5):
            assert await server.lanes.send(n, 1) == f"shared {n}"
        assert server.trips == [[0], [1], [2], [3], [4]]

    drive(main)


def test_what_comes_meanwhile_goes_together() -> None:
    """200 commits at once: two go by themselves, the rest in as few round trips as they fit into, in their order."""

    async def main() -> None:
        server = Server()
        answers = await asyncio.gather(*(server.lanes.send(n, 1) for n in range(200)))
        assert answers == [f"shared {n}" for n in range(200)]
        assert [n for trip in server.trips for n in trip] == list(range(200))
        assert [len(trip) for trip in server.trips] == [1, 1, 64, 64, 64, 6]
        assert server.most == lanes.LANES

    drive(main)


def test_bytes_bound_what_goes_together() -> None:
    """A large commit goes by itself, and those that share a round trip are not more than that together."""

    async def main() -> None:
        server = Server()
        sizes = [1, 1, *[lanes.LARGE // 2] * 4, lanes.LARGE + 1, 5]
        await asyncio.gather(*(server.lanes.send(n, size) for n, size in enumerate(sizes)))
        assert server.trips == [[0], [1], [2, 3], [4, 5], [7]]
        assert server.alone == [6]

    drive(main)


@pytest.mark.parametrize("seed", range(20))
def test_each_has_its_own_outcome(seed: int) -> None:
    """Errors, lost trips, callers that are gone and commits that go alone, drawn: each is told what befell it."""
    random = Random(seed)
    fates = [random.choice(("well", "well", "well", "error", "alone", "gone")) for _ in range(90)]
    lost = {random.randrange(6) for _ in range(2)}

    class Fateful(Server):
        def answer(self, n: int) -> object:
            return {"error": StoreError(str(n)), "alone": ALONE}.get(fates[n], f"shared {n}")

        async def many(self, requests: Sequence[int]) -> Sequence[object]:
            place = len(self.trips)
            answers = await super().many(requests)
            if place in lost:
                raise ConnectionError("lost")
            return answers

    async def main() -> None:
        server = Fateful()
        tasks = [asyncio.ensure_future(server.lanes.send(n, 1)) for n in range(90)]
        await asyncio.sleep(0)
        for n, fate in enumerate(fates):
            if fate == "gone" and n > 1:
                tasks[n].cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        sent = {n: place for place, trip in enumerate(server.trips) for n in trip}
        for n, (fate, outcome) in enumerate(zip(fates, outcomes, strict=True)):
            if isinstance(outcome, asyncio.CancelledError):
                assert fate == "gone"
                assert n not in sent
            elif sent[n] in lost:
                assert isinstance(outcome, (UnknownOutcome, ConnectionError))
            elif fate == "error":
                assert isinstance(outcome, StoreError)
                assert str(outcome) == str(n)
            else:
                assert outcome == (f"alone {n}" if fate == "alone" else f"shared {n}")
        assert server.lanes._flying == 0

    drive(main)


def test_an_error_of_one_commit_is_raised_and_is_no_answer() -> None:
    """For one that goes at once, and for one that shares its round trip with others."""

    class Refusing(Server):
        def answer(self, n: int) -> object:
            return StoreError(f"{n} is refused") if n % 2 else f"shared {n}"

    async def refused(server: Server, n: int) -> bool:
        try:
            assert await server.lanes.send(n, 1) == f"shared {n}"
        except StoreError as error:
            return str(error) == f"{n} is refused"
        return False

    async def main() -> None:
        assert await refused(Refusing(), 1)
        server = Refusing()
        assert await asyncio.gather(*(refused(server, n) for n in range(9))) == [n % 2 == 1 for n in range(9)]

    drive(main)


def test_what_is_under_way_is_ended_before_a_close() -> None:
    """``drain`` returns when everything that waited has been sent and answered."""

    async def main() -> None:
        server = Server()
        server.gate.clear()
        tasks = [asyncio.ensure_future(server.lanes.send(n, 1)) for n in range(70)]
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_later(0.01, server.gate.set)
        await server.lanes.drain()
        await asyncio.sleep(0)
        assert all(task.done() for task in tasks)
        assert sum(map(len, server.trips)) == 70

    drive(main)


def test_a_loop_that_ends_tells_those_that_wait() -> None:
    """The sender is cancelled: what it had sent is unknown to its callers, and none waits for ever."""

    async def main() -> None:
        server = Server()
        server.gate.clear()
        tasks = [asyncio.ensure_future(server.lanes.send(n, 1)) for n in range(5)]
        await asyncio.sleep(0)
        for task in tasks[:2]:
            task.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        for sender in list(server.lanes._senders):
            sender.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes[2:]] == [UnknownOutcome] * 3

    drive(main)
