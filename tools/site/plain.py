"""Docstrings are plain text with literals; what they mark as Python's documentation tools do is made Markdown."""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension, Object

_CODE_FOLLOWS = re.compile(r"::\n\n(?=    )")


class PlainDocstrings(Extension):
    """``::`` before an indented block is a colon; the block is code in Markdown anyway."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Of every module, class, function and field."""
        if obj.docstring is not None:
            obj.docstring.value = _CODE_FOLLOWS.sub(":\n\n", obj.docstring.value)
