from __future__ import annotations

import os
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.identity.cert_db import Ban, CertDb, Record, beside
from taky_twisted.identity.errors import EndpointError
from taky_twisted.identity.principal import Certificate
from taky_twisted.identity.revocation import Register

NOON = datetime(2026, 3, 1, 12, tzinfo=timezone.utc)
DATES = "2024-03-01T10:00:00\t2026-03-01T10:00:00"


def certificate(serial: int) -> Certificate:
    return Certificate("ALPHA-1", "CN=CA,O=taky", serial)


class RegisterTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = Path(self.mktemp())

    def register(self, *lines: str) -> Register:
        self.write(*lines)
        return Register(str(self.path))

    def write(self, *lines: str) -> None:
        self.path.write_text("".join(f"{line}\n" for line in lines), "utf-8")

    def revoked(self, register: Register) -> list[int]:
        return [serial for serial in range(0x20) if register.is_revoked(certificate(serial))]

    def test_taky(self) -> None:
        """The register that taky wrote counts: R is revoked, V is not, and neither is who is not in it."""
        register = self.register(f"V\t{DATES}\t{1:040x}\tALPHA-1", f"R\t{DATES}\t{2:040x}\tBRAVO-2")
        self.assertEqual(self.revoked(register), [2])
        self.assertEqual(len(register), 1)

    def test_large_serial(self) -> None:
        """Serials are as long as authorities make them."""
        serial = 0x7BBC811F21A14B6073DF62025E6F789351662392
        register = self.register(f"R\t{DATES}\t{serial:040x}\tALPHA-1")
        self.assertTrue(register.is_revoked(certificate(serial)))
        self.assertFalse(register.is_revoked(certificate(serial + 1)))

    def test_openssl(self) -> None:
        """OpenSSL's index.txt works as well."""
        register = self.register(
            "V\t260301100000Z\t\t01\tunknown\t/CN=ALPHA-1",
            "R\t260301100000Z\t240401123000Z\t02\tunknown\t/CN=BRAVO-2",
            "E\t200301100000Z\t\t03\tunknown\t/CN=CHARLIE-3",
        )
        self.assertEqual(self.revoked(register), [2])

    def test_last_line_counts(self) -> None:
        """As in taky, the last line about a serial is the one that counts."""
        lines = f"V\t{DATES}\t02\tA", f"R\t{DATES}\t02\tA", f"R\t{DATES}\t03\tB", f"V\t{DATES}\t03\tB"
        self.assertEqual(self.revoked(self.register(*lines)), [2])

    def test_dates_do_not_matter(self) -> None:
        """A revoked certificate is refused even if somebody broke the dates in its line."""
        self.assertEqual(self.revoked(self.register("R\tsoon\t\t0F\tALPHA-1")), [15])

    def test_bad_lines(self) -> None:
        """A broken line is named with file and number, and the others count."""
        with capturedLogs() as events:
            register = self.register(
                "# made by hand",
                "",
                f"R\t{DATES}\t01\tA",
                "R 02",
                f"X\t{DATES}\t03\tC",
                f"R\t{DATES}\tgarbage\tD",
                f"R\t{DATES}\t05\tE",
            )
        self.assertEqual(self.revoked(register), [1, 5])
        self.assertEqual([event["log_level"].name for event in events], ["warn"] * 3)
        self.assertEqual(
            [(event["path"], event["number"]) for event in events], [(register.path, n) for n in (4, 5, 6)]
        )
        for event, words in zip(events, ("1 fields instead of 5", "neither V nor R", "not a hex number"), strict=True):
            self.assertIn(words, event["problem"])

    def test_bad_lines_once(self) -> None:
        """A line that stays broken is reported once, not at every reload."""
        with capturedLogs() as events:
            register = self.register("nonsense")
            register.reload()
            self.assertEqual(len(events), 1)
            self.write("other nonsense")
            register.reload()
            self.assertEqual(len(events), 2)

    def test_reload(self) -> None:
        """What is revoked later is revoked from the next reload on, which says whether anything changed."""
        register = self.register(f"V\t{DATES}\t02\tA")
        self.assertFalse(register.reload())
        self.write(f"R\t{DATES}\t02\tA")
        self.assertEqual(self.revoked(register), [])
        self.assertTrue(register.reload())
        self.assertEqual(self.revoked(register), [2])

    def test_file_gone(self) -> None:
        """A register that cannot be read any more lets nobody back in, and the log says so."""
        register = self.register(f"R\t{DATES}\t02\tA")
        self.path.unlink()
        with capturedLogs() as events:
            self.assertFalse(register.reload())
        self.assertEqual(self.revoked(register), [2])
        (event,) = events
        self.assertEqual(event["log_level"].name, "warn")
        self.assertIn("No such file", event["problem"])

    def test_missing_at_start(self) -> None:
        """A register that is named and not there is an error that names the file."""
        error = self.assertRaises(EndpointError, Register, str(self.path))
        self.assertEqual(
            str(error),
            f"the certificate register {os.path.abspath(self.path)} cannot be read: No such file or directory",
        )

    def test_may_be_missing(self) -> None:
        """A site that has revoked nobody yet needs no file, hears nothing about it, and the file counts once made."""
        with capturedLogs() as events:
            register = Register(str(self.path), must_exist=False)
            self.assertFalse(register.reload())
        self.assertEqual((events, self.revoked(register)), ([], []))
        self.write(f"R\t{DATES}\t02\tA")
        self.assertTrue(register.reload())
        self.assertEqual(self.revoked(register), [2])

    def test_unreadable_at_start(self) -> None:
        """What is not a text file is an error at the start, even where no file would do."""
        self.path.mkdir()
        self.assertIn("Is a directory", str(self.assertRaises(EndpointError, Register, str(self.path))))
        error = self.assertRaises(EndpointError, Register, str(self.path), must_exist=False)
        self.assertIn("Is a directory", str(error))

    def test_not_text(self) -> None:
        """A binary file in its place is an error at the start and a warning later."""
        register = self.register(f"R\t{DATES}\t02\tA")
        self.path.write_bytes(b"\xff\xfe\x00")
        self.assertIn("not UTF-8", str(self.assertRaises(EndpointError, Register, str(self.path))))
        with capturedLogs() as events:
            self.assertFalse(register.reload())
        self.assertIn("not UTF-8", events[0]["problem"])
        self.assertEqual(self.revoked(register), [2])

    def test_absolute(self) -> None:
        """The file is found again after the process has changed its directory."""
        self.assertTrue(os.path.isabs(self.register().path))


