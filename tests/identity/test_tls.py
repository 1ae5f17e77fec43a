from __future__ import annotations

import os
import warnings
from dataclasses import replace
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa, x25519
from OpenSSL import SSL, crypto
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from taky_twisted.identity.credentials import Source
from taky_twisted.identity.errors import EndpointError
from taky_twisted.identity.principal import ANONYMOUS, Certificate
from taky_twisted.identity.revocation import Register
from taky_twisted.identity.tls import MutualTLS, TLSSettings
from tests.fakes import LogLines
from tests.identity.pairs import Pair
from tests.pki import PKI, Authority, ClientTLS, Credentials

VERSIONS = (SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION)


def settings(pki: PKI, **changes: Any) -> TLSSettings:
    """Make the settings of a door that uses a folder's files, with its register."""
    usual = TLSSettings(
        name="ssl:8089",
        private_key=Source("privateKey", pki.key_path),
        certificate=Source("certKey", pki.certificate_path),
        authorities=Source("caCerts", pki.ca_path),
        register=Register(pki.register_path),
    )
    return replace(usual, **changes)


class TLSTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.pki = PKI(self.mktemp())

    def tls(self, **changes: Any) -> MutualTLS:
        return MutualTLS(settings(self.pki, **changes))

    def client(self, credentials: Credentials | None = None, **changes: Any) -> ClientTLS:
        return ClientTLS(self.pki.ca, credentials, **changes)

    def revocations(self, *lists: bytes) -> Source:
        return Source("crl", self.pki.write("crl.pem", b"".join(lists)))


