"""The driver of one run: commits what happened, feeds the machine, starts what it asks for, until it ends or waits.

One driver runs per owned run, and ``drive`` is its whole life. What is durable before what:

- An event is committed before the handler sees it: ``journal.append``, then ``journal.feed``.
- What the handler drew (``now``, ``random``, ``uuid``, ``spend``, ``emit``) is committed before the next effect starts,
  at the head of the commit of whatever comes next, or in one of its own.
- The intent of an at-most-once step is committed before its attempt starts, and a child's record in the commit that
  says it was started.
- A request leaves the inbox, and a reply to an update gets its place, in the commit that records it.
- A lease that is about to run out is renewed before an effect starts.
"""

from __future__ import annotations

import asyncio

from .. import lifecycle
from ..errors import AlkalineError
from ..machine.commands import CancelChild, ReplyToUpdate, RunStep, StartChild
from ..machine.execution import Execution
from ..runs import ExecutionRecord
from .attempts import Attempts
from .bell import Bell
from .children import Children
from .endings import Endings
from .fleet import Fleet
from .inbox import Inbox
from .journal import Journal, Refused
from .telling import Teller

BREATH_ROUNDS = 32
BREATH_MS = 5
"""After so many rounds, or ms, without a wait the driver gives the loop a turn and looks at timers and requests."""


