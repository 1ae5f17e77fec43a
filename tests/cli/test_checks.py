from __future__ import annotations

import datetime
import os
import shutil
import socket
import sqlite3
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.cli import checks
from taky_twisted.cli.checks import FULL_BYTES, LOW_BYTES, Checks, Finding, moment, try_to_connect, worst
from taky_twisted.config import load
from tests.pki import DAY, PKI, Authority

OPENING = """
[taky]
hostname = localhost
public_ip = 127.0.0.1
root_dir = data
bind_ip = 127.0.0.1
"""
TLS = """
[ssl]
enabled = true
ca = ca.pem
ca_key = ca.key
cert = server.pem
key = server.key
cert_db = cert-db.txt
"""


class ChecksTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.pki = PKI(self.folder)
        self.data = self.folder / "data"
        self.data.mkdir(mode=0o700)
        self.configure(OPENING + TLS)

    def configure(self, text: str) -> None:
        path = self.folder / "taky.conf"
        path.write_text(text, "utf-8")
        path.chmod(0o644)

    def checks(self, now: datetime.datetime | None = None) -> Checks:
        return Checks(load(str(self.folder / "taky.conf")), now or moment())

    def assert_found(self, findings: object, level: str, words: str, advice: str = "") -> None:
        """One of the findings has these words, and this level."""
        found = [each for each in findings if words in each.what]  # type: ignore[attr-defined]
        self.assertEqual([each.level for each in found], [level], (words, found))
        self.assertIn(advice, found[0].advice)


class FileTests(ChecksTestCase):
    def test_good(self) -> None:
        """At a site that is as it should be, nothing is wrong."""
        (self.folder / "ca.key").write_bytes(b"")
        (self.folder / "ca.key").chmod(0o600)
        self.assertEqual({each.level for each in self.checks().files()}, {"ok"})
        self.assertEqual(len(list(self.checks().files())), 4)

    def test_modes(self) -> None:
        """Keys that others read, a configuration that others change, and an open data folder are warned of."""
        self.data.chmod(0o755)
        (self.folder / "server.key").chmod(0o644)
        (self.folder / "taky.conf").chmod(0o666)
        found = list(self.checks().files())
        self.assert_found(found, "warning", "others may look into it (mode 0755)", "chmod 0700 ")
        self.assert_found(found, "warning", "others may read it (mode 0644)", "chmod go= ")
        self.assert_found(found, "warning", "others may change it (mode 0666)", "chmod go-w ")

    def test_missing(self) -> None:
        """A data folder that is not there yet is no fault; nor is a site without a file."""
        self.data.rmdir()
        self.assert_found(self.checks().files(), "note", "is not there yet")
        found = Checks(load(None, self.folder / "data", self.folder / "nothing"), moment()).files()
        self.assert_found(found, "note", "there is no taky.conf here")

    def test_unreadable(self) -> None:
        """What this user may not read is said, with who may."""
        self.patch(os, "access", lambda *_: False)
        self.assertEqual(worst(self.checks().files()), "problem")
        found = checks._mode(self.folder / "gone", 0, "", "")
        self.assertEqual((found.level, found.what), ("problem", f"{self.folder / 'gone'}: No such file or directory"))


