"""How the agent finds what is relevant: BM25 over stemmed words, and sentences scored by the question's rare words.

Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond", 2009. The stemmer is a short list of
English suffixes: it joins "cancel", "cancelled" and "cancellation", and it knows nothing more.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache

K1, B = 1.2, 0.75
_WORD = re.compile(r"[A-Za-z][a-z]+|[A-Z]{2,}")
_SUFFIXES = ("ations", "ation", "ings", "ing", "ies", "ed", "es", "s", "ly")
_COMMON = """
    a about after all also an and any are as at be been before between but by can could did do does each for from had
    has have how if in into is it its like make may more must no not of on one only or other should so such than that
    the their them then there these they this to under up use used using was way what when where which while who why
    will with would you your
"""
_STOP = frozenset(_COMMON.split())


@cache
def stem(word: str) -> str:
    """``word`` without its ending; at least four letters are left."""
    for suffix in _SUFFIXES:
        if word.endswith(suffix) and len(word) - len(suffix) >= 4:
            word = word.removesuffix(suffix)
            break
    if len(word) > 4 and word[-1] == word[-2] and word[-1] not in "sfe":
        word = word[:-1]
    return word


def terms(text: str) -> list[str]:
    """The stemmed words of ``text``, identifiers taken apart, without the words that every text has."""
    words = (word.lower() for word in _WORD.findall(text))
    return [stem(word) for word in words if word not in _STOP]


def question_terms(question: str) -> list[str]:
    """The distinct terms of a question, in its order."""
    found = list(dict.fromkeys(terms(question)))
    if not found:
        raise ValueError("the question holds no word to look for; ask it in English words or Python names")
    return found


def count(text: str, wanted: Sequence[str]) -> tuple[int, dict[str, int]]:
    """How many terms ``text`` has, and how often each of ``wanted`` is among them."""
    found = Counter(terms(text))
    return sum(found.values()), {term: found[term] for term in wanted if found[term]}


def weights(wanted: Sequence[str], total: int, holding: dict[str, int]) -> dict[str, float]:
    """The inverse document frequency of each term: rare words weigh more."""
    return {
        term: round(math.log(1 + (total - holding.get(term, 0) + 0.5) / (holding.get(term, 0) + 0.5)), 6)
        for term in wanted
    }


def score(length: int, found: dict[str, int], weight: dict[str, float], average: float) -> float:
    """BM25 of a text of ``length`` terms that holds ``found``."""
    norm = K1 * (1 - B + B * length / max(1.0, average))
    return round(sum(weight[term] * times * (K1 + 1) / (times + norm) for term, times in found.items()), 6)


def sentence_score(text: str, weight: dict[str, float]) -> float:
    """How much of the question a sentence touches: the weights of its distinct terms, longer ones a little less."""
    words = terms(text)
    touched = sum(weight.get(term, 0.0) for term in set(words))
    return round(touched / (1 + len(words) / 40), 6)


def tokens_of(texts: Iterable[str]) -> int:
    """An estimate, four characters to a token: used where no model counts them."""
    return sum(-(-len(text) // 4) for text in texts)
