"""Golden histories: what version 1 wrote is read, verified and replayed by this code, byte for byte."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgpack
import msgpack.fallback
import pytest

from alkaline_edge import bundle, replay
from alkaline_edge import codec as codec_module
from alkaline_edge.activations import TOGETHER, together
from alkaline_edge.codec import Codec
from alkaline_edge.events import CLASSES
from alkaline_edge.history import Cursor, decode_all
from tests.histories import activations, layers, retried, topped_up, workflows

WORKFLOWS = [
    *workflows.WORKFLOWS, *activations.WORKFLOWS, *retried.WORKFLOWS, *layers.WORKFLOWS, *topped_up.WORKFLOWS,
]  # fmt: skip
FILES = sorted((Path(__file__).parent / "histories").glob("*.alk"))


@pytest.mark.parametrize("pure", [False, True], ids=["c", "pure"])
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_golden_history_is_read_written_and_replayed_the_same(
    path: Path, pure: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Decoded and encoded again it is the same file, and the code that made it still fits."""
    if pure:
        fallback = msgpack.fallback
        packer = fallback.Packer(use_bin_type=True, strict_types=True, use_single_float=False)
        monkeypatch.setattr(codec_module, "_PACK", packer.pack)

        def unpackb(data: bytes, **options: Any) -> Any:
            unpacker = fallback.Unpacker(None, max_buffer_size=len(data), **options)
            unpacker.feed(data)
            return unpacker._unpack()

        monkeypatch.setattr(msgpack, "unpackb", unpackb)
    codec, data = Codec(), path.read_bytes()
    found, _ = bundle.decode(data, codec)
    commits = decode_all(found.commits, codec)[1]
    assert bundle.encode(found, codec) == data
    cursor = Cursor()
    for raw, events in zip(found.commits, commits, strict=True):
        assert cursor.encode(events[0][0], [event for _, event in events], codec) == raw
        cursor.advance(raw, codec)
    (result,) = replay.check([data], WORKFLOWS)
    assert result.ok, result.message


def test_the_golden_histories_hold_every_kind_of_event() -> None:
    """No kind is without a golden history, and none that may wake the handler beside others without one of those."""
    histories = [replay.read(path.read_bytes()) for path in FILES]
    kinds = {type(event) for history in histories for _, event in history.events()}
    assert {cls.__name__ for cls in CLASSES} - {kind.__name__ for kind in kinds} == set()
    beside = {
        type(event).__name__
        for history in histories
        for commit in history.commits
        for _, several in together(commit)
        if several[0] == TOGETHER
        for event in several.events
    }
    assert beside == {
        "StepCompleted", "StepFailed", "AttemptFailed", "StepCharged", "TimerFired", "SignalReceived", "ChildFinished",
    }  # fmt: skip
