"""Which commits are worth telling other processes of, where each notice costs the server something.

A step's result concerns nobody but the run's owner. What somebody in another process may be waiting for is: a request
in an inbox, the reply to an update, the end of a run, and a wake-up that is due already, which a process that shuts
down leaves for the others. Whatever else there is, such as a timer of a process that died, they find by looking.
"""

from __future__ import annotations

from alkaline_edge import keys
from alkaline_edge.host import Batch
from alkaline_edge.runs import FINISHED

_AWAITED = (keys.INBOXES, keys.REPLIES, *map(keys.with_status, sorted(FINISHED)))
_TIMER = keys.TIMERS


def is_awaited(batch: Batch, now_ms: int) -> bool:
    """Whether other processes may be waiting for what ``batch`` puts."""
    now = f"{now_ms:013d}"
    return any(
        put.key.startswith(_AWAITED) or (put.key.startswith(_TIMER) and put.key.split("/")[1] <= now)
        for put in batch.puts
    )