class Driver:
    """Advances one run that this runtime owns."""

    def __init__(
        self,
        journal: Journal,
        inbox: Inbox,
        children: Children,
        attempts: Attempts,
        endings: Endings,
        bell: Bell,
        fleet: Fleet,
        teller: Teller,
    ) -> None:
        self.journal, self.inbox, self.attempts = journal, inbox, attempts
        self._children, self._endings, self._bell = children, endings, bell
        self._fleet, self._teller = fleet, teller
        self._machine, self._host, self._clock = journal.machine, journal.host, journal.clock
        self.failed: AlkalineError | None = None
        """What the handler met before anything could be driven: a start whose first turn disagrees with the rules."""
        # A later generation hears what has come in before it does anything: one that goes on as new at each step would
        # otherwise never, since each of them is over before its driver first waits.
        self._unbroken = BREATH_ROUNDS if self._machine.header.generation else 0
        self._breathed, self._now = self._host.now_ms(), 0
        """Rounds since the driver last waited, when it last did or gave the loop a turn, and the present time."""

    @property
    def record(self) -> ExecutionRecord:
        """The run's record."""
        return self.journal.record

    @property
    def machine(self) -> Execution:
        """The run's machine."""
        return self._machine

    # --- the loop --------------------------------------------------------------------------------------------------
    async def drive(self) -> None:
        """Advance until the run ends, is set aside or paused. Raises Lost when another owner has it.

        Each round does the first of these that there is to do, and then begins anew: a commit may change all the rest.
        """
        if self.failed is not None:
            raise self.failed
        collected = False
        try:
            while True:
                self._report()
                if self._machine.outcome is not None:  # before anything else is started for a handler that has returned
                    await self._endings.finish()
                    return
                self.attempts.stop_withdrawn()
                if self._machine.settling:  # first: nothing is started meanwhile
                    await self._settle_late()
                    continue
                if self._unbroken_for_long() and await self._breathe():
                    continue
                if self._simple() and self._step_now():
                    await self.journal.seal_if_due()
                    continue
                # Effects first, so that all branches are in flight together; what was drawn is durable before they are.
                if await self._obey():
                    continue
                # All that have ended: they are applied together, and what the handler then draws stands behind them.
                self.attempts.reap()
                if self.attempts.done:
                    await self.attempts.record()
                    continue
                # Behind the results that are there: what was accepted before a deadline goes before its timer.
                if await self.inbox.advance():
                    continue
                nothing_soon = not self.attempts.flying and (self._holding() or not self.attempts.retry_soon())
                if nothing_soon and await self.attempts.idle():
                    if await self._endings.suspend():
                        return
                    continue
                await self._wait()
        except Refused as error:
            await self._endings.give_up(error)
        except GeneratorExit:  # the loop ended before this did, so nothing can be awaited any more
            collected = True
            raise
        finally:
            if not collected:
                await self._bell.silence()
                await self.attempts.halt()  # nothing of what is in flight is recorded

    def _unbroken_for_long(self) -> bool:
        self._unbroken += 1
        self._now = now = self._host.now_ms()
        return self._unbroken >= BREATH_ROUNDS or now - self._breathed >= BREATH_MS

    async def _breathe(self) -> bool:
        """Now and then, in a run that never waits: give the others on the loop a turn, and hear what came meanwhile.

        Steps that end at once would otherwise go before every timer and request, and before all else on the loop.
        """
        self._unbroken, self._breathed = 0, self._now
        await asyncio.sleep(0)
        self.attempts.stop_withdrawn()
        return await self.inbox.advance()

    def poke(self) -> None:
        """Something may have come into the inbox: look."""
        self.inbox.poked = True
        self._bell.ring()

    async def _wait(self, starting: bool = True) -> None:
        """Until an attempt ends, the inbox is poked, a deadline passes, or the lease wants renewing.

        ``starting``: whether what is ready would be started.
        """
        now = self._host.now_ms()
        # A paused run fires no timer: an alarm for one that is due would ring at once, again and again.
        timer_at = None if self.inbox.holds_timers() else self._clock.next_timer_at()
        attempt_at = None if self._holding() or not starting else self.attempts.next_at()
        at = self.journal.renew_at(now)
        if timer_at is not None:
            at = min(at, timer_at)
        if attempt_at is not None:
            at = min(at, self._clock.on_host(attempt_at))
        if self.inbox.poked or (self.attempts.ended() if starting else self.attempts.landed()):  # it woke nobody yet
            return
        await self._bell.wait(at, now)
        self._unbroken, self._breathed = 0, self._host.now_ms()
        if self._breathed >= self.journal.renew_at(self._breathed):
            await self.journal.renew()

    async def _settle_late(self) -> None:
        """Compensation waits for steps that were withdrawn: for one to end; once none is left, it goes on.

        What comes in meanwhile is heard. One in a thread may take as long as it likes.
        """
        attempts = self.attempts
        if await attempts.settle_late() or await self.inbox.advance():
            return
        await self.inbox.answer_all()
        if not attempts.late:
            self._machine.undo()
        else:
            await self._wait(starting=False)

    # --- commands --------------------------------------------------------------------------------------------------
    def _holding(self) -> bool:
        """Whether nothing new is started."""
        return self.inbox.paused or self._fleet.stops(self.record.id)

    def _simple(self) -> bool:
        """Whether the handler asks for one step alone. What has come in is looked at between two breaths, as ever."""
        journal = self.journal
        if journal.store.now is None or len(journal.agenda.fresh) != 1 or self._now >= journal.renew_at(self._now):
            return False
        return not (journal.agenda.timers or self._machine.drawn or self._holding())

    def _step_now(self) -> bool:
        """Run that step, record it and let the handler go on, all without a wait.

        False where it takes one. What has begun by then goes on in the ordinary way.
        """
        journal, agenda, attempts = self.journal, self.journal.agenda, self.attempts
        command = agenda.fresh[0]
        if not isinstance(command, RunStep) or not agenda.is_open(command.id, command):
            return False
        ended = attempts.call_now(command, self._now)
        recorded = None if ended is None else journal.append_now(command, ended.value)
        if recorded is None:
            return False
        attempts.done.popleft()
        attempts.outcomes.tell_finished(command, recorded[0])
        self._machine.feed_live([recorded])
        return True

    async def _obey(self) -> bool:
        """Start what the machine asks for; True when something was fed and there may be new commands."""
        if self._holding():
            return False
        agenda, attempts = self.journal.agenda, self.attempts
        fresh = agenda.fresh
        attempts.admit_due()
        while fresh:
            command = fresh[0]
            acted = command.__class__ is not RunStep
            match command:
                case RunStep():
                    attempts.admit(command)
                case StartChild() if not command.started and agenda.is_open(command.id, command):
                    await self._children.start(command)
                case CancelChild() if agenda.is_open(f"cancel {command.id}", command):
                    await self._children.cancel(command)
                case ReplyToUpdate() if agenda.is_open(f"reply {command.id}", command):
                    await self.inbox.reply(command)
                case _:
                    acted = False
            fresh.popleft()
            if acted:
                return True
        return attempts.are_ready() and await attempts.start()

    def _report(self) -> None:
        """Tell what the handler logged, and raise what keeps it from ever going on."""
        machine, id = self._machine, self.record.id
        if machine.has_said_something():
            now = self._host.now_ms()
            for level, message, fields in machine.take_logs():
                self._teller.tell(lifecycle.LogLine(id, now, level, message, fields))
            for error in machine.take_unhandled():
                text = f"an error in a background task of the handler was never retrieved: {type(error).__name__}"
                self._teller.tell(lifecycle.LogLine(id, now, "error", text, {"message": str(error)}))
        stalled = machine.stalled()
        if stalled is not None:
            raise stalled
