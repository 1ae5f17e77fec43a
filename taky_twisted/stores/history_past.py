"""Looking up what was said, in SQLite."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import starmap

from taky_twisted.history.packing import unpack
from taky_twisted.history.records import HistoryBusy, Moment, Query

TOO_LATE = "looking that up takes too long; ask for less time or fewer uids"
_PLACE = "uid, type, callsign, time, lat, lon, hae"


class SqlitePast:
    """What is kept in one open file."""

    def __init__(self, connection: sqlite3.Connection, late: Callable[[], bool]) -> None:
        """Look things up in a connection, until it is too late for that."""
        self._connection, self._late = connection, late
        self.unreadable = 0
        """Events that were left out because what is stored of them is damaged."""

    def events(self, query: Query) -> Iterator[Moment]:
        condition, values = self._condition(query)
        return self._moments(
            f"SELECT {_PLACE}, packed, xml FROM {_table(query)} WHERE {condition} ORDER BY time DESC, number DESC"
            " LIMIT :limit",
            values,
        )

    def latest(self, query: Query) -> Iterator[Moment]:
        for uid in query.uids:
            # One step in an index each, however much there is of it.
            yield from self.events(replace(query, uids=(uid,), limit=1))
        if query.uids:
            return
        condition, values = self._condition(query)
        box = query.box
        inside = "1"
        if box is not None:
            across = "OR" if box.left > box.right else "AND"
            inside = f"lat BETWEEN :bottom AND :top AND (lon >= :left {across} lon <= :right)"
            values |= {"left": box.left, "bottom": box.bottom, "right": box.right, "top": box.top}
        # With max() the other columns are those of the row that has it.
        yield from self._moments(
            f"SELECT {_PLACE}, packed, xml FROM event JOIN"
            f" (SELECT number AS newest, max(time) FROM {_table(query)} WHERE {condition} GROUP BY uid)"
            f" ON number = newest WHERE {inside} ORDER BY time DESC, number DESC LIMIT :limit",
            values,
        )

    def places(self, query: Query) -> Iterator[Moment]:
        condition, values = self._condition(query)
        rows = self._connection.execute(
            f"SELECT * FROM (SELECT {_PLACE} FROM {_table(query)} WHERE {condition} ORDER BY time DESC LIMIT :limit)"
            " ORDER BY uid, time",
            values,
        )
        return starmap(Moment, rows)

    def _moments(self, statement: str, values: dict[str, object]) -> Iterator[Moment]:
        for row in self._connection.execute(statement, values):
            if self._late():  # SQLite does not know how long its rows take whoever gets them
                raise HistoryBusy(TOO_LATE)
            how, xml = row[-2:]
            try:
                whole = unpack(how, xml)
            except ValueError:
                self.unreadable += 1
                continue
            yield Moment._make((*row[:-2], whole))

    def _condition(self, query: Query) -> tuple[str, dict[str, object]]:
        """Spell what is looked for, and what whoever asks may see; also the values that it refers to."""
        # Sets of groups are few, events many: which sets may be seen is settled beforehand.
        sets = self._connection.execute("SELECT number, names FROM group_set")
        seen = [str(number) for number, names in sets if not query.groups_out.isdisjoint(json.loads(names))]
        terms = [
            f"group_set IN ({', '.join(seen)})",
            "(readers IS NULL OR EXISTS (SELECT 1 FROM json_each(readers) WHERE value = :reader))",
            "time BETWEEN :start AND :end",
        ]
        values: dict[str, object] = {
            "reader": query.reader,
            "start": query.start,
            "end": query.end,
            "limit": query.limit,
        }

        def named(name: str, items: tuple[str, ...]) -> list[str]:
            values.update({f"{name}{number}": item for number, item in enumerate(items)})
            return [f":{name}{number}" for number in range(len(items))]

        def begins(name: str, items: tuple[str, ...]) -> str:
            return " OR ".join(f"substr(type, 1, length({item})) = {item}" for item in named(name, items))

        if query.uids:
            terms.append(f"uid IN ({', '.join(named('uid', query.uids))})")
        if query.types:
            terms.append(f"({begins('type', query.types)})")
        if query.without:
            terms.append(f"NOT ({begins('without', query.without)})")
        return " AND ".join(terms), values


def _table(query: Query) -> str:
    # SQLite would go through all that was ever said to save sorting what was said in a few seconds.
    return f"event INDEXED BY {'event_uid' if query.uids else 'event_time'}"
