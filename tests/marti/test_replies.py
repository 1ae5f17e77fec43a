from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.marti.replies import EMPTY, Envelope, as_json, date, text, xml


class ReplyTests(SynchronousTestCase):
    def test_types(self) -> None:
        """Content types are to the letter what clients compare with: nothing is added to them."""
        self.assertEqual(as_json({}).content_type, "application/json")
        self.assertEqual(text("x").content_type, "text/plain")
        self.assertEqual(xml(b"<a/>").content_type, "application/xml")
        self.assertEqual((EMPTY.status, EMPTY.body), (200, b""))

    def test_text(self) -> None:
        """A text goes out as it is, without a line feed, in UTF-8."""
        self.assertEqual(text("https://tak.example/ü").body, "https://tak.example/ü".encode())
        self.assertEqual(text("x", 201).status, 201)

    def test_envelope(self) -> None:
        """The envelope names version, type and server; the version is a string."""
        self.assertEqual(
            json.loads(Envelope("java.lang.Boolean", True).reply("node").body),
            {"version": "3", "type": "java.lang.Boolean", "data": True, "nodeId": "node"},
        )

    def test_halves_of_characters(self) -> None:
        """What JSON can say and UTF-8 cannot does no harm."""
        hostile = json.loads(r'"a\ud800b"')
        self.assertEqual(json.loads(as_json([hostile]).body), ["a?b"])
        self.assertEqual(text(hostile).body, b"a?b")

    @given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists))
    def test_json(self, data: object) -> None:
        """Whatever is said is read again."""
        self.assertEqual(json.loads(as_json(data).body), data)


class DateTests(SynchronousTestCase):
    def test_milliseconds(self) -> None:
        """There are always exactly three digits: ATAK reads any number of digits as milliseconds."""
        for seconds, spelled in (
            (0, "1970-01-01T00:00:00.000Z"),
            (1768996800.005, "2026-01-21T12:00:00.005Z"),
            (1768996800.9999, "2026-01-21T12:00:00.999Z"),
        ):
            self.assertEqual(date(seconds), spelled)

    @given(st.floats(allow_nan=False))
    def test_any(self, seconds: float) -> None:
        """Times beyond what can be spelled are the first or the last that can be."""
        self.assertRegex(date(seconds), r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
