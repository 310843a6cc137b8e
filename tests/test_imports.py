"""What `import alkaline_edge` loads and reads: little, each module with a reason, and neither clock nor entropy."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import alkaline_edge

ROOT = Path(__file__).parents[1]
KERNEL = ROOT / "alkaline_edge"
HOSTS = ROOT / "hosts" / "alkaline_hosts"
ALLOWED = {
    "__future__": "annotations are not evaluated",
    "asyncio": "the kernel is an event loop, and its runtime runs tasks",
    "atexit": "lets go of suspended handlers before the interpreter ends",
    "heapq": "sleepers of the virtual clock, the earliest first",
    "bisect": "ordered keys of the simulated store, and places in a history",
    "builtins": "failures come back as instances of Python's own exceptions",
    "collections": "abstract types, deques",
    "contextlib": "context managers",
    "cryptography": "what seals on servers: an extra, imported when a cipher is made",
    "contextvars": "each task of a handler has a context",
    "dataclasses": "records",
    "datetime": "values",
    "gc": "finds what a suspended frame holds",
    "hashlib": "sha256 of the chain",
    "importlib": "the backend of anyio, where a handler's process has loaded anyio",
    "functools": "partials are steps",
    "inspect": "signatures of handlers and steps",
    "itertools": "pages in turn",
    "logging": "a traceback where it happened, for whoever runs the program: none is in the record",
    "msgpack": "the one dependency",
    "re": "names, and what is cut out of messages",
    "sys": "the running frames",
    "types": "coroutines",
    "typing": "types",
    "weakref": "what must not be kept alive",
    "zlib": "crc32 of arguments",
}
"""Modules that the kernel may import anywhere, each with why."""


def imported() -> dict[str, set[str]]:
    """Top-level names that the kernel imports, with the files that do; conditional imports count."""
    found: dict[str, set[str]] = {}
    for path in KERNEL.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            for name in names:
                found.setdefault(name.split(".")[0], set()).add(str(path.relative_to(KERNEL)))
    return found


def test_the_kernel_imports_only_what_has_a_reason() -> None:
    """Read from the source, so that an import inside a function is found as well; and no reason outlives its import."""
    found = imported()
    assert {name: files for name, files in found.items() if name not in ALLOWED} == {}
    assert ALLOWED.keys() - found.keys() == set()


def test_importing_reads_neither_clock_nor_entropy() -> None:
    """Python Workers raise on entropy while a module is imported, and their clock says 1970."""
    program = (
        "import asyncio, msgpack, os, random, time, hashlib, inspect, dataclasses\n"
        "def refuse(*_, **__): raise SystemExit('read at import')\n"
        "os.urandom = time.time = time.time_ns = time.monotonic = random.random = random.getrandbits = refuse\n"
        "from alkaline_edge import *\n"
        "import alkaline_edge.replay, alkaline_edge.testing\n"
        "import alkaline_hosts.memory, alkaline_hosts.callbacks, alkaline_hosts.d1, alkaline_hosts.durable_object\n"
    )
    env = {"PYTHONPATH": f"{ROOT}:{HOSTS.parent}"}
    done = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_import_adds_no_module_without_a_reason() -> None:
    """What a first program loads beyond asyncio and msgpack, each with why it may."""
    justified = {
        "zlib": "crc32 of arguments; built into CPython and Pyodide",
        "hashlib": "sha256 of the chain", "_hashlib": "behind hashlib", "_blake2": "behind hashlib",
        "_sha1": "behind hashlib", "_sha2": "behind hashlib", "_sha3": "behind hashlib", "_md5": "behind hashlib",
        "_sha256": "behind hashlib", "_sha512": "behind hashlib",
        "dataclasses": "records; Pyodide has loaded it", "copy": "behind dataclasses",
        "datetime": "values", "_datetime": "behind datetime", "_strptime": "behind datetime",
        "gc": "finds what a suspended frame holds; built in", "__future__": "annotations",
        "atexit": "lets go of suspended handlers; built in",
    }  # fmt: skip
    program = (
        "import sys, asyncio, msgpack\nbefore = set(sys.modules)\n"
        "from alkaline_edge import Context, Runtime, workflow\n"
        "print(*sorted(n for n in set(sys.modules) - before if not n.startswith('alkaline_edge')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) - justified.keys() == set()


def test_each_public_name_is_imported_when_it_is_asked_for() -> None:
    """`import alkaline_edge` alone loads nothing more, and each name comes from where type checkers are told."""
    program = "import sys, alkaline_edge; print(*(n for n in sys.modules if n.startswith('alkaline_edge.')))"
    env = {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "\n"), done.stderr
    told = {
        name.name: node.module
        for node in ast.walk(ast.parse((KERNEL / "__init__.py").read_text()))
        if isinstance(node, ast.ImportFrom) and node.level
        for name in node.names
    }
    assert told == alkaline_edge._PLACE_OF
    assert sorted(told) == sorted(alkaline_edge.__all__)
    for name in told:
        assert getattr(getattr(alkaline_edge, name), "__name__", name) == name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        alkaline_edge.nothing  # type: ignore[attr-defined]  # noqa: B018  # that it is not there is the point
