"""The builder of the Pyodide bundle: it refuses what it was not written for. That workerd reads it, all others show."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from wasm.workers.bundle import DATA, SOURCE, BundleError, encode, patched_source

PYODIDE = Path(__file__).resolve().parents[2] / "wasm" / "workers" / "node_modules" / "pyodide" / "pyodide.asm.mjs"


def test_another_pyodide_is_refused() -> None:
    """A place that must be changed and is missing, or is there once too often, is an error that names it."""
    source = PYODIDE.read_text()
    assert "newWasmModule(" in patched_source(source)
    with pytest.raises(BundleError, match="loadLibData"):
        patched_source(source.replace("function loadLibData(){", "function loadLibrary(){"))
    with pytest.raises(BundleError, match="23 times, not 22"):
        patched_source(source + "Date.now()")


def test_the_message_is_whole_words() -> None:
    """One segment whose size its header gives, with every name and content in it, each padded to words."""
    message = encode([("a", SOURCE, b"12345"), ("name", DATA, b"")])
    segments, words = struct.unpack("<II", message[:8])
    assert (segments, words * 8) == (0, len(message) - 8)
    for part in (b"a\0", b"12345\0\0\0", b"name\0"):
        assert part in message