class CertificateTests(ChecksTestCase):
    def certify(self, server: object = None, **keys: object) -> None:
        """Give the server another certificate."""
        made = server or self.pki.ca.issue("localhost", server=True, **keys)  # type: ignore[arg-type]
        self.pki.write("server.pem", made.pem)  # type: ignore[attr-defined]
        self.pki.write("server.key", made.key_pem())  # type: ignore[attr-defined]

    def test_good(self) -> None:
        """Dates, names, authority and register of a good site are good."""
        self.certify(ends=50)
        self.assertEqual({each.level for each in self.checks().certificates()}, {"ok"})

    def test_dates(self) -> None:
        """What has expired, expires soon, or is from the future is told, with what to do."""
        self.certify(ends=20)
        self.assert_found(
            self.checks().certificates(), "warning", "the server's certificate is valid until", "renew-server"
        )
        late = moment() + 60 * DAY
        self.assert_found(self.checks(late).certificates(), "problem", "expired on", "renew-server")
        early = moment() - 2 * DAY
        self.assert_found(self.checks(early).certificates(), "problem", "is not valid before", "clock")
        end = moment() + 90 * DAY
        self.assert_found(self.checks(end).certificates(), "warning", "the authority's certificate", "new site")

    def test_names(self) -> None:
        """A name or address by which clients come and that is not in the certificate is told."""
        self.configure(OPENING.replace("127.0.0.1", "203.0.113.5", 1) + TLS)
        found = list(self.checks().certificates())
        self.assert_found(found, "warning", "does not contain 203.0.113.5", "renew-server --host 203.0.113.5")
        self.assert_found(found, "ok", "is good for localhost")
        self.configure(OPENING.replace("public_ip = 127.0.0.1\n", "") + TLS)
        self.assertEqual(len([each for each in self.checks().certificates() if "good for" in each.what]), 1)

    def test_another_authority(self) -> None:
        """A server's certificate that phones cannot trust is told."""
        self.certify(Authority("Other").issue("localhost", server=True))
        self.assert_found(self.checks().certificates(), "warning", "not from this site's authority", "renew-server")
        self.pki.write("ca.pem", b"garbage")
        self.assert_found(self.checks().certificates(), "problem", "ca.pem: no certificate in it", "backup")
        self.configure(OPENING + TLS.replace("ca = ca.pem", "ca ="))
        self.assertNotIn("authority", " ".join(each.what for each in self.checks().certificates()))

    def test_broken(self) -> None:
        """A key that is not the certificate's, or no key, is a problem."""
        self.pki.write("server.key", self.pki.client.key_pem())
        self.assert_found(self.checks().certificates(), "problem", "does not belong to the key", "renew-server")
        self.pki.write("server.pem", self.pki.server.pem + self.pki.server.key_pem())
        self.configure(OPENING + TLS.replace("key = server.key", "key ="))
        self.assertIn(worst(self.checks().certificates()), ("ok", "warning"))

    def test_none(self) -> None:
        """Sites without TLS, and those whose endpoints name their own certificates, are told apart."""
        self.configure(OPENING)
        self.assert_found(self.checks().certificates(), "note", "no door speaks TLS")
        self.configure(OPENING + TLS)
        (self.folder / "server.pem").unlink()
        self.assert_found(self.checks().certificates(), "note", "endpoints may name their own")

    def test_register(self) -> None:
        """Certificates that expire soon, lines that mean nothing, and a register that is not there are told."""
        soon = (moment() + 5 * DAY).strftime("%Y-%m-%dT%H:%M:%S")
        self.pki.write("cert-db.txt", f"V\t2024-03-01T10:00:00\t{soon}\t4d2\tALPHA-1\nwhat\n".encode())
        found = list(self.checks().certificates())
        self.assert_found(found, "warning", "1 certificates expire within 30 days (ALPHA-1)", "takyctl certs")
        self.assert_found(found, "warning", "line 2: 1 fields instead of 5", "mend")
        self.pki.write("cert-db.txt", b"\xff")
        self.assert_found(self.checks().certificates(), "problem", "cannot be read")
        (self.folder / "cert-db.txt").unlink()
        self.assert_found(self.checks().certificates(), "note", "there is no certificate register")

    def test_cannot_be_compared(self) -> None:
        """Neither somebody else's certificate nor an authority of the same name has signed it."""
        certificate = self.pki.server.certificate
        self.assertFalse(checks._issued(certificate, self.pki.client.certificate))
        self.assertFalse(checks._issued(certificate, Authority().certificate))
        self.assertTrue(checks._issued(certificate, self.pki.ca.certificate))


