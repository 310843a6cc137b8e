"""Bundles: what is exported can be imported, and of what somebody has changed nothing is written."""

from __future__ import annotations

from typing import Any

import pytest

from alkaline_edge import (
    Context,
    InvalidInput,
    StoreError,
    workflow,
)
from alkaline_edge.codec import Codec
from alkaline_edge.testing import SimulatedHost
from tests.support import Process, drive
from tests.travellers import flow, suspended


def test_every_damaged_byte_of_a_bundle_is_refused_and_nothing_is_written() -> None:
    """One bit flipped anywhere: a typed error, and an empty store stays empty."""

    async def test() -> None:
        process = await suspended()
        bundle = await process.runtime.export("a")
        other = Process(flow, host=SimulatedHost(seed=2))
        for place in range(len(bundle)):
            damaged = bundle[:place] + bytes([bundle[place] ^ 0x10]) + bundle[place + 1 :]
            with pytest.raises((InvalidInput, StoreError)):
                await other.runtime.import_(damaged)
        for cut in (0, 1, len(bundle) // 2, len(bundle) - 1):
            with pytest.raises(InvalidInput):
                await other.runtime.import_(bundle[:cut])
        assert other.host.store.entries == {}
        await process.runtime.close()
        await other.runtime.close()

    drive(test)


def test_a_newer_format_is_refused_with_the_version_that_is_needed() -> None:
    """A history of a later format is left alone, and the message names the format."""

    async def test() -> None:
        process = await suspended()
        codec = Codec()
        raw = codec.decode(await process.runtime.export("a"))
        raw[1] = 9
        with pytest.raises(InvalidInput, match="format 9"):
            await process.runtime.import_(codec.encode(raw))
        record = await process.runtime.get_execution("a")
        key = next(k for k in process.host.store.entries if k.startswith(f"h/{record.run}/a0"))
        first = codec.decode(process.host.store.entries[key].value)
        first[0] = first[0][:13] + b"\x00\x00\x07"
        process.host.store.entries[key] = process.host.store.entries[key]._replace(value=codec.encode(first))
        await process.crash()
        with pytest.raises(StoreError, match="format 7"):
            await process.runtime.history("a")
        await process.runtime.close()

    drive(test)


def test_a_large_signal_that_is_carried_over_can_be_exported() -> None:
    """The header of a history stays in its commit, however large what it carries."""

    @workflow
    async def carries(ctx: Context, n: int) -> Any:
        if n == 0:
            await ctx.wait_for_signal("next")
            ctx.continue_as_new(1)
        return len(await ctx.wait_for_signal("large"))

    async def test() -> None:
        process = Process(carries)
        run = await process.runtime.start("carries", 0, id="c")
        await run.signal("large", "x" * 200_000)
        await run.signal("next")
        assert await run.result() == 200_000
        other = Process(carries, host=SimulatedHost(seed=4))
        imported = await other.runtime.import_(await process.runtime.export("c"))
        assert await imported.result() == 200_000
        await process.runtime.close()
        await other.runtime.close()

    drive(test)


@pytest.mark.parametrize("damage", ["time", "event", "header"])
def test_a_bundle_of_wrong_shapes_with_right_digests_is_refused(damage: str) -> None:
    """An edit that computes every digest anew is still a typed error."""
    from hashlib import sha256

    async def test() -> None:
        process = await suspended()
        codec = Codec()
        raw = codec.decode(await process.runtime.export("a"))
        commit = codec.decode(raw[3][0])
        if damage == "time":
            commit[1] = "soon"
        elif damage == "event":
            commit[2] = {}
        else:
            commit[2][1] = "header"
        raw[3] = [codec.encode(commit)]
        raw[5] = sha256(codec.encode(raw[:5])).digest()
        other = Process(flow, host=SimulatedHost(seed=2))
        with pytest.raises((InvalidInput, StoreError)):
            await other.runtime.import_(codec.encode(raw))
        assert other.host.store.entries == {}
        await process.runtime.close()
        await other.runtime.close()

    drive(test)
