"""How the state of what processes share is stored: a map of its attributes, but for the store's version of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .errors import StoreError

if TYPE_CHECKING:
    from typing import TypeVar

    State = TypeVar("State")


def to_map(state: Any) -> dict[str, Any]:
    """What is stored of ``state``, a dataclass with slots, ``version_tag`` among them."""
    return {name: getattr(state, name) for name in state.__slots__ if name != "version_tag"}


def from_map(cls: type[State], values: Any, version_tag: str, damaged: str) -> State:
    """The ``cls`` of a stored map; what a newer version added is left out. ``version_tag``: the store's version of it.

    ERR_STORE, in the words of ``damaged``, for what is none.
    """
    try:
        made: Any = cls(**{name: values[name] for name in cls.__slots__ if name in values})  # type: ignore[attr-defined]
    except TypeError:
        raise StoreError(damaged) from None
    made.version_tag = version_tag
    return made  # type: ignore[no-any-return]
