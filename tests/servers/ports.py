"""Ports for servers that are killed and started again."""

from __future__ import annotations

import random
import socket


def free_port() -> int:
    """A port of loopback that is free, and below those that Linux gives to clients (32768 and up).

    A client that goes on asking a dead server on one of those is connected to itself one day (its own port drawn as the
    source): it then waits for its own answer, and the server can't have its port back.
    """
    while True:
        port = random.randrange(20000, 32000)
        try:
            with socket.create_server(("127.0.0.1", port)):
                return port
        except OSError:
            continue
