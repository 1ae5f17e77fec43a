"""A plain mutation loop, for where atheris is not installed: it knows no coverage, and goes on from the corpus."""

from __future__ import annotations

import sys
import traceback
from hashlib import sha1
from pathlib import Path
from random import Random
from time import monotonic

from tests.fuzz.target import Target, check, corpus

MOST_CHANGES = 6
"""Changes to one input."""


def mutated(data: bytes, others: list[bytes], words: list[bytes], random: Random, most: int) -> bytes:
    """Change an input in a few places.

    Args:
        data: what to change.
        others: inputs, of which pieces may be taken.
        words: may be put in.
        random: decides.
        most: bytes of the result.
    """
    new = bytearray(data)
    for _ in range(random.randint(1, MOST_CHANGES)):
        at = random.randint(0, len(new))
        end = min(len(new), at + random.choice((0, 1, 1, 2, 4, 16)))
        how = random.randrange(5)
        if how == 0:
            new[at:end] = random.randbytes(random.randint(0, 4))
        elif how == 1:
            new[at:end] = random.choice(words)
        elif how == 2:
            other = random.choice(others)
            begin = random.randint(0, len(other))
            new[at:end] = other[begin : begin + random.randint(0, 64)]
        elif how == 3:
            new[at:end] = bytes(new[at:end]) * random.choice((0, 2, 3, 20))
        elif new:
            new[random.randrange(len(new))] ^= 1 << random.randrange(8)
    return bytes(new[:most])


def fuzz(name: str, target: Target, seconds: float, work: Path, seed: int | None = None) -> int:
    """Fuzz until the time is up, or something is found; returns the exit status, and tells as libFuzzer does."""
    random, began, count = Random(seed), monotonic(), 0
    inputs = [b"", *corpus(name).values(), *target.seeds()]
    words = [b"\0", b"\xff", *target.words]
    data = b""
    try:
        for data in inputs:
            check(target, data)
            count += 1
        while monotonic() - began < seconds:
            data = mutated(random.choice(inputs), inputs, words, random, target.max_bytes)
            check(target, data)
            count += 1
    except Exception:  # noqa: BLE001  # whatever it is, it is what we are looking for
        traceback.print_exc()
        found = work / "findings" / f"crash-{sha1(data, usedforsecurity=False).hexdigest()}"
        found.parent.mkdir(parents=True, exist_ok=True)
        found.write_bytes(data)
        print(f"Test unit written to {found}", file=sys.stderr)
        return 1
    finally:
        print(f"stat::number_of_executed_units: {count}", file=sys.stderr)
    return 0
