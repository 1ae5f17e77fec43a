"""Lists with an entry per client or file: spelled a piece at a time, so that events are routed in between.

A thread is no help there: Python's JSON lets nothing else run before it has spelled all that it was given.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from itertools import islice

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from taky_twisted.marti.replies import JSON, Reply

PIECE = 200
"""Entries that are spelled in one turn of the reactor: about two milliseconds of it."""

Hold = Callable[[int], None]
"""Counts what a list holds so far, `MartiRequest.hold`: a thousand long ones at once would be too much."""


async def listed(clock: IReactorTime, hold: Hold, entries: Iterable[object]) -> str:
    """Spell entries as a JSON array; each is asked for when its turn comes."""
    waiting, pieces, size = iter(entries), [], 0
    while piece := list(islice(waiting, PIECE)):
        pieces.append(_spelled(piece)[1:-1])
        size += len(pieces[-1])
        hold(size)
        if len(piece) == PIECE:
            await deferLater(clock, 0)
    return f"[{','.join(pieces)}]"


async def bare_list(clock: IReactorTime, hold: Hold, entries: Iterable[object]) -> Reply:
    """Reply with entries as a JSON array."""
    return _reply(await listed(clock, hold, entries))


async def enveloped_list(clock: IReactorTime, hold: Hold, type_: str, entries: Iterable[object], node_id: str) -> Reply:
    """Reply with entries as the data of a `taky_twisted.marti.replies.Envelope`."""
    data = await listed(clock, hold, entries)
    return _reply(f'{{"version":"3","type":{_spelled(type_)},"data":{data},"nodeId":{_spelled(node_id)}}}')


async def counted_list(clock: IReactorTime, hold: Hold, count: int, entries: Iterable[object]) -> Reply:
    """Reply with entries and how many they are."""
    results = await listed(clock, hold, entries)
    return _reply(f'{{"resultCount":{count},"results":{results}}}')


def _spelled(data: object) -> str:
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"))


def _reply(text: str) -> Reply:
    return Reply(text.encode("utf-8", "replace"), JSON)
