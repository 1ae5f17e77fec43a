from __future__ import annotations

import base64
import re
import shutil
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, pkcs12
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.enrollment import service
from taky_twisted.enrollment.invites import GRACE_SECONDS, Invited
from taky_twisted.enrollment.keystores import trust_store
from taky_twisted.enrollment.signing_requests import MAX_BYTES
from taky_twisted.identity.principal import Principal
from taky_twisted.marti.callers import Callers
from taky_twisted.marti.tls import MAX_UID_CHARS, MAX_VERSION_CHARS
from tests.enrollment import programs
from tests.enrollment.site_files import made_authority
from tests.enrollment.test_signing_requests import EC_KEY, request
from tests.fakes import LogLines
from tests.identity.held_accounts import HeldAccounts
from tests.marti.asking import Answer
from tests.marti.enroll_server import ALPHA, EnrollServer

CONFIG = "/Marti/api/tls/config"
SIGN = "/Marti/api/tls/signClient"
SIGN_V2 = f"{SIGN}/v2"
PROFILE = "/Marti/api/tls/profile/enrollment"
BASIC = 'Basic realm="Marti"'
CERTIFIED = Principal("alpha")
DER = x509.load_pem_x509_csr(request(EC_KEY, "alpha")).public_bytes(Encoding.DER)


class EnrollmentTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.server = EnrollServer(self)

    def ask(
        self,
        method: str,
        target: str,
        body: bytes = b"",
        headers: dict[str, str] | None = None,
        who: Principal | Invited | None = ALPHA,
    ) -> Answer:
        """Ask as somebody."""
        return self.server.ask(method, target, body, headers, who)

    def sign(self, body: bytes, query: str = "", who: Principal | Invited | None = ALPHA) -> Answer:
        """Have a request signed in the older way."""
        return self.ask("POST", SIGN + query, body, who=who)

    def failures(self) -> list[str]:
        """What the doctor would tell."""
        return [attempt.reason for attempt in self.server.connections.failures]


class ConfigTests(EnrollmentTestCase):
    def test_row19(self) -> None:
        """Without a password it is asked for; with one, the config is as every client reads it, to the letter."""
        nobody = self.ask("GET", CONFIG, who=None)
        self.assertEqual((nobody.status, nobody.headers["www-authenticate"]), (401, BASIC))
        answer = self.ask("GET", CONFIG)
        self.assertEqual((answer.status, answer.type), (200, "text/plain"))
        self.assertTrue(answer.body.startswith(b'<?xml version="1.0" encoding="UTF-8" standalone="yes"?><ns2:cert'))
        root = etree.fromstring(answer.body)
        self.assertEqual((root.prefix, etree.QName(root).localname), ("ns2", "certificateConfig"))
        self.assertEqual(root.nsmap, {None: "http://bbn.com/marti/xml/config", "ns2": "com.bbn.marti.config"})
        entries = root.findall("{*}nameEntries/{*}nameEntry")
        self.assertEqual([dict(entry.attrib) for entry in entries], [{"name": n, "value": "TAK"} for n in ("O", "OU")])

    def test_certificate(self) -> None:
        """A certificate alone is no reason for another one."""
        for method, path in (("GET", CONFIG), ("POST", SIGN), ("POST", SIGN_V2), ("GET", PROFILE)):
            answer = self.ask(method, path, who=CERTIFIED)
            self.assertEqual((answer.status, answer.headers["www-authenticate"]), (401, BASIC))

    def test_methods(self) -> None:
        """What is no such route is said so, and never redirected."""
        self.assertEqual(self.ask("POST", CONFIG).status, 405)
        self.assertEqual(self.ask("GET", SIGN).status, 405)
        self.assertEqual(self.ask("GET", f"/{CONFIG}/").status, 200)


