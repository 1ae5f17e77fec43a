"""Where what must survive a restart is kept.

::

    routing --put, remove--> WriteBehind --batch--> SqliteStore._write, in its own thread, 4 times a second
                                            `-----> RedisStore._write, 20 times a second
    routing <----Kept------- SqliteStore.open or RedisStore.open, once, when the server starts

``MemoryStore``, ``SqliteStore`` and ``RedisStore`` are `taky_twisted.interfaces.EventStore`; one contract test runs
against all of them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from taky_twisted.interfaces import EventStore, StoreError
from taky_twisted.stores.memory import MemoryStore
from taky_twisted.stores.sqlite import SqliteStore

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from twisted.internet.interfaces import IReactorTime

    from taky_twisted.config.values import RedisSettings

__all__ = ["MemoryStore", "SqliteStore", "open_store"]

DEFAULT_FILE = "taky.sqlite"
"""The file in the data folder that is used when nothing else is said."""


def open_store(
    description: str | None,
    data_folder: Path,
    clock: IReactorTime,
    redis: RedisSettings | None = None,
    hostname: str = "",
    import_groups: Collection[str] | None = None,
    node: str = "",
    former: Sequence[str] = (),
) -> EventStore:
    """Make the store that ``store =`` describes; nothing is touched before its ``open()``.

    Args:
        description: ``memory:``, ``sqlite:PATH`` (relative to the data folder), or None for the default.
        data_folder: Where the default store and relative paths are.
        clock: The reactor: seconds since the epoch, and it takes calls from threads.
        redis: The store in place of what the description says, if it is a Redis.
        hostname: The server's name, of which keys in Redis are made.
        import_groups: Whose the items are that other programs have left in Redis; None: see `RedisStore`.
        node: Names this process in Redis, if it is one of several.
        former: Names there that it may have had before.

    Raises:
        StoreError: The description means nothing; the text says what would.
        EndpointError: The Redis cannot be used; the text says why.
    """
    if redis is not None:
        from taky_twisted.redis_client import Redis  # only where they are used: they cost memory
        from taky_twisted.stores.redis import RedisStore

        return RedisStore(clock, Redis(clock, redis), hostname, import_groups, node, former)
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
    raise StoreError(f"store = {description}: no such kind of store; write sqlite:PATH, redis:ENDPOINT or memory:")
