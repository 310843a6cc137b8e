"""What a soak of one store came to, and the table of all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(slots=True)
class Row:
    """One store. What must be zero: ``lost``, ``again``, ``signals_lost``, ``doubled``; ``wrong`` says what was not."""

    store: str
    seconds: float = 0.0
    kills: int = 0
    """Of processes, servers and browsers, by SIGKILL."""
    faults: int = 0
    """Connections that were held back, cut, silenced or refused, and times that a disk was full."""
    runs: int = 0
    commits: int = 0
    """Acknowledged."""
    lost: int = 0
    """Of those, how many are not there."""
    forgotten: int = 0
    """Kills after which Chromium had deleted all of the origin for a log that an earlier kill had torn, as its files
    proved: docs/browser.md."""
    again: int = 0
    """Committed steps that were run again."""
    repeated: int = 0
    """Steps that ended with their process before their result was committed, and ran again: nothing prevents it."""
    signals: int = 0
    signals_lost: int = 0
    doubled: int = 0
    """Signals that a run was given twice."""
    wrong: list[str] = field(default_factory=list)
    left_out: str = ""
    """Why it was not run."""


COLUMNS = ("seconds", "kills", "faults", "runs", "commits", "lost", "forgotten", "again", "repeated", "signals",
           "signals_lost", "doubled")  # fmt: skip


def table(rows: Sequence[Row]) -> str:
    """As a person reads it."""
    names = [column.replace("_", " ") for column in COLUMNS]
    lines = [f"{'store':<10}" + "".join(f"{name:>{max(9, len(name) + 2)}}" for name in names)]
    for row in rows:
        if row.left_out:
            lines.append(f"{row.store:<10} left out: {row.left_out}")
            continue
        cells = (
            f"{getattr(row, column):>{max(9, len(name) + 2)}.0f}" for column, name in zip(COLUMNS, names, strict=True)
        )
        lines.append(f"{row.store:<10}" + "".join(cells))
    lines += [f"WRONG: {row.store}: {what}" for row in rows for what in row.wrong[:20]]
    return "\n".join(lines)