class MutualTLSTests(TLSTestCase):
    def accepted(self, tls: MutualTLS, credentials: Credentials | None) -> list[bool]:
        """Say for TLS 1.2 and 1.3 whether a client gets in and hears us."""
        found = []
        for version in VERSIONS:
            pair = Pair(tls, self.client(credentials, version=version))
            self.assertEqual(pair.server.completed, pair.client.received == b"hello")
            found.append(pair.server.completed)
        return found

    def test_interface(self) -> None:
        """Twisted takes it wherever it takes a maker of server connections."""
        verifyObject(IOpenSSLServerConnectionCreator, self.tls())

    def test_required(self) -> None:
        """Where certificates are required, one that an authority of ours has signed opens the door, nothing else."""
        tls = self.tls()
        self.assertEqual(self.accepted(tls, self.pki.client), [True, True])
        for credentials in (None, self.pki.foreign, self.pki.namesake, self.pki.expired, self.pki.early):
            self.assertEqual(self.accepted(tls, credentials), [False, False])
        self.assertEqual(self.accepted(tls, self.pki.revoked), [False, False])

    def test_optional(self) -> None:
        """Where certificates are optional nobody needs one, but a bad one is refused."""
        tls = self.tls(client_cert="optional")
        self.assertEqual(self.accepted(tls, self.pki.client), [True, True])
        self.assertEqual(self.accepted(tls, None), [True, True])
        for credentials in (self.pki.foreign, self.pki.expired, self.pki.revoked):
            self.assertEqual(self.accepted(tls, credentials), [False, False])

    def test_none(self) -> None:
        """Where certificates are not asked for everybody gets in, as nobody."""
        tls = self.tls(client_cert="none", authorities=None)
        for credentials in (None, self.pki.client, self.pki.foreign, self.pki.revoked):
            self.assertEqual(self.accepted(tls, credentials), [True, True])
        self.assertIs(Pair(tls, self.client(self.pki.client)).server.principal, ANONYMOUS)

    def test_principal(self) -> None:
        """After the handshake it is known who is there."""
        principal = Pair(self.tls(), self.client(self.pki.client)).server.principal
        assert principal is not None
        self.assertEqual(principal.name, "ALPHA-1")
        serial = self.pki.client.certificate.serial_number
        self.assertEqual(principal.certificate, Certificate("ALPHA-1", "CN=Test CA,O=taky", serial))

    def test_authorities_are_announced(self) -> None:
        """A client with several certificates is told whose we believe, to choose by."""
        client = self.client(self.pki.client)
        Pair(self.tls(), client)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            (name,) = client.connections[0].get_client_ca_list()
        self.assertEqual(name.CN, "Test CA")

    def test_several_authorities(self) -> None:
        """Clients of two authorities may use one door."""
        self.pki.write("ca.pem", self.pki.ca.pem + self.pki.other_ca.pem)
        tls = self.tls()
        self.assertEqual(self.accepted(tls, self.pki.client), [True, True])
        self.assertEqual(self.accepted(tls, self.pki.foreign), [True, True])

    def test_intermediate_authority(self) -> None:
        """An intermediate authority that is listed is trusted without its root, and the root is not trusted for it."""
        intermediate = Authority("Intermediate", above=self.pki.ca)
        self.pki.write("ca.pem", intermediate.pem)
        tls = self.tls()
        self.assertEqual(self.accepted(tls, intermediate.issue("DELTA-4")), [True, True])
        self.assertEqual(self.accepted(tls, self.pki.client), [False, False])

    def test_chain(self) -> None:
        """The server shows its intermediate authorities, from the certificate's file and from extraCertChain."""
        intermediate = Authority("Intermediate", above=self.pki.ca)
        server = intermediate.issue("localhost", server=True)
        self.pki.write("server.key", server.key_pem())
        self.pki.write("server.pem", server.pem + intermediate.pem)
        self.assertEqual(self.accepted(self.tls(), self.pki.client), [True, True])
        self.pki.write("server.pem", server.pem)
        self.assertEqual(self.accepted(self.tls(), self.pki.client), [False, False])
        chain = Source("extraCertChain", self.pki.write("chain.pem", intermediate.pem))
        self.assertEqual(self.accepted(self.tls(chain=chain), self.pki.client), [True, True])

    def test_min_version(self) -> None:
        """minTLS=TLSv1_3 keeps TLS 1.2 out."""
        self.assertEqual(self.accepted(self.tls(min_version="TLSv1_3"), self.pki.client), [False, True])

    def test_ciphers(self) -> None:
        """TLS 1.2 is spoken with forward secrecy and authenticated encryption only."""
        for cipher in (b"ECDHE-ECDSA-AES128-GCM-SHA256", b"ECDHE-ECDSA-CHACHA20-POLY1305"):
            client = self.client(self.pki.client, version=SSL.TLS1_2_VERSION)
            client.context.set_cipher_list(cipher)
            self.assertTrue(Pair(self.tls(), client).server.completed)
        client = self.client(self.pki.client, version=SSL.TLS1_2_VERSION)
        client.context.set_cipher_list(b"ECDHE-ECDSA-AES128-SHA256:ECDHE-ECDSA-AES128-SHA")
        self.assertFalse(Pair(self.tls(), client).server.completed)

    def test_alpn_without_protocols(self) -> None:
        """A client that offers protocols connects, though we have none to choose."""
        for version in VERSIONS:
            client = self.client(self.pki.client, version=version, alpn=(b"h2", b"takstream"))
            self.assertTrue(Pair(self.tls(), client).server.completed)
            self.assertEqual(client.connections[0].get_alpn_proto_negotiated(), b"")

    def test_alpn(self) -> None:
        """Of the protocols that both have our first is chosen; with none in common the client connects all the same."""
        tls = self.tls(alpn=(b"http/1.1",))
        for offered, chosen in (((b"h2", b"http/1.1"), b"http/1.1"), ((b"h2",), b""), ((), b"")):
            client = self.client(self.pki.client, alpn=offered)
            self.assertTrue(Pair(tls, client).server.completed)
            self.assertEqual(client.connections[0].get_alpn_proto_negotiated(), chosen)

    def test_no_warnings(self) -> None:
        """Nothing that we call is deprecated, from loading to a finished handshake."""
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            crl = Source("crl", self.pki.crl_path)
            pair = Pair(self.tls(revocations=crl, alpn=(b"http/1.1",)), self.client(self.pki.client))
        self.assertTrue(pair.server.completed)

    def test_rsa(self) -> None:
        """Keys are RSA as taky makes them, or anything else that OpenSSL takes."""
        key: Any = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        server = self.pki.ca.issue("localhost", server=True, key=key)
        self.pki.write("server.key", server.key_pem())
        self.pki.write("server.pem", server.pem)
        self.assertEqual(self.accepted(self.tls(), self.pki.client), [True, True])

    def test_weak_key(self) -> None:
        """A key that OpenSSL finds too short is reported, not raised as OpenSSL's error."""
        key: Any = rsa.generate_private_key(public_exponent=65537, key_size=1024)
        server = self.pki.ca.issue("localhost", server=True, key=key)
        self.pki.write("server.key", server.key_pem())
        self.pki.write("server.pem", server.pem)
        error = self.assertRaises(EndpointError, self.tls)
        self.assertIn("endpoint ssl:8089: OpenSSL does not take the server's key or certificate: ", str(error))
        self.assertIn("too small", str(error))

    def test_odd_key(self) -> None:
        """A key that cannot sign serves no TLS, and that is reported like any other fault."""
        key: Any = x25519.X25519PrivateKey.generate()
        server = self.pki.ca.issue("localhost", server=True, key=key)
        self.pki.write("server.key", server.key_pem())
        self.pki.write("server.pem", server.pem)
        self.assertIn("OpenSSL does not take", str(self.assertRaises(EndpointError, self.tls)))

    def test_pkcs12(self) -> None:
        """A PKCS#12 file with key and certificate is as good as PEM files."""
        store = Source("[ssl] server_p12", self.pki.write("server.p12", self.pki.server.pkcs12("atakatak")))
        tls = self.tls(private_key=None, certificate=None, pkcs12=store, password="atakatak")
        self.assertEqual(self.accepted(tls, self.pki.client), [True, True])

    def test_no_certificate(self) -> None:
        """A door without a certificate of its own cannot be made, and it is said what to add."""
        error = self.assertRaises(EndpointError, self.tls, private_key=None, certificate=None)
        self.assertEqual(
            str(error),
            "endpoint ssl:8089: no certificate: add privateKey= and certKey=, or set key and cert in section [ssl]",
        )

    def test_no_authorities(self) -> None:
        """A door that asks for certificates must know whose to believe, and it is said what to add."""
        for policy in ("required", "optional"):
            error = self.assertRaises(EndpointError, self.tls, authorities=None, client_cert=policy)
            self.assertIn(f"clientCert={policy} needs to know", str(error))
            self.assertIn("add caCerts=, or set ca in section [ssl], or say clientCert=none", str(error))

    def test_certificate_that_ends_soon(self) -> None:
        """From thirty days before its end the operator is told of the server's own certificate, and what to do."""
        log = LogLines(self)
        for days, told in ((31, 0), (29, 1)):
            server = self.pki.ca.issue("localhost", server=True, ends=days)
            self.pki.write("server.pem", server.pem)
            self.pki.write("server.key", server.key_pem())
            self.tls()
            self.assertEqual(len([line for line in log() if "renew-server" in line]), told, f"{days} days")

    def test_own_certificate_expired(self) -> None:
        """A server whose own certificate has expired starts, with a warning that names the dates."""
        old = self.pki.ca.issue("localhost", server=True, begins=-5, ends=-1)
        self.pki.write("server.key", old.key_pem())
        self.pki.write("server.pem", old.pem)
        with capturedLogs() as events:
            self.tls()
        (event,) = events
        self.assertEqual(event["log_level"].name, "warn")
        self.assertEqual(event["end"], f"{old.certificate.not_valid_after_utc:%Y-%m-%d}")


