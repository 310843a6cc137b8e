"""The site: built strictly, linked right, with nothing from elsewhere, and with all that a reader may look for."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.test_surface import DOORS

ROOT = Path(__file__).parents[1]


class Page(HTMLParser):
    """What a page links to, loads, and can be linked at."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.links: set[str] = set()
        self.loads: set[str] = set()
        self.anchors: set[str] = set()
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Remember what matters of it."""
        found = {name: value or "" for name, value in attrs}
        self.anchors |= {found[name] for name in ("id", "name") if name in found}
        if tag == "a" and "href" in found:
            self.links.add(found["href"])
        elif tag in ("link", "script", "img") and found.get("rel") != "canonical":
            self.loads |= {found[name] for name in ("src", "href") if name in found}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site as `make docs` builds it."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    """Each page of it, read."""
    return {path: Page(path) for path in site.rglob("*.html") if path.name != "404.html"}


def targets(page: Page, links: set[str]) -> Iterator[tuple[str, Path, str]]:
    """Of what a page names: the file of this site and the place in it."""
    for link in links:
        parts = urlsplit(link)
        if not parts.scheme:
            path = (page.path.parent / unquote(parts.path)).resolve() if parts.path else page.path
            yield link, path / "index.html" if path.is_dir() else path, unquote(parts.fragment)


def test_every_link_leads_somewhere(pages: dict[Path, Page]) -> None:
    """To a file of the site, and to a heading that is in it."""
    broken = [
        f"{page.path.name}: {link}"
        for page in pages.values()
        for link, path, anchor in targets(page, page.links)
        if not path.exists() or (anchor and path in pages and anchor not in pages[path].anchors and anchor != "__top")
    ]
    assert broken == []


def test_a_page_loads_nothing_from_elsewhere(pages: dict[Path, Page]) -> None:
    """Styles, scripts and pictures are files of the site."""
    for page in pages.values():
        assert not [link for link in page.loads if re.match(r"([a-z]+:)?//", link)], page.path.name
        assert all(path.exists() for _, path, _ in targets(page, page.loads)), page.path.name


def test_nothing_is_left_for_a_browser_to_fetch(site: Path, pages: dict[Path, Page]) -> None:
    """Diagrams are pictures (for text, Material's script would fetch a renderer), and styles name no other origin."""
    for path in pages:
        assert not re.search(r'class="(?:[^"]* )?mermaid[ "]', path.read_text("utf-8")), path.name
    drawn = {f"drawn/{path.name}" for path in (site / "drawn").glob("*.svg")}
    loaded = {link for page in pages.values() for link in page.loads if link.startswith("drawn/")}
    assert loaded == drawn != set()
    outside = re.compile(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//")
    for path in [*site.rglob("*.css"), *(site / "drawn").glob("*.svg")]:
        assert not outside.search(path.read_text("utf-8")), path.name


def test_every_public_name_is_in_the_reference(site: Path, pages: dict[Path, Page]) -> None:
    """Of every module that is a door: each name of `__all__` has a heading of its own."""
    for door in DOORS:
        page = pages[site / "reference" / f"{door}.html"]
        module = __import__(door, fromlist=["__all__"])
        documented = {name for name in module.__all__ if getattr(getattr(module, name), "__doc__", None)}
        assert {f"{door}.{name}" for name in documented if not name.startswith("_")} <= page.anchors


def test_every_command_is_in_the_reference(site: Path) -> None:
    """As its --help shows it."""
    from alkaline_hosts._cli.commands import alkaline

    text = (site / "reference" / "command_line.html").read_text("utf-8")
    for name in alkaline.commands:
        assert f">{name}<" in text or f"alkaline {name}" in text, name


def test_llms_txt_leads_to_the_markdown_of_every_page(site: Path) -> None:
    """Each of its links is a file of the site, and each page of docs/ is among them."""
    text = (site / "llms.txt").read_text("utf-8")
    links = re.findall(r"^- \[[^\]]+\]\(([^)]+)\): \S", text, re.MULTILINE)
    assert all((site / link).is_file() for link in links)
    assert {path.name for path in (ROOT / "docs").glob("*.md")} - {"pages.md"} <= set(links)
    assert len(links) == len(set(links)), "a page is listed twice"
