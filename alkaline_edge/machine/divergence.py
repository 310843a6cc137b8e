"""What to say when code and history disagree: both sides, the place, and what to do. Nothing else of replay is here."""

from __future__ import annotations

from typing import Any

from ..errors import DeterminismError
from ..events import describe

_ADVICE = (
    "The history was left as it was, and the run goes on once the code that wrote it is back. "
    "To change a workflow that has runs in flight, put the change behind ctx.patched(...), or raise its version."
)


def _error(history: str, code: str, position: int, line: str) -> DeterminismError:
    return DeterminismError(
        f"the code and the history disagree at event {position}, at {line}.\n"
        f"  the history has: {history}\n"
        f"  the code has:    {code}\n"
        f"{_ADVICE}",
        position=position,
        history=history,
        code=code,
        line=line,
    )


def mismatch(event: Any, code: str, position: int, line: str, digest: int | None = None) -> DeterminismError:
    """The event and the command at its place differ."""
    history = describe(event)
    args = getattr(event, "args", None)
    if args != digest and str(getattr(event, "name", getattr(event, "workflow", None))) in code:
        history += f" with arguments of digest {_hex(args)}"
        code += f" with arguments of digest {_hex(digest)}"
    return _error(history, code, position, line)


def event_without_command(
    event: Any, issued: list[str], position: int, line: str, failure: dict[str, Any] | None = None
) -> DeterminismError:
    """The event answers a command that the code has not given; ``failure`` is how its handler ended, if it failed."""
    code = ", ".join(issued[:5]) if issued else "no command at all"
    if failure is not None and not issued:
        code = f"no command: it ended: {failed(failure)}"
    if len(issued) > 5:
        code += f" and {len(issued) - 5} more"
    return _error(describe(event), f"waits for {code}" if issued else code, position, line)


def failed(failure: dict[str, Any]) -> str:
    """How a handler ended that failed, in words."""
    how = "SystemExit (sys.exit)" if failure["type"] == "SystemExit" else failure["type"]
    return f"Failed, with {how}: {failure['message']}"


def value_without_call(event: Any, position: int, line: str) -> DeterminismError:
    """The history has a drawn value, and the code went past without drawing it."""
    return _error(describe(event), "did not call it, and waits", position, line)


def _hex(digest: int | None) -> str:
    return "none" if digest is None else f"{digest:08x}"
