"""Every limit of the kernel, in one place, with its unit."""

from __future__ import annotations

# --- values -------------------------------------------------------------------------------------------------------
MAX_DEPTH_OF_VALUE = 64
"""Levels of lists and maps in one value."""
MAX_NODES_OF_VALUE = 5_000_000
"""Items in one value that comes from outside."""
MAX_BUNDLE_BYTES = 1024 * 1024 * 1024
"""Bytes of a bundle that ``import_`` takes."""

# --- names --------------------------------------------------------------------------------------------------------
MAX_ID = 160
"""Characters of a run id, a workflow name, an attribute name, a signal's dedupe key."""
MAX_NAME = 200
"""Characters of the name of a step, signal, query, update or topic."""

# --- runs ---------------------------------------------------------------------------------------------------------
MAX_RUN_DEPTH = 16
"""Children within children, unless the runtime says otherwise."""
CONTINUE_AS_NEW_AFTER = 10_000
"""Events after which ``ctx.should_continue_as_new`` is true."""
MAX_MESSAGE = 2_000
"""Characters of a failure's message in the durable record."""
LEASE_SECONDS = 30.0
"""Seconds for which an owner holds a run without renewing its lease."""
