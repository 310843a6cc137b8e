"""The extractive summary: sentences out of the sources, scored against the question, each with its file and line."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TypedDict

from . import ranking
from .sources import TOPIC, Section

_ENDS = re.compile(r"(?<=[.!?])\s+(?=[A-Z(`\"'])")
_LIST_MARK = re.compile(r"^(\*|-|\d+[.)])\s+")
_HEADING = re.compile(r"^[-=~*#+_^]{3,}$")


class Quote(TypedDict):
    """One sentence of a source. ``place`` is how a reader finds it: file and line."""

    text: str
    place: str
    score: float


def sentences(section: Section) -> list[tuple[int, str]]:
    """The sentences of a section with the line on which each begins. Code, tables and headings are left out."""
    found: list[tuple[int, str]] = []
    paragraph: list[tuple[int, str]] = []
    previous = 0
    for number, line in (*section.lines, (0, "")):
        apart = not line or number != previous + 1 or _LIST_MARK.match(line) or _HEADING.match(line)
        if apart:
            found += _split(paragraph)
            paragraph = []
        if line and not _HEADING.match(line):
            paragraph.append((number, _LIST_MARK.sub("", line)))
        previous = number
    return found


def _split(paragraph: list[tuple[int, str]]) -> list[tuple[int, str]]:
    if any(line.startswith((">>>", "...", "$ ", "|", "+-")) for _, line in paragraph):
        return []
    text = " ".join(line for _, line in paragraph)
    found: list[tuple[int, str]] = []
    start = 0
    for part in _ENDS.split(text):
        at = text.index(part, start)
        start = at + len(part)
        if _reads_well(part):
            found.append((_line_at(paragraph, at), re.sub(r"\s+", " ", part).strip()))
    return found


def _line_at(paragraph: list[tuple[int, str]], offset: int) -> int:
    for number, line in paragraph:
        if offset <= len(line):
            return number
        offset -= len(line) + 1
    return paragraph[-1][0]


def _reads_well(text: str) -> bool:
    """A sentence of prose: of a common length, mostly letters, and it ends like one."""
    words = text.split()
    letters = sum(char.isalpha() or char.isspace() for char in text)
    return 6 <= len(words) <= 45 and letters >= 0.85 * len(text) and text[-1] in ".!?" and text[0].isupper()


def place(document: str, line: int) -> str:
    """``asyncio/tasks.py:703``, or ``help('with'), line 12`` for a topic."""
    if document.startswith(TOPIC):
        return f"help({document.removeprefix(TOPIC)!r}), line {line}"
    return f"{document}:{line}"


def quotes(document: str, section: Section, weight: dict[str, float], most: int) -> list[Quote]:
    """The ``most`` sentences of a section that touch the question most, at least one of its words each."""
    scored = [
        Quote(text=text, place=place(document, line), score=ranking.sentence_score(text, weight))
        for line, text in sentences(section)
    ]
    return best((quote for quote in scored if quote["score"] > 0), most)


def best(candidates: Iterable[Quote], most: int) -> list[Quote]:
    """The highest scores, leaving out a sentence that says what a better one said (half of its words, or more)."""
    chosen: list[Quote] = []
    said: list[set[str]] = []
    for quote in sorted(candidates, key=lambda quote: (-quote["score"], quote["place"])):
        words = set(ranking.terms(quote["text"]))
        if any(len(words & other) * 2 >= min(len(words), len(other)) for other in said):
            continue
        chosen.append(quote)
        said.append(words)
        if len(chosen) == most:
            break
    return chosen
