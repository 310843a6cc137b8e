"""Steps that wait for the network, where their policy asks for it: ``Retry(while_offline=True)``.

Only the host knows whether there is one: see ``host.KnowsNetwork``. One that does not say is online.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..errors import AlkalineError
from ..machine.commands import RunStep
from .bell import Bell
from .journal import Journal

LOOK_MS = 1_000
"""So often it is asked for while something waits: a host need not be able to tell."""


class Waiting:
    """The steps of one run that wait."""

    def __init__(self, journal: Journal, bell: Bell) -> None:
        self._host, self._clock, self._intents = journal.host, journal.clock, journal.machine.intents
        self._bell = bell
        self._commands: list[RunStep] = []
        self._deaf: Callable[[], None] | None = None

    def keeps(self, command: RunStep, error: BaseException | None) -> bool:
        """Whether a step waits, and the driver is told once there is a network.

        ``error``: an attempt failed of it. It counts for nothing, but where it may have acted and must do so once.
        """
        if not self._is_offline() or command.id in self._intents:
            return False
        of_the_step = isinstance(error, Exception) and not isinstance(error, AlkalineError)
        if error is not None and (command.at_most_once or not of_the_step):
            return False
        self._commands.append(command)
        watch = getattr(self._host, "when_online", None)
        if self._deaf is None and watch is not None:
            self._deaf = watch(self._bell.ring)
        return True

    def _is_offline(self) -> bool:
        host: Any = self._host
        asked = getattr(host, "is_online", None)
        return asked is not None and not asked()

    def look_at(self, at: int | None, is_open: Callable[[str, RunStep], bool]) -> int | None:
        """When to look next, in ms since 1970 by the run's clock, if not ``at`` already; None: never."""
        self._commands = [each for each in self._commands if is_open(each.id, each)]
        look = self._clock.now_ms() + LOOK_MS if self._commands else None
        return at if look is None else look if at is None else min(at, look)

    def take(self) -> list[RunStep]:
        """Those that may start now: all of them once there is a network, otherwise none."""
        if not self._commands or self._is_offline():
            return []
        self.stop()
        commands, self._commands = self._commands, []
        return commands

    def stop(self) -> None:
        """Hear nothing any more."""
        if self._deaf is not None:
            self._deaf()
            self._deaf = None
