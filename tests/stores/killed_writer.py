"""A process that changes a store as fast as it is told, and says what it does, until it is killed."""

from __future__ import annotations

import os
import struct
import sys
import time
from pathlib import Path

from twisted.internet import reactor, task

from taky_twisted.routing.records import Item
from taky_twisted.stores.sqlite import SqliteStore

KEYS = 300
PER_TURN = 20
TURN_SECONDS = 0.01

LINE = struct.Struct("=qd?")
"""What is said of each change: its number, when it was made, and whether the item was put (else removed)."""


def uid_of(number: int) -> str:
    """Say which item a change is about."""
    return f"item-{number * 7 % KEYS}"


def main(path: str, first: str) -> None:
    """Change the store at a path; changes are numbered from ``first`` on."""
    store = SqliteStore(Path(path), reactor)
    store.open()
    number = int(first)

    def change() -> None:
        nonlocal number
        for _ in range(PER_TURN):
            now = time.time()
            put = number % 11 != 0
            if put:
                xml = b"<event/>" + os.urandom(400)
                store.put(Item(uid_of(number), "a-f-G", xml, frozenset({"g"}), float(number), now + 3600, now + 3600))
            else:
                store.remove(Item, uid_of(number))
            os.write(1, LINE.pack(number, now, put))
            number += 1

    task.LoopingCall(change).start(TURN_SECONDS)
    reactor.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
