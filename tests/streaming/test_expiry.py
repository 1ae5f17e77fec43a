from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.cot.xmlcodec import decode
from taky_twisted.identity.principal import Certificate, Principal
from taky_twisted.notices import Notices
from taky_twisted.streaming import expiry
from taky_twisted.streaming.expiry import DAY, SOON_DAYS, Expiry
from tests.fakes import LogLines, MemorySink, Site
from tests.samples import sa
from tests.threaded_clock import EPOCH


def holder(ends: float, serial: int = 1) -> Principal:
    """Make somebody whose certificate ends at some time."""
    return Principal("ALPHA", certificate=Certificate("ALPHA", "CN=CA", serial, ends=ends))


class ExpiryTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.log = LogLines(self)
        self.site = Site()
        self.sink = MemorySink()
        self.clock = Clock()

    def join(self, expiry: Expiry, principal: Principal, now: float = EPOCH) -> None:
        """Let somebody connect and say who it is."""
        client = self.site.router.subscribe(principal, self.sink, "peer")
        client.publish(decode(sa("ANDROID-1", "FOX")))
        self.sink.events.clear()
        self.log()
        expiry.joined(client, now)

    def test_in_time(self) -> None:
        """From thirty days before its end the log speaks of a certificate, each day once, and says what to do."""
        expiry = Expiry(Notices(self.clock))
        for days, told in ((SOON_DAYS + 0.01, 0), (SOON_DAYS, 1), (SOON_DAYS - 1.5, 1)):
            before = len([line for line in self.log() if "certificate" in line])
            self.join(expiry, holder(EPOCH + days * DAY, int(days * 100)))
            after = len([line for line in self.log() if "certificate" in line])
            self.assertEqual(after - before, told, f"{days} days")
        self.assertRegex(
            self.log()[-1], r"^the certificate of ALPHA ends on 20\d\d-\d\d-\d\d, in 29 days: takyctl renew"
        )

    def test_once_a_day(self) -> None:
        """A phone that reconnects all the time is spoken of once a day."""
        expiry = Expiry(Notices(self.clock))
        for now in (EPOCH, EPOCH + 1, EPOCH + DAY, EPOCH + DAY + 1):
            self.join(expiry, holder(EPOCH + 10 * DAY), now)
        self.assertEqual(len([line for line in self.log() if "certificate of" in line]), 2)
        self.assertEqual(self.sink.events, [])

    def test_bounded(self) -> None:
        """However many certificates there are, what is remembered of them is bounded."""
        self.patch(expiry, "MAX_REMEMBERED", 3)
        made = Expiry(Notices(self.clock))
        for serial in range(10):
            self.join(made, holder(EPOCH + DAY, serial))
        self.assertEqual(len(made._spoken), 3)

    def test_nobody(self) -> None:
        """Who has no certificate, or one of which no end is known, is not spoken of."""
        expiry = Expiry(Notices(self.clock), True)
        for principal in (Principal("ALPHA"), holder(0.0)):
            self.join(expiry, principal)
        self.assertFalse([line for line in self.log() if "certificate of" in line])
        self.assertEqual(self.sink.events, [])

    def test_message(self) -> None:
        """If it is wanted, the user gets a chat message that ATAK shows."""
        self.join(Expiry(Notices(self.clock), True), holder(EPOCH + 10 * DAY))
        (event,) = self.sink.events
        self.assertEqual(event.type, "b-t-f")
        chat = decode(event.xml).detail.chat
        assert chat is not None
        self.assertEqual((chat.chatroom, chat.id), ("TAK-Server", "TAK-Server"))
        self.assertIn("ANDROID-1", chat.uids)
        self.assertIn(b"Your certificate for this server ends on 20", event.xml)

    def test_on_a_stream(self) -> None:
        """A client is looked at when it has said who it is."""
        client = self.site.connect(holder(self.site.clock.seconds() + DAY))
        self.assertFalse([line for line in self.log() if "certificate of" in line])
        client.say(sa("ANDROID-1", "FOX"))
        self.assertEqual(len([line for line in self.log() if "certificate of ALPHA" in line]), 1)
