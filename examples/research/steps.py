"""The steps of the agent: everything it does to the outside. The workflow itself only decides what comes next.

What a step returns is recorded, so each returns little: scores, places and sentences, never a file.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

from alkaline_edge import StepInfo

from . import condense, model, ranking, sources
from .condense import Quote
from .effects import Conduct, effect

_MODULE_INSTRUCTION = (
    "You are given sentences quoted from one file of the Python standard library, each with its place in brackets. "
    "In at most three sentences, say what they contribute to the question. Keep the places of what you use. "
    "Say nothing that the quotes do not say."
)
_ANSWER_INSTRUCTION = (
    "You are given notes on files of the Python standard library, with places in brackets. Answer the question from "
    "them in at most 150 words, keeping the places. Say what the notes leave open."
)


class Counted(TypedDict):
    """A document that holds a word of the question: its length in terms, and how often it has each."""

    document: str
    length: int
    found: dict[str, int]


class Shard(TypedDict):
    """What an indexing step found."""

    documents: int
    length: int
    counted: list[Counted]


class Ranking(TypedDict):
    """The weight of each term of the question, and the documents that matter, best first."""

    weight: dict[str, float]
    best: list[tuple[str, float]]


class Outline(TypedDict):
    """The sections of a document worth reading, each with its score, and the tokens that looking cost."""

    sections: list[tuple[str, float]]
    tokens: int


class Reading(TypedDict):
    """What one section says about the question."""

    quotes: list[Quote]
    tokens: int


class Summary(TypedDict):
    """A document, or all of them, condensed. ``text`` is empty where no model was asked."""

    text: str
    quotes: list[Quote]
    tokens: int


async def survey(conduct: Conduct, info: StepInfo) -> list[str]:
    """Every document there is."""
    async with effect(info, conduct):
        return sources.documents()


async def index(documents: Sequence[str], wanted: Sequence[str], conduct: Conduct, info: StepInfo) -> Shard:
    """Count the question's terms in a share of the documents. The words of a path count three times."""
    async with effect(info, conduct):
        shard = Shard(documents=len(documents), length=0, counted=[])
        for document in documents:
            path = document.removesuffix(".py").replace("/", " ").replace(sources.TOPIC, "")
            length, found = ranking.count(f"{path} {path} {path} {sources.prose(document)}", wanted)
            shard["length"] += length
            if found:
                shard["counted"].append(Counted(document=document, length=length, found=found))
        return shard


async def rank(shards: Sequence[Shard], wanted: Sequence[str], most: int, conduct: Conduct, info: StepInfo) -> Ranking:
    """Put the shards together: BM25 of every document, and the ``most`` best."""
    async with effect(info, conduct):
        total = sum(shard["documents"] for shard in shards)
        average = sum(shard["length"] for shard in shards) / max(1, total)
        counted = [one for shard in shards for one in shard["counted"]]
        holding = {term: sum(term in one["found"] for one in counted) for term in wanted}
        weight = ranking.weights(wanted, total, holding)
        scored = [(one["document"], ranking.score(one["length"], one["found"], weight, average)) for one in counted]
        return Ranking(weight=weight, best=sorted(scored, key=lambda pair: (-pair[1], pair[0]))[:most])


async def outline(document: str, weight: dict[str, float], conduct: Conduct, info: StepInfo) -> Outline:
    """Score the sections of a document: BM25 with this document's own average length."""
    async with effect(info, conduct):
        found = sources.sections(document)
        counted = [(section.name, *ranking.count(f"{section.name} {section.text}", list(weight))) for section in found]
        average = sum(length for _, length, _ in counted) / max(1, len(counted))
        best: dict[str, float] = {}
        for name, length, terms in counted:
            if terms:  # one name may be defined twice, in two branches of an `if`: the better one counts
                best[name] = max(best.get(name, 0.0), ranking.score(length, terms, weight, average))
        return Outline(
            sections=sorted(best.items(), key=lambda pair: (-pair[1], pair[0])),
            tokens=ranking.tokens_of(section.name for section in found),
        )


async def read(document: str, name: str, weight: dict[str, float], conduct: Conduct, info: StepInfo) -> Reading:
    """Read one section: its sentences that touch the question, at most three. Tokens are those of the whole text."""
    async with effect(info, conduct):
        found = [section for section in sources.sections(document) if section.name == name]
        quotes = [quote for section in found for quote in condense.quotes(document, section, weight, 3)]
        return Reading(quotes=quotes, tokens=ranking.tokens_of(section.text for section in found))


async def summarize(
    document: str, quotes: Sequence[Quote], question: str, model_name: str | None, conduct: Conduct, info: StepInfo
) -> Summary:
    """Condense what was read of one document: its four best sentences, and a model's words where there is one."""
    async with effect(info, conduct):
        chosen = condense.best(quotes, 4)
        if model_name is None or not chosen:
            return Summary(text="", quotes=chosen, tokens=ranking.tokens_of(quote["text"] for quote in chosen))
        told = f"Question: {question}\nFile: {document}\n" + _as_notes(chosen)
        answer = await model.ask(model_name, _MODULE_INSTRUCTION, told, info.idempotency_key)
        return Summary(text=answer["text"], quotes=chosen, tokens=answer["tokens"])


async def answer(
    summaries: Sequence[Summary], question: str, model_name: str | None, conduct: Conduct, info: StepInfo
) -> Summary:
    """Condense everything: the eight best sentences of all, and a model's answer where there is one."""
    async with effect(info, conduct):
        chosen = condense.best((quote for one in summaries for quote in one["quotes"]), 8)
        if model_name is None or not chosen:
            return Summary(text="", quotes=chosen, tokens=ranking.tokens_of(quote["text"] for quote in chosen))
        notes = "\n".join(one["text"] for one in summaries if one["text"]) or _as_notes(chosen)
        said = await model.ask(model_name, _ANSWER_INSTRUCTION, f"Question: {question}\n{notes}", info.idempotency_key)
        return Summary(text=said["text"], quotes=chosen, tokens=said["tokens"])


def _as_notes(quotes: Sequence[Quote]) -> str:
    return "\n".join(f"[{quote['place']}] {quote['text']}" for quote in quotes)


async def write_report(text: str, path: str, conduct: Conduct, info: StepInfo) -> int:
    """Put the report in its place, whole or not at all; how many bytes. Doing it twice is doing it once."""
    async with effect(info, conduct):
        data = text.encode()
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        unfinished = target.with_name(target.name + ".unfinished")
        unfinished.write_bytes(data)
        os.replace(unfinished, target)
        return len(data)
