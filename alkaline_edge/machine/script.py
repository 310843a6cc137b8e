"""The replay cursor: the recorded events that lie ahead, and what a handler takes from them without awaiting.

Values (``now``, ``random``, ``uuid``), ``patched`` and ``spend`` stand behind the event that woke the handler. On
replay each call finds its own value at the head of the script; beyond the end of the history it makes a new one, which
is committed before the next effect starts.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from .. import events as ev
from ..budget import Purse
from ..calling import JAVASCRIPT
from ..errors import BudgetExceeded, DeterminismError
from ..events import Event
from .commands import RunStep, describe
from .divergence import mismatch


class Script:
    """Where a replay stands. ``fail`` keeps the divergence that it is handed; ``where`` names the handler's line."""

    __slots__ = (
        "_fail",
        "_held",
        "_mark",
        "_where",
        "drawn",
        "events",
        "more",
        "next_totals",
        "patches",
        "position",
        "purse",
        "quiet",
        "recorded_emissions",
    )  # fmt: skip

    def __init__(
        self, purse: Purse, fail: Callable[[DeterminismError], DeterminismError], where: Callable[[], str]
    ) -> None:
        self.purse, self._fail, self._where = purse, fail, where
        self.events: deque[tuple[int, Any]] = deque()
        self._held: list[tuple[int, Any]] = []
        self.more = False
        """More pages of the history follow."""
        self.quiet = False
        """The block behind the last event ran to its end before: it logs nothing anew."""
        self.position = 0
        self.drawn: list[Event] = []
        """Values that must be committed before the next effect starts."""
        self.patches: dict[str, bool] = {}
        self.next_totals: list[list[int]] | None = None
        """Totals of shared accounts, which become known with the next event."""
        self.recorded_emissions = 0
        """Emissions that stand behind the last event that woke the handler: it is about to repeat them."""
        self._mark = 0

    def read(self, page: Sequence[tuple[int, Any]], more: bool, quiet: bool) -> None:
        """Take in a page of events; ``more`` says that it is not the last one."""
        self.more, self.quiet = more, quiet
        if self.recorded_emissions and _wakes(page[self._mark :]):
            self.recorded_emissions = 0
        self._mark = 0
        known = [*self._held, *page]
        keep = 0
        if more:  # values that follow the last waking event may stand on the next page: hold it back with them
            keep = next((n for n in range(len(known) - 1, -1, -1) if known[n][1][0] not in ev.SYNCHRONOUS), 0)
            self._held, known = known[keep:], known[:keep]
        else:
            self._held = []
        self.events.extend(known)

    @property
    def replaying(self) -> bool:
        """Whether recorded history lies ahead: log, emit and other effects outside of the record stay silent."""
        return bool(self.events) or self.more or self.quiet

    def head(self) -> Any:
        """The next recorded event, whichever page it stands on; None beyond the end of the history."""
        if self.events:
            return self.events[0][1]
        return self._held[0][1] if self._held else None

    def _value(self) -> Any:
        """As ``head``, past values of ``patched`` whose call is gone from the code."""
        while self.events and self.events[0][1][:2] == (ev.DRAWN, "patched"):
            self.events.popleft()
        return self.head()

    def draw(self, what: str, make: Callable[[], Any]) -> Any:
        """A recorded value: from the history on replay, otherwise new, to be committed before the next effect."""
        event = self._value()
        if event is not None:
            if event[0] != ev.DRAWN or event[1] != what:
                raise self.differs(event, f"ctx.{what}()")
            self.events.popleft()
            self.position += 1
            return event[2]
        value = make()
        self.drawn.append(ev.Drawn(ev.DRAWN, what, value))
        self.position += 1
        return value

    def patched(self, change_id: str) -> bool:
        """Whether this run takes the new path of ``change_id``: as it was decided when the run first came here."""
        if change_id not in self.patches:
            event = self.head()
            if event is None:
                self.drawn.append(ev.Drawn(ev.DRAWN, "patched", change_id))
                self.position += 1
            found = event is not None and event[0] == ev.DRAWN and event[1] == "patched" and event[2] == change_id
            if found:
                self.events.popleft()
                self.position += 1
            self.patches[change_id] = found or event is None
        return self.patches[change_id]

    def spend(self, tokens: int, micro_usd: int, label: str) -> None:
        """Charge, and raise BudgetExceeded if that went over; on replay exactly where it was raised before."""
        event = self._value()
        if event is not None:
            if event[0] != ev.SPENT or (event[1], event[2], event[3]) != (tokens, micro_usd, label):
                raise self.differs(event, f"ctx.spend({tokens}, {label!r})")
            self.events.popleft()
            self.position += 1
            self.purse.charge(tokens, micro_usd)
            self.next_totals = event[5] if event[5] is not None else self.next_totals
            if event[4]:
                raise self.purse.over(f"ctx.spend({label!r})") or _over_before(label)
            return
        self.purse.charge(tokens, micro_usd)
        over = self.purse.over(f"ctx.spend({label!r})")
        self.drawn.append(ev.Spent(ev.SPENT, tokens, micro_usd, label, over is not None, None))
        self.position += 1
        if over is not None:
            raise over

    def same_call(self, event: Any, command: RunStep) -> None:
        """Raise where ``event`` is of a step with another name or other arguments than ``command``."""
        renamed = event.name == JAVASCRIPT and type(command.fn).__name__ == JAVASCRIPT
        if (event.name != command.name and not renamed) or event.args != command.digest:
            raise self.differs(event, describe(command), command.digest)

    def differs(self, event: Any, code: str, digest: int | None = None) -> DeterminismError:
        """The divergence of ``event`` from what the code has at its place."""
        return self._fail(mismatch(event, code, self.position, self._where(), digest))

    # --- emissions ------------------------------------------------------------------------------------------------
    def saw_emission(self, page: Sequence[tuple[int, Any]]) -> None:
        """``page``, as far as it is read, is followed by an Emitted event."""
        if _wakes(page[self._mark :]):
            self.recorded_emissions = 0
        self._mark = len(page)
        self.recorded_emissions += 1

    def emit(self, topic: str, data: Any) -> None:
        """Record an emission of the handler, unless the history has it: then this is its repetition."""
        if self.events or self.more:
            return
        if self.recorded_emissions:
            self.recorded_emissions -= 1
            return
        self.drawn.append(ev.Emitted(ev.EMITTED, topic, data))


def _wakes(events: Sequence[tuple[int, Any]]) -> bool:
    return any(event[0] not in ev.SYNCHRONOUS for _, event in events)


def _over_before(label: str) -> BudgetExceeded:
    return BudgetExceeded(f"ctx.spend({label!r}) went over the budget; start the run with a larger Budget")
