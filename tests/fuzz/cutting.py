"""Streams in pieces: whatever the network makes of them, the same must come out."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from zlib import crc32

MOST_CUTS = 8
BYTEWISE = 300
"""Up to this size a stream is also cut behind every byte."""


def cuttings(data: bytes) -> Iterator[list[bytes]]:
    """Cut a stream in some ways that only depend on what it is; the first is not to cut it."""
    yield [data]
    random = Random(crc32(data))
    cuts = sorted(random.randint(0, len(data)) for _ in range(random.randint(1, MOST_CUTS)))
    yield [data[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    if len(data) <= BYTEWISE:
        yield [data[at : at + 1] for at in range(len(data))]
