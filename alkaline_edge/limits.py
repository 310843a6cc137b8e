"""Every limit of the kernel, in one place, with its unit."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from .errors import InvalidInput, StoreError
from .host import Batch, Capabilities

# --- values -------------------------------------------------------------------------------------------------------
MAX_DEPTH_OF_VALUE = 64
"""Levels of lists and maps in one value."""
MAX_NODES_OF_VALUE = 5_000_000
"""Items in one value that comes from outside."""
MAX_BUNDLE_BYTES = 1024 * 1024 * 1024
"""Bytes of a bundle that ``import_`` takes."""

# --- names --------------------------------------------------------------------------------------------------------
MAX_ID = 160
"""Characters of a run id, a workflow name, an attribute name."""
MAX_NAME = 200
"""Characters of the name of a step, signal, query, update or topic, and of a signal's dedupe key."""

# --- runs ---------------------------------------------------------------------------------------------------------
MAX_RUN_DEPTH = 16
"""Children within children, unless the runtime says otherwise."""
CONTINUE_AS_NEW_AFTER = 10_000
"""Events after which ``ctx.should_continue_as_new`` is true."""
MAX_MESSAGE = 2_000
"""Characters of a failure's message in the durable record; of a cancel's reason, of what a charge is for, of a text
attribute."""
MAX_PUBLISHED = 64 * 1024
"""Bytes of what a step publishes at a time; it is kept nowhere, and sent to each who watches."""
MAX_ATTRIBUTES = 256
"""Attributes of a run: each is a key of an index."""
MAX_WAITING = 100
"""What a record names of the things that its run waits for."""
MAX_SECONDS = 100_000_000_000.0
"""Seconds of a sleep, a timeout or a backoff: three thousand years."""
MAX_TOKENS = 2**53
"""Tokens of one charge, or of a budget."""
MAX_USD = 1_000_000_000.0
"""Dollars of one charge, or of a budget."""
LEASE_SECONDS = 30.0
"""Seconds for which an owner holds a run without renewing its lease."""
CLOCKS_DIFFER_MS = 60_000
"""By how much the clocks of the processes that share a store may differ, in ms."""


_NO_NUMBER = float("-inf")


def check_seconds(value: Any, what: str, least: float = 0.0) -> float:
    """``value`` as a float of seconds: a number or a timedelta, from ``least`` up to MAX_SECONDS. Else InvalidInput."""
    try:
        odd = isinstance(value, (str, bytes, bool))
        seconds = value.total_seconds() if isinstance(value, timedelta) else _NO_NUMBER if odd else float(value)
    except Exception:  # what is no number can raise anything
        seconds = _NO_NUMBER
    if least <= seconds <= MAX_SECONDS:  # NaN is neither
        return seconds
    said = (
        value
        if isinstance(value, float) or (isinstance(value, int) and value.bit_length() < 64)
        else type(value).__name__
    )
    above = "above 0" if 0 < least < 1 else f"from {least:g}" if least >= 0 else "of any sign"
    raise InvalidInput(f"{what} is a number of seconds {above} up to {MAX_SECONDS:,.0f}, or a timedelta; got {said}")


def check_charge(tokens: Any, usd: Any, what: str) -> None:
    """InvalidInput unless ``tokens`` is a whole number of 0 or more, and ``usd`` None or finite and 0 or more."""
    whole = isinstance(tokens, int) and not isinstance(tokens, bool) and 0 <= tokens <= MAX_TOKENS
    money = usd is None or (isinstance(usd, (int, float)) and not isinstance(usd, bool) and 0 <= usd <= MAX_USD)
    if not whole or not money:
        raise InvalidInput(
            f"{what} wants whole tokens from 0 to 2**53, and usd, if it is given, a number from 0 to {MAX_USD:,.0f}"
        )


def check_key(key: str, max_key: int) -> None:
    """InvalidInput for a key that no host need take: not printable ASCII without spaces, empty, or too long (bytes)."""
    if not key.isascii() or not key.isprintable() or " " in key or not key:
        raise InvalidInput("a key is printable ASCII without spaces, 1 character or more; nothing was written")
    if len(key) > max_key:
        raise InvalidInput(f"a key of {len(key)} bytes is over the limit max_key={max_key}; nothing was written")


def check_batch(batch: Batch, limits: Capabilities) -> None:
    """InvalidInput naming the limit that ``batch`` goes over. Hosts call it before anything is written."""
    total = 0
    for key, value in batch.puts:
        check_key(key, limits.max_key)
        size = len(value)
        if size > limits.max_value:
            raise InvalidInput(
                f"a value of {size} bytes is over {limits.name}'s max_value={limits.max_value}; nothing was written",
                limit=limits.max_value,
            )
        total += size
    count = len(batch.puts) + len(batch.deletes)
    if total > limits.max_batch_bytes:
        raise InvalidInput(
            f"a batch of {total} bytes is over {limits.name}'s limit max_batch_bytes={limits.max_batch_bytes}; "
            "nothing was written",
            limit=limits.max_batch_bytes,
        )
    if count > limits.max_batch_keys:
        raise InvalidInput(
            f"a batch of {count} keys is over {limits.name}'s limit max_batch_keys={limits.max_batch_keys}; "
            "nothing was written",
            limit=limits.max_batch_keys,
        )
    for key, _ in batch.checks:
        if len(key) > limits.max_key:
            check_key(key, limits.max_key)
    if count > 1:
        for key in batch.deletes:
            check_key(key, limits.max_key)
        if len({*batch.deletes, *(key for key, _ in batch.puts)}) < count:
            raise InvalidInput("a batch names a key twice among its puts and deletes; nothing was written")
    if batch.checks and not limits.checks:
        raise StoreError(f"{limits.name} has no conditional commits: it can't check a key before it writes")


BUSY_TURN = 200_000
"""Callbacks that one turn of a handler may run until nothing is ready: a handler that polls needs more."""

BUSY_TURN_PER_TASK = 100
"""What a turn may run on top of that for each task of the handler."""