class SignTests(EnrollmentTestCase):
    def test_row20(self) -> None:
        """ATAK's request, RSA-4096 and SHA-1, in its spellings: a PKCS#12 that openssl and Java open, and no key."""
        folder = Path(self.mktemp())
        folder.mkdir()
        pem = programs.openssl(
            *("req", "-new", "-newkey", "rsa:4096", "-sha1", "-nodes", "-keyout", str(folder / "key")),
            *("-subj", "/O=TAK/OU=TAK/CN=ALPHA"),
        ).encode()
        lines = pem.split(b"\n")[1:-2]
        spellings = (b"\n" + b"\n".join(lines) + b"\n", b"\r\n".join(lines), b"".join(lines), pem)
        for number, body in enumerate(spellings):
            answer = self.sign(body, "?clientUid=ANDROID-1&version=5.4")
            self.assertEqual((answer.status, answer.type), (200, "application/octet-stream"))
            self.assertEqual(answer.headers["cache-control"], "no-store")
            path = folder / f"{number}.p12"
            path.write_bytes(answer.body)
            told = programs.pkcs12(path, "atakatak", "-nokeys")
            self.assertEqual(re.findall(r"friendlyName: (\S+)", told), ["signedCert", "ca0"])
            self.assertIn("pbeWithSHA1And3-KeyTripleDES-CBC, Iteration 2048", told)
            self.assertNotIn("Key bag", programs.pkcs12(path, "atakatak", "-nodes"))
            java = programs.keytool_entries(path, "atakatak")
            if java is not None:
                self.assertEqual(java, {"signedcert": "trustedCertEntry", "ca0": "trustedCertEntry"})
            else:
                self.assertIsNone(shutil.which("keytool"))
            signed, authority = pkcs12.load_pkcs12(answer.body, b"atakatak").additional_certs
            signed.certificate.verify_directly_issued_by(authority.certificate)
            (folder / "signed.pem").write_bytes(signed.certificate.public_bytes(Encoding.PEM))
            key = programs.openssl("pkey", "-in", str(folder / "key"), "-pubout")
            shown = programs.openssl("x509", "-in", str(folder / "signed.pem"), "-noout", "-pubkey")
            self.assertEqual(shown, key)
        records = self.server.issuing.register.records()
        self.assertEqual(
            [(record.name, record.client_uid, record.version) for record in records],
            [("alpha", "ANDROID-1", "5.4")] * 4,
        )

    def test_row21(self) -> None:
        """A request for somebody else is refused, and the doctor says whose it was."""
        answer = self.sign(request(EC_KEY, "bravo"))
        self.assertEqual(answer.status, 403)
        self.assertIn("the request is for bravo", answer.json["message"])
        self.assertEqual(
            self.failures(), ["a request was refused (403): the request is for bravo, and its sender is alpha"]
        )
        self.assertEqual(self.server.issuing.register.records(), [])

    def test_spelling(self) -> None:
        """The certificate has the account's spelling, whatever the request says."""
        answer = self.sign(request(EC_KEY, "JÖRG"), who=Principal("Jörg", by_password=True))
        signed, _ = pkcs12.load_pkcs12(answer.body, b"atakatak").additional_certs
        self.assertEqual(signed.certificate.subject.rfc4514_string(), "CN=Jörg,O=TAK")

    def test_refused(self) -> None:
        """What is no request is told so, to the client and to the operator."""
        for body in (b"", b"nonsense", base64.b64encode(b"nonsense"), request(EC_KEY, "alpha")[:-100]):
            answer = self.sign(body)
            self.assertEqual(answer.status, 400)
        self.assertRegex(self.failures()[0], r"^a certificate request was refused \(400\): not a certificate signing")

    def test_large(self) -> None:
        """What is larger than any request is not even read."""
        body = request(EC_KEY, "alpha")
        self.assertEqual(self.sign(body + b"\n" * (MAX_BYTES - len(body))).status, 200)
        self.assertEqual(self.sign(b"\n" * (MAX_BYTES + 1)).status, 413)

    def test_device(self) -> None:
        """What a device says of itself is bounded."""
        body = request(EC_KEY, "alpha")
        for name, limit in (("clientUid", MAX_UID_CHARS), ("version", MAX_VERSION_CHARS)):
            self.assertEqual(self.sign(body, f"?{name}={'x' * limit}").status, 200)
            self.assertEqual(self.sign(body, f"?{name}={'x' * (limit + 1)}").status, 400)
        self.sign(body, "?clientUID=ITAK&VERSION=")
        self.assertEqual(self.server.issuing.register.records()[-1].client_uid, "ITAK")

    def test_trusted(self) -> None:
        """Who has to trust more than the authority gets that as well, under names of its own."""
        other = made_authority("other").certificate
        stored = trust_store([other], "atakatak")
        (self.server.folder / "server.p12").write_bytes(stored)
        answer = self.sign(request(EC_KEY, "alpha"))
        certs = pkcs12.load_pkcs12(answer.body, b"atakatak").additional_certs
        self.assertEqual([each.friendly_name for each in certs], [b"signedCert", b"ca0", b"ca1"])
        self.assertEqual(certs[2].certificate, other)

    def test_banned(self) -> None:
        """A banned name gets nothing."""
        self.server.issuing.register.revoke_name("alpha")
        self.assertEqual(self.sign(request(EC_KEY, "alpha")).status, 403)

    def test_too_often(self) -> None:
        """Who wants too many certificates is told to come back."""
        self.patch(service, "MAX_SIGNED", 1)
        self.assertEqual(self.sign(request(EC_KEY, "alpha")).status, 200)
        self.assertEqual(self.sign(request(EC_KEY, "alpha")).status, 429)

    def test_broken(self) -> None:
        """If the server cannot sign, that is its fault, its log says why, and the client hears no path."""
        log = LogLines(self)
        (self.server.folder / "ca.key").unlink()
        answer = self.sign(request(EC_KEY, "alpha"))
        self.assertEqual(answer.status, 503)
        self.assertNotIn("ca.key", answer.body.decode())
        self.assertIn("nobody can enroll: [ssl] ca_key", log()[-1])

    def test_stopping(self) -> None:
        """A server that stops begins nothing new."""
        self.server.reactor.wait(self.server.thread.stop())
        self.assertEqual(self.sign(request(EC_KEY, "alpha")).status, 503)
        self.assertEqual(self.ask("GET", PROFILE).status, 204)

    @given(
        st.binary(max_size=200) | st.binary(max_size=200).map(base64.b64encode) | st.text(max_size=50).map(str.encode)
    )
    def test_hostile(self, body: bytes) -> None:
        """No bytes break anything."""
        for path in (SIGN, SIGN_V2):
            self.assertEqual(self.ask("POST", path, body).status, 400)

    @given(st.data())
    def test_mutated(self, data: st.DataObject) -> None:
        """A request in which some bytes are others is refused, or it is the same; nothing breaks."""
        der = bytearray(DER)
        for _ in range(data.draw(st.integers(1, 3))):
            der[data.draw(st.integers(0, len(der) - 1))] = data.draw(st.integers(0, 255))
        self.patch(service, "MAX_SIGNED", 1 << 30)
        self.assertIn(self.sign(base64.b64encode(bytes(der))).status, (200, 400, 403))


