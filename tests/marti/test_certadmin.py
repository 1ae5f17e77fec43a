from __future__ import annotations

import zipfile
from datetime import datetime, timezone
from io import BytesIO
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.enrollment.issuing import Device
from taky_twisted.marti import certadmin
from tests.fakes import LogLines
from tests.marti.asking import NODE_ID, Answer
from tests.marti.enroll_server import ADMIN, ALPHA, EnrollServer

CERT = "/Marti/api/certadmin/cert"
FIELDS = (
    *("id", "creatorDn", "subjectDn", "userDn", "certificate", "hash", "clientUid", "serialNumber"),
    *("issuanceDate", "expirationDate", "effectiveDate", "token"),
)


class CertAdminTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.server = EnrollServer(self)
        self.server.reactor.rightNow = datetime.now(timezone.utc).timestamp()
        self.log = LogLines(self)

    def issue(self, name: str, uid: str = "") -> x509.Certificate:
        """Issue a certificate."""
        key = ec.generate_private_key(ec.SECP256R1()).public_key()
        return self.server.issuing.issue(name, key, Device(uid)).certificate

    def ask(self, path: str = "", method: str = "GET") -> Answer:
        """Ask as an administrator."""
        return self.server.ask(method, CERT + path, who=ADMIN)

    def listed(self, path: str = "") -> list[Any]:
        """List certificates."""
        answer = self.ask(path)
        self.assertEqual((answer.status, answer.type), (200, "application/json"))
        told = answer.json
        self.assertEqual((told["version"], told["type"], told["nodeId"]), ("3", "TakCert", NODE_ID))
        data: list[Any] = told["data"]
        return data

    def names(self, path: str = "") -> list[str]:
        """List whose certificates."""
        return [each["userDn"] for each in self.listed(path)]

    def revoked(self) -> list[str]:
        """List whose certificates are revoked in the register."""
        return [record.name for record in self.server.issuing.register.records() if record.revoked is not None]

    def test_administrators_only(self) -> None:
        """Nobody else sees or does anything here."""
        self.issue("alpha")
        hash_ = "00" * 32
        for method, path in (
            *(("GET", ""), ("GET", "/active"), ("GET", "/replaced"), ("GET", "/expired"), ("GET", "/revoked")),
            *(("GET", f"/{hash_}"), ("GET", f"/{hash_}/download"), ("GET", "/download/1")),
            *(("DELETE", f"/{hash_}"), ("DELETE", "/revoke/1"), ("DELETE", "/delete/1")),
        ):
            self.assertEqual(self.server.ask(method, CERT + path, who=ALPHA).status, 403, path)
            self.assertEqual(self.server.ask(method, CERT + path).status, 401, path)
        self.assertEqual(self.revoked(), [])

    def test_list(self) -> None:
        """A list says what CloudTAK reads: all members are there, and texts, and dates as TAK spells them."""
        certificate = self.issue("Jörg", "ANDROID-1")
        self.issue("bravo")
        first, second = self.listed()
        self.assertEqual(set(first), set(FIELDS))
        self.assertTrue(all(isinstance(first[name], str) for name in FIELDS if name != "id"))
        self.assertEqual((first["userDn"], first["clientUid"], second["clientUid"]), ("Jörg", "ANDROID-1", ""))
        self.assertEqual(x509.load_pem_x509_certificate(first["certificate"].encode()), certificate)
        self.assertEqual(int(first["serialNumber"], 16), certificate.serial_number)
        self.assertRegex(first["expirationDate"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
        self.assertIsInstance(first["id"], int)
        self.assertLess(first["id"], 1 << 53)
        self.assertNotEqual(first["id"], second["id"])
        self.assertEqual(self.listed(), [first, second])
        self.assertEqual(self.names("?username=J%C3%B6rg"), ["Jörg"])
        self.assertEqual(self.names("?username=nobody"), [])

    def test_replaced(self) -> None:
        """A device's older certificate is called replaced, and counts all the same; other devices' are not."""
        older = self.issue("alpha", "A")
        for name, uid in (("alpha", "A"), ("alpha", "B"), ("bravo", "A"), ("alpha", ""), ("alpha", "")):
            self.issue(name, uid)
        (replaced,) = self.listed("/replaced")
        self.assertEqual(int(replaced["serialNumber"], 16), older.serial_number)
        self.assertNotIn("revocationDate", replaced)
        self.assertEqual(len(self.listed("/active")), 5)
        self.assertEqual(self.revoked(), [])

    def test_newest_revoked(self) -> None:
        """What was revoked has replaced nothing."""
        older, newer = self.issue("alpha", "A"), self.issue("alpha", "A")
        self.server.issuing.revoke([newer.serial_number])
        self.assertEqual(self.names("/replaced"), [])
        (active,) = self.listed("/active")
        self.assertEqual(int(active["serialNumber"], 16), older.serial_number)

    def test_expired(self) -> None:
        """What has expired is listed as such, and is no longer active."""
        self.issue("alpha")
        self.assertEqual(self.names("/expired"), [])
        self.server.reactor.advance(3000 * 86400)
        self.assertEqual((self.names("/expired"), self.names("/active")), (["alpha"], []))

    def test_taky(self) -> None:
        """Certificates that taky has made are listed and revoked, too, although only their entry is left."""
        register = self.server.folder / "cert-db.txt"
        register.write_text("V\t2024-03-01T10:00:00\t2036-03-01T10:00:00\t04d2\tOLD\nV\tx\tx\t04d3\tODD\n")
        first, odd = self.listed()
        self.assertEqual((first["certificate"], first["issuanceDate"]), ("", "2024-03-01T10:00:00.000Z"))
        self.assertEqual(odd["expirationDate"], "1970-01-01T00:00:00.000Z")
        self.assertEqual(self.ask(f"/{first['hash']}/download").status, 404)
        packed = zipfile.ZipFile(BytesIO(self.ask(f"/download/{first['id']}").body))
        self.assertEqual(packed.namelist(), [])
        self.assertEqual(self.ask(f"/{first['hash']}", "DELETE").status, 200)
        self.assertEqual(self.revoked(), ["OLD"])

    def test_show(self) -> None:
        """One is shown and downloaded by its hash, in whatever case."""
        certificate = self.issue('alpha "x"')
        (told,) = self.listed()
        for hash_ in (told["hash"], told["hash"].upper()):
            self.assertEqual(self.ask(f"/{hash_}").json["data"], told)
        answer = self.ask(f"/{told['hash']}/download")
        self.assertEqual(answer.type, "text/plain")
        self.assertEqual(answer.headers["content-disposition"], "attachment; filename=alpha-x_ClientCert.pem")
        self.assertEqual(x509.load_pem_x509_certificate(answer.body), certificate)
        for path in ("/00", f"/{'0' * 64}", "/00/download"):
            self.assertEqual(self.ask(path).status, 404)

    def test_download_several(self) -> None:
        """Several come in a zip."""
        for name in ("alpha", "alpha", "bravo"):
            self.issue(name)
        ids = ",".join(str(each["id"]) for each in self.listed()[1:])
        answer = self.ask(f"/download/{ids}")
        self.assertEqual(answer.type, "application/zip")
        packed = zipfile.ZipFile(BytesIO(answer.body))
        self.assertEqual(packed.namelist(), ["1_alpha_ClientCert.pem", "2_bravo_ClientCert.pem"])

    def test_revoke(self) -> None:
        """A revoked certificate is so in the register, and the server acts on it before it answers."""
        self.issue("alpha")
        self.issue("bravo")
        (told, _) = self.listed()
        answer = self.ask(f"/{told['hash']}", "DELETE")
        self.assertRegex(answer.json["data"]["revocationDate"], r"\.000Z$")
        self.assertEqual((self.revoked(), self.server.reloaded), (["alpha"], 1))
        self.assertEqual((self.names("/revoked"), self.names("/active")), (["alpha"], ["bravo"]))
        self.assertIn("'root' has revoked the certificate of 'alpha'", self.log()[-1])
        self.assertEqual(self.ask("/00", "DELETE").status, 404)

    def test_revoke_several(self) -> None:
        """Several are revoked by their ids; to delete one is the same, for an entry that is gone could not refuse."""
        for name in ("alpha", "bravo", "charlie", "delta"):
            self.issue(name)
        ids = [str(each["id"]) for each in self.listed()]
        answer = self.ask(f"/revoke/{ids[0]},%20{ids[1]},7", "DELETE")
        self.assertEqual((answer.status, answer.body), (200, b""))
        self.assertEqual(self.ask(f"/delete/{ids[2]}", "DELETE").status, 200)
        self.assertEqual(self.revoked(), ["alpha", "bravo", "charlie"])
        self.assertEqual(len(self.listed()), 4)

    def test_bad_ids(self) -> None:
        """What are no ids are refused."""
        self.patch(certadmin, "MAX_IDS", 2)
        for ids in ("x", "1,", "-1", "1.5", "1,2,3", "%D9%A1"):
            self.assertEqual(self.ask(f"/revoke/{ids}", "DELETE").status, 400, ids)

    def test_unusable_register(self) -> None:
        """If the register cannot be read or written the client hears no path, and the log has it."""
        self.issue("alpha")
        (told,) = self.listed()
        register = self.server.folder / "cert-db.txt"
        content = register.read_bytes()
        register.write_bytes(b"\xff")
        answer = self.ask()
        self.assertEqual(answer.status, 503)
        self.assertNotIn("cert-db", answer.body.decode())
        self.assertIn("cert-db.txt cannot be read", self.log()[-1])
        register.write_bytes(content)
        lock = self.server.folder / "cert-db.txt.lock"
        lock.unlink()
        lock.mkdir()
        self.assertEqual(self.ask(f"/{told['hash']}", "DELETE").status, 503)
        self.assertEqual(self.server.reloaded, 0)
