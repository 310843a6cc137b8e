"""Writes pyodide_dev.capnp.bin, the Pyodide bundle that workerd would fetch from the network, from npm's ``pyodide``.

workerd reads the file when a Worker has the compatibility flag ``python_workers_development``. It is one Cap'n Proto
message: a root struct with one pointer, a list of modules. Each module is a struct of one data word (16 bits of type,
2 meaning internal, then 16 bits that say what the content is) and four pointers, of which name and content are used.
"""

from __future__ import annotations

import re
import struct
import sys
from pathlib import Path

WORD = 8
INTERNAL = 2
SOURCE, WASM, DATA = 0, 1, 2
MODULE_DATA_WORDS, MODULE_POINTERS = 1, 4
BYTE_LIST, COMPOSITE_LIST = 2, 7

# workerd forbids what these places do, and has functions of its own to put there; the bundle that it would fetch has
# been changed in the same way. Each: how often the place must be found, what to look for, what to put.
PATCHES = (
    (1, r"^async function _createPyodideModule\(", "export async function _createPyodideModule("),
    (1, r"export default _createPyodideModule;", ""),
    (4, r"new WebAssembly\.Module\(", "newWasmModule("),
    (2, r"WebAssembly\.instantiate\(", "wasmInstantiate("),
    (22, r"\bDate\.now\b", "monotonicDateNow"),
    (1, r"\bcrypto\.getRandomValues\(", "getRandomValues(Module,"),
    # A shared library is compiled from the read-only file system, by workerd itself.
    (
        1,
        r"function loadLibData\(\)\{",
        "function loadLibData(){var data=patchedLoadLibData(Module,libName,flags.rpath);"
        "return flags.loadAsync?Promise.resolve(data):data}function unusedLoadLibData(){",
    ),
    # A snapshot must find each shared library at the address where it was.
    (1, r"(?<![\w.])getMemory\(metadata\b", "Module.getMemoryPatched(Module,libName,metadata"),
    # run_sync leaves a frame on the Python thread that the garbage collector must not walk (pyodide#6466).
    (
        1,
        r"function saveState\(\)\{",
        "function saveState(){const saved=saveStateWithFrame();if(saved===Module.error)return saved;"
        "const at=(saved.threadState+52)/4;saved.currentFrame=HEAP32[at];HEAP32[at]=0;return saved}"
        "function saveStateWithFrame(){",
    ),
    (
        1,
        r"function restoreState\((\w+)\)\{",
        r"function restoreState(saved){restoreStateWithFrame(saved);"
        r"HEAP32[(saved.threadState+52)/4]=saved.currentFrame}function restoreStateWithFrame(\1){",
    ),
)
PRELUDE = (
    "import {newWasmModule,wasmInstantiate,monotonicDateNow,getRandomValues,patchedLoadLibData,"
    'addEventListener,location} from "pyodide-internal:builtin_wrappers";\n'
)


class BundleError(Exception):
    """The npm package is not the one that this builder was written for."""


def patched_source(source: str) -> str:
    """``pyodide.asm.mjs`` as workerd takes it; BundleError when a place that must be changed is not as expected."""
    for expected, pattern, replacement in PATCHES:
        source, count = re.subn(pattern, replacement, source)
        if count != expected:
            raise BundleError(f"pyodide.asm.mjs has {pattern!r} {count} times, not {expected}: is it pyodide 314.0.6?")
    return PRELUDE + source


def _padded(content: bytes) -> bytes:
    return content + bytes(-len(content) % WORD)


def _list_pointer(offset: int, kind: int, size: int) -> bytes:
    """A list pointer: ``offset`` in words from the end of the pointer, ``size`` elements (words for composites)."""
    return struct.pack("<iI", offset << 2 | 1, size << 3 | kind)


def _struct_pointer(offset: int, data_words: int, pointers: int) -> bytes:
    return struct.pack("<iHH", offset << 2, data_words, pointers)


def encode(modules: list[tuple[str, int, bytes]]) -> bytes:
    """The message for ``modules``, each a name, a kind of content (SOURCE, WASM, DATA) and the content."""
    module_words = MODULE_DATA_WORDS + MODULE_POINTERS
    tag = struct.pack("<iHH", len(modules) << 2, MODULE_DATA_WORDS, MODULE_POINTERS)
    head = [
        _struct_pointer(0, 0, 1),
        _list_pointer(0, COMPOSITE_LIST, len(modules) * module_words),
        tag,
    ]
    structs: list[bytes] = []
    tail: list[bytes] = []
    tail_words = 0
    structs_end = len(modules) * module_words
    for index, (name, kind, content) in enumerate(modules):
        structs.append(struct.pack("<HHI", INTERNAL, kind, 0))
        for slot, blob in enumerate((name.encode() + b"\0", content)):
            pointer_end = index * module_words + MODULE_DATA_WORDS + slot + 1
            structs.append(_list_pointer(structs_end + tail_words - pointer_end, BYTE_LIST, len(blob)))
            tail.append(_padded(blob))
            tail_words += len(tail[-1]) // WORD
        structs.append(bytes(WORD * (MODULE_POINTERS - 2)))
    body = b"".join([*head, *structs, *tail])
    return struct.pack("<II", 0, len(body) // WORD) + body


def build(pyodide: Path, target: Path) -> None:
    """Write ``target`` from the npm package's directory ``pyodide``."""
    source = patched_source((pyodide / "pyodide.asm.mjs").read_text())
    message = encode(
        [
            ("pyodideRuntime-internal:pyodide.asm", SOURCE, source.encode()),
            ("pyodideRuntime-internal:pyodide.asm.wasm", WASM, (pyodide / "pyodide.asm.wasm").read_bytes()),
            ("pyodideRuntime-internal:python_stdlib.zip", DATA, (pyodide / "python_stdlib.zip").read_bytes()),
        ]
    )
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(message)


if __name__ == "__main__":
    build(Path(sys.argv[1]), Path(sys.argv[2]))
