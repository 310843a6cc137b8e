"""Hosts: one module per place where histories are kept, and the command line.

``open_host`` picks one by a URL or path. It is loaded when it is first asked for, so that a Worker or a page that
uses one host imports that one alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .opening import open_host

__all__ = ["open_host"]


def __getattr__(name: str) -> Any:
    if name == "open_host":
        from .opening import open_host

        return open_host
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
