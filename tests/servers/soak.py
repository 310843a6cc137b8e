"""Worker processes on one server, for minutes, with everything going wrong: `make soak-servers`.

Workers are killed with SIGKILL every few seconds, the server as well, upon which in turn its replica takes over and it
comes back, and between them stands a network that delays, cuts in the middle of an answer, falls silent, and delivers
commits twice. Runs of steps, timers and signals are started all the while. In the
end every run must be complete, no committed step may have been run again, and no signal may be lost or counted twice.
Prints what happened; exits 1 where a promise did not hold.

    python -m tests.servers.soak --minutes 3 --workers 4 --store postgres
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from alkaline_edge import AlkalineError, Runtime
from alkaline_edge import events as ev
from alkaline_edge.errors import ERR_CONFLICT, ERR_STORE
from alkaline_hosts.opening import open_host
from tests.servers.chaos import Chaos
from tests.servers.pairs import PostgresPair, RedisPair
from tests.servers.repeating import OfPostgres, OfRedis
from tests.servers.soak_worker import SIGNALS, Evidence, heard, opened, soak

ROOT = Path(__file__).resolve().parents[2]
LEASE = 4.0
CONCURRENCY = 12
AT_ONCE = 30
"""How many unfinished runs there are while runs are started."""
END = 240.0
"""Seconds that the last runs have to end in; and those that may go by until as much has happened as ENOUGH says."""
ENOUGH = {"runs started": 10, "workers killed": 3, "cut": 3, "refused": 3}
"""A soak goes on until that has happened, however slow the machine is: the seconds that it is given are the least."""
REFUSED = 2
"""How many connections find the server away, each time that it is."""


@contextlib.contextmanager
def server_of(store: str, directory: Path) -> Iterator[Any]:
    """A server with ``port``, ``kill`` and ``start``, and another one that may take its place."""
    made = PostgresPair() if store == "postgres" else RedisPair(directory)
    with made as server:
        yield server


def url_of(store: str, server: Any, port: int) -> str:
    """The store's URL by way of that port."""
    return str(server.url).replace(f":{server.port}/", f":{port}/")


