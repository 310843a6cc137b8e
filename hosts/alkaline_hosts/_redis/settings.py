"""What a Redis would lose, read from its own settings, and how that is told to who asked for more.

With the settings that Redis comes with, nothing is in a file when a commit is answered: of 3,000 acknowledged commits
a SIGKILL left none. With ``appendfsync everysec`` a write to the file waits while the file is being synced, for up to
two seconds, so that not even a kill of the process is safe.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from alkaline_edge.errors import StoreError
from alkaline_edge.host import Durability

from .clients import Client, Failed, ask

CLASSES: tuple[Durability, ...] = ("volatile", "weak", "process", "disk", "replicated")
"""What a host can be asked to promise, the least first."""
NOTES: Mapping[Durability, tuple[str, ...]] = {
    "replicated": (
        "The append-only file is synced before a commit is answered, and each commit and read waits until one replica "
        "has what the server has (WAIT 1); while there is no replica, nothing is answered.",
        "A failover to that replica loses nothing; where there are several, the one that has most must take over.",
    ),
    "disk": (
        "The append-only file is synced before a commit is answered (appendfsync always); settings that do less are "
        "refused at first use.",
        "A failover to a replica loses what it had not received; durability='replicated' waits for a replica.",
    ),
    "process": (
        "The append-only file is written before a commit is answered, and synced when the system wants to: a power "
        "loss can take half a minute.",
        "A failover to a replica loses what it had not received.",
    ),
    "weak": (
        "With appendfsync everysec up to two seconds of acknowledged commits are lost in a crash or a power loss, and "
        "in a failover whatever the replica had not received.",
    ),
    "volatile": ("Any settings are accepted: a restart may lose every run, and eviction may lose any of them.",),
}


class Weakness(NamedTuple):
    """A setting that allows no more than ``durability``, why, and what mends it."""

    durability: Durability
    what: str
    remedy: str


async def read_settings(client: Client) -> dict[str, str]:
    """INFO and what CONFIG GET says of the append-only file, as far as the user may ask. Raises Failed."""
    settings: dict[str, str] = {}
    try:
        text = (await ask(client, "INFO")).decode("utf-8", "replace")
        settings.update(line.split(":", 1) for line in text.split("\r\n") if ":" in line)
    except Failed as error:
        if not error.refused or error.later:
            raise
    try:
        answer = await ask(client, "CONFIG", "GET", "*append*")
    except Failed as error:
        if not error.refused or error.later:
            raise
    else:
        words = [part for pair in answer.items() for part in pair] if isinstance(answer, dict) else answer
        names = [word.decode("utf-8", "replace") for word in words]
        settings.update(zip(names[::2], names[1::2], strict=True))
    return settings


def weaknesses(settings: Mapping[str, str], fails_over: bool, replicated: bool = False) -> list[Weakness]:
    """What keeps the server from promising ``disk``, or ``replicated``."""
    found = [*_of_the_file(settings), *_of_memory(settings)]
    if replicated:
        if settings.get("connected_slaves", "0") == "0":
            found.append(Weakness("disk", "no replica is connected to it", "give it a replica (REPLICAOF)"))
    elif fails_over and settings.get("connected_slaves", "0") != "0":
        found.append(
            Weakness("weak", "the client follows failovers, and a failover loses what the replica lacks", "none")
        )
    return found


def _of_the_file(settings: Mapping[str, str]) -> list[Weakness]:
    if settings.get("aof_enabled") != "1":
        if "aof_enabled" not in settings:
            what = "the server does not say whether it keeps an append-only file: INFO is refused or says nothing of it"
            return [Weakness("volatile", what, "let this user call INFO")]
        return [Weakness("volatile", "appendonly is no: a restart loses commits", "CONFIG SET appendonly yes")]
    sync = settings.get("appendfsync")
    if sync is None:
        remedy = "let this user call it: ACL SETUSER <user> +config|get"
        return [Weakness("weak", "appendfsync is not known, since CONFIG GET is refused", remedy)]
    if sync != "always":
        remedy = "CONFIG SET appendfsync always"
        if sync == "no":
            return [Weakness("process", "appendfsync is no: a power loss loses commits", remedy)]
        return [Weakness("weak", f"appendfsync is {sync}: a crash can lose two seconds of commits", remedy)]
    if settings.get("no-appendfsync-on-rewrite") != "no":
        what = "no-appendfsync-on-rewrite is not no: while the file is rewritten it is not synced"
        return [Weakness("process", what, "CONFIG SET no-appendfsync-on-rewrite no")]
    return []


def _of_memory(settings: Mapping[str, str]) -> list[Weakness]:
    # The volatile-* policies evict only keys that expire, and ours never do. Without maxmemory nothing is evicted.
    policy, most = settings.get("maxmemory_policy"), settings.get("maxmemory")
    if most == "0" or policy == "noeviction" or (policy or "").startswith("volatile-"):
        return []
    if policy is None or most is None:
        if "aof_enabled" not in settings:
            return []  # said already: there was no INFO
        return [Weakness("volatile", "the server does not say what it evicts (maxmemory_policy)", "none")]
    what = f"maxmemory-policy is {policy}: a full memory evicts runs"
    return [Weakness("volatile", what, "CONFIG SET maxmemory-policy noeviction")]


def require(settings: Mapping[str, str], wanted: Durability, fails_over: bool) -> None:
    """ERR_STORE naming each setting that allows less than ``wanted``, what mends it, and how to accept it."""
    if settings.get("role", "master") != "master":
        raise StoreError(
            "this Redis is a replica: what is written there is lost, and what is read there is old. Connect to its "
            "primary; nothing was read or written"
        )
    least = CLASSES.index(wanted)
    found = [
        each
        for each in weaknesses(settings, fails_over, wanted == "replicated")
        if CLASSES.index(each.durability) < least
    ]
    if not found:
        return
    offered = min((each.durability for each in found), key=CLASSES.index)
    mended = [each.remedy for each in found if each.remedy != "none"]
    raise StoreError(
        f"this Redis may lose acknowledged commits, and {wanted} durability was asked for: "
        + "; ".join(each.what for each in found)
        + (f". To mend it: {'; '.join(mended)}; then CONFIG REWRITE, so that it lasts" if mended else "")
        + f". To accept it: RedisHost(client, durability={offered!r}), or ?durability={offered} in the URL. Nothing "
        "was read or written",
        durability=offered,
    )
