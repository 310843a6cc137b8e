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
    "cronsim": "cron expressions: an extra, imported when one is read",
    "contextvars": "each task of a handler has a context",
    "dataclasses": "classes that hold values",
    "datetime": "values",
    "gc": "finds what a suspended frame holds",
    "hashlib": "sha256 of the chain",
    "importlib": "the backend of anyio, where a process has loaded anyio; the host of a Runtime without one",
    "functools": "partials are steps",
    "inspect": "signatures of handlers and steps",
    "itertools": "pages in turn",
    "logging": "a traceback where it happened, for whoever runs the program: none is in the record",
    "msgpack": "the one dependency",
    "opcode": "whether an instruction raises by itself, or a signal came at it",
    "operator": "many fields of a record in one call; collections has loaded it",
    "re": "names, and what is cut out of messages",
    "signal": "whose signal handler raised; nothing is set",
    "sys": "the running frames",
    "types": "coroutines",
    "typing": "types",
    "typing_extensions": "type variables with defaults: for type checkers, which bring it along, alone",
    "weakref": "what must not be kept alive",
    "zlib": "crc32 of arguments",
    "zoneinfo": "time zones of schedules: imported when one is named",
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
        "import sys, asyncio, msgpack, re\nbefore = set(sys.modules)\ncompile, patterns = re.compile, []\n"
        "def noted(*given):\n patterns.append(sys._getframe(1).f_globals['__name__'])\n return compile(*given)\n"
        "re.compile = noted\n"
        "from alkaline_edge import Context, Runtime, workflow\n"
        "print(*sorted(n for n in set(sys.modules) - before if not n.startswith('alkaline_edge')))\n"
        "print(*sorted(n for n in patterns if n.startswith('alkaline_edge')))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    others, patterns = done.stdout.splitlines()
    assert set(others.split()) - justified.keys() == set()
    assert patterns == "", "compiled at import, which costs more than a module: compile it when it is first needed"


MODULES, CLASSES = 69, 161
"""What importing the names of a first program loads of the kernel, and makes: that is what the import costs."""
FIRST_PROGRAM = """
import asyncio, builtins, sys

make, made = builtins.__build_class__, []

def noted(body, *given, **named):
    made.append(body.__globals__.get("__name__", ""))
    return make(body, *given, **named)

def loaded():
    return {name for name in sys.modules if name.startswith("alkaline_edge")}

builtins.__build_class__ = noted
from alkaline_edge import Context, Runtime, workflow
first, classes = loaded(), sum(name.startswith("alkaline_edge") for name in made)
from alkaline_hosts.memory import MemoryHost

async def double(n):
    return 2 * n

@workflow
async def hello(ctx: Context, n):
    return await ctx.step("double", double, n)

async def main():
    async with Runtime(MemoryHost(), workflows=[hello]) as runtime:
        return await (await runtime.start("hello", 3)).result()

assert asyncio.run(main()) == 6
print(len(first), classes, *sorted(loaded() - first))
"""


def test_a_first_program_loads_little_and_its_run_loads_nothing_more() -> None:
    """Its modules and classes are counted, since each costs the start of a page; what few programs use comes later."""
    env = {"PYTHONPATH": f"{ROOT}:{HOSTS.parent}"}
    command = [sys.executable, "-c", FIRST_PROGRAM]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    modules, classes, *later = done.stdout.split()
    assert later == [], "the import leaves out what every program needs"
    assert int(modules) <= MODULES, f"{modules} modules: import on its first use what a first program does without"
    assert int(classes) <= CLASSES, f"{classes} classes"


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
