"""What suspended frames reach that nobody else holds: a small part of the garbage collector's work, at a chosen moment.

A generator may stand in a frame behind a context manager, a stack of them, a closure or an instance. Whether it goes
with the frame, or belongs to somebody else as well, is seen from the counts of references: one that is held from
outside of what was walked is not ours, nor is what it reaches.
"""

from __future__ import annotations

import gc
import sys
from collections import deque
from collections.abc import Container, Iterable
from types import (
    AsyncGeneratorType,
    BuiltinFunctionType,
    CodeType,
    CoroutineType,
    FunctionType,
    GeneratorType,
    ModuleType,
)
from typing import Any

__all__ = ["OWNERS", "WRAPPERS", "Reach", "suspended"]

OWNERS = (CoroutineType, GeneratorType, AsyncGeneratorType)
WRAPPERS = ("async_generator_asend", "async_generator_athrow", "coroutine_wrapper")
"""What stands between an ``await`` and its coroutine or generator; these types have no public names."""
OBJECTS = 1_000
"""As many are walked, nearest first."""
LARGE = 64
"""A list, dict or set with more than that holds data, and is not entered."""
_HOLDS_FRAMES = "alkaline_edge.machine.branches"
"""The one module of ours whose objects a handler's frame holds, and the user's coroutines with them."""
_CONTAINERS = (list, dict, set, tuple)
_NOT_ENTERED = (ModuleType, type, CodeType, BuiltinFunctionType, str, bytes, int, float)


def suspended(owner: Any) -> bool:
    """Whether a coroutine or generator stands somewhere in its code, or before it."""
    for prefix in ("cr", "gi", "ag"):
        if hasattr(owner, f"{prefix}_frame"):
            # ag_running is true of an async generator whose __anext__ is being awaited: it is suspended all the same.
            running = prefix != "ag" and getattr(owner, f"{prefix}_running")
            return getattr(owner, f"{prefix}_frame") is not None and not running
    return False


class Reach:
    """What is reached from ``roots`` and ``held``, which count as let go of."""

    def __init__(self, roots: Iterable[object], held: Iterable[object]) -> None:
        self._found: dict[int, Any] = {}
        self._from_inside: dict[int, int] = {}
        self._inside: dict[int, list[int]] = {}
        self._roots = {*map(id, roots), *map(id, held)}
        self.cut = False
        """Whether something was not walked."""
        self._walk(deque((*roots, *held)))

    def _walk(self, next: deque[Any]) -> None:
        found, counts = self._found, self._from_inside
        for one in next:
            found[id(one)] = one
        while next:
            one = next.popleft()
            inside = self._inside[id(one)] = []
            for inner in _referents(one):
                key = id(inner)
                if key not in found:
                    if not gc.is_tracked(inner) or _elsewhere(inner):
                        continue
                    if len(found) >= OBJECTS or (isinstance(inner, _CONTAINERS) and len(inner) > LARGE):
                        self.cut = True
                        continue
                    found[key] = inner
                    next.append(inner)
                counts[key] = counts.get(key, 0) + 1
                inside.append(key)

    def only_ours(self, besides: Container[int]) -> dict[int, Any]:
        """The suspended coroutines and generators that nobody else holds, by id, besides those that are known."""
        roots = self._roots
        for key, one in self._found.items():
            if isinstance(one, OWNERS) and key not in besides and key not in roots:
                break
        else:
            return {}
        del one  # it would count as one more that holds it
        alone = _count({0: []}, 0)
        others = [key for key in self._found if key not in roots and self._held_elsewhere(key, alone)]
        kept: set[int] = set()
        while others:
            key = others.pop()
            if key not in kept and key not in roots:
                kept.add(key)
                others += self._inside.get(key, ())
        return {
            key: one
            for key, one in self._found.items()
            if key not in kept and key not in roots and isinstance(one, OWNERS) and suspended(one)
        }

    def _held_elsewhere(self, key: int, alone: int) -> bool:
        return _count(self._found, key) - alone > self._from_inside.get(key, 0)


def _count(table: dict[int, Any], key: int) -> int:
    """References to what ``table`` has at ``key``, with those that asking takes."""
    return sys.getrefcount(table[key])


def _referents(one: Any) -> Iterable[Any]:
    if isinstance(one, FunctionType):  # its globals are everybody's
        return [part for part in (one.__closure__, one.__defaults__, one.__kwdefaults__) if part]
    return gc.get_referents(one)


def _elsewhere(one: Any) -> bool:
    """Whether ``one`` is part of the surroundings, and nothing that a frame takes along."""
    if isinstance(one, _NOT_ENTERED) or hasattr(type(one), "run_until_complete"):
        return True
    module: Any = type(one).__module__
    return (
        isinstance(module, str) and module.startswith("alkaline_edge.") and module != "alkaline_edge.machine.branches"
    )
