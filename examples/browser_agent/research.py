"""The workflow of this page's agent: reads the pages of the library, takes notes, drafts, and waits for approval.

Every effect is a step; kill the tab between any two of them, and the next visit goes on from the first one that had
not finished. Nothing here knows that it runs in a browser but ``fetch_text``.
"""

import json
import math
import re
from collections import Counter
from html.parser import HTMLParser

from alkaline_edge import Budget, Context, Retry, StepInfo, workflow

BUDGET = 6_000
POLITE = 0.7  # seconds between two pages of one origin
_COMMON = frozenset(
    """a an and are as at be by can do does for from how in is it its no not of on or so that the then there they this
    to was what when where which who why will with""".split()  # noqa: SIM905  # a list of quoted words says less
)


# --- effects ---------------------------------------------------------------------------------------------------------
async def fetch_text(address: str, key: str) -> str:
    """The text behind an address of this origin. The key goes along, as it would to a service that charges."""
    from pyodide.http import pyfetch

    answer = await pyfetch(address, headers={"Idempotency-Key": key}, cache="no-store")
    if not answer.ok:
        raise ConnectionError(f"the server answered {answer.status}")
    return await answer.string()


async def look_around(library: str, info: StepInfo) -> list[dict]:
    """The pages that the library holds: title and address."""
    return json.loads(await fetch_text(library + "index.json", info.idempotency_key))


async def read_page(address: str, info: StepInfo) -> list[str]:
    """The sentences of a page."""
    reader = _Paragraphs()
    reader.feed(await fetch_text(address, info.idempotency_key))
    return [one for text in reader.found for one in re.split(r"(?<=[.!?])\s+", " ".join(text.split())) if one]


class _Paragraphs(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._inside = False

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag == "p":
            self._inside = True
            self.found.append("")
        elif tag == "a" and self._inside:
            self._inside = False  # a way out of the page, not text

    def handle_endtag(self, tag: str) -> None:
        if tag == "p":
            self._inside = False

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.found[-1] += data


# --- what a model would do -------------------------------------------------------------------------------------
def words(text: str) -> list[str]:
    """Lower-case words without the common ones, and without a plural's s."""
    return [word.rstrip("s") for word in re.findall(r"[a-z]{2,}", text.lower()) if word not in _COMMON]


def take_notes(title: str, sentences: list[str], topic: str) -> list[dict]:
    """The sentences of a page that touch the topic, scored by how much. Call your model here."""
    asked, seen = set(words(topic)), Counter(word for one in sentences for word in set(words(one)))
    notes = []
    for at, text in enumerate(sentences):
        touched = asked & set(words(text))
        score = sum(math.log(1 + len(sentences) / seen[word]) for word in touched) + 0.2 * bool(
            asked & set(words(title))
        )
        if touched:
            notes.append({"text": text, "from": title, "at": at, "score": round(score, 4)})
    return sorted(notes, key=lambda note: -note["score"])[:3]


def compose(notes: list[dict], most: int) -> list[dict]:
    """The draft: the best sentences, those of one page together and in its order."""
    best = sorted(notes, key=lambda note: -note["score"])[:most]
    pages = list(dict.fromkeys(note["from"] for note in best))
    return sorted(best, key=lambda note: (pages.index(note["from"]), note["at"]))


# --- the workflow ----------------------------------------------------------------------------------------------
@workflow(name="research", version=1, budget=Budget(tokens=BUDGET), retry=Retry(max_attempts=5, backoff=0.5, cap=8.0))
async def research(ctx: Context, task: dict) -> dict:
    """Read, note, draft, ask; then draft again or be done."""
    pages = await ctx.step("look around", look_around, task["library"])
    notes: list[dict] = []
    for page in pages:
        sentences = await ctx.step(f"read: {page['title']}", read_page, task["library"] + page["url"])
        ctx.spend(sum(map(len, sentences)) // 4, page["title"])
        notes += await ctx.step(f"note: {page['title']}", take_notes, page["title"], sentences, task["topic"])
        await ctx.sleep(POLITE)
    most = 6
    while True:
        draft = await ctx.step(f"draft: at most {most} sentences", compose, notes, most)
        ctx.spend(sum(len(one["text"]) for one in draft) // 4, "draft")
        ctx.emit("draft", draft)
        decision = await ctx.wait_for_signal("decision")
        if decision["approved"]:
            return {"topic": task["topic"], "report": draft, "pages": len(pages)}
        most = max(2, most - 2) if decision["want"] == "shorter" else min(12, most + 3)