class RevocationListTests(TLSTestCase):
    def test_crl(self) -> None:
        """A serial on its issuer's revocation list is refused, with the list named; others are not."""
        tls = self.tls(register=None, revocations=Source("crl", self.pki.crl_path))
        for version in VERSIONS:
            refused = Pair(tls, self.client(self.pki.revoked, version=version)).server
            self.assertIn("revoked by its issuer's revocation list", refused.why or "")
            self.assertTrue(Pair(tls, self.client(self.pki.client, version=version)).server.completed)

    def test_out_of_date(self) -> None:
        """A list that was not renewed in time locks nobody out, its serials stay revoked, and there is a warning."""
        crl = self.revocations(self.pki.ca.crl(self.pki.revoked.certificate.serial_number, ends=-1))
        with capturedLogs() as events:
            tls = self.tls(register=None, revocations=crl)
        self.assertIn("out of date", events[0]["log_format"])
        self.assertTrue(Pair(tls, self.client(self.pki.client)).server.completed)
        self.assertFalse(Pair(tls, self.client(self.pki.revoked)).server.completed)

    def test_other_issuer(self) -> None:
        """A serial is revoked for its issuer only; an authority without a list is not locked out."""
        self.pki.write("ca.pem", self.pki.ca.pem + self.pki.other_ca.pem)
        crl = self.revocations(self.pki.ca.crl(7))
        tls = self.tls(register=None, revocations=crl)
        self.assertFalse(Pair(tls, self.client(self.pki.ca.issue("ONE", serial=7))).server.completed)
        self.assertTrue(Pair(tls, self.client(self.pki.other_ca.issue("TWO", serial=7))).server.completed)

    def test_revoked_authority(self) -> None:
        """An intermediate authority that its root revoked takes its clients with it."""
        intermediate = Authority("Intermediate", above=self.pki.ca)
        client = intermediate.issue("DELTA-4")
        self.pki.write("ca.pem", self.pki.ca.pem + intermediate.pem)
        # Twice: once trusted by itself, once as part of a chain that ends at the root.
        crl = self.revocations(self.pki.ca.crl(intermediate.certificate.serial_number))
        tls = self.tls(register=None, revocations=crl)
        pair = Pair(tls, self.client(client))
        self.assertFalse(pair.server.completed)
        self.assertIn("an authority above the client's certificate is revoked (Intermediate", pair.server.why or "")
        self.assertTrue(Pair(tls, self.client(self.pki.client)).server.completed)

    def test_refusal_of(self) -> None:
        """Whether a certificate is revoked can be asked at any time, for both registers."""
        tls = self.tls(revocations=self.revocations(self.pki.ca.crl(7)))
        issuer = "CN=Test CA,O=taky"
        self.assertIsNone(tls.refusal_of(Certificate("A", issuer, 8)))
        self.assertIn("revocation list", tls.refusal_of(Certificate("A", issuer, 7)) or "")
        self.assertIsNone(tls.refusal_of(Certificate("A", "CN=Another", 7)))
        serial = self.pki.revoked.certificate.serial_number
        self.assertIn("register", tls.refusal_of(Certificate("A", issuer, serial)) or "")


