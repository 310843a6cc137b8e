"""Hooks of the site's build (`mkdocs.yml`): what stands elsewhere in the repository becomes a page; nothing is copied.

The navigation is that of `docs/pages.md`. README.md is the first page; SPEC.md and its neighbours, the examples'
READMEs, the reference (from docstrings) and the command line (from its commands) are pages of the build alone.
`llms.txt` and the Markdown of every page are written beside the HTML.
"""

from __future__ import annotations

import posixpath
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
sys.path[:0] = [str(ROOT), str(ROOT / "hosts"), str(Path(__file__).parent)]

import drawing  # noqa: E402  # beside this file, which mkdocs loads by its path
import reference  # noqa: E402

BESIDE = {name: ROOT / name for name in ("SPEC.md", "SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md")}
_SECTION = re.compile(r"^## (.+)$|^- \[([^\]]+)\]\(([^)]+)\):? ?(.*(?:\n  .*)*)", re.MULTILINE)
_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s#]*)(#[^)\s]*)?\)")
_CODE = re.compile(r"^(```|~~~).*?^\1", re.DOTALL | re.MULTILINE)


def sections() -> Iterator[tuple[str, list[tuple[str, str, str]]]]:
    """Of docs/pages.md: each section with its links, as text, page and what is said of it."""
    found: list[tuple[str, list[tuple[str, str, str]]]] = []
    for heading, text, page, said in _SECTION.findall((DOCS / "pages.md").read_text("utf-8")):
        if heading:
            found.append((heading, []))
        else:
            found[-1][1].append((text, place_of(page, DOCS), " ".join(said.split())))
    listed = {page for _, links in found for _, page, _ in links}
    left = [path for path in sorted(DOCS.glob("*.md")) if path.name not in listed | {"pages.md"}]
    if left:
        found.append(("More", [(title_of(path), path.name, "see its first lines") for path in left]))
    yield from found


def title_of(path: Path) -> str:
    """The heading of a page."""
    return path.read_text("utf-8").partition("\n")[0].lstrip("# ")


def place_of(link: str, folder: Path) -> str:
    """Where on the site a file of the repository is, which ``link`` names as seen from ``folder``; "" for nowhere."""
    path = (folder / link).resolve()
    if not path.exists():
        return ""
    name = path.relative_to(ROOT).as_posix()
    if name.startswith("docs/"):
        return name.removeprefix("docs/")
    if name == "README.md":
        return "index.md"
    if path.is_dir() and (path / "README.md").exists():
        name += "/README.md"
    return name.replace("/README.md", ".md") if name in BESIDE or name in examples() else ""


def examples() -> dict[str, Path]:
    """The README of each example."""
    return {path.relative_to(ROOT).as_posix(): path for path in sorted(ROOT.glob("examples/*/README.md"))}


def made() -> dict[str, str]:
    """The pages that exist in the build alone, by their places."""
    pages = {"index.md": (ROOT / "README.md").read_text("utf-8")}
    pages |= {name: path.read_text("utf-8") for name, path in BESIDE.items()}
    pages |= {name.replace("/README.md", ".md"): path.read_text("utf-8") for name, path in examples().items()}
    return pages | reference.pages()


def source_of(place: str) -> Path:
    """The folder that the links of a page are seen from."""
    if place == "index.md" or place in BESIDE:
        return ROOT
    if place.startswith("examples/"):
        return ROOT / place.removesuffix(".md")
    return (DOCS / place).parent


def on_config(config: MkDocsConfig) -> None:
    """The navigation: docs/pages.md, then what is made."""
    nav: list[Any] = [{"Overview": "index.md"}]
    nav += [{heading: [{text: page} for text, page, _ in links if page]} for heading, links in sections()]
    nav.append({"Reference": [{title: place} for place, title in reference.TITLES.items()]})
    nav.append({"All pages": "pages.md"})
    config.nav = nav


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Adds the pages that are made."""
    for place, text in made().items():
        files.append(File.generated(config, place, content=text))
    return files


def on_page_markdown(markdown: str, *, page: Any, config: MkDocsConfig, files: Files) -> str:
    """Links to files of the repository lead to their pages; to what has no page there is no link."""
    here = page.file.src_uri

    def moved(match: re.Match[str]) -> str:
        image, text, link, anchor = match[1], match[2], match[3], match[4] or ""
        if not link or re.match(r"[a-z]+:", link):
            return match[0]
        place = place_of(link, source_of(here))
        if place:
            return f"{image}[{text}]({posixpath.relpath(place, posixpath.dirname(here) or '.')}{anchor})"
        if (source_of(here) / link).exists():
            return text
        return match[0]

    parts, last = [], 0
    for block in _CODE.finditer(markdown):
        parts += [_LINK.sub(moved, markdown[last : block.start()]), drawing.shown(block[0])]
        last = block.end()
    return "".join([*parts, _LINK.sub(moved, markdown[last:])])


def on_post_build(*, config: MkDocsConfig) -> None:
    """llms.txt, and beside each page its Markdown."""
    site = Path(config.site_dir)
    for path in DOCS.glob("*.md"):
        shutil.copy(path, site / path.name)
    for place, text in made().items():
        if not place.startswith("reference/"):
            (site / place).parent.mkdir(parents=True, exist_ok=True)
            (site / place).write_text(text, "utf-8")
    opening = (ROOT / "README.md").read_text("utf-8").split("\n\n")[1]
    lines = ["# alkaline_edge", "", *(f"> {line}" for line in opening.splitlines()), ""]
    for heading, links in sections():
        lines += [f"## {heading}", "", *(f"- [{text}]({page}): {said}" for text, page, said in links if page), ""]
    (site / "llms.txt").write_text("\n".join(lines), "utf-8")
