from __future__ import annotations

import ipaddress
from datetime import datetime, timedelta, timezone
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.enrollment.authority import (
    CA_DAYS,
    CHANNELS,
    DAYS,
    EARLY,
    Authority,
    alternative_names,
    chain_above,
    is_authority,
    make_key,
    signed_by,
)
from taky_twisted.enrollment.errors import EnrollmentError
from taky_twisted.identity.cert_db import Record
from tests import pki
from tests.enrollment.programs import openssl

NOW = datetime.now(timezone.utc).replace(microsecond=0)
KEY = ec.generate_private_key(ec.SECP256R1())
CLIENT_KEY = ec.generate_private_key(ec.SECP256R1()).public_key()
SERVER_KEY = make_key().public_key()


def common_name(name: x509.Name) -> str:
    return str(name.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)


class MakeTests(SynchronousTestCase):
    def test_new(self) -> None:
        """A new authority has an RSA-4096 key and is good for ten years, for signing and nothing else."""
        authority = Authority.make("tak.example", NOW)
        assert isinstance(authority.key, rsa.RSAPrivateKey)
        self.assertEqual(authority.key.key_size, 4096)
        certificate = authority.certificate
        self.assertEqual(certificate.not_valid_after_utc, NOW + timedelta(days=CA_DAYS))
        self.assertEqual(certificate.not_valid_before_utc, NOW - EARLY)
        self.assertTrue(is_authority(certificate))
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage)
        self.assertEqual((usage.critical, usage.value.key_cert_sign, usage.value.crl_sign), (True, True, True))
        self.assertEqual(certificate.signature_hash_algorithm and certificate.signature_hash_algorithm.name, "sha256")
        self.assertEqual(authority.chain, (certificate,))

    def test_names_differ(self) -> None:
        """Two authorities for the same server never have the same name, so no phone mixes them up."""
        first, second = (Authority.make("h" * 200, NOW, KEY).certificate.subject for _ in range(2))
        self.assertNotEqual(first, second)
        self.assertLessEqual(len(common_name(first)), 64)

    def test_refused(self) -> None:
        """A key that does not fit, a certificate that is no authority's, and an odd kind of key are refused."""
        ca = pki.Authority()
        client = ca.issue("ALPHA")
        for key, certificate, words in (
            (KEY, ca.certificate, "does not belong"),
            (client.key, client.certificate, "is not an authority's"),
            (ed25519.Ed25519PrivateKey.generate(), ca.certificate, "neither RSA nor"),
        ):
            error = self.assertRaises(EnrollmentError, Authority, key, certificate)
            self.assertIn(words, str(error))


class SignTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.authority = Authority.make("tak.example", NOW, KEY)

    def verify(self, certificate: x509.Certificate, *options: str) -> None:
        """Let openssl check a certificate strictly."""
        folder = Path(self.mktemp())
        folder.mkdir()
        for name, each in (("ca.pem", self.authority.certificate), ("leaf.pem", certificate)):
            (folder / name).write_bytes(each.public_bytes(Encoding.PEM))
        openssl("verify", "-x509_strict", "-CAfile", str(folder / "ca.pem"), *options, str(folder / "leaf.pem"))

    def test_server(self) -> None:
        """A server's certificate is for every name and address given, and lasts 730 days."""
        names = ["tak.example", "münchen.example", "192.0.2.5", "2001:db8::5", "tak.example"]
        certificate = self.authority.sign_server(names, SERVER_KEY, NOW)
        others = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        self.assertEqual(
            list(others),
            [
                x509.DNSName("tak.example"),
                x509.DNSName("xn--mnchen-3ya.example"),
                x509.IPAddress(ipaddress.ip_address("192.0.2.5")),
                x509.IPAddress(ipaddress.ip_address("2001:db8::5")),
            ],
        )
        self.assertEqual(common_name(certificate.subject), "tak.example")
        self.assertEqual(certificate.not_valid_after_utc, NOW + timedelta(days=DAYS))
        purposes = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        self.assertEqual(list(purposes), [ExtendedKeyUsageOID.SERVER_AUTH])
        self.assertFalse(is_authority(certificate))
        self.verify(certificate, "-purpose", "sslserver", "-verify_hostname", "tak.example", "-verify_ip", "192.0.2.5")
        self.assertEqual(
            alternative_names(certificate), ["tak.example", "xn--mnchen-3ya.example", "192.0.2.5", "2001:db8::5"]
        )

    def test_long_host(self) -> None:
        """A name that is too long for a common name is an alternative name all the same."""
        name = f"{'h' * 60}.example"
        certificate = self.authority.sign_server([name], SERVER_KEY, NOW)
        self.assertEqual(alternative_names(certificate), [name])
        self.verify(certificate, "-verify_hostname", name)

    def test_bad_host(self) -> None:
        """What the DNS cannot have is refused."""
        error = self.assertRaises(EnrollmentError, self.authority.sign_server, ["a..b"], SERVER_KEY, NOW)
        self.assertIn("'a..b' cannot be a host name", str(error))

    def test_client(self) -> None:
        """A client's certificate says who it is and that it is a client, as TAK Server's do."""
        certificate = self.authority.sign_client("Jörg Müller", CLIENT_KEY, NOW, 5)
        self.assertEqual(common_name(certificate.subject), "Jörg Müller")
        self.assertEqual(certificate.not_valid_after_utc, NOW + timedelta(days=5))
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage)
        wanted = usage.value.digital_signature, usage.value.content_commitment, usage.value.key_agreement
        self.assertEqual((usage.critical, *wanted), (True, True, True, True))
        self.assertFalse(usage.value.key_cert_sign)
        purposes = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        self.assertEqual(list(purposes), [ExtendedKeyUsageOID.CLIENT_AUTH])
        self.assertFalse(is_authority(certificate))
        own = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        self.assertEqual(own, x509.SubjectKeyIdentifier.from_public_key(CLIENT_KEY))
        above = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
        ours = self.authority.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        self.assertEqual(above.key_identifier, ours.digest)
        self.assertEqual(alternative_names(certificate), [])
        self.verify(certificate, "-purpose", "sslclient")

    def test_channels(self) -> None:
        """The mark of devices that know channels is there if it is wanted."""
        certificate = self.authority.sign_client("ALPHA", CLIENT_KEY, NOW, channels=True)
        purposes = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        self.assertEqual(list(purposes), [ExtendedKeyUsageOID.CLIENT_AUTH, CHANNELS])
        self.verify(certificate, "-purpose", "sslclient")

    def test_longest_name(self) -> None:
        """A name of 63 umlauts is in the certificate as a whole."""
        certificate = self.authority.sign_client("ü" * 63, CLIENT_KEY, NOW)
        self.assertIn("CN = " + "ü" * 63, self.text(certificate))
        self.flushWarnings()

    def text(self, certificate: x509.Certificate) -> str:
        pem = certificate.public_bytes(Encoding.PEM)
        return openssl("x509", "-noout", "-subject", "-nameopt", "utf8,sep_comma_plus_space,space_eq", given=pem)

    def test_never_longer_than_the_authority(self) -> None:
        """No certificate outlives its authority, and an authority that has expired signs nothing more."""
        near = self.authority.certificate.not_valid_after_utc - timedelta(days=1)
        certificate = self.authority.sign_client("ALPHA", CLIENT_KEY, near)
        self.assertEqual(certificate.not_valid_after_utc, self.authority.certificate.not_valid_after_utc)
        after = near + timedelta(days=1)
        error = self.assertRaises(EnrollmentError, self.authority.sign_client, "ALPHA", CLIENT_KEY, after)
        self.assertIn("has expired", str(error))
        certificate = self.authority.sign_client("ALPHA", CLIENT_KEY, self.authority.certificate.not_valid_before_utc)
        self.assertEqual(certificate.not_valid_before_utc, self.authority.certificate.not_valid_before_utc)

    def test_own_authorities(self) -> None:
        """Authorities of others sign as well: without a key identifier, on another curve."""
        key = ec.generate_private_key(ec.SECP384R1())
        subject = pki.subject("Old CA")
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(key.public_key())
            .serial_number(1)
            .not_valid_before(NOW - timedelta(days=9))
            .not_valid_after(NOW + timedelta(days=9))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        )
        authority = Authority(key, certificate.sign(key, hashes.SHA384()))
        signed = authority.sign_client("ALPHA", CLIENT_KEY, NOW)
        self.assertTrue(signed_by(signed, authority.certificate))
        self.assertEqual(signed.signature_hash_algorithm and signed.signature_hash_algorithm.name, "sha384")

    def test_revocation_list(self) -> None:
        """The list for other programs has what is revoked of ours, and openssl refuses those with it."""
        certificates = [self.authority.sign_client(name, CLIENT_KEY, NOW) for name in ("ALPHA", "BRAVO")]
        issuer = self.authority.certificate.subject.rfc4514_string()
        good, bad = (Record(each.serial_number, "X", issuer=issuer) for each in certificates)
        records = [
            good,
            Record(bad.serial, "X", issuer=issuer, revoked=NOW),
            Record(bad.serial, "X", revoked=NOW),
            Record(5, "of taky", revoked=NOW),
            Record(6, "of others", issuer="CN=Other", revoked=NOW),
            Record(1 << 200, "of nobody", revoked=NOW),
        ]
        revocations = self.authority.revocation_list(records, NOW)
        self.assertEqual(sorted(each.serial_number for each in revocations), sorted([5, bad.serial]))
        self.assertTrue(revocations.is_signature_valid(KEY.public_key()))
        crl = Path(self.mktemp())
        crl.write_bytes(revocations.public_bytes(Encoding.PEM))
        self.verify(certificates[0], "-crl_check", "-CRLfile", str(crl))
        error = self.assertRaises(AssertionError, self.verify, certificates[1], "-crl_check", "-CRLfile", str(crl))
        self.assertIn("certificate revoked", str(error))


class ChainTests(SynchronousTestCase):
    def test_chain(self) -> None:
        """The certificates above one are found in order, whatever lies about beside them."""
        root = pki.Authority("Root")
        middle = pki.Authority("Middle", above=root)
        leaf = middle.issue("ALPHA").certificate
        candidates = [pki.Authority("Root").certificate, leaf, root.certificate, middle.certificate]
        self.assertEqual(chain_above(leaf, candidates), (middle.certificate, root.certificate))
        self.assertEqual(chain_above(leaf, candidates[:3]), ())
        self.assertEqual(chain_above(root.certificate, candidates), ())

    def test_no_extensions(self) -> None:
        """A certificate without alternative names has none, and one that says nothing of it is no authority."""
        client = pki.Authority().issue("ALPHA").certificate
        self.assertEqual(alternative_names(client), [])
        key = ec.generate_private_key(ec.SECP256R1())
        bare = (
            x509.CertificateBuilder()
            .subject_name(pki.subject("Bare"))
            .issuer_name(pki.subject("Bare"))
            .public_key(key.public_key())
            .serial_number(1)
            .not_valid_before(NOW)
            .not_valid_after(NOW + timedelta(days=9))
            .sign(key, hashes.SHA256())
        )
        self.assertFalse(is_authority(bare))
