"""``alkaline-edge.js``: the JavaScript of the package as one script, for pages whose policy does not allow eval."""

from __future__ import annotations

from pathlib import Path

NAME = "alkaline-edge.js"
GLOBAL = "alkalineEdgeExpressions"
"""As ``alkaline_hosts._browser.expressions`` looks for it."""


def write(repository: Path, directory: Path) -> None:
    """Put the script into ``directory``. It works as a classic script, and as a module that is imported."""
    parts = [f"// The expressions of alkaline_hosts, by the names of their files.\nglobalThis.{GLOBAL} = {{"]
    for path in sorted((repository / "hosts" / "alkaline_hosts" / "_browser").glob("*.js")):
        parts.append(f"{path.stem}: () => (\n{path.read_text('utf-8').rstrip().removesuffix(';')}\n),")
    (directory / NAME).write_text("\n".join([*parts, "};", ""]), "utf-8")
