"""What suspended frames reach that nobody else holds: a small part of the garbage collector's work, at a chosen moment.

A generator may stand in a frame behind a context manager, a stack of them, a closure or an instance. Whether it goes
with the frame, or belongs to somebody else as well, is seen from the counts of references: one that is held from
outside of what was walked is not ours, nor is what it reaches.

What is met here is anybody's. It is asked by its type alone, and the type by what ``type`` keeps of it: ``isinstance``,
``len``, ``hasattr`` and a look into a dict by the type itself would run code of its class, which may raise.
"""

from __future__ import annotations

import gc
import sys
from collections import deque
from collections.abc import Container, Iterable, Sized
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

__all__ = ["OWNERS", "WRAPPERS", "Reach", "owns", "suspended"]

OWNERS = (CoroutineType, GeneratorType, AsyncGeneratorType)
WRAPPERS = ("async_generator_asend", "async_generator_athrow", "coroutine_wrapper")
"""What stands between an ``await`` and its coroutine or generator; these types have no public names."""
OBJECTS = 4_000
"""As many are walked, nearest to a suspended frame first. An agent's run reaches some two thousand."""
LARGE = 64
"""A list, dict or set with more than that holds data, and is not entered."""
_HOLDS_FRAMES = "alkaline_edge.machine.branches"
"""The one module of ours whose objects a handler's frame holds, and the user's coroutines with them."""
_CONTAINERS: tuple[type[Sized], ...] = (list, dict, set, tuple)
_EXACT = frozenset(map(id, _CONTAINERS))
_NOT_ENTERED = (ModuleType, type, CodeType, BuiltinFunctionType, str, bytes, int, float)
_OWNERS = frozenset(map(id, OWNERS))
_PLAIN = frozenset(id(kind) for kind in (*_NOT_ENTERED, bool, type(None)))


def owns(one: object) -> bool:
    """Whether that is a coroutine or generator."""
    return issubclass(type(one), OWNERS)


def suspended(owner: Any) -> bool:
    """Whether a coroutine or generator stands somewhere in its code, or before it."""
    for prefix in ("cr", "gi", "ag"):
        if hasattr(owner, f"{prefix}_frame"):
            # ag_running is true of an async generator whose __anext__ is being awaited: it is suspended all the same.
            running = prefix != "ag" and getattr(owner, f"{prefix}_running")
            return getattr(owner, f"{prefix}_frame") is not None and not running
    return False


class Reach:
    """What is reached from ``roots`` and ``held``, which count as let go of.

    ``awaited`` are the frames that the roots stand at, however deep: what they hold is as near as what the roots hold.
    The list is emptied, so that it holds nothing when references are counted.
    """

    def __init__(self, roots: Iterable[object], held: Iterable[object], awaited: list[Any]) -> None:
        self._found: dict[int, Any] = {}
        self._from_inside: dict[int, int] = {}
        self._inside: dict[int, list[int]] = {}
        self._roots = {*map(id, roots), *map(id, held)}
        self.cut = False
        """Whether something was not walked."""
        self._owners: list[int] = []
        first = {id(one): one for one in (*roots, *awaited, *held)}  # each is walked once, and counted once
        awaited.clear()
        next = deque(first.values())
        first.clear()
        self._walk(next)

    def _walk(self, next: deque[Any]) -> None:
        found, counts = self._found, self._from_inside
        tracked, get_referents = gc.is_tracked, gc.get_referents
        elsewhere: dict[int, bool] = {}  # of the user's classes, for this walk alone: another may get the address
        for one in next:
            found[id(one)] = one
        while next:
            one = next.popleft()
            inside = self._inside[id(one)] = []
            for inner in _parts(one) if type(one) is FunctionType else get_referents(one):
                key = id(inner)
                if key not in found:
                    kind = type(inner)
                    kind_id = id(kind)
                    if kind_id in _PLAIN:
                        continue
                    known = _known.get(kind_id)
                    if known is None:
                        known = elsewhere.get(kind_id)
                        if known is None:
                            known = elsewhere[kind_id] = _elsewhere(kind)
                    if known or not tracked(inner):
                        continue
                    if kind is FunctionType and not _parts(inner):
                        continue
                    if len(found) >= OBJECTS or (len(inner) if kind_id in _EXACT else _length(inner)) > LARGE:
                        self.cut = True
                        continue
                    if kind_id in _OWNERS:
                        self._owners.append(key)
                    found[key] = inner
                    next.append(inner)
                counts[key] = counts.get(key, 0) + 1
                inside.append(key)

    def only_ours(self, besides: Container[int]) -> dict[int, Any]:
        """The suspended coroutines and generators that nobody else holds, by id, besides those that are known."""
        roots = self._roots
        if all(key in besides for key in self._owners):
            return {}
        alone = _count({0: []}, 0)
        others = [key for key in self._found if key not in roots and self._held_elsewhere(key, alone)]
        kept: set[int] = set()
        while others:
            key = others.pop()
            if key not in kept and key not in roots:
                kept.add(key)
                others += self._inside.get(key, ())
        return {key: self._found[key] for key in self._owners if key not in kept and suspended(self._found[key])}

    def _held_elsewhere(self, key: int, alone: int) -> bool:
        return _count(self._found, key) - alone > self._from_inside.get(key, 0)


def _count(table: dict[int, Any], key: int) -> int:
    """References to what ``table`` has at ``key``, with those that asking takes."""
    return sys.getrefcount(table[key])


def _parts(one: FunctionType) -> Iterable[Any]:
    """What a function holds but for its globals, which are everybody's."""
    return [part for part in (one.__closure__, one.__defaults__, one.__kwdefaults__) if part]


def _length(one: Any) -> int:
    """The length of a subclass of a container, without its own ``__len__``; what is none has none."""
    for base in _CONTAINERS:
        if issubclass(type(one), base):
            return base.__len__(one)
    return 0


_HEAP_TYPE = 1 << 9
_known: dict[int, bool] = {}
"""What ``_elsewhere`` has said of types that live as long as the process."""
_FLAGS, _MRO, _DICT = (vars(type)[name] for name in ("__flags__", "__mro__", "__dict__"))


def _elsewhere(kind: type) -> bool:
    """Whether what is of that type is part of the surroundings, and nothing that a frame takes along."""
    module = _DICT.__get__(kind).get("__module__")  # none of a built-in type
    ours = type(module) is str and module.startswith("alkaline_edge.")
    loop = any("run_until_complete" in _DICT.__get__(base) for base in _MRO.__get__(kind))
    found = issubclass(kind, _NOT_ENTERED) or loop or (ours and module != _HOLDS_FRAMES)
    if ours or not _FLAGS.__get__(kind) & _HEAP_TYPE:
        _known[id(kind)] = found
    return found
