"""The modules that are linted together: which file an import means. Nothing is imported; what is meant is read."""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Callable, Sequence
from pathlib import PurePath

from .handlers import Judged, Source

_AGAIN = 4
"""So often a name may be passed on by a module that imports it itself."""


class Project:
    """The files that are linted. An import of a module that is none of them is not followed."""

    def __init__(self, files: Sequence[str], read: Callable[[str], bytes]) -> None:
        self._read = read
        packages = {str(PurePath(file).parent) for file in files if PurePath(file).name == "__init__.py"}
        self._modules: dict[tuple[str, str], str] = {}
        """By the folder that imports begin at, and the module's dotted name: its file."""
        self._names: dict[str, tuple[str, str]] = {}
        for file in files:
            place = self._names[file] = _placed(file, packages)
            self._modules[place] = file
        self._sources: dict[str, Source] = {}
        self._texts: dict[str, list[str]] = {}
        self._files: dict[Source, str] = {}

    def source(self, file: str) -> Source:
        """What stands in a file; SyntaxError, ValueError or RecursionError for what is no Python."""
        if file not in self._sources:
            data = self._read(file)
            tree = ast.parse(data)
            self._texts[file] = _lines(data)
            self._sources[file] = Source(tree, lambda dotted: self._called(file, dotted))
            self._files[self._sources[file]] = file
        return self._sources[file]

    def file_of(self, source: Source) -> str:
        """Where it stands."""
        return self._files[source]

    def lines(self, file: str) -> list[str]:
        """The lines of a file that was read."""
        return self._texts[file]

    def _called(self, file: str, dotted: str, again: int = _AGAIN) -> Judged | None:
        """The function that ``dotted`` stands for in ``file``: of another module of these, and not wrapped."""
        root, module = self._names[file]
        there = _absolute(dotted, module, PurePath(file).name == "__init__.py")
        of, _, name = there.rpartition(".")
        found = self._modules.get((root, of))
        if found is None or found == file:
            return None
        try:
            source = self.source(found)
        except (SyntaxError, ValueError, LookupError, RecursionError, MemoryError):
            return None  # it is a finding of its own
        if name in source.scope.imports and name not in source.scope.functions and again:
            return self._called(found, source.scope.imports[name], again - 1)
        return source.function(name)


def _placed(file: str, packages: set[str]) -> tuple[str, str]:
    """The folder that imports of a file begin at, and its dotted name from there."""
    path = PurePath(file)
    parts = [] if path.name == "__init__.py" else [path.stem]
    folder = path.parent
    while str(folder) in packages:
        parts.append(folder.name)
        folder = folder.parent
    return str(folder), ".".join(reversed(parts))


def _absolute(dotted: str, module: str, is_package: bool) -> str:
    """``..words.pick`` in ``app.flows.main`` is ``app.words.pick``."""
    level = len(dotted) - len(dotted.lstrip("."))
    if not level:
        return dotted
    around = module.split(".")[: None if is_package else -1] if module else []
    around = around[: len(around) - (level - 1)]
    return ".".join([*around, dotted[level:]])


def _lines(data: bytes) -> list[str]:
    encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
    return io.StringIO(data.decode(encoding), newline=None).read().split("\n")
