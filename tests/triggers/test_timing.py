"""When schedules tick: cron expressions through both changes of the clock, and intervals."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import given, settings
from hypothesis import strategies as st

from alkaline_edge import InvalidInput, StoreError
from alkaline_edge.triggers import Cron, Every
from alkaline_edge.triggers.timing import iso_of, ms_of, timing_of

ZONES = ("UTC", "Europe/Riga", "America/New_York", "Australia/Lord_Howe", "America/Havana", "Asia/Kolkata")
EXPRESSIONS = ("30 3 * * *", "*/30 3 * * *", "0 * * * *", "0 0 * * *", "15 1 * * *", "30 2 * * *", "0 */2 * * *",
               "15,45 1-3 * * *", "0 0 1 * *", "0 9 * * 1-5", "*/20 * * * * *")  # fmt: skip
START = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp())


def ticks(cron: Cron, first: datetime, until: datetime) -> list[str]:
    """The ticks of a stretch of time, as its zone's clocks show them."""
    found, at = [], ms_of(first, "first")
    while (tick := cron.after(at)) is not None and tick <= ms_of(until, "until"):
        found.append(f"{datetime.fromtimestamp(tick / 1000, ZoneInfo(cron.zone)):%d %H:%M%z}")
        at = tick
    return found


def test_a_daily_job_runs_once_when_the_clock_goes_forward() -> None:
    """In an hour that there is not: right behind it."""
    riga = ZoneInfo("Europe/Riga")
    found = ticks(
        Cron("30 3 * * *", "Europe/Riga"),
        datetime(2026, 3, 28, 12, tzinfo=riga),
        datetime(2026, 3, 30, 12, tzinfo=riga),
    )
    assert found == ["29 04:00+0300", "30 03:30+0300"]


def test_a_daily_job_runs_once_when_the_clock_goes_back() -> None:
    """Of two equal hours, in the first."""
    riga = ZoneInfo("Europe/Riga")
    found = ticks(
        Cron("30 3 * * *", "Europe/Riga"),
        datetime(2026, 10, 24, 12, tzinfo=riga),
        datetime(2026, 10, 26, 12, tzinfo=riga),
    )
    assert found == ["25 03:30+0300", "26 03:30+0200"]


def test_an_hourly_job_runs_each_real_hour_through_both_changes() -> None:
    """Twice under one name of the hour, and never under the one that there is not."""
    riga = ZoneInfo("Europe/Riga")
    hourly = Cron("0 * * * *", "Europe/Riga")
    back = ticks(hourly, datetime(2026, 10, 25, 1, 30, tzinfo=riga), datetime(2026, 10, 25, 4, 30, tzinfo=riga))
    assert back == ["25 02:00+0300", "25 03:00+0300", "25 03:00+0200", "25 04:00+0200"]
    forward = ticks(hourly, datetime(2026, 3, 29, 1, 30, tzinfo=riga), datetime(2026, 3, 29, 5, 30, tzinfo=riga))
    assert forward == ["29 02:00+0200", "29 04:00+0300", "29 05:00+0300"]


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(EXPRESSIONS), st.sampled_from(ZONES), st.integers(0, 400 * 86_400))
def test_a_tick_follows_from_the_one_before_it_alone(expression: str, zone: str, second: int) -> None:
    """Whoever reckons the next tick from the last one finds what one walk through them all would."""
    cron, start = Cron(expression, zone), datetime.fromtimestamp(START + second, ZoneInfo(zone))
    walk, at = CronSim(expression, start), ms_of(start, "start")
    for _ in range(60):
        tick = cron.after(at)
        assert tick is not None
        assert tick > at
        assert tick == ms_of(next(walk), "tick")
        at = tick


@given(st.integers(1, 10**10), st.integers(-(10**12), 10**13), st.integers(-(10**12), 10**13))
def test_an_interval_ticks_at_its_anchor_and_each_interval_from_there(every: int, anchor: int, at: int) -> None:
    """The next tick is behind the time, by one interval at most, and never before the anchor."""
    made = Every(timedelta(milliseconds=every), datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=anchor))
    tick = made.after(at)
    assert tick is not None
    assert tick > at or tick == anchor
    assert tick >= anchor
    assert (tick - anchor) % every == 0
    assert tick - every <= max(at, anchor)


@pytest.mark.parametrize("expression", ["0 0 30 2 *", "0 0 31 4,6,9,11 *"])
def test_an_expression_that_never_comes_true_is_refused(expression: str) -> None:
    """Nothing would ever be heard of it again."""
    with pytest.raises(InvalidInput, match=r"never comes true|Bad day"):
        Cron(expression)


@pytest.mark.parametrize(
    "expression", ["", "nonsense", "* * * *", "61 * * * *", "*/0 * * * *", "0 0 * * 1#9", "x" * 300]
)
def test_what_is_no_expression_is_refused(expression: str) -> None:
    """With what one looks like."""
    with pytest.raises(InvalidInput, match=r"can't be read.*such as|at most"):
        Cron(expression)


@pytest.mark.parametrize("zone", ["Atlantis", "../../etc/passwd", "Europe/Rïga", "\0"])
def test_a_zone_that_is_not_known_is_refused(zone: str) -> None:
    """Before anything is stored."""
    with pytest.raises(InvalidInput, match="not known here"):
        Cron("0 3 * * *", zone)


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf"), "60", None, True])
def test_what_is_no_interval_is_refused(seconds: object) -> None:
    """0, a text, and what is no number."""
    with pytest.raises(InvalidInput, match="Every"):
        Every(seconds)  # type: ignore[arg-type]


def test_an_anchor_without_a_zone_is_refused() -> None:
    """It would be another moment in another place."""
    with pytest.raises(InvalidInput, match="aware"):
        Every(60, datetime(2026, 1, 1))


@pytest.mark.parametrize(
    "made", [Cron("0 3 * * *", "Europe/Riga"), Every(90.5), Every(60, datetime(2026, 1, 1, 0, 0, 30, tzinfo=UTC))]
)
def test_a_timing_comes_back_from_what_is_stored(made: Cron | Every) -> None:
    """With the same ticks."""
    back = timing_of(made.to_list())
    assert back.to_list() == made.to_list()
    assert back.after(START * 1000) == made.after(START * 1000)
    assert back.describe() == made.describe()


@pytest.mark.parametrize("stored", [None, [], ["cron"], ["every", 0, 0], ["moon", 1, 2], ["cron", 1, "UTC"]])
def test_a_timing_of_a_kind_that_is_not_known_is_refused(stored: object) -> None:
    """A newer version may have written it."""
    with pytest.raises(StoreError, match="upgrade"):
        timing_of(stored)


def test_a_tick_is_named_to_the_millisecond_where_it_needs_to_be() -> None:
    """Two ticks of a second are two runs."""
    assert iso_of(1_700_000_000_000) == "2023-11-14T22:13:20Z"
    assert iso_of(1_700_000_000_250) == "2023-11-14T22:13:20.250Z"


def test_an_anchor_that_is_yet_to_come_is_the_first_tick() -> None:
    """However far away it is; the second is an interval behind it."""
    anchor = datetime(2030, 1, 1, tzinfo=UTC)
    at = ms_of(anchor, "anchor")
    every = Every(timedelta(hours=1), anchor)
    assert [every.after(ms) for ms in (0, at - 1, at)] == [at, at, at + 3_600_000]
