from __future__ import annotations

from datetime import datetime, timezone

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.cot.errors import MalformedEvent
from taky_twisted.cot.times import LATEST, MAX_CHARS, format_time, parse_time
from tests.samples import NOW

INSTANTS = st.datetimes(datetime(1970, 1, 1), datetime(2106, 2, 7), timezones=st.just(timezone.utc))


class ParseTests(SynchronousTestCase):
    """Times that clients send."""

    def test_sent_form(self) -> None:
        """Milliseconds and ``Z`` is the form that everybody can read: it is kept as it is."""
        self.assertEqual(parse_time("2026-03-01T10:00:00.000Z"), (NOW, True))
        self.assertEqual(parse_time("2026-03-01T10:00:00.250Z"), (NOW + 0.25, True))
        self.assertEqual(parse_time("1970-01-01T00:00:00.000Z"), (0.0, True))

    def test_fractions(self) -> None:
        """Any number of digits up to nine is understood; what is finer than a millisecond is cut off."""
        for fraction, seconds in (
            ("", 0.0),
            (".0", 0.0),
            (".5", 0.5),
            (".25", 0.25),
            (".1239", 0.123),
            (".999999", 0.999),
            (".123456789", 0.123),
        ):
            read, kept = parse_time(f"2026-03-01T10:00:00{fraction}Z")
            self.assertEqual((round(read - NOW, 6), kept), (seconds, False), fraction)

    def test_offsets(self) -> None:
        """An offset, with a colon or without, names the same instant in another place."""
        for text in ("12:00:00+02:00", "12:00:00.000+0200", "06:30:00-0330", "10:00:00+00:00", "10:00:00.0000-00:00"):
            self.assertEqual(parse_time(f"2026-03-01T{text}"), (NOW, False), text)

    def test_blanks_around(self) -> None:
        """Blanks around a time do no harm."""
        self.assertEqual(parse_time(" 2026-03-01T10:00:00.000Z\n"), (NOW, False))

    def test_no_time(self) -> None:
        """What is no time is refused, in words that quote its beginning."""
        for text in (
            "",
            "now",
            "2026-03-01",
            "2026-03-01T10:00:00",
            "2026-03-01 10:00:00Z",
            "2026-03-01T10:00Z",
            "2026-03-01T10:00:00.Z",
            "2026-03-01T10:00:00.1234567890Z",
            "2026-03-01T10:00:00+2:00",
            "2026-03-01T10:00:00z",
            "2026-02-29T10:00:00.000Z",
            "2026-03-01T25:00:00Z",
            "2026-03-01T10:00:61.000Z",
            "26-03-01T10:00:00Z",
            "0000-01-01T00:00:00.000Z",
            "12026-03-01T10:00:00Z",
            "-2026-03-01T10:00:00Z",
            "\u0662026-03-01T10:00:00Z",
            "1772359200",
        ):
            with self.assertRaises(MalformedEvent) as caught:
                parse_time(text)
            self.assertIn(f"{text!r} is no time", str(caught.exception))

    def test_before_all_calendars(self) -> None:
        """An offset does not carry a time out of the calendar; .NET's least time is one."""
        self.assertEqual(format_time(parse_time("0001-01-01T00:00:00Z")[0]), "0001-01-01T00:00:00.000Z")
        self.assertEqual(format_time(parse_time("0001-01-01T02:00:00+02:00")[0]), "0001-01-01T00:00:00.000Z")
        with self.assertRaises(MalformedEvent):
            parse_time("0001-01-01T01:59:59+02:00")

    def test_longest(self) -> None:
        """What is remembered of a time that is read is short, however much a sender puts around it."""
        time = "2026-03-01T10:00:00Z"
        self.assertEqual(parse_time(time.ljust(MAX_CHARS)), (NOW, False))
        with self.assertRaises(MalformedEvent):
            parse_time(time.ljust(MAX_CHARS + 1))


class FormatTests(SynchronousTestCase):
    """Times that we send."""

    def test_form(self) -> None:
        """Always three digits and ``Z``, and four digits for the year."""
        self.assertEqual(format_time(NOW), "2026-03-01T10:00:00.000Z")
        self.assertEqual(format_time(NOW + 0.0014), "2026-03-01T10:00:00.001Z")
        self.assertEqual(format_time(NOW + 0.9999), "2026-03-01T10:00:01.000Z")
        self.assertEqual(format_time(0), "1970-01-01T00:00:00.000Z")
        self.assertEqual(format_time(-62135596800), "0001-01-01T00:00:00.000Z")

    def test_latest(self) -> None:
        """ATAK counts unsigned 32-bit seconds: later becomes the latest that it can read."""
        self.assertEqual(format_time(LATEST - 1), "2106-02-07T06:28:14.000Z")
        self.assertEqual(format_time(LATEST), "2106-02-07T06:28:15.000Z")
        self.assertEqual(format_time(LATEST + 1), "2106-02-07T06:28:15.000Z")
        self.assertEqual(format_time(float("inf")), "2106-02-07T06:28:15.000Z")

    @settings(max_examples=300, deadline=None)
    @given(INSTANTS)
    def test_same_instant(self, instant: datetime) -> None:
        """What we send is read back as the instant that was meant, and then kept as it is."""
        sent = format_time(instant.timestamp())
        self.assertLessEqual(abs(parse_time(sent)[0] - instant.timestamp()), 0.000501)
        self.assertTrue(parse_time(sent)[1])
        self.assertEqual(format_time(parse_time(sent)[0]), sent)
