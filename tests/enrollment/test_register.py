from __future__ import annotations

import fcntl
import os
import threading
from datetime import datetime, timedelta, timezone
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.enrollment.authority import Authority
from taky_twisted.enrollment.errors import Banned, EnrollmentError
from taky_twisted.enrollment.register import CRL_NAME, SERVER, CertificateRegister, Details, record_of
from taky_twisted.identity.cert_db import Record, beside
from taky_twisted.identity.certificates import certificate_of
from taky_twisted.identity.revocation import Register
from tests import pki

NOW = datetime(2026, 3, 1, 12, 0, 0, 5, timezone.utc)
KEY = ec.generate_private_key(ec.SECP256R1())
DATES = "2026-03-01T12:00:00\t2028-03-01T12:00:00"


class CertificateRegisterTests(SynchronousTestCase):
    def setUp(self) -> None:
        folder = Path(self.mktemp())
        folder.mkdir()
        self.path = folder / "cert-db.txt"
        self.now = NOW
        self.register = CertificateRegister(self.path, lambda: self.now)
        self.authority = Authority.make("camp", NOW, KEY)

    def issue(self, name: str, details: Details | None = None, at: datetime | None = None) -> x509.Certificate:
        """Sign a certificate and enter it."""
        certificate = self.authority.sign_client(name, KEY.public_key(), at or self.now)
        self.register.add(certificate, details or Details())
        return certificate

    def refused(self, certificate: x509.Certificate) -> bool:
        """Ask as the running server does."""
        return Register(str(self.path)).is_revoked(certificate_of(certificate))

    def test_add(self) -> None:
        """An entered certificate is known with everything about it, and can be read again."""
        details = Details("client", "ANDROID-1", "5.4", ("Red",))
        certificate = self.issue("Jörg Müller", details)
        self.assertEqual(self.register.records(), [record_of(certificate, details)])
        (record,) = self.register.records()
        self.assertEqual((record.name, record.kind, record.groups), ("Jörg Müller", "client", ("Red",)))
        self.assertEqual(record.expires, certificate.not_valid_after_utc)
        self.assertEqual(self.register.certificate(record), certificate)
        self.assertFalse(self.refused(certificate))

    def test_taky_has_it(self) -> None:
        """In taky's file there is a line as taky writes it."""
        certificate = self.issue("ALPHA")
        begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        dates = (f"{each:%Y-%m-%dT%H:%M:%S}" for each in (begin, end))
        line = "\t".join(["V", *dates, f"{certificate.serial_number:040x}", "ALPHA"])
        self.assertEqual(self.path.read_text("utf-8"), line + "\n")

    def test_no_name(self) -> None:
        """A certificate without a common name goes by what the server calls it."""
        certificate = pki.Authority().issue(None, serial=0xAB).certificate
        self.assertEqual(record_of(certificate, Details()).name, "serial AB")

    def test_revoke_name(self) -> None:
        """Who is banned loses all certificates, the server's own of that name excepted, and gets no new ones."""
        first, second, other = self.issue("ALPHA"), self.issue("ALPHA"), self.issue("BRAVO")
        server = self.issue("ALPHA", SERVER)
        revoked = self.register.revoke_name("ALPHA")
        self.assertEqual({each.serial for each in revoked}, {first.serial_number, second.serial_number})
        self.assertEqual(
            [self.refused(each) for each in (first, second, other)],
            [True, True, False],
        )
        states = {each.serial: each.revoked for each in self.register.records()}
        self.assertIsNone(states[server.serial_number])
        self.assertEqual(states[first.serial_number], NOW.replace(microsecond=0))
        self.assertTrue(self.register.is_banned("ALPHA"))
        error = self.assertRaises(Banned, self.issue, "ALPHA")
        self.assertIn("takyctl unban", str(error))
        self.assertEqual(len(self.register.records()), 4)
        self.assertEqual(self.register.revoke_name("ALPHA"), [])

    def test_server_of_banned_name(self) -> None:
        """A server gets its certificate although somebody of the same name is banned."""
        self.register.revoke_name("camp")
        self.issue("camp", SERVER)

    def test_revoke_name_of_taky(self) -> None:
        """Certificates that taky issued are revoked, too, however their umlauts are spelled."""
        self.path.write_text(f"V\t{DATES}\t{7:040x}\tJo\u0308rg\n", "utf-8")
        self.assertEqual([each.serial for each in self.register.revoke_name("Jörg")], [7])
        self.assertTrue(self.path.read_text("utf-8").startswith("R\t"))

    def test_revoke_name_in_any_case(self) -> None:
        """A ban is one of the name in any case, as accounts are, and so is its end; the old ones stay refused."""
        old = self.issue("ALPHA")
        self.assertEqual([each.serial for each in self.register.revoke_name("alpha")], [old.serial_number])
        self.assertTrue(self.refused(old))
        self.assertTrue(self.register.is_banned("Alpha"))
        self.assertRaises(Banned, self.issue, "ALPHA")
        self.now += timedelta(hours=1)
        self.assertTrue(self.register.unban("ALPHA"))
        self.assertFalse(self.register.is_banned("alpha"))
        new = self.issue("ALPHA")
        self.assertEqual([self.refused(each) for each in (old, new)], [True, False])

    def test_revoke_unknown_name(self) -> None:
        """A name that the register does not know is banned all the same."""
        self.assertEqual(self.register.revoke_name("GHOST"), [])
        stranger = self.authority.sign_client("GHOST", KEY.public_key(), NOW)
        self.assertTrue(self.refused(stranger))

    def test_revoke_what_is_no_text(self) -> None:
        """A name that no file can hold is written as an escape, and loses nothing."""
        self.issue("ALPHA")
        self.register.revoke_name("\ud800")
        self.assertEqual([ban.name for ban in self.register.bans()], ["\\ud800"])
        self.assertTrue(self.register.is_banned("\ud800"))
        self.assertEqual([record.name for record in self.register.records()], ["ALPHA"])

    def test_unban(self) -> None:
        """After a ban there are new certificates; the old ones stay refused, those nobody knew of, too."""
        old = self.issue("ALPHA")
        unknown = self.authority.sign_client("ALPHA", KEY.public_key(), NOW)
        self.register.revoke_name("ALPHA")
        self.now += timedelta(hours=1)
        self.assertTrue(self.register.unban("ALPHA"))
        self.assertFalse(self.register.unban("ALPHA"))
        self.assertFalse(self.register.is_banned("ALPHA"))
        new = self.issue("ALPHA")
        self.assertEqual([self.refused(each) for each in (old, unknown, new)], [True, True, False])
        (ban,) = self.register.bans()
        self.assertEqual((ban.until or NOW) - ban.since, timedelta(hours=1))
        self.register.revoke_name("ALPHA")
        self.assertTrue(self.refused(new))

    def test_join(self) -> None:
        """What is in another register of the site can be entered here, and all that there is is told."""
        self.register.revoke_name("ALPHA")
        (ban,) = self.register.bans()
        other = CertificateRegister(self.register.path.with_name("other.txt"))
        record = Record(7, "BRAVO", issuer="CN=x", kind="client")
        found, records = other.join([record], [ban])
        self.assertEqual((records, list(found.records()), list(found.bans.values())), ([record], [record], [ban]))
        self.assertEqual(other.read().bans, found.bans)
        self.assertTrue(other.is_banned("alpha"))

    def test_revoke_serial(self) -> None:
        """One certificate is revoked, and its name goes on."""
        lost, new = self.issue("ALPHA"), self.issue("ALPHA")
        self.assertEqual([each.name for each in self.register.revoke_serial(lost.serial_number)], ["ALPHA"])
        self.assertEqual([self.refused(each) for each in (lost, new)], [True, False])
        self.assertFalse(self.register.is_banned("ALPHA"))
        self.assertEqual(self.register.revoke_serial(lost.serial_number), [])

    def test_publish(self) -> None:
        """The list for other programs is made under the lock: what another has just revoked is never lost in it."""
        certificate = self.issue("ALPHA")
        revoked = threading.Thread(target=self.register.publish, args=(self.authority,))
        with open(self.path.with_name("cert-db.txt.lock"), "w") as other:
            fcntl.flock(other, fcntl.LOCK_EX)
            revoked.start()
            revoked.join(0.05)
            self.assertTrue(revoked.is_alive())
            self.path.write_text(self.path.read_text("utf-8").replace("V\t", "R\t"), "utf-8")
        revoked.join(10)
        crl = x509.load_pem_x509_crl(self.path.with_name(CRL_NAME).read_bytes())
        self.assertIsNotNone(crl.get_revoked_certificate_by_serial_number(certificate.serial_number))
        nowhere = CertificateRegister(Path("/nonexistent/cert-db.txt"))
        self.assertRaises(EnrollmentError, nowhere.publish, self.authority)

    def test_revoke_unknown_serial(self) -> None:
        """A serial that the register does not know is refused from then on."""
        stranger = self.authority.sign_client("GHOST", KEY.public_key(), NOW)
        self.register.create()
        self.assertFalse(self.refused(stranger))
        (revoked,) = self.register.revoke_serial(stranger.serial_number)
        self.assertEqual(revoked.serial, stranger.serial_number)
        self.assertTrue(self.refused(stranger))

    def test_create(self) -> None:
        """A new register is empty; one that is there stays as it is, and its mode is ours as well."""
        self.register.create()
        self.assertEqual((self.path.read_bytes(), beside(self.path).read_bytes()), (b"", b""))
        self.path.write_text("# mine\n", "utf-8")
        self.path.chmod(0o640)
        beside(self.path).unlink()
        self.register.create()
        self.assertEqual(self.path.read_text("utf-8"), "# mine\n")
        self.assertEqual(beside(self.path).stat().st_mode & 0o777, 0o640)

    def test_nothing_there(self) -> None:
        """Without files the register is empty."""
        self.assertEqual((self.register.records(), self.register.bans(), self.register.is_banned("A")), ([], [], False))

    def test_unreadable(self) -> None:
        """Files that cannot be read or written are an error that names them, and nothing is lost."""
        self.path.write_bytes(b"\xff")
        self.assertIn("not UTF-8 text", str(self.assertRaises(EnrollmentError, self.register.records)))
        self.assertIn("not UTF-8 text", str(self.assertRaises(EnrollmentError, self.register.revoke_name, "A")))
        self.path.unlink()
        self.path.mkdir()
        self.assertIn("Is a directory", str(self.assertRaises(EnrollmentError, self.register.records)))
        nowhere = CertificateRegister(Path("/nonexistent/cert-db.txt"))
        error = str(self.assertRaises(EnrollmentError, nowhere.create))
        self.assertIn("cannot write the certificate register: /nonexistent", error)

    def test_certificates_of_taky(self) -> None:
        """Of certificates that taky issued there is only the line; a damaged file is told."""
        self.path.write_text(f"V\t{DATES}\t{7:040x}\tALPHA\n", "utf-8")
        (record,) = self.register.records()
        self.assertIsNone(self.register.certificate(record))
        self.issue("BRAVO")
        _, record = self.register.records()
        (self.path.parent / "issued" / f"{record.serial_hex}.pem").write_bytes(b"garbage")
        self.assertIn("cannot be read", str(self.assertRaises(EnrollmentError, self.register.certificate, record)))

    def test_root(self) -> None:
        """What root makes belongs to whom the folder belongs: the server has to write there, too."""
        given: list[tuple[int, int]] = []
        self.patch(os, "geteuid", lambda: 0)
        self.patch(os, "fchown", lambda _, user, group: given.append((user, group)))
        self.patch(os, "lchown", lambda _, user, group: given.append((user, group)))
        self.issue("ALPHA")
        folder = self.path.parent.stat()
        self.assertEqual(set(given), {(folder.st_uid, folder.st_gid)})
        self.assertEqual(len(given), 5)

    def test_lock_is_a_link(self) -> None:
        """Where the lock should be, a link is not followed: root would give away what it leads to."""
        precious = self.path.with_name("precious")
        precious.write_bytes(b"")
        self.path.with_name("cert-db.txt.lock").symlink_to("precious")
        given: list[int] = []
        self.patch(os, "geteuid", lambda: 0)
        self.patch(os, "fchown", lambda descriptor, *_: given.append(descriptor))
        self.assertIn("cert-db.txt.lock", str(self.assertRaises(EnrollmentError, self.register.create)))
        self.assertEqual(given, [])

    def test_lock_stays_whose_it_is(self) -> None:
        """Root gives away the lock that it makes, and none that is there."""
        self.path.with_name("cert-db.txt.lock").touch()
        self.register.create()
        given: list[int] = []
        self.patch(os, "geteuid", lambda: 0)
        self.patch(os, "fchown", lambda descriptor, *_: given.append(descriptor))
        self.register.create()
        self.assertEqual(given, [])

    def test_not_root(self) -> None:
        """Others give nothing away."""

        def refuse(*_: object) -> None:
            raise AssertionError("gave something away")

        self.patch(os, "geteuid", lambda: 1000)
        self.patch(os, "fchown", refuse)
        self.patch(os, "lchown", refuse)
        self.issue("ALPHA")

    def test_waits(self) -> None:
        """While another program holds the lock, nothing is read or written."""
        with open(self.path.with_name("cert-db.txt.lock"), "w") as other:
            fcntl.flock(other, fcntl.LOCK_EX)
            adding = threading.Thread(target=self.issue, args=("ALPHA",))
            adding.start()
            adding.join(0.2)
            waited = adding.is_alive()
            self.assertFalse(self.path.exists())
        adding.join(10)
        self.assertTrue(waited)
        self.assertEqual([each.name for each in self.register.records()], ["ALPHA"])

    def test_threads(self) -> None:
        """Threads of one program lose nothing either."""
        names = [f"A{number}" for number in range(8)]
        threads = [threading.Thread(target=self.issue, args=(name,)) for name in names]
        threads.append(threading.Thread(target=self.register.revoke_name, args=("X",)))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(sorted(each.name for each in self.register.records()), names)
        self.assertTrue(self.register.is_banned("X"))
