from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import x25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    pkcs12,
)
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.identity.credentials import (
    Source,
    load_authorities,
    load_certificates,
    load_credentials,
    load_key,
    load_pkcs12,
    load_revoked,
    snapshot_of,
)
from taky_twisted.identity.errors import EndpointError
from tests.pki import PKI, Authority


class FilesTestCase(SynchronousTestCase):
    def give_up_root(self) -> None:
        """Be an ordinary user for the rest of the test: root may read everything."""
        if os.geteuid() == 0:
            os.seteuid(65534)
            self.addCleanup(os.seteuid, 0)

    def setUp(self) -> None:
        self.pki = PKI(self.mktemp())

    def source(self, name: str, content: bytes, key: str = "privateKey") -> Source:
        return Source(key, self.pki.write(name, content))

    def folder(self, **files: bytes) -> Source:
        """Make a folder of files; ``a_pem`` is ``a.pem``."""
        folder = self.pki.folder / "folder"
        folder.mkdir()
        for name, content in files.items():
            (folder / name.replace("_", ".")).write_bytes(content)
        return Source("caCerts", str(folder))

    def assert_error(self, words: str, function: Any, *arguments: Any) -> None:
        """The call fails with words for the operator, which begin with the setting and the file that is wrong."""
        error = str(self.assertRaises(EndpointError, function, *arguments))
        self.assertIn(words, error)
        source = arguments[0]
        self.assertTrue(error.startswith(f"{source.key} {source.path}"), error)


class KeyTests(FilesTestCase):
    def test_alone(self) -> None:
        """A key is read, whatever else is in its file."""
        public = self.pki.server.key.public_key()
        for content in (
            self.pki.server.key_pem(),
            self.pki.server.pem + self.pki.server.key_pem(),
            b"a comment\r\n" + self.pki.server.key_pem().replace(b"\n", b"\r\n"),
            b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
            + self.pki.server.key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()),
        ):
            self.assertEqual(load_key(self.source("key.pem", content), None).public_key(), public)

    def test_encrypted(self) -> None:
        """An encrypted key is read with its password, in the modern and the old spelling."""
        old = self.pki.server.key.private_bytes(
            Encoding.PEM, PrivateFormat.TraditionalOpenSSL, BestAvailableEncryption(b"secret")
        )
        for content in (self.pki.server.key_pem("secret"), old):
            source = self.source("key.pem", content)
            self.assertEqual(load_key(source, "secret").public_key(), self.pki.server.key.public_key())
            self.assert_error("the password is wrong", load_key, source, "guess")
            for nothing in (None, ""):
                self.assert_error("the key is encrypted; give its password (keyPassword=", load_key, source, nothing)

    def test_needless_password(self) -> None:
        """A password for a key that is not encrypted does no harm."""
        source = self.source("key.pem", self.pki.server.key_pem())
        self.assertEqual(load_key(source, "secret").public_key(), self.pki.server.key.public_key())

    def test_errors(self) -> None:
        """What is wrong with a key's file is said in plain words."""
        self.assert_error("No such file", load_key, Source("privateKey", "/nowhere/key.pem"), None)
        self.assert_error("Is a directory", load_key, Source("privateKey", str(self.pki.folder)), None)
        self.assert_error("no private key in it", load_key, self.source("k", b""), None)
        self.assert_error("no private key in it", load_key, self.source("k", self.pki.server.pem), None)
        garbage = b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"
        self.assert_error("not a private key that we can read", load_key, self.source("k", garbage), None)

    def test_unreadable(self) -> None:
        """A key that the server's user may not read is reported as that."""
        source = self.source("key.pem", self.pki.server.key_pem())
        os.chmod(source.path, 0)
        self.give_up_root()
        self.assert_error("Permission denied", load_key, source, None)


