"""Enrollment on a real server: the requests of real programs, and what they can do with their certificates."""

from __future__ import annotations

import base64
import http.client
import json
import random
import shutil
import ssl
import tempfile
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, pkcs12
from lxml import etree
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.cli.running import RunningServer
from taky_twisted.cli.site_maker import Layout, Wishes, make_site
from tests.cli.tool import quick_key, takyctl
from tests.end_to_end.server_process import ServerProcess
from tests.end_to_end.stream_client import SECONDS, Closed, StreamClient
from tests.end_to_end.test_pytak import PyTAKClient
from tests.enrollment import programs
from tests.samples import sa

HERE = ":interface=127.0.0.1"
TLS = "/Marti/api/tls"


class Answer:
    """What came back."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status, self.headers, self.body = response.status, response.headers, response.read()

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


class EnrollmentTestCase(SynchronousTestCase):
    cot, marti, enroll = (f"{kind}-endpoint=ssl:0{HERE}" for kind in ("--cot", "--marti", "--enroll"))

    def setUp(self) -> None:
        # Not mktemp(): a socket's path must be short.
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.addCleanup(self.check_log)
        self.layout = Layout.of_folder(self.folder)
        wishes = Wishes(hosts=("localhost",), public=("127.0.0.1",))
        make_site(self.layout, wishes, datetime.now(timezone.utc), quick_key())

    def start(self, *options: str) -> None:
        """Start the site's server."""
        self.server = ServerProcess(self, *(options or (self.cot, self.marti, self.enroll)), folder=self.folder)
        self.server.start()
        self.server.wait_for_log("admin door")

    def check_log(self) -> None:
        """Whatever clients did, nothing of it was a bug."""
        self.assertNotIn("Traceback", self.server.log)

    def takyctl(self, *arguments: str) -> Any:
        """Run a verb on the site, from its folder; return its answer in JSON."""
        ran = takyctl("-c", str(self.layout.conf), *arguments)
        self.assertEqual(ran.status, 0, ran.err)
        return json.loads(ran.out) if "-j" in arguments else ran.out

    def invite(self, name: str) -> str:
        """Invite somebody through the running server; return the token."""
        said = self.ask_admin(do="invites", action="invite", name=name)
        token: str = said["token"]
        return token

    def ask_admin(self, **request: Any) -> Any:
        """Ask the running server."""
        return RunningServer(self.layout.data / "taky-admin.sock").ask(request.pop("do"), **request)

    def context(self, certificate: Path | None = None, key: Path | None = None) -> ssl.SSLContext:
        """Trust the site, and show a certificate."""
        context = ssl.create_default_context(cafile=str(self.layout.ssl / "ca.crt"))
        if certificate is not None:
            context.load_cert_chain(certificate, key)
        return context

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        who: tuple[str, str] | str | None = None,
        door: int = 2,
        context: ssl.SSLContext | None = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """Ask over HTTPS.

        Args:
            method: of HTTP.
            path: with the query.
            body: if any.
            who: name and password, or an access token.
            door: the second is enrollment.
            context: other than that of nobody in particular.
            headers: more of them.
        """
        said = dict(headers or {})
        connection = http.client.HTTPSConnection(
            "localhost", self.server.port(door), timeout=SECONDS, context=context or self.context()
        )
        if isinstance(who, tuple):
            said["Authorization"] = "Basic " + base64.b64encode(":".join(who).encode()).decode()
        elif who is not None:
            said["Authorization"] = f"Bearer {who}"
        try:
            connection.request(method, path, body, said)
            return Answer(connection.getresponse())
        finally:
            connection.close()

    def request(self, name: str, *kind: str) -> tuple[bytes, Path]:
        """Let openssl make a key and a request."""
        key = self.folder / f"{random.getrandbits(32):x}.key"
        words = ("req", "-new", *(kind or ("-newkey", "rsa:2048")), "-nodes", "-keyout", str(key))
        return programs.openssl(*words, "-subj", f"/O=TAK/OU=TAK/CN={name}").encode(), key

    def written(self, certificate: x509.Certificate) -> Path:
        """Write a certificate as PEM."""
        path = self.folder / f"{certificate.serial_number:x}.pem"
        path.write_bytes(certificate.public_bytes(Encoding.PEM))
        return path

    def enrolled(self, name: str, token: str, uid: str = "A") -> tuple[Path, Path]:
        """Enroll; return the paths of certificate and key."""
        body, key = self.request(name)
        answer = self.ask("POST", f"{TLS}/signClient?clientUid={uid}&version=5.4", body, (name, token))
        self.assertEqual(answer.status, 200, answer.body)
        found = pkcs12.load_pkcs12(answer.body, b"atakatak")
        return self.written(found.additional_certs[0].certificate), key

    def connect(self, certificate: Path, key: Path) -> StreamClient:
        """Connect to the port for CoT."""
        return StreamClient(self, self.server.port(0), self.context(certificate, key))


