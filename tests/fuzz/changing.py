"""Bytes made from others without a guide: what `make test` draws, many a second and the same for a seed."""

from __future__ import annotations

from random import Random

_EDGES = bytes.fromhex("00017f80818f909fa0bfc0c1c4c6c7c9cacbcfd3d4d9dbdcdddedfe0ff")
"""The first bytes of msgpack's forms, at their borders."""


def changed(seeds: list[bytes], draw: Random) -> bytes:
    """One of ``seeds`` with one to four changes: bits, bytes, pieces taken out, twice, or from another."""
    data = bytearray(draw.choice(seeds))
    for _ in range(draw.randint(1, 4)):
        at = draw.randrange(len(data) + 1)
        until = min(len(data), at + draw.choice((1, 2, 4, 9, 40)))
        match draw.randrange(7):
            case 0 if at < len(data):
                data[at] ^= 1 << draw.randrange(8)
            case 1 if at < len(data):
                data[at] = draw.choice(_EDGES)
            case 2:
                del data[at:until]
            case 3:
                data[at:at] = data[at:until]
            case 4:
                data[at:at] = draw.randbytes(draw.choice((1, 3, 8)))
            case 5:
                other = draw.choice(seeds)
                begin = draw.randrange(len(other) + 1)
                data[at:until] = other[begin : begin + draw.choice((1, 4, 16, 64))]
            case _:
                del data[at + draw.choice((0, 1, 8, 64)) :]
    return bytes(data)
