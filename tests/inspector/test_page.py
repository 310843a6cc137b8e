"""The inspector as one file: it holds all that it needs, by a policy that lets nothing else run."""

from __future__ import annotations

import base64
import hashlib
import re
import subprocess
from pathlib import Path

import pytest

from alkaline_hosts._inspector.page import page
from tests.reader.asking import node

ROOM = Path(__file__).parents[2] / "hosts" / "alkaline_hosts" / "_inspector"
MODULES = sorted([*(ROOM / "page").glob("*.js"), *(ROOM / "reader").glob("*.js")])


def part(tag: str) -> str:
    """What stands in the page's one element of that name."""
    (found,) = re.findall(rf"<{tag}>(.*?)</{tag}>", page().html.decode(), re.S)
    return str(found)


def test_the_page_needs_nothing_but_itself() -> None:
    """No address, module or file beside it is asked for: it is opened from a disk, and offline."""
    html = page().html.decode()
    assert "import {" not in part("script")
    assert "export " not in re.sub(r"(//|\*).*", "", part("script"))
    assert re.findall(r"<(?:script|link|img|iframe)[^>]*(?:src|href)=\"?(?!data:,)[^\"> ]+", html) == []
    assert "<!-- policy -->" not in html
    assert len(html) < 250_000


def test_its_policy_lets_this_script_and_this_style_run_and_nothing_else() -> None:
    """By their digests, in the header and in the page itself: what a value holds can't become a program."""
    for tag, directive in (("script", "script-src"), ("style", "style-src")):
        digest = base64.b64encode(hashlib.sha256(part(tag).encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}'" in page().policy
    assert page().policy.startswith("default-src 'none'; ")
    assert "unsafe" not in page().policy
    assert page().policy.removesuffix("; frame-ancestors 'none'") in page().html.decode()


@pytest.mark.parametrize("words", ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "srcdoc"])
def test_no_module_makes_markup_of_a_text(words: str) -> None:
    """Values are texts: what could make elements of one is not used at all."""
    assert [path.name for path in MODULES if words in path.read_text()] == []


def test_the_script_is_one_that_node_takes(tmp_path: Path) -> None:
    """What was made of the modules parses, and so does each of them; every name that one imports is given."""
    script = tmp_path / "script.cjs"
    script.write_text(part("script"))
    check = subprocess.run([node(), "--check", str(script)], capture_output=True, text=True, timeout=60)
    assert check.returncode == 0, check.stderr
    for path in MODULES:
        for names, other in re.findall(r'^(?:import|export) \{([^}]*)\} from "([^"]+)";', path.read_text(), re.M):
            given = (path.parent / other).read_text()
            for name in filter(None, map(str.strip, names.split(","))):
                assert re.search(
                    rf"^export (?:(?:async )?(?:function\*?|class|const) {name}\b|\{{[^}}]*\b{name}\b)", given, re.M
                ), (path.name, name, other)


def test_a_control_character_is_written_as_its_number() -> None:
    """In the sources too: they are read by people."""
    for path in MODULES:
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\ufeff]", path.read_text()), path