class DeviceTests(EnrollmentTestCase):
    def test_row20_atak(self) -> None:
        """As ATAK does it: config, a SHA-1 request of RSA-4096 after an empty line, profile, and then CoT by TLS."""
        self.start()
        who = ("alpha", self.invite("alpha"))
        config = etree.fromstring(self.ask("GET", f"{TLS}/config", who=who).body)
        names = [(entry.get("name"), entry.get("value")) for entry in config.iter("{*}nameEntry")]
        self.assertEqual(names, [("O", "TAK"), ("OU", "TAK")])
        pem, key = self.request("alpha", "-newkey", "rsa:4096", "-sha1")
        body = b"\n" + b"".join(pem.splitlines(keepends=True)[1:-1])
        answer = self.ask("POST", f"{TLS}/signClient?clientUid=ANDROID-1&version=5.4", body, who)
        self.assertEqual((answer.status, answer.headers["Content-Type"]), (200, "application/octet-stream"))
        path = self.folder / "signed.p12"
        path.write_bytes(answer.body)
        programs.pkcs12(path, "atakatak", "-nokeys")
        java = programs.keytool_entries(path, "atakatak")
        self.assertIn(java, (None, {"signedcert": "trustedCertEntry", "ca0": "trustedCertEntry"}))
        self.assertEqual(self.ask("GET", f"{TLS}/profile/enrollment?clientUid=ANDROID-1", who=who).status, 204)
        signed = pkcs12.load_pkcs12(answer.body, b"atakatak").additional_certs[0].certificate
        certificate = self.written(signed)
        phone, other = self.connect(certificate, key), self.connect(*self.enrolled("bravo", self.invite("bravo")))
        phone.say(sa("PHONE", "PHONE", now=time.time()))
        other.wait_for_uid("PHONE")
        self.server.wait_for_log("PHONE .* joined as alpha")
        self.assertEqual(
            self.ask("GET", "/Marti/api/clientEndPoints", door=1, context=self.context(certificate, key)).status, 200
        )

    def test_second_way(self) -> None:
        """As CloudTAK does it: an access token, JSON, the probe of the certificate, and then CoT by TLS."""
        self.start()
        self.ask_admin(do="users", action="add", name="Cloud", password="correct horse")
        form = b"grant_type=password&username=cloud&password=correct+horse"
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        token = self.ask("POST", "/oauth/token", form, headers=kind).json["access_token"]
        self.assertEqual(self.ask("GET", f"{TLS}/config", who=token).status, 200)
        body, key = self.request("cloud")
        answer = self.ask(
            "POST", f"{TLS}/signClient/v2?clientUid=cloud%20(ETL)&version=3", body, ("cloud", "correct horse")
        )
        self.assertEqual((answer.status, answer.headers["Content-Type"]), (200, "application/json"))
        signed = x509.load_der_x509_certificate(base64.b64decode(answer.json["signedCert"]))
        self.assertEqual(signed.subject.rfc4514_string(), "CN=Cloud,O=TAK")
        certificate = self.written(signed)
        context = self.context(certificate, key)
        self.assertEqual(self.ask("GET", "/Marti/api/contacts/all", door=1, context=context).status, 200)
        self.assertEqual(self.connect(certificate, key).uids(), [])

    def test_profile(self) -> None:
        """What the operator puts into the data folder while the server runs is given away at once."""
        self.start()
        who = ("alpha", self.invite("alpha"))
        folder = self.layout.data / "profiles" / "enrollment"
        folder.mkdir(parents=True)
        self.assertEqual(self.ask("GET", f"{TLS}/profile/enrollment?clientUid=A", who=who).status, 204)
        (folder / "a.pref").write_text("<preferences/>")
        answer = self.ask("GET", f"{TLS}/profile/enrollment?clientUid=A", who=who)
        self.assertEqual((answer.status, answer.headers["Content-Type"]), (200, "application/zip"))

    def test_restart(self) -> None:
        """Invites and what was just spent of them survive the server, also a hard end."""
        self.start()
        spent, left = self.invite("alpha"), self.invite("bravo")
        self.enrolled("alpha", spent)
        time.sleep(1)  # the store is half a second behind
        self.server.kill()
        self.server.start().wait_for_log("admin door")
        self.assertEqual(self.ask("GET", f"{TLS}/profile/enrollment?clientUid=A", who=("alpha", spent)).status, 204)
        self.assertEqual(self.ask("GET", f"{TLS}/profile/enrollment?clientUid=B", who=("alpha", spent)).status, 401)
        self.enrolled("bravo", left)

    def test_stopped(self) -> None:
        """Who was invited while no server ran can enroll when one does."""
        said = self.takyctl("invite", "alpha", "-j", "--force", "--groups", "Red")
        self.addCleanup(Path("alpha-enroll.zip").unlink)
        self.start()
        client = self.connect(*self.enrolled("alpha", said["token"]))
        client.say(sa("PHONE", "PHONE", now=time.time()))
        self.server.wait_for_log("PHONE .* joined as alpha")
        (seen,) = self.ask_admin(do="status")["clients"]
        self.assertEqual(seen["groups"], {"in": ["Red"], "out": ["Red"]})


