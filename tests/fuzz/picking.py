"""Take few and small inputs over into the repository: ``python -m tests.fuzz.picking NAME FOLDER [MOST]``.

Of what a long run has kept in a folder, an input is picked if it reaches a place in our code that no smaller one has
reached from the same line before.
"""

from __future__ import annotations

import sys
from hashlib import sha1
from pathlib import Path
from types import FrameType
from typing import Any

from tests.fuzz.target import CORPUS, Target, corpus, load

OURS = f"{Path(__file__).resolve().parents[2] / 'taky_twisted'}/"
MOST = 60
"""Inputs for one target."""
MOST_BYTES = 40 << 10
"""Bytes of them all."""

Step = tuple[str, int, int]
"""A file, and two lines one after the other."""


def steps(target: Target, data: bytes) -> set[Step]:
    """Find what an input reaches."""
    found: set[Step] = set()
    lasts: dict[int, int] = {}

    def trace(frame: FrameType, event: str, _: object) -> Any:
        name = frame.f_code.co_filename
        if not name.startswith(OURS):
            return None
        if event == "line":
            key = id(frame)
            found.add((name, lasts.get(key, 0), frame.f_lineno))
            lasts[key] = frame.f_lineno
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        target.run(data)
    finally:
        sys.settrace(before)
    return found


def pick(target: Target, inputs: list[bytes], known: list[bytes], most: int = MOST) -> list[bytes]:
    """Pick those that reach something that neither the known ones nor smaller ones reach.

    Args:
        target: decides.
        inputs: of which to pick.
        known: which are there anyway.
        most: how many to pick; those that reach most that is new come first.
    """
    reached = {step for data in known for step in steps(target, data)}
    found: list[tuple[int, bytes]] = []
    for data in sorted(set(inputs), key=lambda data: (len(data), data)):
        new = steps(target, data) - reached
        if new:
            reached |= new
            found.append((len(new), data))
    found.sort(key=lambda each: -each[0])
    picked, size = [], 0
    for _, data in found[:most]:
        size += len(data)
        if size > MOST_BYTES:
            break
        picked.append(data)
    return picked


def main(name: str, folder: str, most: str = str(MOST)) -> int:
    """Do it."""
    target = load(name)
    known = [*target.seeds(), *corpus(name).values()]
    inputs = [path.read_bytes()[: target.max_bytes] for path in Path(folder).iterdir()]
    picked = pick(target, inputs, known, int(most))
    (CORPUS / name).mkdir(parents=True, exist_ok=True)
    for data in picked:
        (CORPUS / name / f"{sha1(data, usedforsecurity=False).hexdigest()[:12]}.input").write_bytes(data)
    print(f"{name}: {len(picked)} of {len(inputs)} inputs were picked")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
