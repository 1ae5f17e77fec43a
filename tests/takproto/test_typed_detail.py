from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.takproto.messages import TakMessage
from taky_twisted.takproto.typed_detail import field_of, quoted, spell_fields, spell_number

from .arbitrary import BRIEF


class FieldOfTests(SynchronousTestCase):
    def test_contact(self) -> None:
        """A contact is a field with a callsign, with or without an endpoint, and with nothing else."""
        for good in ({"callsign": "A"}, {"callsign": "A", "endpoint": "e"}):
            self.assertEqual(field_of("contact", good), ("contact", good))
        for bad in ({"endpoint": "e"}, {"callsign": "A", "phone": "1"}, {}, {"callsign": "A", "endpoint": ""}):
            self.assertIsNone(field_of("contact", bad), bad)

    def test_exact(self) -> None:
        """The other texts are fields only with all of their attributes."""
        for name, field, names in (
            ("__group", "group", ("name", "role")),
            ("precisionlocation", "precisionLocation", ("geopointsrc", "altsrc")),
            ("takv", "takv", ("device", "platform", "os", "version")),
        ):
            good = dict.fromkeys(names, "x")
            self.assertEqual(field_of(name, good), (field, good))
            self.assertIsNone(field_of(name, {**good, "more": "x"}))
            for one in names:
                self.assertIsNone(field_of(name, {**good, one: ""}))
                self.assertIsNone(field_of(name, {key: "x" for key in names if key != one}))

    def test_status(self) -> None:
        """A battery is a field if it is a number that comes back as it was spelled."""
        for text in ("0", "87", "4294967295"):
            self.assertEqual(field_of("status", {"battery": text}), ("status", {"battery": int(text)}))
        for text in ("", "087", "+5", "-1", "5.0", " 5", "5 ", "4294967296", "99999999999", "1_0", "\u0663", "abc"):
            self.assertIsNone(field_of("status", {"battery": text}), text)
        self.assertIsNone(field_of("status", {"battery": "5", "readiness": "true"}))
        self.assertIsNone(field_of("status", {"readiness": "true"}))

    def test_track(self) -> None:
        """A track is a field if both are numbers whose value a double keeps."""
        for text in (
            "0",
            "0.0",
            "-0.0",
            "12.5",
            "+5",
            "5.",
            ".5",
            "1e-7",
            "1E99",
            "1e308",
            "5e-324",
            "0e-999",
            "145.87654321098765",
        ):
            track = field_of("track", {"speed": text, "course": "1"})
            self.assertEqual(track, ("track", {"speed": float(text), "course": 1.0}))
        for text in (
            "",
            "abc",
            "NaN",
            "nan",
            "inf",
            "-Infinity",
            "1e400",
            "1e309",
            "1e-400",
            "0.1e9999",
            " 1",
            "1_0",
            "0x1",
            "1,5",
            ".",
        ):
            self.assertIsNone(field_of("track", {"speed": text, "course": "1"}), text)
            self.assertIsNone(field_of("track", {"speed": "1", "course": text}), text)
        self.assertIsNone(field_of("track", {"speed": "1"}))
        self.assertIsNone(field_of("track", {"speed": "1", "course": "1", "slope": "1"}))


class SpellFieldsTests(SynchronousTestCase):
    def spelled(self, **fields: object) -> str:
        """Spell a Detail with these fields."""
        return spell_fields(TakMessage(cotEvent={"detail": fields}).cotEvent.detail)

    def test_absent(self) -> None:
        """What is not there is not made up."""
        self.assertEqual(self.spelled(), "")
        self.assertEqual(self.spelled(xmlDetail="<contact/>"), "")

    def test_empty(self) -> None:
        """What is there but empty has all of its attributes, except for an endpoint."""
        self.assertEqual(self.spelled(contact={}), '<contact callsign=""/>')
        self.assertEqual(self.spelled(group={}), '<__group name="" role=""/>')
        self.assertEqual(self.spelled(status={}), '<status battery="0"/>')
        self.assertEqual(self.spelled(track={}), '<track course="0.0" speed="0.0"/>')
        self.assertEqual(self.spelled(takv={}), '<takv device="" platform="" os="" version=""/>')
        self.assertEqual(self.spelled(precisionLocation={}), '<precisionlocation altsrc="" geopointsrc=""/>')

    def test_xml_wins(self) -> None:
        """Each field gives way to an element of its name in xmlDetail, and only to that."""
        self.assertEqual(self.spelled(status={}, track={}, xmlDetail="<track/>"), '<status battery="0"/>')
        for inner in ("<x><status/></x>", "<statuses/>", "<!--<status/>-->"):
            self.assertEqual(self.spelled(status={}, xmlDetail=inner), '<status battery="0"/>')


class SpellingTests(SynchronousTestCase):
    def test_numbers(self) -> None:
        """Numbers are spelled short and, where people meet them, without an exponent."""
        for value, text in (
            (52.1, "52.1"),
            (9999999.0, "9999999.0"),
            (0.0, "0.0"),
            (1e-7, "0.0000001"),
            (-1.5e-5, "-0.000015"),
            (1e16, "10000000000000000"),
            (1e-300, "1e-300"),
            (1e20, "1e+20"),
            (math.nan, "NaN"),
        ):
            self.assertEqual(spell_number(value), text)

    @BRIEF
    @given(st.floats(allow_nan=False))
    def test_any_number(self, value: float) -> None:
        """Every number comes back as it was."""
        self.assertEqual(float(spell_number(value)), value)

    def test_quoted(self) -> None:
        """Plain text stands as it is; what XML would change is escaped."""
        self.assertEqual(quoted("it's café"), '"it\'s café"')
        self.assertEqual(quoted('<&>"\t\n\r'), '"&lt;&amp;&gt;&quot;&#9;&#10;&#13;"')
