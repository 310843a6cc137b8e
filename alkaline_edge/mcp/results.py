"""What a tool returned, as it is recorded: bounded, and tagged as data that nobody here vouches for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["MAX_BLOCKS", "MAX_RESULT", "Unfit", "fitted", "tagged", "text_of"]

MAX_RESULT = 256 * 1024
"""Bytes of one result, about as JSON; what is over it is cut or left out, and the result says so."""
MAX_BLOCKS = 1_000
"""Blocks of content in one result."""
_LEVELS = 32


class Unfit(Exception):
    """The value is larger than what is left, nested too deep, or nothing that JSON has."""


def tagged(raw: Any, tool: str, server: str, most: int = MAX_RESULT) -> dict[str, Any]:
    """``raw``, which a client's ``call_tool`` gave, as a map: untrusted, server, tool, is_error, content, structured,
    truncated."""
    plain = raw.model_dump(by_alias=True, mode="json", exclude_none=True) if hasattr(raw, "model_dump") else raw
    if not isinstance(plain, Mapping):
        plain = {"content": [{"type": "text", "text": plain}] if isinstance(plain, str) else plain}
    room = [most]
    truncated = False
    blocks = plain.get("content")
    if not isinstance(blocks, list):  # of a client of another make: whatever it is, it is data
        blocks = [{"type": "json", "value": blocks}] if blocks is not None else []
    content: list[Any] = []
    for block in blocks[:MAX_BLOCKS]:
        kept, whole = _block(block, room)
        content.append(kept)
        truncated = truncated or not whole
    structured = plain.get("structuredContent")
    try:
        structured = fitted(structured, room)
    except Unfit:
        structured, truncated = None, True
    return {
        "untrusted": True,
        "server": server,
        "tool": tool,
        "is_error": bool(plain.get("isError", False)),
        "content": content,
        "structured": structured,
        "truncated": truncated or len(blocks) > MAX_BLOCKS,
    }


def text_of(result: Mapping[str, Any]) -> str:
    """The text in a result of ``durable_tool``. It is the server's: data for a model, never its instructions."""
    return "\n".join(block["text"] for block in result["content"] if isinstance(block.get("text"), str))


def _block(block: Any, room: list[int]) -> tuple[dict[str, Any], bool]:
    """One block of content within what is left of ``room``, and whether that is all of it."""
    if not isinstance(block, Mapping):
        block = {"type": "json", "value": block}
    text = block.get("text")
    if block.get("type") == "text" and isinstance(text, str):
        raw = text.encode("utf-8", "replace") if len(text) <= room[0] else text[: room[0]].encode("utf-8", "replace")
        kept = raw[: room[0]].decode("utf-8", "ignore")
        room[0] -= min(len(raw), room[0])
        whole = len(text) == len(kept)
        return {"type": "text", "text": kept} | ({} if whole else {"cut_from": len(text)}), whole
    try:
        fit: dict[str, Any] = fitted(dict(block), room)
        return fit, True
    except Unfit:
        kind = block.get("type")
        return {"type": kind[:64] if isinstance(kind, str) else "unknown", "left_out": True}, False


def fitted(value: Any, room: list[int]) -> Any:
    """A copy of a JSON value, which takes what it is long from ``room``. Unfit where there is not so much left."""
    left = room[0]
    copied, left = _copied(value, left, _LEVELS)
    room[0] = left
    return copied


def _copied(value: Any, left: int, levels: int) -> tuple[Any, int]:
    if value is None or isinstance(value, (bool, float)):
        return value, _less(left, 8)
    if isinstance(value, int):
        return value, _less(left, 8 + value.bit_length() // 8)
    if isinstance(value, str):
        _less(left, len(value))  # before the whole of it is copied
        raw = value.encode("utf-8", "replace")
        return raw.decode(), _less(left, len(raw) + 2)
    if not levels:
        raise Unfit
    left = _less(left, 2)
    if isinstance(value, Mapping):
        pairs: dict[str, Any] = {}
        for key, inner in value.items():
            name, left = _copied(str(key), left, levels)
            pairs[name], left = _copied(inner, left, levels - 1)
        return pairs, left
    if isinstance(value, (list, tuple)):
        items: list[Any] = []
        for inner in value:
            item, left = _copied(inner, left, levels - 1)
            items.append(item)
        return items, left
    raise Unfit


def _less(left: int, size: int) -> int:
    if size > left:
        raise Unfit
    return left - size
