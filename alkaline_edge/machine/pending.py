"""What the handler has asked for: its commands, the futures that their events resolve, and what it has withdrawn."""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import Any

from ..budget import TOP_UP, Purse
from ..errors import BudgetExceeded
from ..limits import MAX_WAITING
from .agenda import Agenda
from .commands import AwaitSignal, CancelChild, Command, RunStep, StartChild, StartTimer, Waitable
from .commands import describe as describe_command
from .loop.loop import SCOPE, CancelledError, DeterministicLoop, Future
from .mailbox import Mailbox
from .undoing import Undoing


class Pending:
    """The commands of one run, by their ids."""

    __slots__ = ("_loop", "_mailbox", "_purse", "_undoing", "agenda", "commands", "intents", "waiting", "withdrawn")

    def __init__(self, loop: DeterministicLoop, purse: Purse, mailbox: Mailbox, undoing: Undoing) -> None:
        self._loop, self._purse, self._mailbox, self._undoing = loop, purse, mailbox, undoing
        self.commands: dict[str, Command] = {}
        """What the runtime is to do, in the order of issue; gone once its event is applied. Replies to updates and
        cancels of children are here and not in ``waiting``: no code awaits them."""
        self.waiting: dict[str, tuple[Waitable, Future[Any]]] = {}
        """What some code of the handler awaits, with the future that resolves it."""
        self.withdrawn: dict[str, Waitable] = {}
        """What nobody awaits any more. Kept, since its event may be committed all the same: that is no divergence."""
        self.agenda: Agenda | None = None
        """What a driver has to do, kept from ``attend`` on. None while a history is only read: nothing is done then."""
        self.intents: set[str] = set()
        """Steps that run at most once and whose intent is recorded: their first attempt may have begun."""

    def issue(self, command: Waitable) -> Future[Any]:
        """Register a command; its future is resolved by the event of its id."""
        future: Future[Any] = Future(loop=self._loop)
        self.waiting[command.id] = (command, future)
        self.ask(command.id, command)
        return future

    def ask(self, key: str, command: Command) -> None:
        """Register what the runtime is to do, whether or not some code awaits it."""
        self.commands[key] = command
        if self.agenda is not None:
            self.agenda.add(command)

    def attend(self) -> Agenda:
        """A driver takes over: what there is to do, from here on kept as it changes."""
        self.agenda = Agenda(self.commands)
        return self.agenda

    def again(self, command: Command) -> None:
        """A step is to be tried once more, unless it was withdrawn."""
        if self.agenda is not None and self.agenda.is_open(command.id, command):
            self.agenda.add(command)

    def issue_for_loop(self, id: str, deadline_ms: int, handle: Any) -> None:
        """A timer of asyncio's call_at, for sleep, timeout and wait_for: ``handle`` runs when it is due."""

        def fire() -> None:
            if not handle.cancelled():
                self._loop.ready.append(handle)

        timer = StartTimer(id, "asyncio timer", self._loop.now_ms, deadline_ms, fire)
        self.waiting[id] = (timer, handle)
        self.ask(id, timer)

    def known(self, id: str) -> Waitable | None:
        """The command of that id, whether the handler still waits for it or has withdrawn it."""
        return self.waiting[id][0] if id in self.waiting else self.withdrawn.get(id)

    def all(self) -> list[Waitable]:
        """Every command whose event may still come: those awaited, and those withdrawn."""
        return [*(command for command, _ in self.waiting.values()), *self.withdrawn.values()]

    def take(self, id: str, kind: type) -> tuple[Any, Future[Any] | None] | None:
        """The command that an event answers, and its future; no future where the handler has withdrawn it.

        None where the handler has not asked for it.
        """
        if id in self.waiting:
            command, future = self.waiting[id]
            if not isinstance(command, kind):
                return None
            del self.waiting[id]
            self.commands.pop(id, None)
            return command, future
        withdrawn = self.withdrawn.get(id)
        return (withdrawn, None) if isinstance(withdrawn, kind) else None

    def take_waiter(self, id: str) -> Future[Any] | None:
        """The future of one who waits for a signal, if it still does."""
        if id not in self.waiting:
            return None
        self.commands.pop(id, None)
        return self.waiting.pop(id)[1]

    def withdraw(self, id: str) -> None:
        """Nobody waits for the command any more: the runtime stops it, and its event, if one comes, is ignored."""
        if id not in self.waiting:
            return
        command, _ = self.waiting.pop(id)
        self.commands.pop(id, None)
        self.withdrawn[id] = command
        if isinstance(command, RunStep):
            self.settle(command)
            if command.outlives:
                self._undoing.withdrawn(command)
            if self.agenda is not None:
                self.agenda.stopped.append(id)
        elif isinstance(command, AwaitSignal):
            self._mailbox.waiters[command.name].remove(id)
        elif isinstance(command, StartChild) and command.on_parent_close == "cancel":
            self.ask(f"cancel {id}", CancelChild(id, command.child))

    async def afford(self, command: RunStep) -> None:
        """Reserve what the step is to cost, once the budget has room for it; BudgetExceeded where that is not to be."""
        purse, what, cost = self._purse, f"step {command.name!r}", command.cost
        tokens = 0 if cost is None or callable(cost) else cost
        while True:
            try:
                purse.check_time(self._loop.now_ms, what)
                if cost is not None or purse.pauses:
                    purse.check(tokens or int(cost is not None), 0, what)
                break
            except BudgetExceeded:
                if not purse.pauses:
                    raise
            id = SCOPE.get().next_id()
            future = self.issue(AwaitSignal(id, TOP_UP))
            self._mailbox.waiters.setdefault(TOP_UP, deque()).append(id)
            try:
                await future
            except CancelledError:
                self.withdraw(id)
                raise
        command.reserved = (tokens, 0)
        purse.reserve(tokens, 0)

    def settle(self, command: RunStep) -> None:
        """The step is over: what was reserved for it is free, and steps that wait for it look again."""
        if command.reserved != (0, 0):
            self._purse.reserve(-command.reserved[0], -command.reserved[1])
            self.may_afford()

    def may_afford(self) -> None:
        """The budget may have room now: steps that wait for that look again, in the order in which they came."""
        for id in self._mailbox.waiters.pop(TOP_UP, ()):
            future = self.take_waiter(id)
            if future is not None and not future.done():
                future.set_result(None)

    def withdraw_undoable(self) -> None:
        """Withdraw every step that would have to be undone."""
        for command, _ in list(self.waiting.values()):
            if isinstance(command, RunStep) and command.compensate is not None:
                self.withdraw(command.id)

    def described(self) -> list[str]:
        """What is awaited, as an error names it."""
        return [describe_command(command) for command, _ in self.waiting.values()]

    def in_words(self) -> list[str]:
        """What is awaited, as the run's record names it."""
        few = [f"{command.verb} {command.name}" for command, _ in islice(self.waiting.values(), MAX_WAITING)]
        return few if len(few) == len(self.waiting) else [*few, f"and {len(self.waiting) - len(few)} more"]
