from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.enrollment.authority import CHANNELS
from taky_twisted.enrollment.errors import BadName, BadRequest, Banned, EnrollmentError
from taky_twisted.enrollment.issuing import Device, Issued, NotTheirName, key_hash
from taky_twisted.enrollment.register import CRL_NAME
from tests.enrollment.site_files import issuing_in, made_authority, written
from tests.enrollment.test_signing_requests import EC_KEY, request
from tests.fakes import LogLines

KEY = EC_KEY.public_key()
PHONE = Device("ANDROID-1", "5.4")


class IssuingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.authority = made_authority()
        self.issuing = issuing_in(self.folder, self.authority)

    def issue(self, name: str = "alpha", device: Device = PHONE) -> Issued:
        """Issue a certificate."""
        return self.issuing.issue(name, KEY, device)

    def test_read(self) -> None:
        """A request may name its sender in any case, or nobody, and no one else."""
        for name in ("alpha", "ALPHA", " Alpha ", None):
            self.assertEqual(self.issuing.read(request(EC_KEY, name), "alpha").key, KEY)
        error = self.assertRaises(NotTheirName, self.issuing.read, request(EC_KEY, "bravo"), "alpha")
        self.assertEqual(str(error), "the request is for bravo, and its sender is alpha")
        self.assertRaises(BadRequest, self.issuing.read, b"nonsense", "alpha")

    def test_certificate(self) -> None:
        """Of the client only the key is in the certificate: the name is ours, it is a client's, and no authority's."""
        issued = self.issue("Jörg Müller")
        certificate = issued.certificate
        (name,) = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        self.assertEqual(name.value, "Jörg Müller")
        self.assertEqual(certificate.public_key(), KEY)
        extensions = certificate.extensions
        self.assertFalse(extensions.get_extension_for_class(x509.BasicConstraints).value.ca)
        usage = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        self.assertEqual(list(usage), [ExtendedKeyUsageOID.CLIENT_AUTH, CHANNELS])
        certificate.verify_directly_issued_by(self.authority.certificate)
        self.assertEqual(issued.trusted, (self.authority.certificate,))

    def test_version(self) -> None:
        """Who does not say what it runs is not said to know channels."""
        usage = self.issue(device=Device()).certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
        self.assertEqual(list(usage.value), [ExtendedKeyUsageOID.CLIENT_AUTH])

    def test_register(self) -> None:
        """Every certificate is in the register when it is given away, with the device that has it."""
        issued = [self.issue(), self.issue("bravo", Device())]
        records = self.issuing.register.records()
        self.assertEqual([record.serial for record in records], [each.certificate.serial_number for each in issued])
        first, second = records
        self.assertEqual((first.name, first.client_uid, first.version), ("alpha", "ANDROID-1", "5.4"))
        self.assertEqual((second.client_uid, second.version), (None, None))
        self.assertEqual(first.key_sha256, key_hash(KEY))
        self.assertIn(b"BEGIN CERTIFICATE", self.issuing.pem(first) or b"")

    def test_banned(self) -> None:
        """A banned name gets nothing; once it no longer is, it does."""
        self.issuing.register.revoke_name("alpha")
        self.assertRaises(Banned, self.issue)
        self.assertEqual(self.issuing.register.records(), [])
        self.issuing.register.unban("alpha")
        self.issue()

    def test_names(self) -> None:
        """A name that no certificate may have gets none."""
        self.assertRaises(BadName, self.issue, "../alpha")

    def test_again(self) -> None:
        """A certificate that was issued is found again, unless it was revoked, or is another authority's."""
        serial = self.issue().certificate.serial_number
        found = self.issuing.again(serial)
        assert found is not None
        self.assertEqual(found.certificate.serial_number, serial)
        self.assertIsNone(self.issuing.again(serial + 1))
        written(self.folder, made_authority("another"))
        self.assertIsNone(self.issuing.again(serial))
        written(self.folder, self.authority)
        self.issuing.revoke([serial])
        self.assertIsNone(self.issuing.again(serial))

    def test_only_an_entry(self) -> None:
        """Of a certificate that taky has made only the entry is left."""
        (self.folder / "cert-db.txt").write_text("V\t2024-03-01T10:00:00\t2036-03-01T10:00:00\t04d2\tOLD\n")
        (record,) = self.issuing.register.records()
        self.assertIsNone(self.issuing.pem(record))
        self.assertIsNone(self.issuing.again(0x4D2))

    def test_revoke(self) -> None:
        """Revoked certificates are so in the register and in the list for others; the rest is not touched."""
        first, second = (self.issue(name).certificate for name in ("alpha", "bravo"))
        self.issuing.revoke([first.serial_number])
        revoked = {record.name: record.revoked is not None for record in self.issuing.register.records()}
        self.assertEqual(revoked, {"alpha": True, "bravo": False})
        crl = x509.load_pem_x509_crl((self.folder / CRL_NAME).read_bytes())
        self.assertIsNotNone(crl.get_revoked_certificate_by_serial_number(first.serial_number))
        self.assertIsNone(crl.get_revoked_certificate_by_serial_number(second.serial_number))

    def test_revoke_without_key(self) -> None:
        """Where the authority's key is kept elsewhere the register still counts, and the log says what is missing."""
        log = LogLines(self)
        serial = self.issue().certificate.serial_number
        (self.folder / "ca.key").unlink()
        self.issuing.revoke([serial])
        (record,) = self.issuing.register.records()
        self.assertIsNotNone(record.revoked)
        self.assertIn("was not written", log()[-1])
        self.assertRaises(EnrollmentError, self.issue)

    def test_key_hash(self) -> None:
        """Two keys are told apart."""
        self.assertNotEqual(key_hash(KEY), key_hash(ec.generate_private_key(ec.SECP256R1()).public_key()))

    def test_time(self) -> None:
        """Certificates begin before now, for phones whose clock is wrong."""
        certificate = self.issue().certificate
        self.assertLess(certificate.not_valid_before_utc, datetime.now(timezone.utc))
