"""The report, as Markdown. Nothing in it depends on when or how often the agent was interrupted."""

from __future__ import annotations

from collections.abc import Sequence

from .condense import Quote
from .steps import Summary


def compose(
    question: str,
    answer: Summary,
    parts: Sequence[tuple[str, Summary]],
    model_name: str | None,
    facts: Sequence[tuple[str, str]],
) -> str:
    """The whole text. ``parts`` are the documents with what they contribute, ``facts`` go to the end."""
    by = (
        "Local extractive summary: the sentences below are quoted from the sources, and no model was called."
        if model_name is None
        else f"Condensed by the model {model_name} from the sentences quoted below; its words are not checked."
    )
    lines = [f"# {question}", "", by, "", "## In short", ""]
    if answer["text"]:
        lines += [answer["text"], ""]
    lines += [*_quoted(answer["quotes"]), "", "## Source by source", ""]
    for document, summary in parts:
        lines += [f"### {document}", ""]
        if summary["text"]:
            lines += [summary["text"], ""]
        lines += [*_quoted(summary["quotes"]), ""]
    lines += ["## How this was made", ""]
    lines += [f"- {name}: {value}" for name, value in facts]
    return "\n".join(lines) + "\n"


def _quoted(quotes: Sequence[Quote]) -> list[str]:
    if not quotes:
        return ["Nothing that touches the question was found."]
    return [f"- {quote['text']} ({quote['place']})" for quote in quotes]
