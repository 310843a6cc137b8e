"""The reader in JavaScript, asked by tests: many inputs at once, since starting Node takes longer than reading them."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


def node() -> str:
    """Where Node is. A test without it fails, and says what to install."""
    found = shutil.which("node")
    assert found, (
        "Node 20 or newer is needed to test the reader in JavaScript: apt-get install nodejs, or see nodejs.org"
    )
    return found


def verdicts(mode: str, inputs: Sequence[bytes]) -> list[dict[str, Any]]:
    """What the reader says of each input, see verdicts.mjs."""
    sent = b"".join(len(each).to_bytes(4, "big") + each for each in (mode.encode(), *inputs))
    done = subprocess.run([node(), str(HERE / "verdicts.mjs")], input=sent, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr.decode()
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(found) == len(inputs)
    return found
