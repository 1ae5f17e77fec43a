from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.config.limits import LIMITS, Limits, limit_options, parse_limit

MANUAL = Path(__file__).parents[2] / "doc" / "reference" / "limits.rst"


class LimitsTests(SynchronousTestCase):
    def test_defaults(self) -> None:
        """Who configures nothing has the limits that the manual promises."""
        self.assertEqual(
            {one.name: getattr(Limits(), one.name) for one in fields(Limits)},
            {
                "max_connections": 10_000,
                "max_per_address": 0,
                "max_unidentified": 0,
                "max_handshakes": 500,
                "handshake_seconds": 10,
                "max_event_bytes": 8388608,
                "max_unidentified_bytes": 65536,
                "max_event_to_client": 65536,
                "input_events_per_second": 5000,
                "input_bytes_per_second": 5242880,
                "outbox_bytes": 1048576,
                "thin_seconds": 1,
                "stall_seconds": 30,
                "idle_seconds": 300,
                "retained_items": 10_000,
                "retained_bytes": 67108864,
                "missed_chats": 100,
                "missed_chat_days": 7,
                "emergencies": 1000,
                "emergency_hours": 24,
                "emergency_period": 10,
                "secondary_uids": 1000,
                "known_contacts": 10_000,
                "tombstones": 10_000,
                "max_http_connections": 1000,
                "max_http_per_address": 0,
                "http_header_seconds": 30,
                "http_idle_seconds": 60,
                "http_stall_seconds": 60,
                "upload_bytes": 400_000_000,
                "uploads_per_principal": 8,
                "stored_files": 20_000,
                "video_connections": 1000,
                "history_days": 7,
                "history_bytes": 1 << 30,
            },
        )

    def test_default_is_allowed(self) -> None:
        """Every default may be written down, and is then the same value of the same type."""
        for name, default, doc in limit_options():
            parsed = parse_limit(name, default)
            self.assertEqual(parsed, getattr(Limits(), name), name)
            self.assertIs(type(parsed), type(getattr(Limits(), name)), name)
            self.assertTrue(doc.startswith(f"[{LIMITS[name].unit}] "), doc)
            self.assertTrue(doc.endswith("."), doc)
        self.assertEqual(Limits().replaced({name: limit.default for name, limit in LIMITS.items()}), Limits())

    def test_edges(self) -> None:
        """The smallest and the largest value that the manual names are allowed, and none beyond."""
        for limit in LIMITS.values():
            self.assertEqual(limit.check(limit.low), limit.low)
            self.assertEqual(limit.check(limit.high), limit.high)
            for value in (limit.low - 0.01, limit.high + 1):
                self.assertIn("out of range; allowed: ", str(self.assertRaises(ValueError, limit.check, value)))

    def test_kinds(self) -> None:
        """Sizes have suffixes, times have fractions, counts are whole numbers."""
        self.assertEqual(parse_limit("outbox_bytes", "2 MiB"), 2 << 20)
        self.assertEqual(parse_limit("thin_seconds", " 0.5 "), 0.5)
        self.assertEqual(parse_limit("emergency_hours", "36"), 36.0)
        self.assertEqual(parse_limit("max_connections", "1"), 1)
        for name, text, words in (
            ("outbox_bytes", "1.5", "not a size"),
            ("outbox_bytes", "1", "out of range; allowed: 1024 to 1000000000 bytes"),
            ("thin_seconds", "1s", "not a number; allowed: 0.1 to 3600 seconds"),
            ("thin_seconds", "nan", "not a number"),
            ("thin_seconds", "-1", "not a number"),
            ("thin_seconds", "0", "out of range"),
            ("max_connections", "0", "not a number of connections; allowed: a whole number from 1"),
            ("max_connections", "1.0", "not a number of connections"),
        ):
            self.assertIn(words, str(self.assertRaises(ValueError, parse_limit, name, text)), (name, text))

    def test_replaced(self) -> None:
        """Limits that are named change, the others stay."""
        limits = Limits().replaced({"max_connections": 5, "thin_seconds": 2.5})
        self.assertEqual((limits.max_connections, limits.thin_seconds, limits.max_handshakes), (5, 2.5, 500))
        error = self.assertRaises(ValueError, limits.replaced, {"max_connections": 0})
        self.assertIn("max_connections = 0: out of range", str(error))

    def test_contradictions(self) -> None:
        """An event that fits one limit and can never fit the next is found at start; equal limits are fine."""
        for lesser, greater in (
            ("max_unidentified_bytes", "max_event_bytes"),
            ("max_event_to_client", "outbox_bytes"),
        ):
            limits = Limits().replaced({lesser: 5000, greater: 5000})
            self.assertEqual(getattr(limits, lesser), 5000)
            error = self.assertRaises(ValueError, limits.replaced, {lesser: 5001})
            self.assertIn(f"{lesser} = 5001 is more than {greater} = 5000; allowed: ", str(error))
        self.assertEqual(Limits().replaced({"max_event_to_client": 0}).max_event_to_client, 0)

    def test_manual(self) -> None:
        """The manual's table has every limit with the unit, default, range and effect that the program has."""
        cells = [
            tuple(cell.strip() for cell in row.split("\n     - "))
            for row in re.findall(r"\* - (``\w+``(?:\n     - .*)+)", MANUAL.read_text("utf-8"))
        ]
        self.assertEqual(
            cells,
            [
                (
                    f"``{name}``",
                    LIMITS[name].unit,
                    default,
                    f"{LIMITS[name].low:.12g} to {LIMITS[name].high:.0f}",
                    LIMITS[name].at,
                )
                for name, default, _ in limit_options()
            ],
        )

    @given(st.sampled_from(sorted(LIMITS)), st.text() | st.from_regex(r"[0-9]{1,20}(\.[0-9]+)?[kMG]?", fullmatch=True))
    def test_any_text(self, name: str, text: str) -> None:
        """Whatever is written for a limit, the answer is a value in range, or what is allowed."""
        limit = LIMITS[name]
        try:
            value = limit.parse(text)
        except ValueError as error:
            self.assertIn("allowed: ", str(error))
        else:
            self.assertTrue(limit.low <= value <= limit.high, value)
