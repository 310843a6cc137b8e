"""The same jobs with us and with others, in one run: `make bench-peers`. Nothing here is asserted by a test.

Each library has a venv of its own in build/peers, and each job a process of its own. Rounds go through all of them in
turn, so that a machine that slows down slows everybody. The table shows medians, with the least and the most;
build/peers/peers.json keeps the figures, and peers.svg beside it draws them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from .peers import JOBS, OURS, PEERS, Peer

ROOT = Path(__file__).resolve().parents[3]
PROGRAMS = Path(__file__).parent / "programs"
FOLDER = ROOT / "build" / "peers"
SECONDS = 600
"""What one job of one library may take; past it the cell says so."""
Figures = dict[tuple[str, str, str], list[float]]
"""Of a library, a job and what is measured of it: a figure of each round."""


def installed(peer: Peer) -> Path | None:
    """The Python that has this library, made where it is missing; None where it can't be installed here."""
    if peer is OURS:
        return Path(sys.executable)
    venv = FOLDER / peer.program
    stamp = venv / "installed"
    if not stamp.exists() or stamp.read_text() != " ".join(peer.packages):
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(venv)], check=True)
        pip = [str(venv / "bin" / "python"), "-m", "pip", "install", "--quiet", *peer.packages]
        if subprocess.run(pip, check=False).returncode:
            return None
        stamp.write_text(" ".join(peer.packages))
    return venv / "bin" / "python"


def measured(python: Path, peer: Peer, job: str, count: int) -> dict[str, Any]:
    """What a program prints of a job; ``cannot`` where it has no such job, or it failed."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "hosts")] if peer is OURS else []),
    }
    with tempfile.TemporaryDirectory() as folder:
        command = [str(python), str(PROGRAMS / f"{peer.program}.py"), job, str(count), folder]
        try:
            done = subprocess.run(
                command, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            return {"cannot": f"more than {SECONDS} s"}
    if done.returncode:
        return {"cannot": done.stderr.strip().splitlines()[-1][:200] if done.stderr.strip() else "it failed"}
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def row(said: str, cells: list[str]) -> str:
    """A line of the table."""
    return f"| {said:<48} | " + " | ".join(f"{cell:>22}" for cell in cells) + " |"


def shown(values: list[float]) -> str:
    """A median, with the least and the most."""
    if not values:
        return "-"
    least, middle, most = min(values), statistics.median(values), max(values)
    digits = 1 if middle < 100 else 0
    return f"{middle:,.{digits}f} ({least:,.{digits}f}-{most:,.{digits}f})"


def table(figures: Figures, peers: list[Peer]) -> list[str]:
    """The rows, and behind each how many times more the best of the others takes; below, those that others win."""
    lines = [row("", [*(peer.name for peer in peers), "best of others / ours"])]
    lines.append("|" + "---|" * (len(peers) + 2))
    lost: list[str] = []
    for job in JOBS:
        each = {peer.name: figures.get((peer.name, job.name, job.figure), []) for peer in peers}
        others = {name: statistics.median(values) for name, values in each.items() if values and name != OURS.name}
        ours = each[OURS.name]
        ahead = "-"
        if others and ours:
            best = min(others, key=others.__getitem__)
            factor = others[best] / statistics.median(ours)
            ahead = f"{factor:.2f} ({best})"
            if factor < 1:
                lost.append(f"LOST to {best}, who takes {factor:.2f} of ours: {job.said}")
        lines.append(row(job.said, [*(shown(values) for values in each.values()), ahead]))
    return [*lines, "", *(lost or ["no row is lost"])]


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(prog="make bench-peers", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", metavar="NAME", action="append", help="this library beside ours; may be repeated")
    options = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    pythons: dict[str, Path] = {}
    peers = [OURS, *(peer for peer in PEERS if not options.only or peer.name in options.only)]
    for peer in peers:
        python = installed(peer)
        if python is None:
            print(f"{peer.name} can't be installed here: left out")
        else:
            pythons[peer.name] = python
    peers = [peer for peer in peers if peer.name in pythons]
    figures: Figures = {}
    cannot: dict[str, str] = {}
    loads = []
    for number in range(options.rounds):
        for job, count in dict.fromkeys((job.name, job.count) for job in JOBS):
            for peer in peers:
                loads.append(os.getloadavg()[0])
                found = measured(pythons[peer.name], peer, job, count)
                if found.get("cannot", job) != job:
                    cannot[f"{peer.name}, {job}"] = found["cannot"]
                for figure, value in found.items():
                    if isinstance(value, float):
                        figures.setdefault((peer.name, job, figure), []).append(value)
        print(f"round {number + 1} of {options.rounds} is done", file=sys.stderr, flush=True)
    machine = f"CPython {platform.python_version()}, {os.cpu_count()} cores, load {min(loads):.1f} to {max(loads):.1f}"
    lines = table(figures, peers)
    print("\n".join([machine, "", *lines]))
    for what, why in cannot.items():
        print(f"{what}: {why}")
    versions = {peer.name: peer.packages for peer in peers}
    kept = [[*key, values] for key, values in figures.items()]
    report = {"machine": machine, "versions": versions, "figures": kept, "cannot": cannot}
    (FOLDER / "peers.json").write_text(json.dumps(report, indent=1))
    draw = Peer("matplotlib", "plot", ("matplotlib",))
    plot = installed(draw)
    if plot is not None:
        subprocess.run([str(plot), str(PROGRAMS.parent / "plot.py"), str(FOLDER)], check=True)


if __name__ == "__main__":
    main()
