"""SIGKILL of the browser between commits: what was acknowledged must be there afterwards.

python kills.py DIST DIRECTORY SECONDS SEED
"""

from __future__ import annotations

import contextlib
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from browser import Browser, Forgotten, serve, wait_until
from pages import page
from selenium.common.exceptions import WebDriverException

COMMIT = """
host = IndexedDBHost("kills")
async def commit_on(first):
    number, version = first, None
    if first:
        version = (await host.get(["head"]))[0].version
    while True:
        puts = (f"e{number:08d}", f"{number}".encode() * 20), ("head", b"%d" % number)
        made = batch(*puts, checks=[("head", version)])
        said = await host.commit(made)
        assert isinstance(said, Committed), said
        js.fetch(f"/acknowledged?{number}")
        number, version = number + 1, made.id
"""
READ = """
host = IndexedDBHost("kills")
entries, after = [], "e"
while page := await host.list("e", after):
    entries += page
    after = page[-1].key
(head,) = await host.get(["head"])
[
    [int(entry.key[1:]) for entry in entries],
    [entry.value == f"{int(entry.key[1:])}".encode() * 20 for entry in entries],
    int(head.value) if head else -1,
    entries[-1].version == head.version if entries else head is None,
]
"""
GONE = """
lost, anew = IndexedDBHost("kills"), IndexedDBHost("kills", replace_lost=True)
[await outcome(lost.list("")), await outcome(anew.list(""))]
"""


def kill_while_committing(dist: Path, profile: Path, kills: int, seed: int) -> tuple[int, int, int]:
    """Kill the browser ``kills`` times, each after a random number of commits that the page has acknowledged.

    After each kill a new browser on the same profile reads everything. Gives the number of acknowledged commits, of
    those that were not there, and how often Chromium had deleted all of the origin for a log that a kill had torn
    (docs/browser.md); raises when an entry is torn, a number missing or the head not the last entry.
    """
    chance = random.Random(seed)
    acknowledged = lost = forgotten = first = 0
    with serve(dist) as (origin, asked):
        browser = Browser(origin, profile)
        try:
            tab = browser.start().tab()
            page(tab)
            for _ in range(kills):
                asked.clear()
                enough = chance.randint(1, 60)
                # A tab may crash by itself on the profile of a browser that was killed: one more way to die.
                with tab_may_crash():
                    tab.python(COMMIT + f"running = asyncio.ensure_future(commit_on({first}))\nNone")
                    wait_until(lambda: len(_numbers(asked)) >= enough, "the page went on committing")  # noqa: B023
                browser.kill()
                said = _numbers(asked)
                try:
                    tab = browser.again().tab()
                except Forgotten as error:
                    print(f"forgotten by Chromium: {error}")
                    forgotten, first = forgotten + 1, 0
                    tab = browser.tab()
                    assert page(tab, GONE) == ["StoreError gone", "list"], "a lost store was taken for a new one"
                    continue
                there, whole, head, same = page(tab, READ)
                assert all(whole), "an entry is torn"
                assert there == list(range(len(there))), "a commit is missing between others"
                assert head == len(there) - 1, "the head is not the last entry"
                assert same, "the two keys of one commit are of different commits"
                acknowledged += len(said)
                lost += len(set(said) - set(there))
                first = len(there)
        finally:
            browser.quit()
    return acknowledged, lost, forgotten


@contextlib.contextmanager
def tab_may_crash() -> Iterator[None]:
    """Goes on where Chromium's own renderer died; every other error is one."""
    try:
        yield
    except WebDriverException as error:
        if "tab crashed" not in str(error):
            raise
        print("a tab crashed by itself")


def _numbers(asked: list[str]) -> list[int]:
    return [int(path.partition("?")[2]) for path in list(asked) if path.startswith("/acknowledged?")]


def main(dist: str, directory: str, seconds: str, seed: str) -> None:
    """For so long, with a profile of its own for each handful of kills; the last line says what it came to."""
    end, found, round = time.monotonic() + float(seconds), Counter[str](), 0
    while time.monotonic() < end:
        directory_of_round = Path(directory) / str(round)
        acknowledged, lost, forgotten = kill_while_committing(Path(dist), directory_of_round, 5, int(seed) + round)
        round += 1
        found.update(kills=5, acknowledged=acknowledged, lost=lost, forgotten=forgotten)
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
