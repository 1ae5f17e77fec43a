"""What was found, as one document in a file: it may be large, and nobody's answer is held in memory.

ATAK cuts ``<events>`` up by looking for ``<event `` and ``</event>``, PyTAK does the same with a regular expression
(ATAK-CIV ``android/track/http/GetCotHistoryOperation.java``, PyTAK ``classes.py``): every event has a blank behind its
name and an end tag of its own. Delivered events are of that form.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import IO, cast

from taky_twisted.cot.event import PROLOG

from .records import Moment

MAX_BYTES = 64 << 20
"""The largest answer."""
IN_MEMORY_BYTES = 64 << 10
"""Up to this size an answer is no file: as many as there may be connections do no harm."""

Build = Callable[[IO[bytes]], "tuple[int, bool]"]
"""Writes a document; returns of how many things it tells, and whether some did not fit."""


@dataclass
class Document:
    """A document that is ready to be sent."""

    file: IO[bytes]
    """Stands at its beginning; nobody else knows it, and it is gone when it is closed."""
    size: int
    """In bytes."""
    count: int
    """How many things it tells of."""
    cut: bool
    """Whether some did not fit."""


def written(folder: Path, build: Build) -> Document:
    """Write a document.

    Args:
        folder: where it is while it is too large for the memory.
        build: writes it.

    Raises:
        OSError: the disk has no room.
    """
    file = cast("IO[bytes]", SpooledTemporaryFile(IN_MEMORY_BYTES, dir=str(folder)))  # noqa: SIM115  # it is handed on
    try:
        count, cut = build(file)
        size = file.tell()
        file.seek(0)
    except BaseException:
        file.close()
        raise
    return Document(file, size, count, cut)


def write_events(
    file: IO[bytes], moments: Iterable[Moment], limit: int, max_bytes: int = MAX_BYTES
) -> tuple[int, bool]:
    """Write ``<events>``.

    Args:
        file: where to.
        moments: what was found, what matters most first.
        limit: how many were asked for.
        max_bytes: how large the document becomes.

    Returns:
        How many there are, and whether there may be more.
    """
    file.write(PROLOG + b"<events>")
    count, size, cut = 0, 0, False
    for moment in moments:
        xml = moment.xml[len(PROLOG) :]
        size += len(xml)
        if count and size > max_bytes:
            cut = True
            break
        file.write(xml)
        count += 1
    file.write(b"</events>")
    return count, cut or count >= limit
