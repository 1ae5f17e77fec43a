from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.routing.callsigns import Callsigns
from taky_twisted.routing.contact import Contact


class CallsignsTests(SynchronousTestCase):
    def test_find(self) -> None:
        """All who have a callsign are found; in another case only if nobody has it exactly."""
        callsigns = Callsigns()
        one, two, three = Contact("1"), Contact("2"), Contact("3")
        for contact, callsign in ((one, "Alpha"), (two, "Alpha"), (three, "ALPHA")):
            callsigns.rename(contact, callsign)
        self.assertEqual(list(callsigns.find("Alpha")), [one, two])
        self.assertEqual(list(callsigns.find("ALPHA")), [three])
        self.assertEqual(list(callsigns.find("alpha")), [one, two, three])
        self.assertEqual(list(callsigns.find("bravo")), [])

    def test_rename(self) -> None:
        """Who has another callsign is not found by the old one; without one it is not found at all."""
        callsigns = Callsigns()
        one = Contact("1")
        callsigns.rename(one, "Alpha")
        callsigns.rename(one, "Bravo")
        self.assertEqual((list(callsigns.find("Alpha")), list(callsigns.find("Bravo"))), ([], [one]))
        callsigns.rename(one, "")
        self.assertEqual((list(callsigns.find("Bravo")), one.callsign), ([], ""))
