"""A history: each commit holds the digest of the one before, so none is lost, edited or put elsewhere."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alkaline_edge import AlkalineError, StoreError
from alkaline_edge import events as ev
from alkaline_edge.codec import Codec, pack
from alkaline_edge.events import FORMAT_VERSION
from alkaline_edge.history import MAGIC, Cursor, check_end, decode_all, split

C = Codec()


def test_commits_that_do_not_follow_from_each_other_are_refused_at_once() -> None:
    """A replay reads many commits at a stretch: each is held to the digest of the one before it all the same."""
    codec, cursor = Codec(), Cursor()
    raws = []
    for n in range(4):
        raws.append(cursor.encode(n, [ev.Emitted(ev.EMITTED, "n", n)], codec))
        cursor.advance(raws[-1], codec)
    assert [event.data for _, event in Cursor().advance_all(raws, codec)] == [0, 1, 2, 3]  # type: ignore[union-attr]
    for wrong in ([raws[0], raws[2], raws[1], raws[3]], [raws[0], raws[2]], raws[1:]):
        with pytest.raises(StoreError, match="does not follow"):
            Cursor().advance_all(wrong, codec)


COMMITS = st.lists(
    st.tuples(st.integers(0, 5_000), st.lists(st.integers(0, 2**70) | st.text(max_size=9), min_size=1, max_size=3)),
    min_size=1,
    max_size=8,
)


def written(commits: list[tuple[int, list[Any]]]) -> tuple[list[bytes], Cursor]:
    """The bytes of commits that come so many ms behind each other, and the cursor at their end."""
    cursor, raws, now = Cursor(), [], 0
    for later, values in commits:
        now += later
        raws.append(cursor.encode(now, [ev.Emitted(ev.EMITTED, "n", value) for value in values], C))
        cursor.advance(raws[-1], C)
    return raws, cursor


@given(COMMITS)
def test_a_history_reads_back_as_it_was_written(commits: list[tuple[int, list[Any]]]) -> None:
    """One commit at a time, many at a stretch, and out of a segment: the same events at the same times."""
    raws, end = written(commits)
    cursor, decoded = decode_all(raws, C)
    assert (cursor, cursor.length) == (end, len(commits))
    found = [(time_ms, event.data) for events in decoded for time_ms, event in events]  # type: ignore[union-attr]
    times = itertools.accumulate(later for later, _ in commits)
    assert found == [(at, value) for at, (_, values) in zip(times, commits, strict=True) for value in values]
    quick = Cursor()
    assert [(at, event.data) for at, event in quick.advance_all(raws, C)] == found
    assert quick == end
    assert split(b"".join(raws)) == raws


@given(COMMITS, st.data())
def test_whatever_is_changed_of_a_history_is_found(commits: list[tuple[int, list[Any]]], data: st.DataObject) -> None:
    """A byte, a commit that is gone, twice there, or at another place: by the next one, or by the record at the end."""
    raws, end = written(commits)
    at = data.draw(st.integers(0, len(raws) - 1))
    how = data.draw(st.sampled_from(["byte", "gone", "twice", "swapped"]))
    wrong = list(raws)
    if how == "byte":
        place = data.draw(st.integers(0, len(raws[at]) - 1))
        edited = bytearray(raws[at])
        edited[place] ^= data.draw(st.integers(1, 255))
        wrong[at] = bytes(edited)
    elif how == "gone":
        del wrong[at]
    elif how == "twice":
        wrong.insert(at, raws[at])
    else:
        other = data.draw(st.integers(0, len(raws) - 1))
        wrong[at], wrong[other] = wrong[other], wrong[at]
    if wrong == raws:
        return
    with pytest.raises(AlkalineError):
        decode_all(wrong, C)
        check_end(wrong, end.length, end.head, "a")


def test_recorded_time_never_goes_back() -> None:
    """A clock that was set back stands still until it has caught up."""
    cursor = Cursor()
    for now in (1_000, 400, 1_200):
        raw = cursor.encode(now, [ev.Paused(ev.PAUSED)], C)
        cursor.advance(raw, C)
    assert cursor.time_ms == 1_200


def test_a_history_of_a_newer_format_says_which_version_reads_it() -> None:
    """By its first bytes, before anything else of it is looked at."""
    newer = MAGIC[:13] + (FORMAT_VERSION + 1).to_bytes(3, "big")
    with pytest.raises(StoreError, match=f"of format {FORMAT_VERSION + 1}.*upgrade") as refused:
        Cursor().advance(pack([newer, 0, [99, "what", "is", "this"]]), C)
    assert refused.value.detail == {"format": FORMAT_VERSION + 1}