class BesideTests(SynchronousTestCase):
    """With the file that is beside taky's."""

    def setUp(self) -> None:
        self.path = Path(self.mktemp() + ".txt")
        self.db = CertDb()

    def register(self) -> Register:
        self.write()
        return Register(str(self.path))

    def write(self) -> None:
        self.path.write_text(self.db.taky_text(), "utf-8")
        beside(self.path).write_text(self.db.text_beside(), "utf-8")

    def test_issuer_counts(self) -> None:
        """Where the issuer is known, a certificate of another one with the same serial is not refused."""
        ours = Record(7, "ALPHA-1", issuer="CN=CA,O=taky")
        self.db.add(ours)
        self.db.revoke(ours, NOON)
        register = self.register()
        self.assertTrue(register.is_revoked(certificate(7)))
        self.assertTrue(register.is_revoked(Certificate("ALPHA-1", "O=taky,CN=CA", 7)))
        self.assertFalse(register.is_revoked(Certificate("ALPHA-1", "CN=Another", 7)))

    def test_two_issuers(self) -> None:
        """Both are refused when both are revoked, and everybody when one of them is not known."""
        for issuer in ("CN=A", "CN=B"):
            record = Record(7, "ALPHA-1", issuer=issuer)
            self.db.add(record)
            self.db.revoke(record, NOON)
        register = self.register()
        refused = [register.is_revoked(Certificate("X", issuer, 7)) for issuer in ("CN=A", "CN=B", "CN=C")]
        self.assertEqual(refused, [True, True, False])
        self.path.write_text("", "utf-8")
        beside(self.path).unlink()
        self.db = CertDb()
        self.db.revoke(Record(7, "unknown"), NOON)
        self.assertTrue(self.register().is_revoked(Certificate("X", "CN=C", 7)))

    def test_not_in_takys_file(self) -> None:
        """A revocation that a program without our lock has lost in taky's file still counts."""
        record = Record(7, "ALPHA-1", issuer="CN=CA,O=taky")
        self.db.add(record)
        self.db.revoke(record, NOON)
        self.db.lines = []
        self.assertTrue(self.register().is_revoked(certificate(7)))

    def test_banned_name(self) -> None:
        """A banned name is refused with every certificate, also with one that the register does not know."""
        self.db.bans["ALPHA-1"] = Ban("ALPHA-1", NOON)
        register = self.register()
        self.assertTrue(register.is_revoked(certificate(99)))
        self.assertFalse(register.is_revoked(Certificate("BRAVO-2", "CN=CA,O=taky", 99)))

    def test_banned_spelling(self) -> None:
        """It does not matter how a banned name's umlauts are composed, or that it has odd characters."""
        self.db.bans["Jörg"] = Ban("Jörg", NOON)
        register = self.register()
        self.assertTrue(register.is_revoked(Certificate("Jo\u0308rg", "CN=CA", 1)))

    def test_banned_in_any_case(self) -> None:
        """A ban counts for the name in any case: whatever the case, certificates and account are one principal."""
        self.db.bans["alpha-1"] = Ban("alpha-1", NOON)
        self.db.bans["ALPHA-1"] = Ban("ALPHA-1", NOON, NOON + timedelta(hours=1))
        register = self.register()
        self.assertTrue(register.is_revoked(certificate(99)))
        self.assertTrue(register.is_banned("Alpha-1"))
        self.db.bans = {"ALPHA-1": self.db.bans["ALPHA-1"], "alpha-1": self.db.bans["alpha-1"]}
        self.assertTrue(self.register().is_banned("Alpha-1"))
        self.db.bans["alpha-1"] = Ban("alpha-1", NOON, NOON + timedelta(hours=2))
        register = self.register()
        self.assertFalse(register.is_banned("Alpha-1"))
        for hours, refused in ((2, True), (3, False)):
            begins = (NOON + timedelta(hours=hours)).timestamp()
            self.assertEqual(register.is_revoked(replace(certificate(99), begins=begins)), refused, hours)

    def test_was_banned(self) -> None:
        """What a name was given before a ban ended is void, in whatever case it is written; what came later counts."""
        later = NOON + timedelta(hours=1)
        register = self.register()
        self.assertFalse(register.was_banned("ALPHA-1", NOON.timestamp()))
        self.db.bans = {"ALPHA-1": Ban("ALPHA-1", NOON, later), "BRAVO-2": Ban("BRAVO-2", NOON)}
        register = self.register()
        for name in ("ALPHA-1", "alpha-1"):
            for moment, void in ((NOON, True), (later, True), (later + timedelta(seconds=1), False)):
                self.assertEqual(register.was_banned(name, moment.timestamp()), void, moment)
        self.assertTrue(register.was_banned("bravo-2", later.timestamp() + 1e6))
        self.assertFalse(register.was_banned("CHARLIE-3", 0))

    def test_unbanned(self) -> None:
        """After the ban the name comes in with what was entered since, or begins later; nothing older does."""
        later = NOON + timedelta(hours=1)
        old, new = (Record(serial, "ALPHA-1", issuer="CN=CA,O=taky") for serial in (1, 2))
        self.db.add(old)
        self.db.revoke(old, NOON)
        self.db.bans["ALPHA-1"] = Ban("ALPHA-1", NOON, later)
        self.db.add(new)
        register = self.register()
        self.assertTrue(register.is_revoked(certificate(1)))
        self.assertFalse(register.is_revoked(certificate(2)))
        for moment, refused in ((NOON, True), (later, True), (later + timedelta(seconds=1), False)):
            unknown = Certificate("ALPHA-1", "CN=Another", 3, moment.timestamp())
            self.assertEqual(register.is_revoked(unknown), refused, moment)

    def test_reload(self) -> None:
        """A ban is in force from the next reload on, which says that something changed."""
        register = self.register()
        self.assertFalse(register.reload())
        self.db.bans["ALPHA-1"] = Ban("ALPHA-1", NOON)
        self.write()
        self.assertTrue(register.reload())
        self.assertTrue(register.is_revoked(certificate(1)))

    def test_unreadable(self) -> None:
        """If our file cannot be read, what it said before still counts."""
        self.db.bans["ALPHA-1"] = Ban("ALPHA-1", NOON)
        register = self.register()
        beside(self.path).write_bytes(b"\xff")
        with capturedLogs() as events:
            self.assertFalse(register.reload())
        self.assertEqual(len(events), 1)
        self.assertTrue(register.is_revoked(certificate(1)))

    def test_paths(self) -> None:
        """Both files are watched."""
        self.assertEqual(self.register().paths, [str(self.path.absolute()), str(beside(self.path.absolute()))])
