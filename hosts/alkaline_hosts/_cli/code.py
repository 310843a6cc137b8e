"""The code that a command is told of: workflows and a codec, each as ``MODULE[:NAME]``."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from alkaline_edge import Codec, Workflow
from alkaline_edge.errors import InvalidInput

from .shell import showing


@contextlib.contextmanager
def current_directory() -> Iterator[None]:
    """Modules are found in the current directory too, also those that a handler imports when it is replayed."""
    sys.path.insert(0, "")
    try:
        yield
    finally:
        sys.path.remove("")


def _imported(option: str, name: str) -> Any:
    """What ``MODULE[:NAME]`` stands for."""
    module_name, _, attribute = name.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # user code is run by this: it may raise anything
        raise InvalidInput(
            f"{option} {name}: {module_name} can't be imported ({type(error).__name__}: {error})"
        ) from None
    for part in attribute.split(".") if attribute else ():
        if not hasattr(found, part):
            raise InvalidInput(f"{option} {name}: {module_name} has no {attribute!r}")
        found = getattr(found, part)
    return found


def workflows_of(name: str) -> list[Workflow]:
    """The workflows that ``MODULE[:NAME]`` stands for; ERR_INVALID_INPUT where it is none."""
    found = _imported("--workflows", name)
    if isinstance(found, Workflow):
        return [found]
    if ":" not in name:
        chosen = [value for value in vars(found).values() if isinstance(value, Workflow)]
    elif isinstance(found, (list, tuple, set, frozenset)):
        chosen = list(found)
    else:
        chosen = []
    if not chosen or not all(isinstance(value, Workflow) for value in chosen):
        raise InvalidInput(
            f"--workflows {name} is not a workflow or a list of them; decorate async functions with @workflow"
        )
    return list({id(value): value for value in chosen}.values())


def codec_of(name: str) -> Codec:
    """The Codec that ``MODULE:NAME`` stands for; ERR_INVALID_INPUT where it is none."""
    found = _imported("--codec", name)
    if not isinstance(found, Codec):
        raise InvalidInput(f"--codec {name} is a {type(found).__name__}, not a Codec")
    return found


def code_of(names: Sequence[str], codec: str | None) -> tuple[list[Workflow], Codec]:
    """What ``serve`` runs, and its codec: one that needs no classes where nothing is run."""
    with current_directory():
        known = [workflow for name in names for workflow in workflows_of(name)]
        return known, codec_of(codec) if codec is not None else Codec() if known else showing()
