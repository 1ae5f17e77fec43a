from __future__ import annotations

from twisted.internet.address import IPv4Address
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.identity.principal import ANONYMOUS, Certificate, Principal
from taky_twisted.identity.tls import MutualTLS
from taky_twisted.identity.transport import AdmissionFactory, TLSFactory, refusal_of, tls_of
from tests.identity.pairs import Pair, PeerFactory
from tests.identity.test_tls import settings
from tests.pki import PKI, ClientTLS

ADDRESS = IPv4Address("TCP", "192.0.2.1", 4000)


class Picky(PeerFactory):
    """An application that admits whom it is told to."""

    def __init__(self, *, admitting: bool) -> None:
        super().__init__()
        self.admitting = admitting
        self.asked: list[IAddress] = []

    def admits(self, address: IAddress) -> bool:
        self.asked.append(address)
        return self.admitting


class Refusing(Factory):
    """An application that refuses in Twisted's way."""

    def buildProtocol(self, addr: IAddress | None) -> None:
        return None


class AdmissionTests(SynchronousTestCase):
    def test_refused(self) -> None:
        """A connection that the application does not admit is closed before anything is built for it."""
        application = Picky(admitting=False)
        self.assertIsNone(AdmissionFactory(application, application).buildProtocol(ADDRESS))
        self.assertEqual((application.asked, application.peers), ([ADDRESS], []))

    def test_admitted(self) -> None:
        """An admitted connection gets the application's own protocol, with nothing in between."""
        application = Picky(admitting=True)
        protocol = AdmissionFactory(application, application).buildProtocol(ADDRESS)
        self.assertEqual((application.asked, [protocol]), ([ADDRESS], application.peers))

    def test_without_limits(self) -> None:
        """A factory that knows no limits admits everybody."""
        application = PeerFactory()
        self.assertIsNotNone(AdmissionFactory(application, application).buildProtocol(ADDRESS))

    def test_life(self) -> None:
        """The application's factory is started and stopped with the port, and is named in the log."""
        calls = []

        class Application(Factory):
            noisy = False

            def doStart(self) -> None:
                calls.append("start")

            def doStop(self) -> None:
                calls.append("stop")

            def logPrefix(self) -> str:
                return "CoT"

        application = Application()
        factory = AdmissionFactory(application, application)
        factory.doStart()
        factory.doStop()
        self.assertEqual(calls, ["start", "stop"])
        self.assertEqual(factory.logPrefix(), "CoT")

        class Nameless:
            pass

        self.assertEqual(AdmissionFactory(Nameless(), Nameless()).logPrefix(), "Nameless")  # type: ignore[arg-type]


class TLSFactoryTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.pki = PKI(self.mktemp())
        self.tls = MutualTLS(settings(self.pki))

    def test_refused(self) -> None:
        """An application that refuses a connection refuses it under TLS too."""
        self.assertIsNone(TLSFactory(self.tls, Refusing(), Clock()).buildProtocol(ADDRESS))

    def test_no_buffer(self) -> None:
        """What is written goes out at once; nothing waits for another turn of the reactor."""
        pair = Pair(self.tls, ClientTLS(self.pki.ca, self.pki.client))
        assert pair.server.transport is not None
        pair.server.transport.write(b"at once")
        pair.flush()
        self.assertEqual(pair.client.received, b"helloat once")

    def test_first_bytes(self) -> None:
        """How a peer began is kept, and only the beginning."""
        pair = Pair(self.tls, ClientTLS(self.pki.ca, self.pki.client))
        self.assertEqual(pair.tls.handshake.first_bytes[:2], b"\x16\x03")
        self.assertEqual(len(pair.tls.handshake.first_bytes), 16)

    def test_later_reads_cost_nothing(self) -> None:
        """Once the first bytes are seen, nothing looks at them any more; neither after an early end."""
        pair = Pair(self.tls, ClientTLS(self.pki.ca, self.pki.client))
        self.assertNotIn("dataReceived", pair.tls.__dict__)
        short = Pair(self.tls, b"\x16\x03")
        self.assertIn("dataReceived", short.tls.__dict__)
        short.tls.abortConnection()
        short.flush()
        self.assertIsNotNone(short.server.reason)
        self.assertNotIn("dataReceived", short.tls.__dict__)

    def test_what_was_shown(self) -> None:
        """What the peer showed is known, good or bad."""
        for credentials, refused in ((self.pki.client, False), (self.pki.revoked, True)):
            handshake = Pair(self.tls, ClientTLS(self.pki.ca, credentials)).tls.handshake
            assert handshake.certificate is not None
            self.assertEqual(handshake.certificate.serial, credentials.certificate.serial_number)
            self.assertEqual(handshake.refusal is not None, refused)


class FindTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.pki = PKI(self.mktemp())
        self.tls = MutualTLS(settings(self.pki))
        self.pair = Pair(self.tls, ClientTLS(self.pki.ca, self.pki.client))

    def revoked(self) -> Principal:
        serial = self.pki.revoked.certificate.serial_number
        return Principal(name="R", certificate=Certificate("R", "CN=Test CA,O=taky", serial))

    def test_tls_of(self) -> None:
        """Our TLS is found under a protocol's transport, also through Twisted's wrappers."""
        self.assertIs(tls_of(self.pair.server.transport), self.pair.tls)
        wrapper = ProtocolWrapper(WrappingFactory(Factory()), Protocol())
        wrapper.transport = self.pair.tls
        self.assertIs(tls_of(wrapper), self.pair.tls)

    def test_no_tls(self) -> None:
        """Where there is no TLS of ours none is found, and nothing speaks against anybody."""
        for transport in (None, StringTransport(), ProtocolWrapper(WrappingFactory(Factory()), Protocol())):
            self.assertIsNone(tls_of(transport))
            self.assertIsNone(refusal_of(transport, self.revoked()))
        self.assertIsNone(tls_of(self.pair.client.transport))

    def test_refusal_of(self) -> None:
        """Whether a peer's certificate still counts can be asked as long as it is connected."""
        transport = self.pair.server.transport
        assert self.pair.server.principal is not None
        self.assertIsNone(refusal_of(transport, self.pair.server.principal))
        self.assertIsNone(refusal_of(transport, ANONYMOUS))
        self.pki.write_register(R=[self.pki.client])
        self.tls.reload()
        self.assertIn("ALPHA-1", refusal_of(transport, self.pair.server.principal) or "")