class SecondTests(EnrollmentTestCase):
    """The newer way."""

    def sign_v2(self, *accept: str, who: Principal | Invited = ALPHA) -> Answer:
        """Have a request signed."""
        headers = {"Accept": accept[0]} if accept else {}
        return self.ask("POST", f"{SIGN_V2}?clientUid=A", request(EC_KEY, "alpha"), headers, who=who)

    def test_row22(self) -> None:
        """JSON for whoever wants JSON, anything, nothing, or text; XML for whoever wants that; else 400."""
        for accept, content_type in (
            *((("application/json",), "application/json"), (("*/*",), "application/json"), ((), "application/json")),
            *((("",), "application/json"), (("text/plain",), "text/plain"), (("Text/Plain, */*",), "application/json")),
            (("text/html,application/xml;q=0.9,*/*;q=0.8",), "application/json"),
        ):
            answer = self.sign_v2(*accept)
            self.assertEqual((answer.status, answer.type), (200, content_type), accept)
            self.assertEqual(answer.headers["cache-control"], "no-store")
            self.assertEqual(set(answer.json), {"signedCert", "ca0", "ca1"})
        answer = self.sign_v2("application/xml")
        self.assertEqual((answer.status, answer.type), (200, "application/xml"))
        root = etree.fromstring(answer.body)
        self.assertEqual([child.tag for child in root], ["signedCert", "ca"])
        self.assertEqual(root.tag, "enrollment")
        self.loaded(root[0].text or "").verify_directly_issued_by(self.loaded(root[1].text or ""))
        issued = len(self.server.issuing.register.records())
        self.assertEqual(self.sign_v2("image/png").status, 400)
        self.assertEqual(len(self.server.issuing.register.records()), issued)

    def loaded(self, spelled: str) -> x509.Certificate:
        """Read a certificate as it is spelled: base64 in lines of 64 characters, and nothing around it."""
        *lines, last = spelled.split("\n")
        self.assertEqual({len(line) for line in lines}, {64})
        self.assertTrue(0 < len(last) <= 64)
        return x509.load_der_x509_certificate(base64.b64decode(spelled))

    def test_certificates(self) -> None:
        """The certificate is signed by ca0; where there is one authority only, ca1 is the same."""
        answer = self.sign_v2().json
        signed, first, second = (self.loaded(answer[name]) for name in ("signedCert", "ca0", "ca1"))
        signed.verify_directly_issued_by(first)
        self.assertEqual(first, second)
        self.assertEqual(signed.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value, "alpha")

    def test_two_authorities(self) -> None:
        """Where there are two, ca1 is the second."""
        other = made_authority("other").certificate
        (self.server.folder / "server.p12").write_bytes(trust_store([other], "atakatak"))
        answer = self.sign_v2().json
        self.assertEqual(set(answer), {"signedCert", "ca0", "ca1"})
        self.assertEqual(self.loaded(answer["ca1"]), other)

    def test_unreadable_answer(self) -> None:
        """Who cannot read the answer does not spend an invite on it."""
        invited = self.server.invite()
        self.assertEqual(self.sign_v2("image/png", who=invited).status, 400)
        self.assertEqual(self.sign_v2(who=invited).status, 200)


