"""Bundles: what is not sound of one is refused before anything is written, whichever part of it was edited."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from alkaline_edge import Codec, Context, InvalidInput, workflow
from alkaline_edge import bundle as bundles
from alkaline_edge.bundle import Bundle
from alkaline_edge.envelope import read_history
from alkaline_edge.history import Cursor
from alkaline_edge.host import Capabilities
from alkaline_edge.testing import SimulatedHost
from tests.support import Process, drive

C = Codec()


@workflow
async def large(ctx: Context, n: int) -> list[str]:
    return [await ctx.step(f"make-{kind}", lambda kind: kind * 400, kind) for kind in "abc"]


def exported() -> Bundle:
    """A run with three large values, and one for its result."""
    found: list[bytes] = []

    async def test() -> None:
        host = SimulatedHost(capabilities=Capabilities("simulated", durability="volatile", inline_limit=300))
        process = Process(large, host=host)
        run = await process.runtime.start(large, 5, id="run")
        await run.result()
        found.append(await process.runtime.export("run"))

    drive(test)
    return bundles.decode(found[0], C)[0]


def refused(bundle: Bundle, why: str | None) -> None:
    with pytest.raises(InvalidInput, match=why):
        bundles.decode(bundles.encode(bundle, C), C)


def test_a_bundle_comes_out_as_it_was_packed() -> None:
    """All of it, byte for byte."""
    bundle = exported()
    assert bundles.decode(bundles.encode(bundle, C), C)[0] == bundle
    assert len(bundle.blobs) >= 4


@pytest.mark.parametrize("name", ["id", "run", "workflow", "version", "generation"])
def test_header_and_history_name_one_run(name: str) -> None:
    """Each of what both say of it is compared, also where the record goes along with the edit."""
    bundle = exported()
    value: Any = getattr(bundle, name)
    other = value + 1 if isinstance(value, int) else f"{value}0"
    edited = replace(bundle, **{name: other})
    refused(edited, "edited")
    if name in edited.record:
        refused(replace(edited, record={**edited.record, name: other}), "edited")


@pytest.mark.parametrize("place", range(4))
def test_no_large_value_of_the_history_may_be_missing(place: int) -> None:
    """Whichever it is, and however many others are there."""
    bundle = exported()
    refused(replace(bundle, blobs=bundle.blobs[:place] + bundle.blobs[place + 1 :]), "missing")


@pytest.mark.parametrize(
    "blob",
    [b"\x91" * 500 + b"\x01", b"\xcc\x05", b"\xc1", b"", b"\x01\x01"],
    ids=["deep", "long", "none", "empty", "two"],
)
def test_large_values_are_held_to_form_and_bounds_too(blob: bytes) -> None:
    """Also one to which nothing refers: it would be written all the same."""
    bundle = exported()
    refused(replace(bundle, blobs=[*bundle.blobs, blob]), None)


def test_commits_are_held_to_their_form_though_the_digests_fit() -> None:
    """A number in a longer form than it needs is another history for whoever counts bytes."""
    bundle = exported()
    (first, *_) = bundle.commits
    assert first[-1:] == b"\x05"
    assert read_history([first], [], Cursor(), C) is not None
    with pytest.raises(InvalidInput, match="canonical form"):
        read_history([first[:-1] + b"\xcc\x05"], [], Cursor(), C)
