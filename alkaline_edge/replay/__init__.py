"""Offline tools for histories: inspect, format, diff, and check against new code. No host, no clock, no effects.

They take a bundle's bytes (what ``export`` returns), what ``Runtime.history`` returns, the raw commits of a history,
or a ``History``, and never change anything.
"""

from .checking import Checked, Verdict, check
from .comparing import Change, Diff, diff, format_diff
from .reading import History, Line, Source, duration, format, inspect, of_events, read  # noqa: A004  # the design's word

__all__ = [
    "Change", "Checked", "Diff", "History", "Line", "Source", "Verdict",
    "check", "diff", "duration", "format", "format_diff", "inspect", "of_events", "read",
]  # fmt: skip
