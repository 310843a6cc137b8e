"""The JavaScript of this package, as values: each of its files is one expression.

A page whose Content-Security-Policy does not allow eval loads ``alkaline-edge.js`` of the distribution before, which
holds the same expressions as a script.
"""

from __future__ import annotations

from importlib import resources
from typing import Any

import js
from pyodide.code import run_js

from alkaline_edge.errors import StoreError

SCRIPT = "alkalineEdgeExpressions"
"""The global that ``alkaline-edge.js`` sets: an object of functions, by the names of the files."""


def expression(name: str) -> Any:
    """The value of the file ``name``.js."""
    shipped = getattr(js, SCRIPT, None)
    if shipped is not None:
        return getattr(shipped, name)()
    source = resources.files("alkaline_hosts._browser").joinpath(f"{name}.js").read_text("utf-8")
    try:
        return run_js(source)
    except Exception as error:
        if getattr(error, "name", "") != "EvalError":
            raise
        raise StoreError(
            "this page's Content-Security-Policy does not allow eval; load the distribution's alkaline-edge.js before "
            'Pyodide: <script src="dist/alkaline-edge.js"></script>, in a worker import "./dist/alkaline-edge.js"',
            reason="policy",
        ) from error