class TakingAwayTests(EnrollmentTestCase):
    def test_kickban(self) -> None:
        """A ban ends what was enrolled at once, and voids invites and requests; unbanning brings no old thing back."""
        self.start()
        enrolled = self.enrolled("alpha", self.invite("alpha"))
        client, other = self.connect(*enrolled), self.connect(*self.enrolled("bravo", self.invite("bravo")))
        client.uids()
        pending = self.invite("alpha")
        self.takyctl("kickban", "alpha", "-j")
        client.until_closed(1)
        self.assertRaises((OSError, Closed), lambda: self.connect(*enrolled).uids())
        body, _ = self.request("alpha")
        self.assertEqual(self.ask("POST", f"{TLS}/signClient", body, ("alpha", pending)).status, 401)
        self.takyctl("unban", "alpha", "-j")
        self.assertEqual(self.ask("POST", f"{TLS}/signClient", body, ("alpha", pending)).status, 401)
        self.assertRaises((OSError, Closed), lambda: self.connect(*enrolled).uids())
        self.assertEqual(other.uids(), [])

    def test_administrator(self) -> None:
        """An administrator with a password sees all certificates, and what is revoked drops off at once."""
        self.start()
        self.ask_admin(do="users", action="add", name="root", password="correct horse", admin=True)
        self.ask_admin(do="users", action="add", name="user", password="correct horse")
        client, other = (self.connect(*self.enrolled(name, self.invite(name))) for name in ("alpha", "bravo"))
        for each in (client, other):
            each.uids()
        path = "/Marti/api/certadmin/cert"
        self.assertEqual(self.ask("GET", path, who=("user", "correct horse")).status, 403)
        who = ("root", "correct horse")
        (told,) = self.ask("GET", f"{path}?username=alpha", who=who).json["data"]
        self.assertEqual(told["clientUid"], "A")
        self.assertEqual(self.ask("DELETE", f"{path}/{told['hash']}", who=who).status, 200)
        client.until_closed(1)
        self.assertEqual(other.uids(), [])
        (told,) = self.ask("GET", f"{path}/revoked", who=who).json["data"]
        self.assertEqual(told["userDn"], "alpha")

    def test_banned_certificate(self) -> None:
        """Who shows a revoked certificate where a new one is made shows none: the password decides."""
        self.start(self.cot, self.marti, f"{self.enroll}:clientCert=optional")
        certificate, key = self.enrolled("alpha", self.invite("alpha"))
        context = self.context(certificate, key)
        self.assertEqual(self.ask("GET", "/Marti/api/node/id", door=1, context=context).status, 200)
        serial = x509.load_pem_x509_certificate(certificate.read_bytes()).serial_number
        self.takyctl("kickban", "--serial", f"{serial:x}", "-j")
        self.assertEqual(self.ask("GET", "/Marti/api/node/id", door=1, context=context).status, 401)
        self.assertEqual(self.ask("GET", f"{TLS}/config", context=context).status, 401)
        who = ("alpha", self.invite("alpha"))
        self.assertEqual(self.ask("GET", f"{TLS}/config", who=who, context=context).status, 200)


