"""What the tests' own server of Workers says once it was killed."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from wasm.workers.harness import Waiting, WorkerError, WorkerServer


def test_a_question_to_a_process_that_has_gone_is_answered_at_once() -> None:
    """Whoever asks between its death and its end being noticed would wait for an answer that nobody gives."""
    server = object.__new__(WorkerServer)
    # Its pipe takes what is written, as that of a process does whose children still have the other end.
    command = [sys.executable, "-c", "import os, sys; os.close(1); sys.stdin.read()"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    server._process, server._waiting, server._lock, server._next = process, Waiting(), threading.Lock(), 0
    try:
        server._listen(process, server._waiting)
        with pytest.raises(WorkerError, match="gone"):
            server._send({"do": "fetch"})
    finally:
        process.kill()
        process.wait()
