"""Publishing: what a step shows of itself while it runs, to whoever watches here; recorded nowhere."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from .. import lifecycle
from ..codec import Codec
from ..errors import InvalidInput
from ..limits import MAX_PUBLISHED
from ..machine.commands import RunStep
from ..machine.execution import Execution
from ..names import check_name
from ..runs import StepInfo
from .telling import Teller


def info_for(machine: Execution, command: RunStep, teller: Teller, loop: asyncio.AbstractEventLoop) -> StepInfo:
    """What a step may know of itself, and publish by to those whom ``teller`` tells, on ``loop``."""
    key = machine.idempotency_key(command)
    made = PublishingInfo(machine.info.id, command.name, command.id, command.attempt, key)
    for name, value in (("_codec", machine.codec), ("_teller", teller), ("_loop", loop)):
        object.__setattr__(made, name, value)
    return made


class PublishingInfo(StepInfo):
    """The StepInfo of a step that runs. A copy of it is a plain one, which publishes to nobody."""

    __slots__ = ("_codec", "_loop", "_teller")
    _codec: Codec
    _loop: asyncio.AbstractEventLoop
    _teller: Teller

    def publish(self, topic: str, data: Any = None) -> None:
        """As StepInfo.publish, and nobody is waited for."""
        teller: Teller | None = getattr(self, "_teller", None)
        check_name(topic, "a topic")
        if teller is None:  # made of another one, by dataclasses.replace
            return
        raw = self._codec.encode(data, "data")
        if len(raw) > MAX_PUBLISHED:
            raise InvalidInput(
                f"what a step publishes takes {MAX_PUBLISHED:,} bytes at most, and this takes {len(raw):,}: publish "
                "what is new of it, and return the whole"
            )
        if teller.has_listeners:
            data = self._codec.decode(raw)  # as it is now, whatever the step does with it later
            now = teller.changes.now_ms()
            told = lifecycle.Published(self.run_id, now, self.step, self.command_id, self.attempt, topic, data)
            if _is_here(self._loop):
                teller.tell(told)
            else:
                with suppress(RuntimeError):  # a thread that nothing could stop, and the loop has ended
                    self._loop.call_soon_threadsafe(teller.tell, told)

    def __reduce__(self) -> Any:
        return StepInfo, tuple(getattr(self, name) for name in StepInfo.__match_args__)


def _is_here(loop: asyncio.AbstractEventLoop) -> bool:
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False


# What it is shown, compared and taken apart by is what a StepInfo is.
PublishingInfo.__slots__, PublishingInfo.__annotations__ = StepInfo.__match_args__, dict(StepInfo.__annotations__)  # type: ignore[assignment]