class SecretsTests(EnrollmentTestCase):
    def test_log(self) -> None:
        """Neither the log nor the doctor shows a password, a token or a query, whatever is refused."""
        self.start("--cot-endpoint=ssl:0" + HERE, self.marti, self.enroll)
        token = self.invite("alpha")
        body, _ = self.request("alpha")
        for who in (("alpha", token), ("alpha", "SECRET-1"), ("nobody", "SECRET-2"), "SECRET-3", None):
            for path in ("config", "signClient", "signClient/v2", "profile/enrollment", "nowhere"):
                method = "POST" if "sign" in path else "GET"
                sent = b"nonsense" if method == "POST" else None
                self.ask(method, f"{TLS}/{path}?clientUid=A&token=SECRET-4", sent, who)
        self.ask("POST", f"{TLS}/signClient?clientUid=A", body, ("alpha", token))
        self.server.wait_for_log("alpha has got a certificate for the device A")
        told = self.server.log + self.takyctl("doctor", "--once")
        self.assertIn("there is no such account", told)
        self.assertIn("a certificate request was refused (400)", told)
        for secret in ("SECRET", token, "Authorization", "clientUid"):
            self.assertNotIn(secret, told)

    def test_no_authority(self) -> None:
        """A server that cannot sign does not open the port by default, and says why; it serves all else."""
        (self.layout.ssl / "ca.key").rename(self.layout.ssl / "elsewhere.key")
        text = self.layout.conf.read_text().replace("bind_ip = 0.0.0.0", f"bind_ip = {alias()}")
        self.layout.conf.write_text(text)
        self.server = ServerProcess(self, "--log-level=info", folder=self.folder)
        self.server._options = ("--log-level=info",)  # its default doors, not those of a test
        self.server.launch()
        self.server.wait_for_log("(?s)Marti door ssl:8443")
        (line,) = self.server.lines("nobody can enroll here")
        self.assertIn("[ssl] ca_key", line)
        self.assertNotIn("enroll door", self.server.log)


class PyTAKEnrollmentTests(EnrollmentTestCase):
    def test_links(self) -> None:
        """PyTAK enrolls with the printed link and connects, by TLS with a port in it and by WebSocket without one."""
        here = alias()
        self.start(
            *(f"--{kind}-endpoint=ssl:{port}:interface={here}" for kind, port in (("cot", 8089), ("marti", 8443))),
            f"--enroll-endpoint=ssl:8446:interface={here}:clientCert=optional",
        )
        clients = []
        for name, host in (("tls", f"{here}%3A8089"), ("socket", here), ("enroll", f"{here}%3A8446")):
            link = f"tak://com.atakmap.app/enroll?host={host}&username={name}&token={self.invite(name)}"
            home = self.folder / f"home-{name}"
            home.mkdir()
            clients.append(PyTAKClient(self, link, name.upper(), HOME=str(home)))
        for client in clients:
            client.report()
        for client in clients:
            client.wait_for(*{"TLS", "SOCKET", "ENROLL"} - {client.uid})
        doors = {seen["name"]: seen["door"] for seen in self.ask_admin(do="status")["clients"]}
        self.assertEqual(doors, {"tls": "ssl:8089", "socket": "WebSocket port 8443", "enroll": "WebSocket port 8446"})


def alias() -> str:
    """Choose an address of this machine on which nobody else uses the usual ports."""
    return f"127.{random.randint(1, 254)}.{random.randint(1, 254)}.1"