class StoreTests(ChecksTestCase):
    def test_store(self) -> None:
        """A store that is whole, damaged, or not there is told apart."""
        self.assert_found(self.checks().store(), "note", "there is no store yet")
        path = self.data / "taky.sqlite"
        made = sqlite3.connect(path)
        made.execute("PRAGMA user_version = 2")
        made.execute("CREATE TABLE t (x)")
        made.executemany("INSERT INTO t VALUES (?)", [("y" * 500,)] * 100)
        made.commit()
        made.close()
        self.assert_found(self.checks().store(), "ok", "is whole (schema 2)")
        content = bytearray(path.read_bytes())
        content[5000:9000] = b"z" * 4000
        path.write_bytes(content)
        self.assert_found(self.checks().store(), "problem", "is damaged", "backup")
        self.patch(checks, "CHECKED_STORE_BYTES", 1000)
        self.assert_found(self.checks().store(), "ok", "is whole")
        path.write_bytes(b"no database at all" * 100)
        self.assert_found(self.checks().store(), "problem", "cannot be read")

    def test_other_stores(self) -> None:
        """The store may be elsewhere, or nowhere."""
        self.configure(OPENING + "store = memory:\n")
        self.assert_found(self.checks().store(), "note", "a restart forgets")
        self.configure(OPENING + "store = sqlite:other.sqlite\n")
        self.assert_found(self.checks().store(), "note", f"no store yet ({self.folder / 'other.sqlite'})")

    def test_disk(self) -> None:
        """A disk that is full, or nearly, is told."""
        self.data.rmdir()
        for free, level in (
            (FULL_BYTES - 1, "problem"),
            (FULL_BYTES, "warning"),
            (LOW_BYTES - 1, "warning"),
            (LOW_BYTES, "ok"),
        ):
            self.patch(shutil, "disk_usage", lambda _, free=free: shutil._ntuple_diskusage(1, 1, free))
            self.assert_found(self.checks().disk(), level, f"MiB are free in {self.folder}")


class NetworkTests(ChecksTestCase):
    def test_connect(self) -> None:
        """A port that answers, that nobody listens at, and a name that nobody knows are told apart."""
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            port = listener.getsockname()[1]
            self.assertEqual(try_to_connect("127.0.0.1", port).level, "ok")
        self.assertIn("does the server run?", try_to_connect("127.0.0.1", port).advice)
        self.assertIn("cannot look up", try_to_connect("nowhere.invalid", 1).what)

        def unreachable(*_: object) -> None:
            raise OSError(113, "No route to host")

        self.patch(socket, "create_connection", unreachable)
        found = try_to_connect("203.0.113.5", 8089)
        self.assertEqual(
            (found.level, "(No route to host)" in found.what, "NAT" in found.advice), ("warning", True, True)
        )

    def test_what_clients_are_told(self) -> None:
        """What is tried is the address that clients are told, and the first port for CoT."""
        tried: list[tuple[str, int]] = []

        def note(host: str, port: int) -> Finding:
            tried.append((host, port))
            return Finding("ok", "x")

        self.patch(checks, "try_to_connect", note)
        self.assertEqual([each.level for each in self.checks().reachable()], ["ok"])
        self.configure(OPENING.replace("127.0.0.1", "192.168.1.5", 1) + "[cot_server]\nendpoints = tcp:8087\n")
        self.assert_found(self.checks().reachable(), "note", "which only this network knows", "public_ip")
        self.configure(OPENING.replace("public_ip = 127.0.0.1\n", "") + "[cot_server]\nendpoints = tcp:0\n  unix:/a\n")
        self.assert_found(self.checks().reachable(), "note", "no door has a port of its own")
        self.assertEqual(tried, [("127.0.0.1", 8089), ("192.168.1.5", 8087)])

    def test_metrics_door(self) -> None:
        """Who can read metrics is told where that is not this machine alone; endpoints' other keys are not shown."""
        self.configure(OPENING.replace("[taky]\n", "[taky]\nmetrics_endpoints = tcp:9100\n  unix:/m\n", 1))
        self.assertEqual(list(self.checks().watched()), [])
        wide = "ssl:9100:interface=0.0.0.0:keyPassword=hush\n  systemd:domain=INET"
        self.configure(OPENING.replace("[taky]\n", f"[taky]\nmetrics_endpoints = {wide}\n", 1))
        self.assert_found(self.checks().all(), "warning", "the metrics door ssl:9100:", "leave interface= out")
        self.assert_found(self.checks().watched(), "warning", "the metrics door systemd:...:")
        self.assertNotIn("hush", str(list(self.checks().watched())))

    def test_all(self) -> None:
        """All of it can be looked at one after the other."""
        self.patch(checks, "try_to_connect", lambda *_: Finding("ok", "reached"))
        self.data.chmod(0o755)
        found = list(self.checks().all())
        for words in ("taky.conf", "valid until", "store", "free", "reached"):
            self.assertTrue(any(words in each.what for each in found), words)
        self.assertEqual(worst(found), "warning")
        self.assertEqual(worst([]), "ok")