class CredentialsTests(FilesTestCase):
    def test_one_file(self) -> None:
        """Key, certificate and chain may be in one file, in any order; the key tells which certificate is its own."""
        content = self.pki.ca.pem + self.pki.server.key_pem() + self.pki.server.pem
        source = self.source("all.pem", content)
        found = load_credentials(source, source, None)
        self.assertEqual(found.certificate, self.pki.server.certificate)
        self.assertEqual(found.chain, (self.pki.ca.certificate,))

    def test_mismatch(self) -> None:
        """A certificate for another key is refused, with both files named."""
        key, certificate = self.source("a.key", self.pki.client.key_pem()), Source("certKey", self.pki.certificate_path)
        error = self.assertRaises(EndpointError, load_credentials, key, certificate, None)
        self.assertEqual(
            str(error),
            f"certKey {certificate.path}: the certificate (CN=localhost) does not belong to the key in "
            f"privateKey {key.path}",
        )

    def test_certificate_errors(self) -> None:
        """What is wrong with a certificate's file is said in plain words."""
        self.assert_error("No such file", load_certificates, Source("certKey", "/nowhere/cert.pem"))
        self.assert_error("no certificate in it", load_certificates, self.source("c", b"garbage"))
        self.assert_error("no certificate in it", load_certificates, self.source("c", self.pki.server.key_pem()))
        for inside in (b"AAAA\n", b"!!!\n", b""):
            garbage = b"-----BEGIN CERTIFICATE-----\n" + inside + b"-----END CERTIFICATE-----\n"
            self.assert_error("not a certificate that we can read (", load_certificates, self.source("c", garbage))
        self.assert_error(
            "not a certificate that we can read (", load_certificates, self.source("c", self.pki.server.pem[:200])
        )
        name = self.damaged(b"localhost", b"local\xffost")
        self.assert_error("not a certificate that we can read (", load_certificates, self.source("c", name))
        # Another curve than P-256, which nobody knows: it belongs to no key of ours.
        curve = self.damaged(bytes.fromhex("2a8648ce3d030107"), bytes.fromhex("2a8648ce3d030177"))
        source = self.source("c", curve + self.pki.server.key_pem())
        self.assert_error("does not belong to the key", load_credentials, source, source, None)

    def damaged(self, old: bytes, new: bytes) -> bytes:
        """Spell the server's certificate with something else inside."""
        der = self.pki.server.certificate.public_bytes(Encoding.DER)
        self.assertIn(old, der)
        lines = base64.encodebytes(der.replace(old, new))
        return b"-----BEGIN CERTIFICATE-----\n" + lines + b"-----END CERTIFICATE-----\n"


class PKCS12Tests(FilesTestCase):
    def test_all(self) -> None:
        """Key, certificate and chain come out of one file, with its password."""
        found = load_pkcs12(self.source("server.p12", self.pki.server.pkcs12("atakatak")), "atakatak")
        self.assertEqual(found.certificate, self.pki.server.certificate)
        self.assertEqual(found.key.public_key(), self.pki.server.key.public_key())
        self.assertEqual(found.chain, (self.pki.ca.certificate,))

    def test_errors(self) -> None:
        """What is wrong is said in plain words; so is that taky's p12 for clients has no key in it."""
        source = self.source("server.p12", self.pki.server.pkcs12("atakatak"))
        for password in ("guess", None):
            self.assert_error("the password is wrong, or it is not a PKCS#12 file", load_pkcs12, source, password)
        self.assert_error("not a PKCS#12 file", load_pkcs12, self.source("x.p12", b"garbage"), "x")
        without = self.source("x.p12", self.pki.server.pkcs12("x", with_key=False))
        self.assert_error("it holds no private key", load_pkcs12, without, "x")
        key_only = pkcs12.serialize_key_and_certificates(
            b"x", self.pki.server.key, None, None, BestAvailableEncryption(b"x")
        )
        self.assert_error("it holds no certificate", load_pkcs12, self.source("x.p12", key_only), "x")