class TellingTests(TLSTestCase):
    """Doors whose application tells a revoked client why it is refused."""

    def test_revoked(self) -> None:
        """There a revoked client finishes the handshake, and what speaks against it is known right after."""
        crl = self.revocations(self.pki.ca.crl(self.pki.second_client.certificate.serial_number))
        tls = self.tls(tells_refused=True, revocations=crl)
        for version in VERSIONS:
            for credentials, words in (
                (self.pki.revoked, "REVOKED-3.* is revoked in the certificate register"),
                (self.pki.second_client, "BRAVO-2.* is revoked by its issuer's revocation list"),
            ):
                server = Pair(tls, self.client(credentials, version=version)).server
                self.assertTrue(server.completed)
                self.assertRegex(server.refusal or "", words)
            good = Pair(tls, self.client(self.pki.client, version=version)).server
            self.assertEqual((good.completed, good.refusal), (True, None))

    def test_others(self) -> None:
        """Certificates that prove nothing still fail in the handshake, and one under a revoked authority, too."""
        middle = Authority("Middle", above=self.pki.ca)
        below = middle.issue("BELOW-8")
        authorities = Source("caCerts", self.pki.write("both.pem", self.pki.ca.pem + middle.pem))
        crl = self.revocations(self.pki.ca.crl(middle.certificate.serial_number))
        tls = self.tls(tells_refused=True, authorities=authorities, revocations=crl)
        for credentials in (self.pki.expired, self.pki.foreign, self.pki.namesake, below, None):
            self.assertFalse(Pair(tls, self.client(credentials)).server.completed)


