"""Every primitive of asyncio and anyio through suspensions and replays: no order hangs on an address."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from alkaline_edge import replay
from tests.primitives import flows


@pytest.mark.parametrize("name", sorted(flows.FLOWS))
def test_each_primitive_goes_on_in_another_process(name: str) -> None:
    """Every suspension ends the process; the next one has other addresses, and the run ends all the same."""

    async def both() -> tuple[bytes, bytes]:
        return await flows.ended(name), await flows.ended(name, crash=True, again=len(name))

    for seed, data in enumerate(asyncio.run(both())):
        flows.junk(seed)
        (checked,) = replay.check([data], flows.FLOWS.values())
        assert checked.ok, checked.message


def test_what_this_python_wrote_is_replayed(tmp_path: Path) -> None:
    """The two verbs by which tests/versions.sh carries histories from one Python to another."""
    asyncio.run(flows.write(tmp_path))
    assert {path.stem for path in tmp_path.iterdir()} == set(flows.FLOWS)
    assert flows.check(tmp_path) == []
