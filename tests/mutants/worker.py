"""``python -m tests.mutants.worker``: runs commands as forks of a process that has pytest and what it needs in memory.

A mutant costs its tests then, and not a second of imports before them. Nothing of this project is imported here: a fork
imports it from the copy that it is told of. On stdin a JSON list a line: the folder, the seconds of a core and by the
clock, the file for what is printed, the module, its arguments. On stdout the exit code, 124 where it hangs.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import resource
import runpy
import signal
import sys
import time

OURS = ("tests", "alkaline_edge", "alkaline_hosts")
PRELOADED = (
    "asyncio", "click", "cryptography.hazmat.primitives.ciphers.aead", "cryptography.hazmat.primitives.kdf.hkdf",
    "httpx", "hypothesis", "hypothesis.strategies", "hypothesis.internal.conjecture.engine", "logging", "msgpack",
    "pytest", "pytest_timeout", "rich.console", "rich.table", "sqlite3", "statistics", "_hypothesis_pytestplugin",
)  # fmt: skip


def fork(folder: str, seconds: int, at_most: int, output: str, module: str, *args: str) -> int:
    """The exit code of ``python -m module args`` in the folder."""
    pid = os.fork()
    if not pid:
        _child(folder, seconds, output, module, args)
    end = time.monotonic() + at_most
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            break
        if time.monotonic() > end:
            os.killpg(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return 124
        time.sleep(0.02)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)  # what it has left behind
    code = os.waitstatus_to_exitcode(status)
    return 124 if code == -signal.SIGKILL else abs(code)


def _child(folder: str, seconds: int, output: str, module: str, args: tuple[str, ...]) -> None:
    code = 70
    try:
        os.setsid()
        os.chdir(folder)
        file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        for stream in (1, 2):
            os.dup2(file, stream)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell in the background has it ignored
        roots = [folder, os.path.join(folder, "hosts")]
        os.environ["PYTHONPATH"] = os.pathsep.join(roots)
        sys.path[:0] = roots
        for name in [
            name for name in sys.modules if name.split(".")[0] in ("tests", "alkaline_edge", "alkaline_hosts")
        ]:
            del sys.modules[name]
        sys.argv = [module, *args]
        runpy.run_module(module, run_name="__main__", alter_sys=False)
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1 if ended.code else 0
    except BaseException as error:  # as the interpreter does: what the fork is for ends with it
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        code = 1
    finally:
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def main() -> None:
    """Line by line."""
    for name in PRELOADED:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    for line in sys.stdin:
        folder, seconds, at_most, output, *command = json.loads(line)
        print(fork(folder, seconds, at_most, output, *command), file=answers)


if __name__ == "__main__":
    main()
