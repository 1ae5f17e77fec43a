from __future__ import annotations

from dataclasses import FrozenInstanceError

from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.cot.event import PROLOG, Chat, Destinations, Detail, Event
from tests.samples import event, marker, sa, xml


class EventTests(SynchronousTestCase):
    """What every part of the server passes on."""

    def test_self_report(self) -> None:
        """Who names a callsign and an endpoint, or its software, says who it is."""
        for detail in (
            '<contact callsign="FOX" endpoint="*:-1:stcp"/>',
            '<contact callsign="FOX" endpoint=""/>',
            '<contact callsign="FOX"/><takv/>',
            '<takv platform="iTAK"/><contact callsign="FOX"/>',
        ):
            self.assertTrue(event(xml("A", "a-f-G-U-C", detail)).is_self_report, detail)
        self.assertTrue(event(sa("A", "FOX")).is_self_report)

    def test_no_self_report(self) -> None:
        """A marker with a callsign is nobody, nor is somebody without one, nor anything that is no ``a-``."""
        for type_, detail in (
            ("a-h-G", '<contact callsign="TGT"/>'),
            ("a-f-G-U-C", '<contact endpoint="*:-1:stcp"/><takv/>'),
            ("a-f-G-U-C", '<contact callsign="" endpoint="*:-1:stcp"/>'),
            ("b-m-p-s-m", '<contact callsign="FOX" endpoint="*:-1:stcp"/>'),
            ("a", '<contact callsign="FOX" endpoint="*:-1:stcp"/>'),
            ("a-f-G-U-C", ""),
        ):
            self.assertFalse(event(xml("A", type_, detail)).is_self_report, (type_, detail))
        self.assertFalse(event(marker()).is_self_report)
        detail_of_nobody = Detail(callsign="FOX", endpoint="")
        self.assertFalse(Event("", "a-f-G", "m-g", 0, 0, 0, 0, 0, detail_of_nobody, b"").is_self_report)

    def test_identity(self) -> None:
        """Two events are never the same one because they say the same: queues may hold both."""
        self.assertNotEqual(event(marker()), event(marker()))

    def test_values(self) -> None:
        """What was named cannot be changed by somebody who hears of it."""
        with self.assertRaises(FrozenInstanceError):
            Destinations().explicit = True  # type: ignore[misc]  # that is what is tested
        with self.assertRaises(FrozenInstanceError):
            Chat("", "", ()).id = "x"  # type: ignore[misc]  # that is what is tested

    def test_prolog(self) -> None:
        """What an event begins with is spelled as ATAK and TAK Server do, and no other way."""
        self.assertEqual(PROLOG, b'<?xml version="1.0" encoding="UTF-8"?>\n')
