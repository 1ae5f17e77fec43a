"""Where what must survive a restart is kept.

::

    routing --put, remove--> WriteBehind --batch, 4 a second--> SqliteStore._write, in its own thread
    routing <----Kept------- SqliteStore.open, once, when the server starts

``MemoryStore`` and ``SqliteStore`` are `taky_twisted.interfaces.EventStore`; one contract test runs against both.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from taky_twisted.interfaces import EventStore, StoreError
from taky_twisted.stores.memory import MemoryStore
from taky_twisted.stores.sqlite import SqliteStore

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

__all__ = ["MemoryStore", "SqliteStore", "open_store"]

DEFAULT_FILE = "taky.sqlite"
"""The file in the data folder that is used when nothing else is said."""


def open_store(description: str | None, data_folder: Path, clock: IReactorTime) -> EventStore:
    """Make the store that ``store =`` describes; nothing is touched before its ``open()``.

    Args:
        description: ``memory:``, ``sqlite:PATH`` (relative to the data folder), or None for the default.
        data_folder: Where the default store and relative paths are.
        clock: The reactor: seconds since the epoch, and it takes calls from threads.

    Raises:
        StoreError: The description means nothing; the text says what would.
    """
    if description is None:
        return SqliteStore(data_folder / DEFAULT_FILE, clock)
    scheme, colon, rest = description.partition(":")
    if colon and scheme == "memory" and not rest:
        return MemoryStore(clock)
    if colon and scheme == "sqlite" and rest:
        return SqliteStore(data_folder / rest, clock)
    if scheme == "sqlite":
        raise StoreError(
            f"store = {description}: the path is missing; write sqlite:PATH, for example sqlite:taky.sqlite"
        )
    if scheme == "redis":
        raise StoreError(
            f"store = {description}: Redis is not supported as a store by this version; write sqlite:PATH or memory:"
        )
    raise StoreError(f"store = {description}: no such kind of store; write sqlite:PATH or memory:")
