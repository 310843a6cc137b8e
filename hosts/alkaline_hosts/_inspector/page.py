"""``page``: the inspector as one file, made of its modules, its style and the reader. Pure but for reading these files.

A page that is opened from a disk may import no modules, so the one file holds them all: each as a function that gives
what it exports. That is all that is done to them, so what a browser runs is what the repository has.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import re
from importlib.resources import files
from typing import NamedTuple

_IMPORT = re.compile(r'^import \{([^}]*)\} from "([^"]+)";\n', re.M)
_PASSED_ON = re.compile(r'^export \{([^}]*)\} from "([^"]+)";\n', re.M)
_GIVEN = re.compile(r"^export \{([^}]*)\};\n", re.M)
_EXPORT = re.compile(r"^export (?=(?:async )?(?:function\*?|class|const) (\w+))", re.M)


class Page(NamedTuple):
    """The inspector: ``html``, and the Content-Security-Policy that it is served with."""

    html: bytes
    policy: str


@functools.cache
def page() -> Page:
    """The inspector, once for the process."""
    style = _read("page/style.css")
    script = f'"use strict";\n{_bundled("page/app.js")}'
    policy = (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; img-src data:; "
        "connect-src 'self' http: https:; base-uri 'none'; form-action 'none'"
    )
    html = _read("page/index.html")
    for mark, text in (
        ("<!-- policy -->", f'<meta http-equiv="Content-Security-Policy" content="{policy}">'),
        ("/* style */", style),
        ("/* script */", script),
    ):
        html = html.replace(mark, text)
    return Page(html.encode(), f"{policy}; frame-ancestors 'none'")


def _read(path: str) -> str:
    return files(__name__.rpartition(".")[0]).joinpath(path).read_text("utf-8")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _bundled(entry: str) -> str:
    """One script of ``entry`` and all that it imports, each behind what it imports itself."""
    done: dict[str, str] = {}

    def take(path: str) -> str:
        name = "m_" + re.sub(r"\W", "_", path.removesuffix(".js"))
        if path not in done:
            text, given = _read(path), list[str]()
            done[path] = ""  # two modules that import each other would find nothing there: a test would

            def passed_on(found: re.Match[str]) -> str:
                given.extend(_names(found[1]))
                return f"const {{ {found[1].strip()} }} = {take(_beside(path, found[2]))};\n"

            text = _PASSED_ON.sub(passed_on, text)
            text = _IMPORT.sub(lambda m: f"const {{ {m[1].strip()} }} = {take(_beside(path, m[2]))};\n", text)
            given += [name for found in _GIVEN.findall(text) for name in _names(found)]
            given += _EXPORT.findall(text)
            text = _EXPORT.sub("", _GIVEN.sub("", text))
            done.pop(path)
            done[path] = f"const {name} = (() => {{\n{text}return {{ {', '.join(given)} }};\n}})();\n"
        return name

    take(entry)
    script = "".join(done.values())
    if "</script" in script or "<!--" in script:
        raise AssertionError("a module holds what would end the script")
    return script


def _names(listed: str) -> list[str]:
    return [name.strip() for name in listed.split(",") if name.strip()]


def _beside(path: str, other: str) -> str:
    """The module that ``path`` means by ``other``."""
    folder = path.split("/")[:-1]
    for part in other.split("/"):
        if part == "..":
            folder.pop()
        elif part != ".":
            folder.append(part)
    return "/".join(folder)
