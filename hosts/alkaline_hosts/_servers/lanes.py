"""Commits that go to a server together: one round trip for many, and an answer for each.

While a round trip is under way, what is committed meanwhile waits for the next one. So a run that is alone waits for
nobody, and the more runs there are, and the slower the server, the more of their commits share a round trip. Those that
share one keep the order in which they came; a run's next commit comes behind the answer to the one before.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from alkaline_edge.errors import UnknownOutcome

R = TypeVar("R")
A = TypeVar("A")

LANES = 2
"""Round trips at a time: one is prepared while the other waits for the server's disk."""
MOST = 64
"""Commits in a round trip."""
LARGE = 256 * 1024
"""Bytes of a commit that goes by itself, and of all that share a round trip."""
ALONE = object()
"""In place of an answer: nothing was done, and the commit is to be sent by itself."""


class _Waiting(Generic[R]):
    __slots__ = ("answer", "request", "size")

    def __init__(self, request: R, size: int, answer: asyncio.Future[object]) -> None:
        self.request, self.size, self.answer = request, size, answer


class Lanes(Generic[R, A]):
    """``many`` sends requests together, and gives an answer for each: an error that is its own, or ALONE, among them.

    ``one`` sends a request by itself, in as many attempts as it takes.
    """

    def __init__(
        self, many: Callable[[Sequence[R]], Awaitable[Sequence[object]]], one: Callable[[R], Awaitable[A]]
    ) -> None:
        self._many, self._one = many, one
        self._waiting: deque[_Waiting[R]] = deque()
        self._flying = 0
        self._senders: set[asyncio.Task[None]] = set()
        self._idle = asyncio.Event()

    async def send(self, request: R, size: int) -> A:
        """The answer to ``request``, which holds so many bytes; raises what became of it, and of no other."""
        if size > LARGE:
            return await self._one(request)
        if self._flying < LANES and not self._waiting:
            self._flying += 1
            try:
                (answer,) = await self._many([request])
            finally:
                self._flying -= 1
                self._go_on()
        else:
            waiting = _Waiting(request, size, asyncio.get_running_loop().create_future())
            self._waiting.append(waiting)
            answer = await waiting.answer
        if answer is ALONE:
            return await self._one(request)
        if isinstance(answer, BaseException):
            raise answer
        return answer  # type: ignore[return-value]  # many says what it gives

    async def drain(self) -> None:
        """Return once everything that waits has been sent and answered."""
        while self._flying or self._waiting:
            self._idle.clear()
            await self._idle.wait()

    def _go_on(self) -> None:
        """Send what waits on the lanes that are free."""
        while self._flying < LANES and (part := self._part()):
            self._flying += 1
            task = asyncio.ensure_future(self._send(part))
            self._senders.add(task)
            task.add_done_callback(self._sent)
        if not self._flying:
            self._idle.set()

    def _part(self) -> list[_Waiting[R]]:
        """The first of those that wait, as many as share a round trip. Those whose callers are gone are left out."""
        part, size = list[_Waiting[R]](), 0
        while self._waiting and len(part) < MOST:
            first = self._waiting[0]
            if not first.answer.done():
                size += first.size
                if part and size > LARGE:
                    break
                part.append(first)
            self._waiting.popleft()
        return part

    async def _send(self, part: list[_Waiting[R]]) -> None:
        try:
            answers = await self._many([one.request for one in part])
        except BaseException as error:
            for one in part:
                _answer(one, _unknown(error))
            raise
        for one, answer in zip(part, answers, strict=True):
            _answer(one, answer)

    def _sent(self, task: asyncio.Task[None]) -> None:
        self._senders.discard(task)
        self._flying -= 1
        if not task.cancelled():
            task.exception()  # each caller has been told
        self._go_on()


def _answer(one: _Waiting[R], answer: object) -> None:
    if not one.answer.done():
        one.answer.set_result(answer)


def _unknown(error: BaseException) -> UnknownOutcome:
    unknown = UnknownOutcome(f"it is not known what became of the batch: {type(error).__name__} while it was sent")
    unknown.__cause__ = error
    return unknown
