"""One reader under atheris, guided by what it covers: `python -m tests.fuzz.guided NAME CORPUS -max_total_time=60`."""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["alkaline_edge", "alkaline_hosts"]):
    import alkaline_hosts._cli.commands  # noqa: F401  # else a reader imports it later, and it is covered by nobody

    from .readers import readers

if __name__ == "__main__":
    name, corpus, *options = sys.argv[1:]
    reader = readers()[name]
    folder = Path(corpus)
    folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(reader.seeds):
        (folder / f"seed-{number}").write_bytes(seed)
    atheris.Setup([sys.argv[0], corpus, *options], reader.read)
    atheris.Fuzz()
