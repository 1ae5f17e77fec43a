"""Tests for `taky_twisted.routing.contact`."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.routing.contact import Contact
from tests.fakes import MemorySink, Site, principal
from tests.samples import NOW, event, sa


class ContactTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.contact = Contact("A")

    def test_presence(self) -> None:
        """A contact is there while a connection speaks for it, and for the moment in which it may be coming back."""
        subscription, _ = Site().subscribe(principal("a"), MemorySink())
        self.assertFalse(self.contact.present)
        self.contact.holders[subscription] = None
        self.assertTrue(self.contact.present)
        self.contact.holders.clear()
        self.contact.leaving = Clock().callLater(5, lambda: None)
        self.assertTrue(self.contact.present)

    def test_incognito(self) -> None:
        """A contact is hidden if one of its connections asked for that."""
        subscription, _ = Site().subscribe(principal("a"), MemorySink())
        self.contact.holders[subscription] = None
        self.assertFalse(self.contact.incognito)
        subscription.incognito = True
        self.assertTrue(self.contact.incognito)

    def test_record(self) -> None:
        """What is kept of a contact is all that can be shown of it; nothing while nothing can."""
        self.assertIsNone(self.contact.record())
        self.contact.sa = event(sa("A", "FOX"))
        self.contact.callsign, self.contact.seen = "FOX", NOW
        record = self.contact.record()
        assert record is not None
        self.assertEqual((record.key, record.callsign, record.type), ("A", "FOX", "a-f-G-U-C"))
        self.assertEqual((record.stale, record.online, record.xml), (NOW + 375, False, self.contact.sa.xml))
