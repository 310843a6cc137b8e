"""Applying mutants to a copy of the tree."""

from __future__ import annotations

from pathlib import Path

from .table import ROOT, Mutant

NOTICED = Path(__file__).with_name("noticed.txt")


def noticed() -> dict[str, str]:
    """The test that noticed each bug when all were last run, by the bug's words."""
    lines = NOTICED.read_text().splitlines() if NOTICED.exists() else []
    pairs = [line.rpartition(": ") for line in lines]
    return {words: test for words, _, test in pairs}


def mutated(mutant: Mutant, root: Path = ROOT) -> str:
    """Its file's text with the bug in it. ValueError where the table's text does not stand there once."""
    text = (root / mutant.path).read_text()
    found = text.count(mutant.old)
    if found != 1:
        raise ValueError(f"{mutant.words!r}: its text stands {found} times in {mutant.path}, and must once")
    changed = text.replace(mutant.old, mutant.new)
    if changed == text:
        raise ValueError(f"{mutant.words!r} changes nothing")
    compile(changed, mutant.path, "exec")
    return changed
