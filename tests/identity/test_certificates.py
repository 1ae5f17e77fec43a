from __future__ import annotations

import datetime
import ipaddress
import socket

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import NameOID
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.identity.certificates import (
    certificate_of,
    covers,
    distinguished_name,
    name_in,
    principal_of,
    printable,
)
from taky_twisted.identity.principal import ANONYMOUS, Certificate, Principal
from tests.pki import Authority, Credentials


class Handle:
    """What a TLS transport gives for its handle: pyOpenSSL's connection, as far as we use it."""

    def __init__(self, certificate: x509.Certificate | None) -> None:
        self.certificate = certificate

    def get_peer_certificate(self, *, as_cryptography: bool) -> x509.Certificate | None:
        assert as_cryptography
        return self.certificate


class TLSTransport:
    def __init__(self, certificate: x509.Certificate | None) -> None:
        self.certificate = certificate

    def getHandle(self) -> Handle:
        return Handle(self.certificate)


class PlainTransport:
    def __init__(self, handle: socket.socket) -> None:
        self.handle = handle

    def getHandle(self) -> socket.socket:
        return self.handle


class PrincipalTests(SynchronousTestCase):
    def test_certificate(self) -> None:
        """Who shows a certificate is whom it names, and issuer and serial are known for revocation."""
        shown = Authority("Camp CA").issue("ALPHA-1", serial=0x4D2).certificate
        expected = Certificate("ALPHA-1", "CN=Camp CA,O=taky", 0x4D2)
        self.assertEqual(principal_of(TLSTransport(shown)), Principal(name="ALPHA-1", certificate=expected))
        self.assertEqual(certificate_of(shown), expected)

    def test_no_certificate(self) -> None:
        """Over TLS without a certificate a peer is anonymous."""
        self.assertIs(principal_of(TLSTransport(None)), ANONYMOUS)

    def test_no_tls(self) -> None:
        """Over plain TCP, a unix socket or nothing at all a peer is anonymous."""
        with socket.socket() as plain:
            self.assertIs(principal_of(PlainTransport(plain)), ANONYMOUS)
        self.assertIs(principal_of(StringTransport()), ANONYMOUS)
        self.assertIs(principal_of(None), ANONYMOUS)


class NameTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.ca = Authority()

    def name(self, credentials: Credentials) -> str:
        return name_in(credentials.certificate)

    def test_common_name(self) -> None:
        """The common name counts, whatever else is there."""
        credentials = self.ca.issue("ALPHA-1", names=(x509.DNSName("alpha.example"),))
        self.assertEqual(self.name(credentials), "ALPHA-1")

    def test_alternative_names(self) -> None:
        """A certificate without a common name goes by its first alternative name, of whatever kind."""
        directory_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Alpha")])
        for alternative, expected in (
            (x509.DNSName("alpha.example"), "alpha.example"),
            (x509.RFC822Name("alpha@example.org"), "alpha@example.org"),
            (x509.IPAddress(ipaddress.ip_address("192.0.2.7")), "192.0.2.7"),
            (x509.DirectoryName(directory_name), "CN=Alpha"),
        ):
            self.assertEqual(self.name(self.ca.issue(None, names=(alternative,))), expected)

    def test_blank_common_name(self) -> None:
        """A common name of blanks is none."""
        self.assertEqual(self.name(self.ca.issue("  ", names=(x509.DNSName("alpha.example"),))), "alpha.example")

    def test_subject(self) -> None:
        """Without a common name and alternative names the whole subject is the name."""
        name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Camp")])
        self.assertEqual(self.name(self.ca.issue(None, name=name)), "O=Camp")

    def test_nothing(self) -> None:
        """A certificate that names nobody goes by its serial; a name is never empty."""
        self.assertEqual(self.name(self.ca.issue(None, serial=0xABC)), "serial ABC")

    def test_unreadable_alternative_names(self) -> None:
        """Alternative names that cannot be read do not keep a certificate from having a name."""
        name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Camp")])
        broken = x509.UnrecognizedExtension(x509.SubjectAlternativeName.oid, b"\x30\x05garbage")
        now = datetime.datetime.now(datetime.timezone.utc)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self.ca.certificate.subject)
            .public_key(self.ca.key.public_key())
            .serial_number(1)
            .not_valid_before(now)
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(broken, critical=False)
            .sign(self.ca.key, hashes.SHA256())
        )
        self.assertEqual(name_in(certificate), "O=Camp")

    def test_control_characters(self) -> None:
        """A name cannot forge a line of the log or turn text around, and stays apart from the harmless one."""
        self.assertEqual(self.name(self.ca.issue("ALPHA\n1\x1b[2J\u202e")), "ALPHA\\n1\\x1b[2J\\u202e")

    def test_foreign_letters(self) -> None:
        """Names in any script stay as they are."""
        self.assertEqual(self.name(self.ca.issue("Žofie Ω 部隊")), "Žofie Ω 部隊")

    def test_long(self) -> None:
        """A name of unreasonable length is cut."""
        self.assertEqual(len(printable("A" * 5000)), 256)

    def test_distinguished_name(self) -> None:
        """An issuer is spelled as RFC 4514 does, and cannot forge a line of the log either."""
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "A\nB, C")])
        self.assertEqual(distinguished_name(name), "CN=A\\nB\\, C")

    def test_other_kinds(self) -> None:
        """An alternative name that is no text is passed by."""
        other = x509.OtherName(x509.ObjectIdentifier("1.3.6.1.4.1.311.20.2.3"), b"\x0c\x01x")
        credentials = self.ca.issue(None, names=(other, x509.DNSName("alpha.example")))
        self.assertEqual(self.name(credentials), "alpha.example")


class CoversTests(SynchronousTestCase):
    def assert_covered(self, certificate: x509.Certificate, good: tuple[str, ...], bad: tuple[str, ...]) -> None:
        for host in good:
            self.assertTrue(covers(certificate, host), host)
        for host in bad:
            self.assertFalse(covers(certificate, host), host)

    def test_names(self) -> None:
        """A certificate is good for its names and addresses, however they are spelled, and for nothing else."""
        more = (
            x509.DNSName("tak.example.org"),
            x509.DNSName("*.camp.example"),
            x509.IPAddress(ipaddress.ip_address("2001:db8::1")),
        )
        certificate = Authority().issue("other.example", server=True, names=more).certificate
        self.assert_covered(
            certificate,
            ("TAK.example.org", "tak.example.org.", "a.camp.example", "127.0.0.1", "2001:DB8:0::1", "2001:db8::1%eth0"),
            ("example.org", "a.b.camp.example", "camp.example", "127.0.0.2", "::1", "other.example", ""),
        )

    def test_common_name_alone(self) -> None:
        """The common name counts only where nothing else is said."""
        certificate = Authority().issue("10.0.0.1").certificate
        self.assert_covered(certificate, ("10.0.0.1",), ("10.0.0.2", "localhost"))
