from __future__ import annotations

import datetime
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import pkcs12
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.enrollment.authority import Authority, make_key
from taky_twisted.enrollment.errors import EnrollmentError
from taky_twisted.enrollment.keystores import (
    check_password,
    client_keystore,
    enrollment_keystore,
    read_authorities,
    trust_store,
)
from tests import pki
from tests.enrollment.programs import keytool_entries
from tests.enrollment.programs import pkcs12 as openssl_pkcs12

NOW = datetime.datetime.now(datetime.timezone.utc)
PASSWORD = "atakatak"
ALGORITHM = "pbeWithSHA1And3-KeyTripleDES-CBC, Iteration 2048"


class KeystoreTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.root = pki.Authority("Root")
        self.middle = pki.Authority("Middle", above=self.root)
        self.authority = Authority(self.middle.key, self.middle.certificate, (self.root.certificate,))
        self.key = make_key()
        self.certificate = self.authority.sign_client("Jörg", self.key.public_key(), NOW)
        self.path = Path(self.mktemp())

    def check(self, content: bytes, java: dict[str, str], names: list[str], password: str = PASSWORD) -> str:
        """Let openssl and Java read a file; return what openssl said."""
        self.path.write_bytes(content)
        text = openssl_pkcs12(self.path, password, "-nodes")
        self.assertEqual([line.split(": ")[1] for line in text.splitlines() if "friendlyName" in line], names)
        self.assertIn("MAC: sha1, Iteration 2048", text)
        self.assertIn(ALGORITHM, text)
        self.assertNotIn("PBES2", text)
        # Where there is no Java, openssl has to do.
        self.assertIn(keytool_entries(self.path, password), (java, None))
        self.assertRaises(AssertionError, openssl_pkcs12, self.path, "wrong")
        return text

    def test_client(self) -> None:
        """A client's file has key, certificate and chain, and old phones, OpenSSL and Java read it."""
        content = client_keystore("Jörg", self.key, self.certificate, self.authority.chain, PASSWORD)
        text = self.check(content, {"jorg": "PrivateKeyEntry"}, ["Jorg", "ca0", "ca1", "Jorg"])
        self.assertIn(f"Shrouded Keybag: {ALGORITHM}", text)
        self.assertEqual(text.count("BEGIN PRIVATE KEY"), 1)
        found = pkcs12.load_pkcs12(content, PASSWORD.encode())
        self.assertEqual(found.cert and found.cert.certificate, self.certificate)

    def test_trust_store(self) -> None:
        """A trust store has the authorities and no key; to Java each is an entry."""
        content = trust_store(self.authority.chain, "other password")
        java = {"ca0": "trustedCertEntry", "ca1": "trustedCertEntry"}
        text = self.check(content, java, ["ca0", "ca1"], "other password")
        self.assertNotIn("PRIVATE KEY", text)
        self.assertEqual(read_authorities(content, "other password"), list(self.authority.chain))

    def test_row20_enrollment(self) -> None:
        """The answer to a phone has its certificate under ATAK's name, the chain under names of their own, no key."""
        content = enrollment_keystore(self.certificate, self.authority.chain, PASSWORD)
        names = ["signedCert", "ca0", "ca1"]
        text = self.check(content, {name.lower(): "trustedCertEntry" for name in names}, names)
        self.assertNotIn("PRIVATE KEY", text)

    def test_taky(self) -> None:
        """Of taky's server.p12, which also holds the server's certificate, the authority is what is trusted."""
        server = self.middle.issue("tak.example", server=True)
        content = server.pkcs12(PASSWORD, with_key=False)
        self.assertEqual(read_authorities(content, PASSWORD), [self.middle.certificate])

    def test_unreadable(self) -> None:
        """A wrong password and garbage are told."""
        content = trust_store(self.authority.chain, PASSWORD)
        for each, password in ((content, "wrong"), (content, None), (b"garbage", PASSWORD)):
            self.assertIn(
                "password is wrong", str(self.assertRaises(EnrollmentError, read_authorities, each, password))
            )

    def test_password(self) -> None:
        """Passwords are what every phone can type: ASCII, and not empty."""
        for good in ("a", "x" * 64, "with space", "a'b\"c%"):
            self.assertEqual(check_password(good), good)
        for bad in ("", "x" * 65, "ümlaut", "tab\t", "\0"):
            self.assertIn("1 to 64 characters", str(self.assertRaises(EnrollmentError, check_password, bad)))

    def test_no_triple_des(self) -> None:
        """Where OpenSSL has no triple DES, that is said, and what to do."""

        def refuse(*_: object) -> bytes:
            raise UnsupportedAlgorithm("no")

        self.patch(pkcs12, "serialize_java_truststore", refuse)
        self.patch(pkcs12, "serialize_key_and_certificates", refuse)
        for make in (
            lambda: trust_store(self.authority.chain, PASSWORD),
            lambda: client_keystore("A", self.key, self.certificate, (), PASSWORD),
        ):
            self.assertIn("FIPS", str(self.assertRaises(EnrollmentError, make)))
