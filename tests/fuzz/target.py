"""One fuzz target: what it is given, what it must hold to, and what an input may cost."""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from time import process_time
from zlib import crc32

FOLDER = Path(__file__).parent
CORPUS = FOLDER / "corpus"
REPEATED_BYTES = 64 << 10
"""How long an input becomes by being repeated, where a target wants that."""
REPEATED_OF = 64
"""One input of so many is also given repeated; which, is decided by its checksum."""
TRIES = 3
"""How often an input must be too slow: the machine may be busy with something else, once."""


class TooCostly(AssertionError):
    """An input takes more time or memory than its size allows."""


@dataclass(frozen=True)
class Target:
    """A parser, or a few that belong together, and what must hold for every input."""

    run: Callable[[bytes], None]
    """Takes an input; what it raises is a finding."""
    seeds: Callable[[], Iterable[bytes]] = tuple
    """Makes inputs to begin with, beside those in the corpus."""
    words: Sequence[bytes] = ()
    """What inputs are made of."""
    max_bytes: int = 4096
    """Longer inputs are not tried."""
    seconds: float = 0.2
    """CPU time that any input may take."""
    seconds_per_kib: float = 0.01
    """What it may take beside that, for its size."""
    memory: int = 64 << 20
    """Bytes by which the process may grow for one input."""
    repeats: bool = False
    """Whether repeating an input makes one that is as good: what takes its square of time is found so."""


def names() -> list[str]:
    """Name all targets."""
    return sorted(path.stem for path in (FOLDER / "targets").glob("*.py") if not path.stem.startswith("_"))


def load(name: str) -> Target:
    """Import a target; only here what it tests is imported, so that it can be instrumented."""
    target: Target = import_module(f"tests.fuzz.targets.{name}").TARGET
    return target


def corpus(name: str) -> dict[str, bytes]:
    """Read what the repository holds for a target."""
    return {path.name: path.read_bytes() for path in sorted((CORPUS / name).glob("*.input"))}


def check(target: Target, data: bytes, slowness: float = 1.0) -> None:
    """Give an input to a target, and perhaps once more repeated.

    Args:
        target: which.
        data: the input.
        slowness: how many times as long as usual everything takes here; instrumented code is slow.

    Raises:
        TooCostly: it took too long or too much.
        Exception: whatever the target finds wrong.
    """
    data = data[: target.max_bytes]
    _measured(target, data, slowness)
    if target.repeats and data and crc32(data) % REPEATED_OF == 0:
        _measured(target, data * max(1, REPEATED_BYTES // len(data)), slowness)


def _measured(target: Target, data: bytes, slowness: float) -> None:
    allowed = slowness * (target.seconds + target.seconds_per_kib * len(data) / 1024)
    for attempt in range(TRIES):
        memory, began = _peak(), process_time()
        target.run(data)
        took = process_time() - began
        if attempt == 0 and _peak() - memory > target.memory:
            raise TooCostly(f"{len(data)} bytes made the process grow by {(_peak() - memory) >> 20} MiB")
        if took <= allowed:
            return
    raise TooCostly(f"{len(data)} bytes took {took:.3f} s, allowed: {allowed:.3f}")


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