class InviteTests(EnrollmentTestCase):
    def test_flow(self) -> None:
        """With an invite a device gets what it needs, in ATAK's order, and for 15 minutes again; no other does."""
        invited = self.server.invite()
        body = request(EC_KEY, "alpha")
        mine, others = "?clientUid=A", "?clientUid=B"
        self.assertEqual(self.ask("GET", CONFIG, who=invited).status, 200)
        self.assertEqual(self.ask("GET", PROFILE + others, who=invited).status, 204)
        first = self.sign(body, mine, who=invited)
        self.assertEqual(first.status, 200)
        spent = self.server.invites.find("alpha", "nonsense") or invited
        for path, status in (
            *((CONFIG, 200), (CONFIG + mine, 200), (CONFIG + others, 401)),
            *((PROFILE + mine, 204), (PROFILE + others, 401), (PROFILE, 401)),
            *((f"/Marti/api/tls/profile/tool/x{mine}", 204), (f"/Marti/api/tls/profile/tool/x{others}", 401)),
        ):
            answer = self.ask("GET", path, who=spent)
            self.assertEqual(answer.status, status, path)
            self.assertEqual(answer.headers.get("www-authenticate"), BASIC if status == 401 else None)
        again = self.sign(body, mine, who=spent)
        certificates = [pkcs12.load_pkcs12(answer.body, b"atakatak").additional_certs for answer in (first, again)]
        self.assertEqual(certificates[0], certificates[1])
        other = self.sign(request(ec.generate_private_key(ec.SECP256R1()), "alpha"), mine, who=spent)
        self.assertEqual((other.status, other.headers["www-authenticate"]), (401, BASIC))
        self.assertIn("this invite was used already", self.failures()[-1])
        self.server.reactor.advance(GRACE_SECONDS)
        self.assertEqual(self.ask("GET", PROFILE + mine, who=spent).status, 401)
        self.assertEqual(self.sign(body, mine, who=spent).status, 401)

    def test_only_enrolling(self) -> None:
        """An invite is good for nothing but enrolling; anybody may hear the version."""
        invited = self.server.invite()
        for path in ("/Marti/api/device/profile/connection", "/Marti/api/certadmin/cert", "/Marti/api/node/id"):
            self.assertEqual(self.ask("GET", path, who=invited).status, 403)
        self.assertEqual(self.ask("GET", "/Marti/api/version", who=invited).status, 200)

    def test_disabled_meanwhile(self) -> None:
        """An account that is disabled while the request arrives gets nothing, and the invite is not spent."""
        accounts = HeldAccounts(self.server.reactor)
        accounts.add("alpha")
        self.server.door.marti.callers = Callers(accounts)
        invited = self.server.invite()
        accounts.set_enabled("alpha", False)
        self.assertEqual(self.sign(request(EC_KEY, "alpha"), who=invited).status, 401)
        self.assertEqual(self.server.issuing.register.records(), [])
        accounts.set_enabled("alpha", True)
        self.assertEqual(self.sign(request(EC_KEY, "alpha"), who=invited).status, 200)


class ProfileTests(EnrollmentTestCase):
    def test_row23(self) -> None:
        """Without a profile the answer is 204, whatever is asked, and never an error."""
        for query in ("", "?clientUid=A", "?clientUid=", "?syncSecago=nonsense"):
            answer = self.ask("GET", PROFILE + query)
            self.assertEqual((answer.status, answer.body), (204, b""))
        self.assertEqual(self.ask("GET", "/Marti/api/tls/profile/tool/a-plugin").status, 204)

    def test_profile(self) -> None:
        """What the operator has put there is sent as a package."""
        folder = self.server.folder / "profiles" / "enrollment"
        folder.mkdir(parents=True)
        (folder / "a.pref").write_bytes(b"<preferences/>")
        answer = self.ask("GET", PROFILE)
        self.assertEqual((answer.status, answer.type), (200, "application/zip"))
        self.assertEqual(answer.headers["content-disposition"], "attachment; filename=profile.zip")
        self.assertTrue(answer.body.startswith(b"PK"))
