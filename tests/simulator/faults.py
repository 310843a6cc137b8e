"""The weather of one schedule: which faults there are at all, how often, and when."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import Any

from alkaline_edge.host import Capabilities

from .timeline import Process

OF_COMMITS = ("applied-then-error", "error-before", "rejected", "applied-then-conflict", "late", "crash", "crash-after")
OF_READS = ("error-before", "rejected", "crash")
TIMED = ("kill", "freeze", "long-freeze", "clock", "close", "outage", "deploy", "deploy-back", "swap")


@dataclass(slots=True)
class Weather:
    """Drawn whole before the schedule begins."""

    chance: float = 0.0
    """Of a fault at a callback."""
    slow: float = 0.0
    """Of a callback that takes its time."""
    slowest: float = 0.5
    """Seconds."""
    commits: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    timed: list[tuple[float, str]] = field(default_factory=list)
    """What befalls the fleet, at which second."""
    until: float = 0.0
    """Faults stop here."""
    clocks: int = 0
    """How far clocks may be off, in ms: two of them differ by less than the kernel allows."""


def draw(random: Random, lease: float) -> Weather:
    """Some seeds have no faults, most have a few kinds, some have all."""
    weather = Weather(until=random.choice((5.0, 20.0, 60.0, 300.0)))
    keep = random.choice((0.0, 0.3, 0.6, 1.0))
    weather.commits = tuple(kind for kind in OF_COMMITS if random.random() < keep)
    weather.reads = tuple(kind for kind in OF_READS if random.random() < keep * 0.7)
    weather.chance = random.choice((0.005, 0.02, 0.02, 0.08)) if weather.commits or weather.reads else 0.0
    if random.random() < 0.6:
        weather.slow, weather.slowest = random.choice((0.02, 0.2)), random.choice((0.02, 0.5, 3.0, lease * 2))
    kinds = [kind for kind in TIMED if random.random() < keep]
    if kinds:
        for _ in range(random.randint(1, 5)):
            weather.timed.append((random.uniform(0, weather.until) ** random.choice((0.5, 1)), random.choice(kinds)))
    weather.timed.sort()
    if "clock" in kinds:
        weather.clocks = random.choice((50, 5_000, 29_000))
    return weather


def capabilities(random: Random) -> Capabilities:
    """Limits small enough that programs of a few nodes go over them."""
    inline = random.choice((250, 600, 600, 3_000, 128 * 1024))
    most = random.choice((6_000, 12_000, 40_000, 16 * 1024 * 1024))
    threads = random.random() < 0.4
    return Capabilities(
        "simulated",
        durability="volatile",
        threads=threads,
        synchronous=most < 20_000,  # no draw of its own: the schedules of a seed stay what they are
        max_value=most,
        max_batch_bytes=most * random.choice((4, 16)),
        max_batch_keys=random.choice((60, 128, 10_000)),
        inline_limit=min(inline, most // 4) if most < 1_000_000 else inline,
        segment_commits=random.choice((0, 2, 3, 4, 8, 8, 64, 256)),
    )


def sizes(random: Random, limits: Capabilities) -> tuple[int, ...]:
    """Sizes of values around each limit."""
    found = [
        1,
        100,
        limits.inline_limit - 40,
        limits.inline_limit + 1,
        limits.max_value // 2 - 60,
        limits.max_value + 1,
    ]
    return tuple(size for size in found if 0 <= size <= 50_000) if random.random() < 0.7 else (1,)


class Befalls:
    """What befalls each callback, drawn as it comes."""

    def __init__(self, weather: Weather, random: Random) -> None:
        self.weather, self.random = weather, random
        self.until = weather.until
        self.out: dict[str, float] = {}
        """Stores that do not answer, and until when."""

    def __call__(self, process: Process, verb: str, what: Any) -> Any:
        """A kind of fault, seconds of delay, or None. Seconds below zero: its answer is on its way for so long."""
        weather, random = self.weather, self.random
        if process.loop.now >= self.until:
            return None
        if self.out and process.loop.now < self.out.get("all", 0):
            return "rejected" if verb != "commit" else random.choice(("quota", "error-before"))
        chance = random.random()
        if chance < (min(0.25, weather.chance * 5) if verb == "commit" else weather.chance / 2):
            kinds = weather.commits if verb == "commit" else weather.reads
            return random.choice(kinds) if kinds else None
        if chance > 1 - weather.slow:
            return random.uniform(0, weather.slowest) * random.choice((1, -1))
        return None
