"""Where things are kept: the keys of a store, all ASCII, none above 400 bytes.

    r/<id>                          the run's record
    h/<history>/<position>          one commit                     (history: <run>, or <run>-<generation>)
    s/<history>/<position>          a segment: sealed commits, from that position on
    b/<run>/<digest>/<chunk>        a value above the inline limit, in chunks
    i/<id>/<place>                  the inbox: what others ask of the run
    d/<run>/<dedupe>                a signal, update, cancel or timer with that dedupe key was accepted
    u/<run>/<entry>                 the reply to an update
    m/<run>                         the run was taken over here: of which hand-over; it outlives the run
    m/store                         a random name of this store, once a run was to be handed over to it
    t/<time>/<id>                   a suspended run that wants to be woken: 13 digits of ms; later, ~ and position(ms)
    g/<run>                         what all who share the run's budget have spent
    x/s/<status>/<workflow>/<id>    indexes
    x/w/<workflow>/<id>
    x/a/<name>=<value>/<id>

``<run>`` is a random id: a purged and re-created run has other keys, so a zombie of the old one can't write into it.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any


def position(n: int) -> str:
    """``n`` so that ASCII order is numeric order and small numbers stay short: a7, b42, c100, d1234."""
    digits = str(n)
    return chr(96 + len(digits)) + digits


def position_of(key: str) -> int:
    """The number at the end of a key."""
    return int(key.rsplit("/", 1)[1][1:])


def record(id: str) -> str:
    """The run's record."""
    return f"r/{id}"


def history(run: str, generation: int) -> str:
    """The name of one generation's history."""
    return run if generation == 0 else f"{run}-{generation}"


def commit(name: str, n: int) -> str:
    """Commit ``n`` of the history ``name``."""
    return f"h/{name}/{position(n)}"


def segment(name: str, n: int) -> str:
    """The segment that starts with commit ``n``."""
    return f"s/{name}/{position(n)}"


def blob(run: str, digest: bytes, chunk: int) -> str:
    """One chunk of a large value."""
    return f"b/{run}/{digest.hex()}/{position(chunk)}"


def inbox(id: str, place: str) -> str:
    """One entry of the inbox."""
    return f"i/{id}/{place}"


def dedupe(run: str, key: str) -> str:
    """The marker of a dedupe key; the key may be any text."""
    return f"d/{run}/{sha256(key.encode()).hexdigest()[:32]}"


def reply(run: str, entry: str) -> str:
    """The reply to an update."""
    return f"u/{run}/{entry}"


def timer(wake_at: int, id: str) -> str:
    """The wake-up of a suspended run."""
    return f"t/{_time(wake_at)}/{id}"


def timer_of(key: str) -> tuple[int, str]:
    """When a timer is due, ms since 1970, and the id of its run. Both forms of the time are read."""
    _, time, id = key.split("/")
    return int(time.lstrip("~abcdefghijklmnopqrstuvwxyz")), id


def in_order(key: str) -> bool:
    """Whether a timer's key stands where its time belongs. Version 0.1 wrote 14 digits and more without a ``~``."""
    time = key.split("/", 2)[1]
    return time.startswith("~") or len(time) <= 13


def misplaced(key: str) -> tuple[str, ...]:
    """The key under which version 0.1 put a timer that is due after the year 2286; nothing for any other key."""
    if not key.startswith("t/~"):
        return ()
    time, id = timer_of(key)
    return (f"t/{time}/{id}",)


def timers_after(ms: int) -> str:
    """The place behind every timer that is due at ``ms`` or before."""
    return f"t/{_time(ms)}/\x7f"


def _time(ms: int) -> str:
    """13 digits up to the year 2286; behind that the number of digits goes before them, so that order is numeric."""
    digits = f"{max(0, ms):013d}"
    return digits if len(digits) == 13 else f"~{position(ms)}"


def taken(run: str) -> str:
    """What says that a hand-over of the run was taken over here."""
    return f"m/{run}"


STORE = "m/store"
"""The name of the store itself."""


def shared(run: str) -> str:
    """The shared account of a budget."""
    return f"g/{run}"


def attribute(name: str, value: Any) -> str:
    """The part of an index key that says name=value. Values that don't fit into a key stand there by their digest."""
    text = {True: "true", False: "false"}.get(value, str(value)) if isinstance(value, bool) else str(value)
    kind = {str: "s", bool: "b", int: "n", float: "n"}[type(value)]
    plain = all(c.isascii() and (c.isalnum() or c in "_.:@~+-") for c in text) and len(text) <= 64
    return f"{name}={kind}:{text}" if plain else f"{name}={kind}#{sha256(text.encode()).hexdigest()[:32]}"


def indexes(id: str, workflow: str, status: str, attributes: dict[str, Any], wake_at: int | None) -> set[str]:
    """Every index key of a run in that state."""
    found = {f"x/s/{status}/{workflow}/{id}", f"x/w/{workflow}/{id}"}
    found.update(f"x/a/{attribute(name, value)}/{id}" for name, value in attributes.items())
    if wake_at is not None and status == "suspended":
        found.add(timer(wake_at, id))
    return found