class Soak:
    """One soak: the workers, the runs, and what is done to them."""

    def __init__(self, url: str, server: Any, log: Path, workers: int, seed: int, chaos: Chaos) -> None:
        self.url, self.server, self.log, self.chaos, self.network = url, server, log, chaos, chaos.done
        self.random = random.Random(seed)
        self.count: Counter[str] = Counter()
        self.workers = [self._worker() for _ in range(workers)]
        self.ids: list[str] = []
        self.unfinished: set[str] = set()
        self.wrong: list[str] = []

    def _worker(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, str(Path(__file__).with_name("soak_worker.py")), self.url, str(self.log)]
        env = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'hosts'}"}
        return subprocess.Popen([*command, str(CONCURRENCY), str(LEASE)], env=env)

    def is_enough(self) -> bool:
        """Whether as much has happened as a soak is there for."""
        happened = Counter(self.network)
        happened["runs started"], happened["workers killed"] = len(self.ids), self.count["workers killed"]
        return all(happened[what] >= least for what, least in ENOUGH.items())

    # --- what is asked of it -----------------------------------------------------------------------------------------
    async def start_runs(self, until: float) -> None:
        """Keep so many runs unfinished until then, and send each its signals."""
        host = open_host(self.url)
        senders: list[asyncio.Future[None]] = []
        # The one that sends signals knows no workflow: it drives nothing.
        # The one that starts runs leaves them to the workers, but under load a second may be over: it may drive, too.
        opened(self.log)
        starting = Runtime(host, workflows=[soak], on_event=heard)
        async with starting as runtime, Runtime(host) as outside:
            while (now := time.monotonic()) < until or (now < until + END and not self.is_enough()):
                if len(self.unfinished) >= AT_ONCE:
                    await asyncio.sleep(0.1)
                    continue
                name = f"r{len(self.ids)}"
                soon = datetime.now(UTC) + timedelta(seconds=1)
                await self._told(partial(runtime.start, "soak", id=name, start_at=soon))
                self.ids.append(name)
                self.unfinished.add(name)
                senders.append(asyncio.ensure_future(self._send(outside, name)))
            await asyncio.gather(*senders)
        await host.close()

    async def _send(self, runtime: Runtime, id: str) -> None:
        for n in range(SIGNALS):
            await asyncio.sleep(self.random.uniform(0, 3))
            try:
                await self._told(partial(runtime.signal, id, "go", n, dedupe=f"go{n}"))
            except AlkalineError as error:
                self.wrong.append(f"{id} did not take signal {n}: {error}")
                return
            self.count["signals"] += 1

    async def _told(self, ask: Callable[[], Any]) -> None:
        """Until the store has said yes; that it had done so before is a yes as well."""
        while True:
            try:
                await ask()
                return
            except AlkalineError as error:
                if error.code == ERR_CONFLICT and "exists already" in str(error):
                    return
                if error.code != ERR_STORE and "busy" not in str(error):
                    raise
                self.count["asked again"] += 1
                await asyncio.sleep(0.2)

    async def look(self) -> None:
        """See which runs have ended, past the bad network."""
        seen: dict[str, str] = {}
        while True:
            host = open_host(self.server.url, read_only=True)
            try:
                while True:
                    for status in ("completed", "failed", "cancelled"):
                        prefix = f"x/s/{status}/soak/"
                        while entries := await host.list(prefix, seen.get(status, "")):
                            # Ids are not in the order in which runs end, so each look is at all that are unfinished.
                            seen[status] = entries[-1].key
                            self.unfinished -= {entry.key.rsplit("/", 1)[1] for entry in entries}
                        seen.clear()
                    await asyncio.sleep(0.3)
            except AlkalineError:
                await asyncio.sleep(0.3)
            finally:
                with contextlib.suppress(Exception):
                    await host.close()

    # --- what is done to it ------------------------------------------------------------------------------------------
    async def kill_workers(self, every: float) -> None:
        """SIGKILL one, and another takes its place."""
        while True:
            await asyncio.sleep(self.random.uniform(0.5, 1.5) * every)
            place = self.random.randrange(len(self.workers))
            if self.workers[place].poll() is not None:
                self.wrong.append(f"a worker ended by itself with exit code {self.workers[place].returncode}")
            self.workers[place].kill()
            self.workers[place].wait()
            self.workers[place] = self._worker()
            self.count["workers killed"] += 1

    async def kill_server(self, times: list[float]) -> None:
        """SIGKILL it, and start it again a moment later, once some have missed it; in turn the other one takes over."""
        for at in times:
            await asyncio.sleep(max(0.0, at - time.monotonic()))
            before = self.network["refused"]
            self.server.kill()
            await asyncio.sleep(self.random.uniform(0.1, 1.5))
            while self.network["refused"] < before + REFUSED and time.monotonic() < at + END:
                await asyncio.sleep(0.05)
            await asyncio.to_thread(self.server.start)
            self.chaos.target = self.server.port
            self.count["server killed"] += 1

    def stop(self) -> None:
        """End every worker."""
        for worker in self.workers:
            worker.kill()
            worker.wait()

    # --- what must hold ----------------------------------------------------------------------------------------------
    async def judge(self) -> Evidence:
        """Read every run and the log; what does not hold goes to ``wrong``."""
        evidence = Evidence(self.log.read_text().splitlines())
        host = open_host(self.server.url, read_only=True)
        async with Runtime(host, workflows=[soak]) as runtime:
            for id in self.ids:
                record = await runtime.get_execution(id)
                self.count[record.status] += 1
                if record.status != "completed":
                    last = (await runtime.history(id))[-1]
                    self.wrong.append(
                        f"{id} is {record.status}, waiting {record.waiting}, owner {record.owner}: {last}"
                    )
                    continue
                self.count["signals lost"] += SIGNALS - len(set(record.result))
                self.count["signals doubled"] += len(record.result) - len(set(record.result))
                if record.result != list(range(SIGNALS)) and sorted(record.result) != list(range(SIGNALS)):
                    self.wrong.append(f"{id} got the signals {record.result}")
                history = await runtime.history(id)  # raises where its digest chain is broken
                names = {getattr(each.event, "name", "") for each in history if each.event[0] == ev.STEP_COMPLETED}
                gone = {name for run, name in evidence.done if run == id} - names
                self.count["commits"] += len(names) + 1
                self.count["commits lost"] += len(gone)
                self.wrong += [f"{id} has lost its step {name}, which was acknowledged" for name in sorted(gone)]
            left = [entry.key for prefix in ("i/", "t/", "x/s/running/") for entry in await host.list(prefix)]
            if left and not self.unfinished:
                self.wrong.append(f"left behind in the store: {left[:5]}")
        await host.close()
        self.wrong += [f"a committed step was run again: {line}" for line in evidence.again]
        self.wrong += [f"a run could not go on: {line}" for line in evidence.stuck]
        return evidence