class AuthoritiesTests(FilesTestCase):
    def test_file(self) -> None:
        """A file may hold several authorities; one that is there twice counts once."""
        source = self.source("ca.pem", self.pki.ca.pem + self.pki.other_ca.pem + self.pki.ca.pem, "caCerts")
        self.assertEqual(load_authorities(source), [self.pki.ca.certificate, self.pki.other_ca.certificate])

    def test_folder(self) -> None:
        """Of a folder the files count that look like certificates, and have some in them."""
        source = self.folder(
            a_pem=self.pki.ca.pem,
            b_CRT=self.pki.other_ca.pem,
            c_pem=self.pki.server.key_pem(),
            d_txt=Authority("Third").pem,
            e_cer=b"",
        )
        self.assertEqual(load_authorities(source), [self.pki.ca.certificate, self.pki.other_ca.certificate])

    def test_errors(self) -> None:
        """No authority at all, or a damaged one, is an error that names the file."""
        self.assert_error("no certificate in it", load_authorities, self.source("ca.pem", b"", "caCerts"))
        self.assert_error("No such file", load_authorities, Source("caCerts", "/nowhere"))
        folder = self.folder(a_txt=self.pki.ca.pem)
        self.assert_error("no certificate in any of its .pem, .crt, .cer files", load_authorities, folder)
        (Path(folder.path) / "bad.pem").write_bytes(self.pki.ca.pem[:200])
        error = self.assertRaises(EndpointError, load_authorities, folder)
        self.assertIn("bad.pem: not a certificate", str(error))

    def test_unreadable_folder(self) -> None:
        """A folder that cannot be listed is reported as that."""
        source = self.folder()
        os.chmod(source.path, 0)
        self.addCleanup(os.chmod, source.path, 0o700)
        self.give_up_root()
        self.assert_error("Permission denied", load_authorities, source)


