"""Which errors come from outside of the code that they are raised in: Ctrl-C, and what a signal handler raises.

A KeyboardInterrupt or a SystemExit that a step raises itself is an error as any other. One that the operating system
sent is the wish of whoever runs this process: it is recorded nowhere, ends the process, and leaves the run as it was.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from functools import partial
from opcode import opmap
from types import CodeType, TracebackType
from typing import Any

__all__ = ["ends_the_process"]

_RAISE = opmap["RAISE_VARARGS"]


def ends_the_process(error: BaseException) -> bool:
    """Whether a signal has put ``error`` where it was raised: it is nobody's outcome, and must go on its way."""
    kind = type(error)  # it may lie when it is asked itself
    if not issubclass(kind, (KeyboardInterrupt, SystemExit)):
        return False
    frames = list(_frames(error.__traceback__))
    codes = {each.tb_frame.f_code for each in frames}
    handlers = [signal.getsignal(number) for number in signal.valid_signals()]
    if any(_code(handler) in codes for handler in handlers):
        return True
    # Python's own handler leaves no frame: such an error comes at an instruction that raises nothing by itself.
    if not issubclass(kind, KeyboardInterrupt) or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        return False
    last = frames[-1] if frames else None
    return last is None or last.tb_frame.f_code.co_code[last.tb_lasti] != _RAISE


def _frames(traceback: TracebackType | None) -> Iterator[TracebackType]:
    while traceback is not None:
        yield traceback
        traceback = traceback.tb_next


def _code(handler: Any) -> CodeType | None:
    while isinstance(handler, partial):
        handler = handler.func
    code = getattr(getattr(handler, "__func__", handler), "__code__", None)
    return code if isinstance(code, CodeType) else None
