"""Budgets that several runs share: each charge is added to the shared key in the commit that records it.

The totals go into the events, so a replay knows what this run knew. Another run's charge in between is a conflict on
the account's key alone: ``journal`` reads again and adds again.
"""

from __future__ import annotations

from typing import Any

from .. import events as ev
from .. import keys
from ..budget import Purse
from ..events import Event
from ..runs import Header
from .store import Store
from .write import Write

TRIES = 50


def charges(batch: list[Event]) -> bool:
    """Whether any event of the batch spends."""
    return any(event[0] in (ev.SPENT, ev.STEP_CHARGED) for event in batch)


def keys_of(purse: Purse) -> list[str]:
    """The shared keys of the accounts that the run spends from."""
    return [keys.shared(account.run) for account in purse.accounts]


async def charge(store: Store, purse: Purse, batch: list[Event], write: Write) -> tuple[list[Event], Write]:
    """``batch`` with the totals behind each charge, and ``write`` with what makes them true, as of the store now."""
    names = keys_of(purse)
    entries = await store.host.get(names)
    totals: list[list[int]] = []
    charged = Write(dict(write.checks), dict(write.puts), set(write.deletes))
    for name, account, entry in zip(names, purse.accounts, entries, strict=True):
        charged.checks[name] = entry.version if entry is not None else None
        stored = store.codec.decode(entry.value) if entry is not None else [account.tokens, account.micros]
        totals.append(list(stored))
    events = [_with_totals(event, totals) for event in batch]
    charged.puts.update((name, store.codec.encode(total)) for name, total in zip(names, totals, strict=True))
    return events, charged


def last_totals(events: list[Event]) -> list[list[int]] | None:
    """The totals behind the last charge that the handler itself made, if it made one."""
    found = [event.totals for event in events if isinstance(event, ev.Spent) and event.totals is not None]
    return found[-1] if found else None


def _with_totals(event: Event, totals: list[list[int]]) -> Event:
    if not isinstance(event, (ev.Spent, ev.StepCharged)):
        return event
    for total in totals:
        total[0] += event.tokens
        total[1] += event.micros
    return event._replace(totals=[list(total) for total in totals])


async def shared_by(store: Store, header: Header) -> list[list[Any]]:
    """What the shared budgets of a run hold: [random run id, tokens, micro-usd]."""
    found: list[list[Any]] = []
    for account in header.accounts:
        entry = (await store.host.get([keys.shared(account[0])]))[0]
        if entry is not None:
            found.append([account[0], *store.codec.decode(entry.value)])
    return found
