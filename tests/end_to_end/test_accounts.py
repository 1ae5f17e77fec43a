"""Passwords, groups and access tokens at a real server's doors, and operators who change them meanwhile."""

from __future__ import annotations

import http.client
import io
import json
import re
import shutil
import ssl
import sys
import tempfile
import time
from base64 import b64encode
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from twisted.trial.unittest import SynchronousTestCase

from tests.cli.tool import takyctl
from tests.end_to_end.server_process import ServerProcess
from tests.end_to_end.stream_client import Closed, StreamClient, tls_context
from tests.enrollment.test_access_tokens import cloudtak_parse
from tests.pki import PKI, Credentials
from tests.samples import marker, sa

PASSWORD = "secret 12 ü"
AT_ONCE = 4.5
"""How long it may take until a change is felt, in seconds."""
COT, MARTI, ENROLL = range(3)


def auth(name: str, password: str = PASSWORD) -> bytes:
    """Spell what ATAK says first where it has a name and a password."""
    return f'<?xml version="1.0"?>\n<auth><cot username="{name}" password="{password}" uid="A"/></auth>'.encode()


class AccountsTests(SynchronousTestCase):
    def setUp(self) -> None:
        # Not mktemp(): the path of a socket must be short.
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.addCleanup(self.check_log)
        self.pki = PKI(self.folder)
        (self.folder / "taky.conf").write_text(
            "[taky]\nroot_dir = data\nhostname = localhost\n[ssl]\nca = ca.pem\nca_key = ca.key\ncert = server.pem\n"
            "key = server.key\ncert_db = cert-db.txt\nserver_p12 =\n"
        )
        self.pki.write("ca.key", key_of(self.pki))
        self.pki.write("cert-db.txt", b"")
        self.conf = str(self.folder / "taky.conf")

    def check_log(self) -> None:
        """Nothing that clients or operators did was a bug, and no password stands in the log."""
        self.assertNotIn("Traceback", self.server.log)
        self.assertNotIn("secret", self.server.log)

    def start(self, *options: str) -> None:
        """Start the server."""
        options = options or (
            "--cot-endpoint=ssl:0:interface=127.0.0.1:auth=password",
            "--marti-endpoint=ssl:0:interface=127.0.0.1",
            "--enroll-endpoint=ssl:0:interface=127.0.0.1",
        )
        self.server = ServerProcess(self, *options, folder=self.folder).start()

    def users(self, *arguments: str) -> None:
        """Change accounts as an operator does."""
        ran = takyctl("-c", self.conf, "users", *arguments)
        self.assertEqual(ran.status, 0, ran.err)

    def add(self, name: str, *arguments: str) -> None:
        """Make an account with the password that all have here."""
        self.patch(sys, "stdin", io.StringIO(PASSWORD + "\n"))
        self.users("add", name, "--password-stdin", *arguments)

    def stream(self, credentials: Credentials | None = None) -> StreamClient:
        """Connect a stream."""
        return StreamClient(self, self.server.port(COT), tls_context(self.pki, credentials))

    def ask(
        self,
        door: int,
        path: str,
        method: str = "GET",
        body: bytes | str | None = None,
        headers: dict[str, str] | None = None,
        credentials: Credentials | None = None,
    ) -> tuple[int, Any]:
        """Ask over HTTP: the status, and the body, from JSON if it is that."""
        context: ssl.SSLContext = tls_context(self.pki, credentials)
        connection = http.client.HTTPSConnection("localhost", self.server.port(door), context=context, timeout=20)
        self.addCleanup(connection.close)
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        data = answer.read()
        return answer.status, json.loads(data) if answer.getheader("content-type") == "application/json" else data

    def log_in(self, name: str, password: str = PASSWORD) -> tuple[int, Any]:
        """Ask for an access token as CloudTAK does."""
        form = urlencode({"grant_type": "password", "username": name, "password": password})
        return self.ask(ENROLL, "/oauth/token", "POST", form, {"Content-Type": "application/x-www-form-urlencoded"})

    def test_streams(self) -> None:
        """T75, T76, T77: passwords let in, into the groups of the account; whatever else comes first does not."""
        self.add("fox", "--group", "Red")
        self.add("ALPHA-1", "--group", "Red")
        self.start()
        alpha = self.stream(self.pki.client)
        alpha.say(sa("ALPHA", "ALPHA", now=time.time()))
        bravo = self.stream(self.pki.second_client)
        bravo.say(sa("BRAVO", "BRAVO", now=time.time()))
        fox = self.stream()
        fox.say(auth("FOX") + sa("FOX", "FOX", now=time.time()))
        alpha.wait_for_uid("FOX")
        fox.wait_for_uid("ALPHA")
        self.assertNotIn("FOX", bravo.uids())
        for first in (auth("fox", "wrong") + sa("X", "X", now=time.time()), sa("X", "X", now=time.time())):
            stranger = self.stream()
            stranger.say(first)
            self.assertEqual(stranger.until_closed(), [])
        self.assertNotIn("X", alpha.uids())
        self.server.wait_for_log("refused as 'fox': the password is wrong")
        self.server.wait_for_log(r"did not say a name and a password \(<auth>\) first")

    def test_changed_meanwhile(self) -> None:
        """What an operator changes is felt within a second by who is connected, and by nobody else."""
        self.add("fox", "--group", "Red")
        self.add("ALPHA-1", "--group", "Red")
        self.start()
        alpha, bravo, fox = self.stream(self.pki.client), self.stream(self.pki.second_client), self.stream()
        alpha.say(sa("ALPHA", "ALPHA", now=time.time()))
        bravo.say(sa("BRAVO", "BRAVO", now=time.time()))
        fox.say(auth("fox") + sa("FOX", "FOX", now=time.time()))
        alpha.wait_for_uid("FOX")
        self.users("groups", "fox", "--group", "__ANON__")
        bravo.wait_for_uid("FOX", AT_ONCE)
        fox.wait_for_uid("BRAVO", AT_ONCE)
        alpha.so_far()
        fox.say(marker("M-1", now=time.time()))
        bravo.wait_for_uid("M-1")
        self.assertNotIn("M-1", alpha.uids())
        self.users("disable", "fox")
        began = time.monotonic()
        self.assertRaises(Closed, lambda: [fox.hear() for _ in range(100)])
        self.assertLess(time.monotonic() - began, AT_ONCE)
        alpha.so_far()
        again = self.stream()
        again.say(auth("fox") + sa("FOX", "FOX", now=time.time()))
        self.assertEqual(again.until_closed(), [])
        self.users("enable", "fox")
        time.sleep(0.3)
        again = self.stream()
        again.say(auth("fox") + sa("FOX", "FOX", now=time.time()))
        bravo.wait_for_uid("FOX")

    def test_row24_tokens(self) -> None:
        """An access token is made for a right password, read by CloudTAK, and void at once after a kickban."""
        self.add("fox", "--admin")
        self.start()
        self.assertEqual(self.log_in("fox", "wrong")[0], 401)
        status, said = self.log_in("Fox")
        self.assertEqual((status, said["token_type"]), (200, "Bearer"))
        self.assertEqual(cloudtak_parse(said["access_token"])["sub"], "fox")
        self.assertEqual((self.folder / "data" / "jwt.key").stat().st_mode & 0o777, 0o600)
        bearer = {"Authorization": f"Bearer {said['access_token']}"}
        basic = {"Authorization": "Basic " + b64encode(f"fox:{PASSWORD}".encode()).decode()}
        for headers in (bearer, basic):
            self.assertEqual(self.ask(ENROLL, "/Marti/api/util/isAdmin", headers=headers), (200, True))
            self.assertEqual(self.ask(MARTI, "/Marti/api/util/isAdmin", headers=headers)[0], 401)
        ran = takyctl("-c", self.conf, "kickban", "fox")
        self.assertEqual(ran.status, 0, ran.err)
        for headers in (bearer, basic):
            self.assertEqual(self.ask(ENROLL, "/Marti/api/util/isAdmin", headers=headers)[0], 401)
        self.assertEqual(self.log_in("fox")[0], 401)

    def test_restart(self) -> None:
        """Accounts and tokens survive a restart."""
        self.add("fox", "--admin")
        self.start()
        _, said = self.log_in("fox")
        self.server.terminate()
        self.server.wait()
        self.server.start()
        bearer = {"Authorization": f"Bearer {said['access_token']}"}
        self.assertEqual(self.ask(ENROLL, "/Marti/api/util/isAdmin", headers=bearer), (200, True))

    def test_administrator(self) -> None:
        """An administrator by certificate may delete what others have uploaded; the others may not."""
        self.users("add", "alpha-1", "--no-password", "--admin")
        self.start()
        mine, admin = self.pki.second_client, self.pki.client
        path = "/Marti/sync/upload?name=x.zip&keywords=missionpackage&CreatorUid=B"
        status, said = self.ask(MARTI, path, "POST", b"content", credentials=mine)
        self.assertEqual(status, 200)
        target = f"/Marti/api/files/{said['Hash']}"
        other = self.pki.ca.issue("OTHER-9")
        self.assertEqual(self.ask(MARTI, target, "DELETE", credentials=other)[0], 403)
        self.assertEqual(self.ask(MARTI, "/Marti/api/util/isAdmin", credentials=mine)[0], 403)
        self.assertEqual(self.ask(MARTI, target, "DELETE", credentials=admin)[0], 200)
        found = self.ask(MARTI, f"/Marti/sync/content?hash={said['Hash']}", credentials=mine)
        self.assertEqual(found[0], 404)

    def test_password_without_tls(self) -> None:
        """A password on a port that everybody can listen to is refused at the start, in one clear line."""
        self.server = ServerProcess(self, "--cot-endpoint=tcp:0:auth=password", folder=self.folder)
        self.server.launch()
        self.assertNotEqual(self.server.wait(), 0)
        (line,) = [line for line in self.server.log.splitlines() if line.startswith("taky: ")]
        self.assertTrue(re.search(r"auth=password counts only inside TLS, .*; use ssl:", line), line)


def key_of(pki: PKI) -> bytes:
    """Spell the key of the authority."""
    return pki.ca.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
