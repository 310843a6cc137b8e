"""The diagrams of docs/, drawn: a browser would have to load a renderer from elsewhere.

GitHub draws a `mermaid` block itself; the site shows the picture in docs/drawn/ that is named by the block's digest.
Without one the strict build fails: `pip install mermaidx`, then `python tools/site/drawing.py` draws what is missing.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs"
_DIAGRAM = re.compile(r"^```mermaid\n(.*?)^```", re.DOTALL | re.MULTILINE)


def drawn(text: str) -> str:
    """Where in docs/ the picture of a diagram is."""
    return f"drawn/{hashlib.sha256(text.encode()).hexdigest()[:12]}.svg"


def shown(block: str) -> str:
    """A fenced block of a page of docs/ as the site has it: a diagram is its picture."""
    return _DIAGRAM.sub(lambda match: f"![A diagram]({drawn(match[1])})", block)


def diagrams() -> dict[str, str]:
    """The text of every diagram by its picture's place."""
    found = [text for path in sorted(DOCS.glob("*.md")) for text in _DIAGRAM.findall(path.read_text("utf-8"))]
    return {drawn(text): text for text in found}


def main() -> None:
    """Draw what is missing, and remove the pictures of what is no longer there."""
    import mermaidx  # type: ignore[import-not-found,unused-ignore]  # of whoever draws alone

    wanted = diagrams()
    for path in (DOCS / "drawn").glob("*.svg"):
        if f"drawn/{path.name}" not in wanted:
            path.unlink()
    for place, text in wanted.items():
        if not (DOCS / place).exists():
            (DOCS / place).parent.mkdir(exist_ok=True)
            (DOCS / place).write_text(mermaidx.render(text).svg() + "\n", "utf-8")


if __name__ == "__main__":
    main()
