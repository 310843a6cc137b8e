"""docs/performance.md: `make bench ARGS=--page` writes its table, and that alone."""

from __future__ import annotations

from tests.benchmarks.bench import PAGE, with_table

FIGURE = {"what": "a figure of a test", "figure": "1 / 2 = 0.50", "target": "<= 1", "met": True}


def test_bench_writes_the_table_and_leaves_the_rest() -> None:
    """Twice the same figures are the same page; other figures take their place."""
    page = PAGE.read_text("utf-8")
    once = with_table(page, "CPython 3", [FIGURE])
    assert "| a figure of a test | 1 / 2 = 0.50 | <= 1 |" in once
    assert with_table(once, "CPython 3", [FIGURE]) == once
    assert "a figure of a test" not in with_table(once, "CPython 3", [FIGURE | {"what": "another"}])
    opening, ending = page.partition("<!--")[0], page.rpartition("-->")[2]
    assert once.startswith(opening)
    assert once.endswith(ending)


def test_the_page_has_what_was_measured() -> None:
    """The table that stands there was written by a run."""
    text = PAGE.read_text("utf-8")
    assert "Measured with CPython" in text
    assert text.count("\n| ") >= 15
