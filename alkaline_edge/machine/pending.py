"""What the handler has asked for: its commands, the futures that their events resolve, and what it has withdrawn."""

from __future__ import annotations

from itertools import islice
from typing import Any

from ..budget import Purse
from ..limits import MAX_WAITING
from .commands import AwaitSignal, CancelChild, Command, RunStep, StartChild, StartTimer, Waitable
from .commands import describe as describe_command
from .loop.loop import DeterministicLoop, Future
from .mailbox import Mailbox


class Pending:
    """The commands of one run, by their ids."""

    __slots__ = ("_loop", "_mailbox", "_purse", "commands", "intents", "soonest_ms", "waiting", "withdrawn")

    def __init__(self, loop: DeterministicLoop, purse: Purse, mailbox: Mailbox) -> None:
        self._loop, self._purse, self._mailbox = loop, purse, mailbox
        self.commands: dict[str, Command] = {}
        """What the runtime is to do, in the order of issue; gone once its event is applied. Replies to updates and
        cancels of children are here and not in ``waiting``: no code awaits them."""
        self.waiting: dict[str, tuple[Waitable, Future[Any]]] = {}
        """What some code of the handler awaits, with the future that resolves it."""
        self.withdrawn: dict[str, Waitable] = {}
        """What nobody awaits any more. Kept, since its event may be committed all the same: that is no divergence."""
        self.soonest_ms: float = float("inf")
        """No timer is due before: a bound, since one that was withdrawn may have set it."""
        self.intents: set[str] = set()
        """Steps that run at most once and whose intent is recorded: their first attempt may have begun."""

    def issue(self, command: Waitable) -> Future[Any]:
        """Register a command; its future is resolved by the event of its id."""
        future: Future[Any] = Future(loop=self._loop)
        if type(command) is StartTimer and command.deadline_ms < self.soonest_ms:
            self.soonest_ms = command.deadline_ms
        self.waiting[command.id] = (command, future)
        self.commands[command.id] = command
        return future

    def issue_for_loop(self, id: str, deadline_ms: int, handle: Any) -> None:
        """A timer of asyncio's call_at, for sleep, timeout and wait_for: ``handle`` runs when it is due."""

        def fire() -> None:
            if not handle.cancelled():
                self._loop.ready.append(handle)

        self.soonest_ms = min(self.soonest_ms, deadline_ms)
        self.waiting[id] = (StartTimer(id, "asyncio timer", deadline_ms, fire), handle)
        self.commands[id] = self.waiting[id][0]

    def known(self, id: str) -> Waitable | None:
        """The command of that id, whether the handler still waits for it or has withdrawn it."""
        return self.waiting[id][0] if id in self.waiting else self.withdrawn.get(id)

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
            self._purse.reserve(-command.reserved[0], -command.reserved[1])
        elif isinstance(command, AwaitSignal):
            self._mailbox.waiters[command.name].remove(id)
        elif isinstance(command, StartChild) and command.on_parent_close == "cancel":
            self.commands[f"cancel {id}"] = CancelChild(id, command.child)

    def timers(self) -> list[StartTimer]:
        """Timers that wait, soonest first. Those that the handler has cancelled are dropped."""
        alive: list[StartTimer] = []
        for id, (command, future) in list(self.waiting.items()):
            if isinstance(command, StartTimer):
                if future.cancelled():
                    self.withdraw(id)
                else:
                    alive.append(command)
        alive.sort(key=lambda timer: timer.deadline_ms)
        self.soonest_ms = alive[0].deadline_ms if alive else float("inf")
        return alive

    def described(self) -> list[str]:
        """What is awaited, as an error names it."""
        return [describe_command(command) for command, _ in self.waiting.values()]

    def in_words(self) -> list[str]:
        """What is awaited, as the run's record names it."""
        self.timers()
        few = [f"{command.verb} {command.name}" for command, _ in islice(self.waiting.values(), MAX_WAITING)]
        return few if len(few) == len(self.waiting) else [*few, f"and {len(self.waiting) - len(few)} more"]
