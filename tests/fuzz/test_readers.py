"""Every reader of bytes from outside takes whatever comes: a typed error, or a value that can be used."""

from __future__ import annotations

import os
from pathlib import Path
from random import Random

import pytest

from .changing import changed
from .readers import readers

INPUTS = int(os.environ.get("ALKALINE_INPUTS", "150"))
SEED = int(os.environ.get("ALKALINE_SEED", "1"))
FOUND = Path(__file__).parent / "found"
READERS = readers()


@pytest.mark.parametrize("name", READERS)
def test_a_reader_takes_what_it_was_made_for(name: str) -> None:
    """The bytes that others are made from pass, so that a change of them comes further than the first check."""
    for seed in READERS[name].seeds:
        READERS[name].read(seed)


@pytest.mark.parametrize("name", READERS)
def test_a_reader_takes_bytes_that_were_changed(name: str) -> None:
    """Bits, bytes and pieces; ALKALINE_INPUTS and ALKALINE_SEED draw others, `make fuzz` goes by what is covered."""
    draw = Random(f"{name} {SEED}")
    for _ in range(INPUTS):
        data = changed(READERS[name].seeds, draw)
        try:
            READERS[name].read(data)
        except BaseException:
            print(f"{name}: {data.hex()}")
            raise


@pytest.mark.parametrize("path", sorted(FOUND.glob("*/*.hex")), ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_what_was_found_once_is_not_found_again(path: Path) -> None:
    """Inputs that once got an error out that was not ours."""
    READERS[path.parent.name].read(bytes.fromhex(path.read_text()))
