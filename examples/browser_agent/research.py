"""The workflow of this page's agent: reads the pages of the library, takes notes, drafts, and waits for approval.

Every effect is a step; kill the tab between any two of them, and the next visit goes on from the first one that had
not finished. Nothing here knows that it runs in a browser but ``fetch_text``.
"""

import asyncio
import contextlib
import json
import math
import re
from collections import Counter
from collections.abc import Callable
from html.parser import HTMLParser

from alkaline_edge import Budget, Context, Retry, StepInfo, workflow

BUDGET = 6_000
SCEPTICAL = 5.0  # seconds for which a browser that says it is offline is believed
POLITE = 0.7  # seconds between two pages of one origin
_COMMON = frozenset(
    """a an and are as at be by can do does for from how in is it its no not of on or so that the then there they this
    to was what when where which who why will with""".split()  # noqa: SIM905  # a list of quoted words says less
)


# --- effects ---------------------------------------------------------------------------------------------------------
class Unreachable(ConnectionError):
    """No answer came, or one that says to come again."""


PATIENT = Retry(max_attempts=60, backoff=0.5, cap=15.0, retryable=lambda error: isinstance(error, Unreachable))

in_flight: Callable[[StepInfo, bool], None] = lambda info, begins: None  # noqa: E731  # a place for a function
"""Is told as a step begins to fetch and as it has ended; the page shows it. The record knows only what has ended."""


async def fetch_text(address: str, info: StepInfo) -> str:
    """The text behind an address of this origin. The key goes along, as it would to a service that charges."""
    in_flight(info, True)
    try:
        while True:
            await online()
            try:
                return await _asked(address, info.idempotency_key)
            except Unreachable:
                if is_online():
                    raise  # the next attempt is the policy's; an outage of this machine costs none
    finally:
        in_flight(info, False)


async def _asked(address: str, key: str) -> str:
    from pyodide.http import pyfetch

    try:
        answer = await pyfetch(address, headers={"Idempotency-Key": key}, cache="no-store")
        text = await answer.string()
    except OSError:  # what fetch says of a network that is not there
        raise Unreachable("no answer came") from None
    if answer.status >= 500 or answer.status == 429:
        raise Unreachable(f"the server answered {answer.status}")
    if not answer.ok:
        raise ValueError(f"the server answered {answer.status}")
    return text


def is_online() -> bool:
    """What the browser says. It errs on the side of yes."""
    import js

    return js.navigator.onLine is not False


async def online() -> None:
    """Wait until the browser says that it has a network, or until it is time to see whether it is right."""
    import js
    from pyodide.ffi import create_proxy

    if is_online():
        return
    came = asyncio.Event()
    heard = create_proxy(lambda _: came.set())
    js.self.addEventListener("online", heard)
    try:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(came.wait(), SCEPTICAL)
    finally:
        js.self.removeEventListener("online", heard)
        heard.destroy()


async def look_around(library: str, info: StepInfo) -> list[dict]:
    """The pages that the library holds: title and address."""
    return json.loads(await fetch_text(library + "index.json", info))


async def read_page(address: str, info: StepInfo) -> list[str]:
    """The sentences of a page."""
    reader = _Paragraphs()
    reader.feed(await fetch_text(address, info))
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
@workflow(name="research", version=1, budget=Budget(tokens=BUDGET), retry=PATIENT)
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