class ResumptionTests(TLSTestCase):
    def resumed(self, tls: MutualTLS, client: ClientTLS) -> Pair:
        """Connect with the session of the client's last connection."""
        client.session = client.connections[-1].get_session()
        return Pair(tls, client)

    def test_resumed(self) -> None:
        """A client that comes back resumes its session, and is known without showing its certificate again."""
        for version in VERSIONS:
            tls, client = self.tls(), self.client(self.pki.client, version=version)
            first = Pair(tls, client).server
            assert first.handshake is not None
            self.assertIsNotNone(first.handshake.certificate)
            again = self.resumed(tls, client).server
            assert again.handshake is not None
            self.assertIsNone(again.handshake.certificate, "the certificate was checked: the session was not resumed")
            self.assertEqual(again.principal, first.principal)
            self.assertIsNone(again.refusal)

    def test_revoked_meanwhile(self) -> None:
        """Who was revoked since gets through the handshake of a resumed session, and is caught right after it."""
        for version in VERSIONS:
            self.pki.write_register(V=[self.pki.client])
            tls, client = self.tls(), self.client(self.pki.client, version=version)
            Pair(tls, client)
            self.pki.write_register(R=[self.pki.client])
            register = tls.settings.register
            assert register is not None
            register.reload()
            again = self.resumed(tls, client).server
            self.assertTrue(again.completed)
            assert again.handshake is not None
            self.assertIsNone(again.handshake.certificate, "the session was not resumed")
            self.assertIn("ALPHA-1", again.refusal or "")
            self.assertIn("revoked in the certificate register", again.refusal or "")

    def test_not_elsewhere(self) -> None:
        """A session of one door, or from before a reload, is not resumed; the certificate is looked at again."""
        for version in VERSIONS:
            tls, client = self.tls(), self.client(self.pki.client, version=version)
            Pair(tls, client)
            other = self.resumed(self.tls(), client).server
            assert other.handshake is not None
            self.assertIsNotNone(other.handshake.certificate)
            tls.reload()
            later = self.resumed(tls, client).server
            assert later.handshake is not None
            self.assertIsNotNone(later.handshake.certificate)


