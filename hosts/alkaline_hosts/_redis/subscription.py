"""Hearing of other hosts' commits: SUBSCRIBE on a connection of its own, until that is lost."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from .clients import Client, let_go

PULSE = 15.0
"""Seconds after which a subscription that heard nothing is asked whether it is there, and how long it has."""


class Subscription:
    """What ``Listening`` listens to, over a client of Redis."""

    def __init__(self, client: Client) -> None:
        self._client = client

    @property
    def listens(self) -> bool:
        """Whether a connection can be spared."""
        return self._client.listens

    async def listen(self, channel: str, ready: Callable[[], None], heard: Callable[[str], None]) -> None:
        """Hear the payloads of ``channel`` until the connection is lost, however: then this returns.

        ``ready`` is called when nothing is missed any more, each time that redis-py has connected again by itself too.
        """
        with contextlib.suppress(Exception):  # whatever it was, whoever waits looks by itself meanwhile
            pubsub = await self._client.pubsub()
            try:
                await pubsub.subscribe(channel)
                silent = False
                while True:
                    message = await pubsub.get_message(timeout=PULSE)
                    if message is None:
                        if silent:
                            return
                        await pubsub.ping()
                    elif message["type"] == "subscribe":
                        ready()
                    elif message["type"] == "message":
                        payload = message["data"]
                        heard(payload if isinstance(payload, str) else payload.decode("ascii", "replace"))
                    silent = message is None
            finally:
                await let_go(pubsub)
