from __future__ import annotations

import ssl

from OpenSSL import SSL
from twisted.internet import defer, error
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.identity.principal import Certificate
from taky_twisted.identity.refusals import explain, explain_silence, looks_like_tls, shown_as, verify_refusal
from taky_twisted.identity.tls import MutualTLS
from tests.identity.pairs import Pair, Peer
from tests.identity.test_tls import settings
from tests.pki import PKI, Authority, ClientTLS, Credentials

VERSIONS = (SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION)


def failed(*reasons: str) -> Failure:
    """Make the failure that OpenSSL's error queue leads to."""
    return Failure(SSL.Error([("SSL routines", "", reason) for reason in reasons]))


class HandshakeTests(SynchronousTestCase):
    """Real handshakes that fail, and what the log says of each."""

    def setUp(self) -> None:
        self.pki = PKI(self.mktemp())
        self.tls = MutualTLS(settings(self.pki))

    def why(self, client: ClientTLS | bytes, tls: MutualTLS | None = None) -> str:
        pair = Pair(tls or self.tls, client)
        self.assertFalse(pair.server.completed, pair.server.principal)
        self.assertIsNotNone(pair.server.reason, "the connection is still open")
        assert pair.server.why is not None
        self.assertNotIn("\n", pair.server.why)
        return pair.server.why

    def assert_why(self, credentials: Credentials | None, *words: str) -> None:
        """With TLS 1.2 and 1.3, a client with these credentials is refused for a reason that has these words."""
        for version in VERSIONS:
            why = self.why(ClientTLS(self.pki.ca, credentials, version=version))
            for each in words:
                self.assertIn(each, why)

    def named(self, credentials: Credentials) -> str:
        return f"serial {credentials.certificate.serial_number:X}"

    def test_no_certificate(self) -> None:
        """Who shows no certificate is told apart from who shows a bad one."""
        self.assert_why(None, "the client showed no certificate")

    def test_other_authority(self) -> None:
        """A certificate from another authority is named, with its issuer."""
        foreign = self.pki.foreign
        self.assert_why(
            foreign, "FOREIGN-6", self.named(foreign), "CN=Other CA,O=taky", "an authority that we do not trust"
        )

    def test_authority_of_the_same_name(self) -> None:
        """Two sites may have authorities of one name, and it is said that this is what happened."""
        self.assert_why(self.pki.namesake, "NAMESAKE-7", "the same name but another key")

    def test_self_signed(self) -> None:
        """A certificate that signed itself is called that."""
        own = Authority("Mine")
        self.assert_why(Credentials(own.key, own.certificate, own.certificate), "signed by itself")

    def test_expired(self) -> None:
        """An expired certificate is named, with the date."""
        expired = self.pki.expired
        date = f"{expired.certificate.not_valid_after_utc:%Y-%m-%d}"
        self.assert_why(expired, "EXPIRED-4", self.named(expired), f"expired on {date}")

    def test_not_yet_valid(self) -> None:
        """A certificate from the future suggests to look at the clock."""
        date = f"{self.pki.early.certificate.not_valid_before_utc:%Y-%m-%d}"
        self.assert_why(self.pki.early, "EARLY-5", f"not valid before {date}", "clock")

    def test_revoked(self) -> None:
        """A revoked certificate is named, with the serial that the register has."""
        revoked = self.pki.revoked
        self.assert_why(revoked, "REVOKED-3", self.named(revoked), "revoked in the certificate register")

    def test_server_certificate(self) -> None:
        """A certificate that is for servers only is no client's."""
        self.assert_why(self.pki.server, "localhost", "not made for clients", "clientAuth")

    def test_expired_authority(self) -> None:
        """When what is wrong is above the client's certificate, that is what is named."""
        certificate = self.pki.expired.certificate
        why = verify_refusal(10, certificate, 1, ())
        self.assertIn("an authority's certificate above the client's (CN=EXPIRED-4) expired on", why)

    def test_other_errors(self) -> None:
        """What OpenSSL can find wrong beyond that is said with its number at least."""
        certificate = self.pki.client.certificate
        self.assertIn("ALPHA-1", verify_refusal(68, certificate, 0, ()))
        self.assertIn("too weak", verify_refusal(68, certificate, 0, ()))
        self.assertIn("verify error 34", verify_refusal(34, certificate, 0, ()))

    def test_client_distrusts_us(self) -> None:
        """A client whose truststore lacks our authority is told apart from one that we refuse."""
        for version in VERSIONS:
            why = self.why(ClientTLS(self.pki.other_ca, self.pki.client, version=version))
            self.assertIn("the client does not trust our certificate (alert: unknown ca)", why)

    def test_name_is_missing(self) -> None:
        """Who does not accept our certificate, having called us a name that is not in it, is told apart."""
        for called, version in ((f"tak.example.{version}", version) for version in range(2)):
            context = ssl.create_default_context(cafile=self.pki.ca_path)
            if version == 0:
                context.maximum_version = ssl.TLSVersion.TLSv1_2
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            client = context.wrap_bio(incoming, outgoing, server_hostname=called)
            pair = Pair(self.tls, b"")
            try:
                while True:
                    try:
                        client.do_handshake()
                    except ssl.SSLWantReadError:
                        pair.client.transport.write(outgoing.read())  # type: ignore[union-attr]
                        pair.flush()
                        incoming.write(pair.client.received)
                        pair.client.received = b""
            except ssl.SSLCertVerificationError:
                pair.client.transport.write(outgoing.read())  # type: ignore[union-attr]
                pair.flush()
            self.assertEqual(
                pair.server.why,
                "the client does not accept our certificate (alert: bad certificate), probably because it called us"
                f" {called}, which is not in it",
            )

    def test_left_with_a_missing_name(self) -> None:
        """Who hangs up in the middle of the handshake may miss the name that it asked for."""
        client = ssl.create_default_context()
        outgoing = ssl.MemoryBIO()
        object_ = client.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="tak.example")
        with self.assertRaises(ssl.SSLWantReadError):
            object_.do_handshake()
        pair = Pair(self.tls, outgoing.read())
        pair.tls.connectionLost(Failure(error.ConnectionDone()))
        self.assertIn("it closed the connection), probably because it called us tak.example", pair.server.why or "")

    def test_silence(self) -> None:
        """Some clients look at the names only after the handshake, and leave without a word."""
        pair = Pair(self.tls, ClientTLS(None, self.pki.client, calls=b"tak.example"))
        self.assertTrue(pair.server.completed)
        self.assertEqual(
            explain_silence(pair.server.transport),
            "the client does not accept our certificate (it left without a word), probably because it called us"
            " tak.example, which is not in it",
        )
        pair = Pair(self.tls, ClientTLS(None, self.pki.client, calls=b"localhost"))
        self.assertIsNone(explain_silence(pair.server.transport))
        self.assertIsNone(explain_silence(None))

    def test_server_expired(self) -> None:
        """A client that finds our certificate expired says so, and so does the log."""
        old = self.pki.ca.issue("localhost", server=True, begins=-5, ends=-1)
        self.pki.write("server.pem", old.pem)
        self.pki.write("server.key", old.key_pem())
        tls = MutualTLS(settings(self.pki))
        self.assertIn("our certificate has expired", self.why(ClientTLS(self.pki.ca, self.pki.client), tls))

    def test_old_version(self) -> None:
        """A client with TLS 1.1, or with 1.2 where 1.3 is asked for, is called too old."""
        why = self.why(ClientTLS(None, self.pki.client, version=SSL.TLS1_1_VERSION))
        self.assertIn("TLS versions that are too old", why)
        tls = MutualTLS(settings(self.pki, min_version="TLSv1_3"))
        why = self.why(ClientTLS(None, self.pki.client, version=SSL.TLS1_2_VERSION), tls)
        self.assertIn("TLS versions that are too old", why)

    def test_no_shared_cipher(self) -> None:
        """A client without any cipher of ours is told apart."""
        client = ClientTLS(None, self.pki.client, version=SSL.TLS1_2_VERSION)
        client.context.set_cipher_list(b"AES128-SHA")
        self.assertIn("no cipher", self.why(client))

    def test_plain_text(self) -> None:
        """Who forgot TLS is told what he speaks instead, also if only the first byte came."""
        for data, words in (
            (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "plain HTTP"),
            (b"POST /x HTTP/1.1\r\n", "plain HTTP"),
            (b"<?xml version='1.0'?><event/>", "plain XML"),
            (b"\xef\xbb\xbf\r\n <event uid='a'/>", "plain XML"),
            (b"\xbf\x01\xbf12345678", "protobuf without TLS"),
            (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n", "inner=haproxy"),
            (b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c", "inner=haproxy"),
            (b"SSH-2.0-OpenSSH\r\n", "not TLS"),
        ):
            self.assertIn(words, self.why(data))

    def test_broken_tls(self) -> None:
        """What begins like TLS and is not is reported with OpenSSL's words."""
        self.assertIn("TLS failed: ", self.why(b"\x16\x03\x01\x00\x05hello" + b"-" * 20))

    def test_bytes_one_by_one(self) -> None:
        """It does not matter how the network cuts what a client sends."""
        pair = Pair(self.tls, b"")
        for byte in b"GET / HTTP/1.1\r\nHost: example\r\n\r\n":
            pair.tls.dataReceived(bytes([byte]))
        pair.flush()
        self.assertIn("plain HTTP", pair.server.why or "")


class ExplainTests(SynchronousTestCase):
    """Ends that are not in a handshake's bytes."""

    def setUp(self) -> None:
        self.pki = PKI(self.mktemp())

    def pair(self, first: bytes = b"") -> Pair:
        pair = Pair(MutualTLS(settings(self.pki)), first)
        self.assertIsNone(pair.server.reason)
        return pair

    def test_timeout(self) -> None:
        """A client that does not get on is said to be too slow."""
        transport = self.pair(b"\x16\x03").server.transport
        for kind in (defer.TimeoutError, error.TimeoutError, TimeoutError):
            self.assertIn("in time", explain(Failure(kind()), transport))

    def test_timeout_of_plain_text(self) -> None:
        """A client that waits for an answer to a few plain bytes is told what is wrong, not that it was slow."""
        self.assertIn("plain XML", explain(Failure(TimeoutError()), self.pair(b"<").server.transport))

    def test_silent(self) -> None:
        """Who looks whether the port is open, and goes, is told apart."""
        reason = Failure(error.ConnectionDone())
        self.assertIn("without sending anything", explain(reason, self.pair().server.transport))

    def test_gone_in_the_middle(self) -> None:
        """Who goes in the middle of the handshake is told apart."""
        transport = self.pair(b"\x16\x03\x01").server.transport
        for reason in (error.ConnectionDone(), error.ConnectionLost()):
            self.assertIn("in the middle of the TLS handshake", explain(Failure(reason), transport))
        self.assertIn("in the middle of the TLS handshake", explain(Failure(SSL.Error([])), transport))

    def test_aborted_by_us(self) -> None:
        """When it was we who closed, nobody else is blamed."""
        reason = Failure(error.ConnectionAborted())
        self.assertIn("this server closed", explain(reason, self.pair(b"\x16\x03\x01").server.transport))

    def test_without_transport(self) -> None:
        """What OpenSSL says alone is enough for a sentence, on a transport that is not ours too."""
        for reason, words in (
            ("peer did not return a certificate", "showed no certificate"),
            ("http request", "plain HTTP"),
            ("wrong version number", "not TLS"),
            ("certificate verify failed", "not accepted"),
            ("something new", "TLS failed: something new"),
        ):
            self.assertIn(words, explain(failed(reason)))
            self.assertIn(words, explain(failed(reason), Peer().transport))

    def test_alerts(self) -> None:
        """What clients answer to our certificate or settings is put into words, whatever OpenSSL calls the alert."""
        for reason, words in (
            ("sslv3 alert bad certificate", "does not trust our certificate (alert: bad certificate)"),
            ("ssl/tls alert certificate unknown", "does not trust our certificate (alert: certificate unknown)"),
            ("tls alert certificate expired", "our certificate has expired"),
            ("tls alert unsupported certificate", "does not accept our certificate"),
            ("tlsv1 alert protocol version", "does not speak the TLS versions"),
            ("tls alert handshake failure", "no TLS settings in common"),
            ("tlsv1 alert user cancelled", "gave up"),
            ("tlsv1 alert internal error", "ended the TLS handshake (alert: internal error)"),
        ):
            self.assertIn(words, explain(failed(reason)))

    def test_hostile_names(self) -> None:
        """A name from a certificate cannot forge a second line."""
        self.assertNotIn("\n", shown_as(Certificate("A\nB", "CN=C\r\nD", 1)))


class LooksLikeTLSTests(SynchronousTestCase):
    def test_hello(self) -> None:
        """Every client's hello is recognized from its first three bytes on."""
        for version in (None, *VERSIONS, SSL.TLS1_1_VERSION):
            connection = ClientTLS(version=version).clientConnectionForTLS(None)  # type: ignore[arg-type]
            connection.set_connect_state()
            self.assertRaises(SSL.WantReadError, connection.do_handshake)
            hello = connection.bio_read(4096)
            for length in (3, 5, 6, len(hello)):
                self.assertTrue(looks_like_tls(hello[:length]))
            self.assertFalse(looks_like_tls(hello[:2]))

    def test_others(self) -> None:
        """What TAK clients send without TLS is not taken for it."""
        for data in (
            b"",
            b"<event/>",
            b"<?xml",
            b"\xbf\x01\xbf",
            b"\x16\x03\x01\x00\x05\x02",
            b"\x16\x02\x01",
            b"GET /",
        ):
            self.assertFalse(looks_like_tls(data), data)
