"""Prints what `make coverage` measured, by package, and fails where one is below its floor (pyproject.toml)."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import tomllib
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def package_of(path: str) -> str:
    """alkaline_edge.board of alkaline_edge/board/tools.py; the modules of a root are the root's own."""
    parts = path.removeprefix("hosts/").split("/")
    return ".".join(parts[: 2 if len(parts) > 2 else 1])


def measured() -> dict[str, float]:
    """Percent of lines and branches by package."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.json")
        command = [sys.executable, "-m", "coverage", "json", "-q", "-o", str(report)]
        subprocess.run(command, cwd=ROOT, check=True)  # noqa: S603 - our own tool
        files = json.loads(report.read_text())["files"]
    sums: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for path, file in files.items():
        found = file["summary"]
        counted = sums[package_of(path)]
        counted[0] += found["covered_lines"] + found.get("covered_branches", 0)
        counted[1] += found["num_statements"] + found.get("num_branches", 0)
    return {name: 100 * covered / whole for name, (covered, whole) in sorted(sums.items()) if whole}


def main() -> None:
    """Print the table; exit code 1 where a floor is not kept, or a package has none."""
    floors = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["alkaline"]["coverage"]
    low = []
    for name, percent in measured().items():
        floor = floors.get(name)
        print(f"{name:<36} {percent:6.1f} %   floor {'-' if floor is None else floor}")
        if floor is None or percent < floor:
            low.append(name)
    if low:
        raise SystemExit(f"below the floor, or without one: {', '.join(low)}")


if __name__ == "__main__":
    main()
