"""``alkaline``: look at runs, move them, compare and check their histories, from a shell.

Exit codes: 0 done; 1 the answer is no (``diff`` differs, ``check`` found a history that does not fit); 2 bad usage or
input; 3 the store; 4 no such run. Errors are one line on stderr, with ``--json`` one line of JSON.
"""

from __future__ import annotations

import io
import sys

__all__ = ["main"]


def main() -> None:
    """The command; without its libraries, one sentence that says what to install."""
    try:
        import click  # noqa: F401  # only looked for
        import rich  # noqa: F401  # only looked for
    except ImportError as missing:
        print(f"alkaline needs {missing.name}: pip install 'alkaline-edge[cli]'", file=sys.stderr)
        raise SystemExit(2) from None
    from ._cli.commands import alkaline

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that can't show a character gets its number
    alkaline(prog_name="alkaline")


if __name__ == "__main__":
    main()
