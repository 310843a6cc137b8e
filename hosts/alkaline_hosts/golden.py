"""Golden histories: runs that were recorded once, kept in files, and must go on with the code of today."""

from __future__ import annotations

from collections.abc import Iterable
from os import PathLike
from pathlib import Path

from alkaline_edge import Codec, Workflow
from alkaline_edge.testing import assert_replays

__all__ = ["golden"]


def golden(
    file: str | PathLike[str],
    history: bytes,
    workflows: Workflow | Iterable[Workflow],
    *,
    update: bool = False,
    codec: Codec | None = None,
) -> None:
    """AssertionError unless ``workflows`` go on with the history in ``file``; what would mend them is said.

    With ``update``, ``history`` (a bundle, as ``Trial.history`` and ``Runtime.export`` give it) is written there first.
    A file that is not there is an AssertionError too: it has to be recorded once. ``codec``: that of the runtime which
    wrote it, where types are registered on it.
    """
    known = [workflows] if isinstance(workflows, Workflow) else list(workflows)
    path = Path(file)
    if update:
        assert_replays(history, known, codec)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(history)
    if not path.is_file():
        raise AssertionError(f"there is no golden history {path.name}: record it once (pytest --update-histories)")
    try:
        assert_replays(path.read_bytes(), known, codec)
    except AssertionError as error:
        raise AssertionError(f"{path.name}: {error}") from None
