"""Lists with an entry per client: spelled a piece at a time, so that events are routed in between."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import islice

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from taky_twisted.marti.replies import JSON, Reply

PIECE = 200
"""Entries that are spelled in one turn of the reactor: about two milliseconds of it."""


async def listed(clock: IReactorTime, entries: Iterable[object]) -> str:
    """Spell entries as a JSON array; each is asked for when its turn comes."""
    waiting, pieces = iter(entries), []
    while piece := list(islice(waiting, PIECE)):
        pieces.append(_spelled(piece)[1:-1])
        if len(piece) == PIECE:
            await deferLater(clock, 0)
    return f"[{','.join(pieces)}]"


async def bare_list(clock: IReactorTime, entries: Iterable[object]) -> Reply:
    """Reply with entries as a JSON array."""
    return _reply(await listed(clock, entries))


async def enveloped_list(clock: IReactorTime, type_: str, entries: Iterable[object], node_id: str) -> Reply:
    """Reply with entries as the data of a `taky_twisted.marti.replies.Envelope`."""
    data = await listed(clock, entries)
    return _reply(f'{{"version":"3","type":{_spelled(type_)},"data":{data},"nodeId":{_spelled(node_id)}}}')


def _spelled(data: object) -> str:
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"))


def _reply(text: str) -> Reply:
    return Reply(text.encode("utf-8", "replace"), JSON)
