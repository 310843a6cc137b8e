"""Chromium forgets an origin after two kills: plain IndexedDB, no Python in the page, strict durability.

    python plain_kills.py DIRECTORY SECONDS [fresh]

The browser is stopped (SIGSTOP) again and again until it stands in the middle of writing a record to LevelDB's log,
and is killed there. The next one reads all that was acknowledged, appends more, and is killed as well. The third finds
what the second wrote behind the incomplete record not to be readable, and deletes every database of the origin
(google/leveldb#1287). With ``fresh`` each page first makes a database and deletes it, as IndexedDBHost does, so that
LevelDB begins a new log. The last line says how often what was acknowledged was there, how often it was not, and at how
many moments a browser was stopped for that.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

from browser import FLAGS, serve, wait_until
from leveldb import Left, Log, log_of

PAGE = """<!doctype html><meta charset=utf-8><title>plain</title><script type=module>
const told = (request) => new Promise((yes, no) => {
  request.onsuccess = () => yes(request.result);
  request.onerror = () => no(request.error);
});
const say = (what, value) => fetch(`/${what}?${encodeURIComponent(JSON.stringify(value))}`);
const open = async (name, made = () => {}) => {
  const opening = indexedDB.open(name, 1);
  opening.onupgradeneeded = (event) => made(opening.result, event);
  return await told(opening);
};
try {
  if (location.search === "?fresh") {
    (await open("scratch")).close();
    await told(indexedDB.deleteDatabase("scratch"));
  }
  const db = await open("plain", (db) => db.createObjectStore("s"));
  const keys = await told(db.transaction("s").objectStore("s").getAllKeys());
  await say("found", keys.length);
  for (let n = keys.length; ; n++) {
    await new Promise((yes, no) => {
      const tx = db.transaction("s", "readwrite", { durability: "strict" });
      tx.objectStore("s").put("x".repeat(100), n);
      tx.oncomplete = yes;
      tx.onabort = () => no(tx.error);
    });
    await say("acknowledged", n);
  }
} catch (error) {
  await say("found", `${error}`);
}
</script>
"""


class Plain:
    """A Chromium that shows the page, without a driver."""

    def __init__(self, address: str, profile: Path, asked: list[str]) -> None:
        self.asked, self.profile = asked, profile
        asked.clear()
        chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
        assert chromium, "Chromium is missing: run `make chromium` in wasm/"
        command = [chromium, *FLAGS, f"--user-data-dir={profile}", address]
        self.process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )

    def told(self, what: str) -> list[object]:
        """What the page has said of that kind."""
        return [json.loads(unquote(path.partition("?")[2])) for path in list(self.asked) if path.startswith(f"/{what}")]

    def found(self) -> object:
        """How many entries were there when the page began, or its error."""
        return wait_until(lambda: self.told("found"), "the page has read its database")[0]

    def appended(self, least: int) -> int:
        """How many entries are there, once so many more are acknowledged."""
        wait_until(lambda: len(self.told("acknowledged")) >= least, "the page went on")
        return len(self.told("acknowledged"))

    def tear(self, chance: random.Random, most: int = 5000) -> int:
        """Stop it in the middle of a record; after how many tries, or 0 where it was not met there in so many."""
        log, tasks = Log(log_of(self.profile)), Path(f"/proc/{self.process.pid}/task")
        for tries in range(1, most + 1):
            time.sleep(chance.uniform(0, 0.004))
            os.kill(self.process.pid, signal.SIGSTOP)
            while not all(stands(each / "stat") for each in tasks.iterdir()):
                pass
            if log.is_torn():
                return tries
            os.kill(self.process.pid, signal.SIGCONT)
        return 0

    def kill(self) -> None:
        """SIGKILL of all of it."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def stands(stat: Path) -> bool:
    """Whether that thread is stopped."""
    return stat.read_text().rpartition(")")[2].split()[0] in "Tt"


def three_browsers(make: Callable[[], Plain], chance: random.Random) -> tuple[str, int]:
    """One after the other on one profile; what the third found: ``kept``, ``forgotten``, ``lost`` or ``untorn``.

    And at how many moments the first one was stopped until one was in the middle of a record.
    """
    first = make()
    try:
        assert first.found() == 0
        first.appended(3)
        tries = first.tear(chance)
    finally:
        first.kill()
    if not tries:
        return "untorn", tries
    acknowledged = len(first.told("acknowledged"))
    second = make()
    try:
        found = second.found()
        if not isinstance(found, int) or found < acknowledged:
            return "lost", tries
        acknowledged = found + second.appended(chance.randint(3, 40))
    finally:
        second.kill()
    left = Left(second.profile)
    third = make()
    try:
        found = third.found()
    finally:
        third.kill()
    if isinstance(found, int) and found >= acknowledged:
        return "kept", tries
    return ("forgotten" if found == 0 and left.corrupted() else "lost"), tries


def repeated(directory: Path, seconds: float, fresh: bool, seed: int) -> Counter[str]:
    """Three browsers after three browsers, for so long, and once at least."""
    chance, found, end = random.Random(seed), Counter[str](), time.monotonic() + seconds
    pages, number = directory / "pages", 0
    pages.mkdir(parents=True)
    (pages / "plain.html").write_text(PAGE)
    with serve(pages) as (origin, asked):
        while not found or time.monotonic() < end:
            profile, number = directory / f"profile{number}", number + 1
            address = f"{origin}/plain.html{'?fresh' if fresh else ''}"
            what, tries = three_browsers(lambda: Plain(address, profile, asked), chance)  # noqa: B023
            found.update({what: 1, "moments": tries})
            shutil.rmtree(profile, ignore_errors=True)
    return found


if __name__ == "__main__":
    directory, seconds, *fresh = sys.argv[1:]
    print(json.dumps(repeated(Path(directory), float(seconds), bool(fresh), random.SystemRandom().randrange(2**32))))
