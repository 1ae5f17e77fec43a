from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.bus.errors import EnvelopeError
from taky_twisted.bus.fields import MAX_COUNT, MAX_INTEGER, MAX_TEXT, SKIP, by_fields, codec
from taky_twisted.cot.event import Destinations, Event
from taky_twisted.cot.xmlcodec import decode
from taky_twisted.records import Record
from taky_twisted.routing.records import ActiveGroups, Tombstone
from tests.routing.test_records import RECORDS
from tests.samples import sa


class Tables:
    """Bytes in a list; everything else in nothing."""

    def __init__(self) -> None:
        self.held: list[bytes] = []
        self.unreadable = 0

    def bytes_(self, data: Any) -> Any:
        if isinstance(data, list):
            return self.held[data[0]]
        self.held.append(data)
        return [len(self.held) - 1, len(data)]

    def speaker(self, speaker: Any) -> Any:
        raise AssertionError

    principal = speaker


@dataclass(frozen=True)
class Inner:
    number: int


@dataclass(frozen=True)
class Sample:
    text: str
    inner: Inner
    weight: float = 1.0
    names: frozenset[str] = frozenset()
    maybe: str | None = None
    many: tuple[Inner, ...] = ()
    numbers: list[int] = field(default_factory=list, compare=False)


class FieldsTests(SynchronousTestCase):
    def test_defaults(self) -> None:
        """What is as usual is not written, and read as usual."""
        hinted = by_fields(Inner)
        self.assertEqual(hinted[0](Inner(3), Tables()), {"number": 3})
        self.assertEqual(hinted[1]({"number": 3, "later": 1}, Tables()), Inner(3))

    def test_records(self) -> None:
        """Every kind of record that nodes tell each other is written field by field, and read again."""
        write, read = codec(tuple[Record, ...])
        tables = Tables()
        told = write(tuple(RECORDS), tables)
        self.assertEqual([record["kind"] for record in told], [type(record).__name__ for record in RECORDS])
        self.assertEqual(read(told, tables), tuple(RECORDS))

    def test_other_records(self) -> None:
        """A record of another kind is not told: its groups or secrets are nobody's business."""
        write, read = codec(Record)
        self.assertRaises(EnvelopeError, write, ActiveGroups("a", "", frozenset(), frozenset()), Tables())
        self.assertIs(read({"kind": "ActiveGroups", "principal": "a"}, Tables()), SKIP)
        refused: list[Any] = [None, [], {}, {"kind": 1}, {"kind": None}]
        for value in refused:
            self.assertRaises(EnvelopeError, read, value, Tables())

    def test_alike(self) -> None:
        """Of events that are alike each is for whom it says, and for everybody if it says nothing."""
        write, read = codec(Event)
        for names in ((), ("B",), (), ("C", "D"), (), ("B",)):
            told = Destinations(callsigns=names, explicit=True) if names else None
            event = decode(sa("A", "A"))
            event.detail.destinations = told
            tables = Tables()
            heard = read(write(event, tables), tables)
            self.assertEqual((heard.detail.destinations, heard.xml), (told, event.xml))
            self.assertEqual((heard.uid, heard.detail.callsign), (event.uid, event.detail.callsign))

    def test_checked(self) -> None:
        """A value of another type than is declared, or out of all bounds, is refused."""
        refused: dict[Any, Any] = {
            str: (None, 1, b"x", ["x"], "x" * (MAX_TEXT + 1)),
            int: (None, "1", 1.0, True, MAX_INTEGER, -MAX_INTEGER),
            float: (None, "1", True, float("nan"), float("inf"), MAX_INTEGER, -MAX_INTEGER),
            bool: (None, 0, 1, "true"),
            frozenset[str]: (None, "x", {"x": 1}, [1], [None], ["x"] * (MAX_COUNT + 1)),
            tuple[int, ...]: (None, 1, ["1"]),
            Tombstone: (None, [], {}, {"uid": "x"}, {"uid": "x", "groups": [], "deleted": "1", "expires": 1}),
        }
        for kind, values in refused.items():
            for value in values:
                self.assertRaises(EnvelopeError, codec(kind)[1], value, Tables())

    def test_at_the_bounds(self) -> None:
        """What is just within bounds is taken."""
        self.assertEqual(len(codec(str)[1]("x" * MAX_TEXT, Tables())), MAX_TEXT)
        self.assertEqual(codec(int)[1](MAX_INTEGER - 1, Tables()), MAX_INTEGER - 1)
        self.assertEqual(len(codec(tuple[int, ...])[1]([1] * MAX_COUNT, Tables())), MAX_COUNT)
        self.assertEqual(codec(float)[1](3, Tables()), 3.0)
        self.assertIsInstance(codec(float)[1](3, Tables()), float)

    def test_not_finite(self) -> None:
        """A number that is none is not told: nobody would take it."""
        for value in (float("nan"), float("inf"), float("-inf")):
            self.assertRaises(EnvelopeError, codec(float)[0], value, Tables())

    def test_no_way(self) -> None:
        """A type for which nobody has said how it is written is found when the server starts, not when it is told."""
        self.assertRaises(TypeError, codec, dict)
        self.assertRaises(TypeError, codec, tuple[int, str])
        self.assertRaises(TypeError, codec, int | str)
        self.assertRaises(TypeError, by_fields, Sample)