async def run(store: str, seconds: float, workers: int, seed: int, directory: Path, restarts: int = 3) -> bool:
    """One soak of so many seconds, and the wait for the last runs; whether every promise held."""
    soaking, _ = await soaked(store, seconds, workers, seed, directory, restarts)
    return not soaking.wrong


async def soaked(
    store: str, seconds: float, workers: int, seed: int, directory: Path, restarts: int = 3
) -> tuple[Soak, Evidence]:
    """As ``run``, with what was counted."""
    logging.getLogger("asyncpg").setLevel(logging.CRITICAL)  # that a server is away is no news here
    with server_of(store, directory / "server") as server:
        async with Chaos(server.port, seed, repeats=OfPostgres if store == "postgres" else OfRedis) as chaos:
            log = directory / "log"
            log.touch()
            soaking = Soak(url_of(store, server, chaos.port), server, log, workers, seed, chaos)
            began = time.monotonic()
            times = [began + seconds * (n + 1) / (restarts + 1) for n in range(restarts)]
            meanwhile = [
                asyncio.ensure_future(each)
                for each in (
                    soaking.look(),
                    soaking.kill_workers(max(1.0, min(4.0, seconds / 15))),
                    _tell(soaking, log),
                )
            ]
            killing = asyncio.ensure_future(soaking.kill_server(times))
            try:
                await asyncio.gather(soaking.start_runs(began + seconds), killing)
                meanwhile[1].cancel()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(END):
                        while soaking.unfinished:
                            await asyncio.sleep(0.2)
            finally:
                for each in [*meanwhile, killing]:
                    each.cancel()
                await asyncio.gather(*meanwhile, killing, return_exceptions=True)
                soaking.stop()
            evidence = await soaking.judge()
            _report(soaking, evidence, chaos, time.monotonic() - began)
    return soaking, evidence


async def _tell(soaking: Soak, log: Path) -> None:
    began = time.monotonic()
    while True:
        await asyncio.sleep(15)
        lines = log.read_text().count("\n")
        unfinished, all_ = len(soaking.unfinished), len(soaking.ids)
        print(f"  {time.monotonic() - began:4.0f} s: {unfinished} of {all_} runs unfinished, {lines} lines", flush=True)


def _report(soaking: Soak, evidence: Evidence, chaos: Chaos, seconds: float) -> None:
    rows: list[tuple[str, Any]] = [
        ("seconds", round(seconds)),
        ("runs started", len(soaking.ids)),
        ("runs complete", soaking.count["completed"]),
        ("steps run", evidence.begun),
        ("steps whose result was lost, and that ran again", evidence.repeated - len(evidence.again)),
        ("committed steps that were run again", len(evidence.again)),
        ("signals sent", soaking.count["signals"]),
        ("signals lost", soaking.count["signals lost"]),
        ("signals that a run was given twice", soaking.count["signals doubled"]),
        ("commits that were acknowledged, of steps and starts", soaking.count["commits"]),
        ("of those, lost", soaking.count["commits lost"]),
        ("starts and signals that were asked again", soaking.count["asked again"]),
        ("workers killed", soaking.count["workers killed"]),
        ("server killed", soaking.count["server killed"]),
        ("of those, the other one took over", soaking.server.fail_overs),
        *((f"connections: {what}", chaos.done[what]) for what in ("delay", "cut", "silent", "refused")),
        ("commits that were delivered twice", chaos.done["twice"]),
    ]
    for what, figure in rows:
        print(f"{what:<52} {figure:>8}", flush=True)
    for line in soaking.wrong[:20]:
        print(f"WRONG: {line}", flush=True)
    for run in {line.split()[1] for line in evidence.again[:3]}:
        print(f"{run}, each line with its process and time (ms):")
        print(*(line for line in soaking.log.read_text().splitlines() if line.split()[1] == run), sep="\n", flush=True)
    print("every promise held" if not soaking.wrong else f"{len(soaking.wrong)} promises did not hold", flush=True)


def main() -> int:
    """The program."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--store", choices=("postgres", "redis"), default="postgres")
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--seed", type=int, default=None, help="of the kills and the network; printed")
    given = parser.parse_args()
    seed = given.seed if given.seed is not None else random.SystemRandom().randrange(2**32)
    print(f"{given.store}, {given.workers} workers, {given.minutes:g} minutes, seed {seed}", flush=True)
    with tempfile.TemporaryDirectory() as directory:
        held = asyncio.run(run(given.store, given.minutes * 60, given.workers, seed, Path(directory)))
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
