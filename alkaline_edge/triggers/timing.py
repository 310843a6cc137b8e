"""When a schedule ticks: by a cron expression in a time zone, or at an interval. All times are ms since 1970.

A tick depends on nothing but the expression and the tick before it, so any process finds the same ones.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

from ..arguments import expect
from ..errors import InvalidInput, StoreError
from ..limits import check_seconds
from ..names import check_text
from ..structs import dataclass

MAX_EXPRESSION = 200
"""Characters of a cron expression."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)
_LAST_MS = 253_370_764_800_000
"""The year 9999: a tick behind it is none."""


def ms_of(when: Any, what: str) -> int:
    """An aware datetime as ms since 1970; anything else is ERR_INVALID_INPUT."""
    if not isinstance(when, datetime) or when.utcoffset() is None:
        raise InvalidInput(f"{what} wants an aware datetime, such as datetime(2026, 12, 1, tzinfo=UTC)")
    return (when - _EPOCH) // _MS


def iso_of(ms: int) -> str:
    """A time as an id has it: ``2026-11-27T03:00:00Z``, with milliseconds where there are any."""
    when = _EPOCH + timedelta(milliseconds=ms)
    return when.strftime("%Y-%m-%dT%H:%M:%S") + (f".{ms % 1000:03d}Z" if ms % 1000 else "Z")


@dataclass(frozen=True, slots=True)
class Cron:
    """By a cron expression of five fields, or six with seconds before them, in ``zone``: an IANA name.

    When clocks go forward, a job of the hour that there is not runs once, right behind it; when they go back, one of a
    fixed time runs once, and one that runs each hour or more often in both. Needs the extra ``cron``. An expression
    that can't be read, or that never comes true, and a zone that is not known are ERR_INVALID_INPUT.
    """

    expression: str
    zone: str = "UTC"

    def __post_init__(self) -> None:
        """Refuse what is no cron expression, or no zone."""
        check_text(self.expression, "Cron(expression=)", MAX_EXPRESSION)
        check_text(self.zone, "Cron(zone=)", MAX_EXPRESSION)
        if self.after(0) is None:
            raise InvalidInput(f"the cron expression {self.expression!r} never comes true: no such day is in any year")

    def after(self, ms: int) -> int | None:
        """The first tick behind ``ms``; None where there is none."""
        cron, zone = _cronsim(), _zone(self.zone)
        try:
            for found in cron.CronSim(self.expression, (_EPOCH + timedelta(milliseconds=ms)).astimezone(zone)):
                tick = (found - _EPOCH) // _MS
                if tick > ms:  # where clocks go back, the first of two equal hours may lie behind
                    return int(tick)
        # Some texts it fails on in its own way.
        except (cron.CronSimError, AssertionError, TypeError, ValueError) as error:
            raise InvalidInput(
                f"the cron expression {self.expression!r} can't be read: {error}. It has five fields (minute, hour, "
                'day of the month, month, day of the week), such as "30 3 * * 1-5", or six with seconds before them'
            ) from None
        except OverflowError:
            pass
        return None

    def describe(self) -> str:
        """In words for people."""
        return f"{self.expression} {self.zone}"

    def to_list(self) -> list[Any]:
        """What is stored."""
        return ["cron", self.expression, self.zone]


@dataclass(frozen=True, slots=True)
class Every:
    """Every so many seconds, or a timedelta, reckoned from ``anchor``, an aware datetime (1970 if None).

    Ticks are at ``anchor`` + n * ``seconds`` in real time, whatever clocks do for summer. 0.001 seconds at least.
    """

    seconds: float | timedelta
    anchor: datetime | None = None

    def __post_init__(self) -> None:
        """Refuse what is no interval."""
        check_seconds(self.seconds, "Every(seconds=)", 0.001)
        if self.anchor is not None:
            ms_of(self.anchor, "Every(anchor=)")

    @property
    def ms(self) -> int:
        """The interval."""
        return max(1, round(check_seconds(self.seconds, "Every(seconds=)") * 1000))

    def after(self, ms: int) -> int | None:
        """The first tick behind ``ms``; None where there is none."""
        anchor = 0 if self.anchor is None else ms_of(self.anchor, "Every(anchor=)")
        tick = anchor if ms < anchor else anchor + ((ms - anchor) // self.ms + 1) * self.ms
        return tick if tick < _LAST_MS else None

    def describe(self) -> str:
        """In words for people."""
        return f"every {self.ms / 1000:g} s"

    def to_list(self) -> list[Any]:
        """What is stored."""
        return ["every", self.ms, 0 if self.anchor is None else ms_of(self.anchor, "Every(anchor=)")]


Timing = Cron | Every


def timing_of(stored: Any) -> Timing:
    """What ``to_list`` stored; ERR_STORE for anything else."""
    match stored:
        case ["cron", str(expression), str(zone)]:
            return Cron(expression, zone)
        case ["every", int(ms), int(anchor)] if ms > 0:
            return Every(timedelta(milliseconds=ms), _EPOCH + timedelta(milliseconds=anchor))
    raise StoreError("a schedule's timing is of a kind that this alkaline_edge does not know; upgrade, or restore it")


def check_timing(value: Any) -> Timing:
    """ERR_INVALID_INPUT for what is no timing."""
    expect(value, (Cron, Every), "when", 'a Cron or an Every, such as Cron("0 3 * * *") or Every(3600)')
    return value  # type: ignore[no-any-return]  # expect has looked


def _cronsim() -> Any:
    try:
        import cronsim
    except ImportError:
        raise InvalidInput("cron expressions need cronsim: pip install 'alkaline-edge[cron]'") from None
    return cronsim


def _zone(name: str) -> tzinfo:
    if name == "UTC":
        return UTC
    from zoneinfo import ZoneInfo  # reads the zone's data, which no program without a zone needs

    try:
        return ZoneInfo(name)
    except (LookupError, ValueError, OSError):
        raise InvalidInput(
            f"the time zone {name[:60]!r} is not known here: give an IANA name such as Europe/Riga; in a browser or a "
            "Worker the package tzdata has them (the extra cron installs it there)"
        ) from None