class ReloadTests(TLSTestCase):
    def shown(self, tls: MutualTLS) -> int:
        """Return the serial that a new client sees."""
        client = self.client(self.pki.client)
        self.assertTrue(Pair(tls, client).server.completed)
        certificate = client.connections[-1].get_peer_certificate(as_cryptography=True)
        assert certificate is not None
        return certificate.serial_number

    def replace_server(self) -> int:
        server = self.pki.ca.issue("localhost", server=True)
        self.pki.write("server.key", server.key_pem())
        self.pki.write("server.pem", server.pem)
        return server.certificate.serial_number

    def test_new_certificate(self) -> None:
        """After a reload new clients see the new certificate, and open connections go on."""
        tls = self.tls()
        pair = Pair(tls, self.client(self.pki.client))
        before = self.shown(tls)
        serial = self.replace_server()
        self.assertEqual(self.shown(tls), before)
        tls.reload()
        self.assertEqual(self.shown(tls), serial)
        assert pair.client.transport is not None
        pair.client.transport.write(b"still here")
        pair.flush()
        self.assertEqual(pair.server.received, b"still here")
        self.assertIsNone(pair.server.reason)

    def test_garbage(self) -> None:
        """A broken file is reported, and the door goes on with what it had."""
        tls = self.tls(revocations=self.revocations(self.pki.ca.crl(7)))
        before = self.shown(tls)
        for name, content in (
            ("server.pem", b"garbage"),
            ("ca.pem", b""),
            ("crl.pem", b"garbage"),
            ("server.key", b""),
        ):
            kept = (self.pki.folder / name).read_bytes()
            self.pki.write(name, content)
            error = self.assertRaises(EndpointError, tls.reload)
            self.assertIn("endpoint ssl:8089: ", str(error))
            self.assertIn(name, str(error))
            self.assertEqual(self.shown(tls), before)
            self.assertIsNotNone(tls.refusal_of(Certificate("A", "CN=Test CA,O=taky", 7)))
            self.pki.write(name, kept)
        tls.reload()

    def test_authorities_and_revocations(self) -> None:
        """Trust and revocations are read again too."""
        tls = self.tls(revocations=self.revocations(self.pki.ca.crl()))
        self.pki.write("ca.pem", self.pki.ca.pem + self.pki.other_ca.pem)
        self.revocations(self.pki.ca.crl(self.pki.second_client.certificate.serial_number))
        self.pki.write_register(R=[self.pki.client])
        self.assertTrue(Pair(tls, self.client(self.pki.second_client)).server.completed)
        tls.reload()
        self.assertTrue(Pair(tls, self.client(self.pki.foreign)).server.completed)
        self.assertFalse(Pair(tls, self.client(self.pki.second_client)).server.completed)
        self.assertFalse(Pair(tls, self.client(self.pki.client)).server.completed)

    def test_without_register(self) -> None:
        """A door without a register is reloaded like any other."""
        tls = self.tls(register=None)
        serial = self.replace_server()
        tls.reload()
        self.assertEqual(self.shown(tls), serial)

    def test_changed(self) -> None:
        """It is known when a file has changed since it was read, whichever it is, and forgotten once it is read."""
        tls = self.tls(revocations=Source("crl", self.pki.crl_path))
        self.assertFalse(tls.changed())
        for path in (
            self.pki.key_path,
            self.pki.certificate_path,
            self.pki.ca_path,
            self.pki.crl_path,
            self.pki.register_path,
        ):
            os.utime(path, (1, 1))
            self.assertTrue(tls.changed(), path)
            tls.reload()
            self.assertFalse(tls.changed(), path)

    def test_changed_for_the_worse(self) -> None:
        """A broken file is reported once, not at every look; the file that mends it is a change again."""
        tls = self.tls()
        good = self.pki.server.pem
        self.pki.write("server.pem", b"garbage")
        self.assertTrue(tls.changed())
        self.assertRaises(EndpointError, tls.reload)
        self.assertFalse(tls.changed())
        self.pki.write("server.pem", good)
        self.assertTrue(tls.changed())

    def test_changed_folder(self) -> None:
        """A file that comes or goes in a folder of authorities is a change."""
        folder = self.pki.folder / "authorities"
        folder.mkdir()
        (folder / "one.pem").write_bytes(self.pki.ca.pem)
        tls = self.tls(authorities=Source("caCerts", str(folder)))
        (folder / "two.pem").write_bytes(self.pki.other_ca.pem)
        self.assertTrue(tls.changed())
        tls.reload()
        (folder / "two.pem").unlink()
        self.assertTrue(tls.changed())


class CallbackTests(TLSTestCase):
    """What OpenSSL asks us about a certificate, when the answer cannot be found."""

    def refused(self, shown: crypto.X509, tls: MutualTLS) -> str | None:
        pair = Pair(tls, b"")
        connection = pair.tls.getHandle()
        self.assertFalse(tls._verify(connection, shown, 0, 0, 1))
        return pair.tls.handshake.refusal

    def test_unreadable(self) -> None:
        """A certificate that OpenSSL reads and we cannot is refused."""
        problems: list[Exception] = [ValueError("bad"), TypeError("bad"), x509.InvalidVersion("bad", 7)]

        class Unreadable(crypto.X509):
            def to_cryptography(self) -> x509.Certificate:
                raise problems[0]

        while problems:
            self.assertEqual(self.refused(Unreadable(), self.tls()), "the client's certificate cannot be read: bad")
            self.assertEqual(self.flushLoggedErrors(), [])
            problems.pop(0)

    def test_exception(self) -> None:
        """An error of ours lets nobody in, is logged, and does not reach OpenSSL."""

        class Broken(Register):
            def is_revoked(self, certificate: Certificate) -> bool:
                raise RuntimeError("a bug")

        tls = self.tls(register=Broken(self.pki.register_path))
        pair = Pair(tls, self.client(self.pki.client))
        self.assertFalse(pair.server.completed)
        self.assertEqual(pair.server.why, "the client's certificate could not be checked")
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_stock_twisted(self) -> None:
        """In Twisted's own TLS factory it refuses just as well; only nobody is told why."""
        shown = crypto.X509.from_cryptography(self.pki.revoked.certificate)
        tls = self.tls()
        connection = tls.serverConnectionForTLS(None)  # type: ignore[arg-type]
        self.assertFalse(tls._verify(connection, shown, 0, 0, 1))