class RevokedTests(FilesTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.authorities = [self.pki.ca.certificate, self.pki.other_ca.certificate]

    def test_file(self) -> None:
        """A file may hold the lists of several authorities."""
        source = self.source("crl.pem", self.pki.ca.crl(1, 2) + self.pki.other_ca.crl(3), "crl")
        expected = {("CN=Test CA,O=taky", 1), ("CN=Test CA,O=taky", 2), ("CN=Other CA,O=taky", 3)}
        self.assertEqual(load_revoked(source, self.authorities), expected)

    def test_empty_list(self) -> None:
        """A list of nobody is a list."""
        self.assertEqual(load_revoked(self.source("crl.pem", self.pki.ca.crl(), "crl"), self.authorities), frozenset())

    def test_der(self) -> None:
        """A list may be DER, as most authorities publish it."""
        der = self.pki.ca.revocation_list(1).public_bytes(Encoding.DER)
        source = self.source("ca.crl", der, "crl")
        self.assertEqual(load_revoked(source, self.authorities), {("CN=Test CA,O=taky", 1)})

    def test_folder(self) -> None:
        """Of a folder the files count that have lists in them."""
        source = self.folder(
            a_pem=self.pki.ca.crl(1),
            b_crl=self.pki.other_ca.revocation_list(2).public_bytes(Encoding.DER),
            c_pem=self.pki.ca.pem,
            d_txt=b"garbage",
        )
        self.assertEqual(len(load_revoked(source, self.authorities)), 2)

    def test_not_signed(self) -> None:
        """A list that none of the authorities signed is refused: anybody could have written it."""
        for crl in (Authority("Unknown").crl(1), Authority().crl(1)):
            source = self.source("crl.pem", crl, "crl")
            self.assert_error(
                "is not signed by one of the authorities in caCerts", load_revoked, source, self.authorities
            )

    def test_key_that_cannot_sign(self) -> None:
        """An authority whose key cannot sign anything has signed no list either."""
        odd = x25519.X25519PrivateKey.generate().public_key()
        own = self.pki.ca.certificate
        certificate = (
            x509.CertificateBuilder()
            .subject_name(own.subject)
            .issuer_name(own.subject)
            .public_key(odd)
            .serial_number(1)
            .not_valid_before(own.not_valid_before_utc)
            .not_valid_after(own.not_valid_after_utc)
            .sign(self.pki.ca.key, hashes.SHA256())
        )
        source = self.source("crl.pem", self.pki.ca.crl(1), "crl")
        self.assert_error("not signed", load_revoked, source, [certificate])
        self.assertEqual(len(load_revoked(source, [certificate, own])), 1)

    def test_out_of_date(self) -> None:
        """A list that is out of date counts, and a warning names its file and the day."""
        source = self.source("crl.pem", self.pki.ca.crl(1, ends=-1), "crl")
        with capturedLogs() as events:
            self.assertEqual(len(load_revoked(source, self.authorities)), 1)
        (event,) = events
        self.assertEqual((event["log_level"].name, event["source"]), ("warn", f"crl {source.path}"))
        self.assertRegex(event["end"], r"^\d{4}-\d\d-\d\d$")

    def test_errors(self) -> None:
        """What is no list is refused, and so is a folder without any."""
        self.assert_error("not a certificate revocation list", load_revoked, self.source("c", b"x", "crl"), [])
        self.assert_error(
            "not a certificate revocation list", load_revoked, self.source("c", self.pki.ca.pem, "crl"), []
        )
        damaged = b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n"
        self.assert_error("not a certificate revocation list", load_revoked, self.source("c", damaged, "crl"), [])
        inside = self.pki.ca.revocation_list().public_bytes(Encoding.DER).replace(b"Test CA", b"Test\xffCA")
        self.assert_error("not a certificate revocation list", load_revoked, self.source("c", inside, "crl"), [])
        der = self.pki.ca.revocation_list().public_bytes(Encoding.DER)
        version = der.replace(b"\x02\x01\x01\x30", b"\x02\x01\x00\x30", 1)
        self.assert_error("not a certificate revocation list", load_revoked, self.source("c", version, "crl"), [])
        self.assert_error("no revocation list in any of its .pem, .crl files", load_revoked, self.folder(), [])


class SnapshotTests(FilesTestCase):
    def test_same(self) -> None:
        """Nothing changed, nothing is different."""
        paths = [str(self.pki.folder), self.pki.key_path, "/nowhere"]
        self.assertEqual(snapshot_of(paths), snapshot_of(paths))

    def test_changes(self) -> None:
        """A file that comes, changes, is replaced or goes makes a difference; a hidden one in a folder does not."""
        paths = [str(self.pki.folder)]
        states = [snapshot_of(paths)]
        new = self.pki.folder / "new.pem"
        new.write_bytes(b"1")
        states.append(snapshot_of(paths))
        new.write_bytes(b"22")
        states.append(snapshot_of(paths))
        other = self.pki.folder.parent / "other"
        other.write_bytes(b"22")
        os.utime(other, ns=(0, new.stat().st_mtime_ns))
        other.rename(new)
        states.append(snapshot_of(paths))
        new.unlink()
        states.append(snapshot_of(paths))
        self.assertEqual(len(set(states)), len(states))

    def test_gone(self) -> None:
        """A file that is not there has a state too, and another when it comes back."""
        path = str(self.pki.folder / "new.pem")
        before = snapshot_of([path])
        Path(path).write_bytes(b"")
        self.assertNotEqual(snapshot_of([path]), before)

    def test_snapshot_of_a_large_folder(self) -> None:
        """What is in folders below is not read, and not looked at every few seconds: caCerts=/ would be all files."""
        below = self.pki.folder / "below"
        below.mkdir()
        (below / "a.pem").write_bytes(b"a")
        looked_at = [state[0] for state in snapshot_of([str(self.pki.folder)])]
        self.assertIn(str(below), looked_at)
        self.assertNotIn(str(below / "a.pem"), looked_at)
