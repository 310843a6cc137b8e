"""Who is measured, at which version, and at what. Versions are pinned: a figure names what it was measured with."""

from __future__ import annotations

from typing import NamedTuple


class Peer(NamedTuple):
    """A library, the file in programs/ that uses it, and what pip installs into a venv of its own."""

    name: str
    program: str
    packages: tuple[str, ...] = ()


class Job(NamedTuple):
    """What is done, with the COUNT that its program gets, and what its figure is of."""

    name: str
    count: int
    figure: str
    said: str


OURS = Peer("alkaline_edge", "ours")
PEERS = (
    Peer("LangGraph", "langgraph_peer", ("langgraph==1.2.24", "langgraph-checkpoint-sqlite==3.1.2")),
    Peer("DBOS", "dbos_peer", ("dbos==3.4.0",)),
    Peer("durabletask", "durabletask_peer", ("durabletask==1.12.0",)),
    Peer("Temporal", "temporal_peer", ("temporalio==1.35.0",)),
    Peer("Burr", "burr_peer", ("apache-burr==0.42.0", "aiosqlite")),
    Peer("Edda", "edda_peer", ("edda-framework==0.16.2",)),
)
JOBS = (
    Job("sequence", 1_000, "cpu", "steps one after the other, memory: CPU us a step"),
    Job("sequence_on_disk", 1_000, "cpu", "the same, on disk: CPU us a step"),
    Job("sequence_on_disk", 1_000, "bytes", "the same: bytes a step on disk"),
    Job("fan", 1_000, "cpu", "1,000 steps at once, memory: CPU us a step"),
    Job("fan_on_disk", 1_000, "cpu", "the same, on disk: CPU us a step"),
    Job("many", 20, "cpu", "200 runs of 20 steps, memory: CPU us a step"),
    Job("many_on_disk", 20, "cpu", "the same, on disk: CPU us a step"),
    Job("replay", 1_000, "cpu", "replay of 1,000 steps: CPU us a step"),
    Job("replay_fan", 1_000, "cpu", "replay of 1,000 steps at once: CPU us a step"),
    Job("first", 1, "ms", "import and first step: ms"),
)
