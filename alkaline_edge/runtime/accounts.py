"""Budgets that several runs share: each charge is added to the shared key in the commit that records it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import events as ev
from .. import keys
from ..codec import BlobRef
from ..events import Event
from .store import Write

if TYPE_CHECKING:
    from .driver import Driver

_TRIES = 50


def charges(batch: list[Event]) -> bool:
    """Whether any event of the batch spends."""
    return any(event[0] in (ev.SPENT, ev.STEP_CHARGED) for event in batch)


async def append_charged(
    driver: Driver, batch: list[Event], write: Write, record: bool, result: BlobRef | None = None
) -> list[tuple[int, Event]]:
    """Commit ``batch`` with its charges added to every account that the run shares.

    Another run's charge in between is a conflict on the account's key alone: read again, add again. The totals go
    into the events, so a replay knows what this run knew.
    """
    from .driver import Lost

    accounts = driver.machine.purse.accounts
    names = [keys.shared(account.run) for account in accounts]
    for _ in range(_TRIES):
        entries = await driver.host.get(names)
        totals: list[list[int]] = []
        attempt = Write(dict(write.checks), dict(write.puts), set(write.deletes))
        for name, account, entry in zip(names, accounts, entries, strict=True):
            attempt.checks[name] = entry.version if entry is not None else None
            stored = driver.codec.decode(entry.value) if entry is not None else [account.tokens, account.micros]
            totals.append(list(stored))
        charged = [_with_totals(event, totals) for event in batch]
        attempt.puts.update((name, driver.codec.encode(total)) for name, total in zip(names, totals, strict=True))
        try:
            recorded = await driver.append_batch(charged, attempt, record, result)
        except Lost as lost:
            if lost.keys and set(lost.keys) <= set(names):
                continue
            raise
        if any(event[0] == ev.SPENT for event in batch):
            driver.machine.script.next_totals = [
                event.totals for event in charged if isinstance(event, ev.Spent) and event.totals is not None
            ][-1]
        return recorded
    raise Lost(tuple(names))


def _with_totals(event: Event, totals: list[list[int]]) -> Event:
    if not isinstance(event, (ev.Spent, ev.StepCharged)):
        return event
    for total in totals:
        total[0] += event.tokens
        total[1] += event.micros
    return event._replace(totals=[list(total) for total in totals])
