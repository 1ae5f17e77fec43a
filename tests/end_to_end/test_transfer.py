"""A data package goes from one ATAK to another through a real server, byte for byte and step by step.

Source of the steps: ATAK-CIV ``commoncommo/core/impl/missionpackagemanager.cpp`` and ``cotmessage.cpp``.
"""

from __future__ import annotations

import hashlib
import http.client
import io
import random
import ssl
import uuid
import zipfile
from pathlib import Path
from urllib.parse import quote, urlsplit

from twisted.trial.unittest import SynchronousTestCase

from tests.end_to_end.server_process import ServerProcess
from tests.end_to_end.stream_client import SECONDS, StreamClient, tls_context
from tests.pki import PKI
from tests.samples import sa

BOUNDARY = "------------------------d74496d66958873e"


def package(seed: int, size: int = 300_000) -> bytes:
    """Make a data package whose content no zip makes smaller."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("MANIFEST/manifest.xml", '<MissionPackageManifest version="2"/>')
        archive.writestr("photo.jpg", random.Random(seed).randbytes(size))
    return content.getvalue()


class Atak:
    """A phone: a stream, and a new HTTP connection for each step, as commo makes them."""

    def __init__(
        self, test: SynchronousTestCase, server: ServerProcess, callsign: str, context: ssl.SSLContext | None
    ) -> None:
        self.uid, self.callsign = f"ANDROID-{callsign}", callsign
        self._port, self._context = server.port(1), context
        self.stream = StreamClient(test, server.port(0), context)
        self.stream.say(sa(self.uid, callsign))

    def ask(
        self, method: str, target: str, body: bytes | None = None, **headers: str
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        """Make one request on a connection of its own."""
        connection = (
            http.client.HTTPSConnection("127.0.0.1", self._port, timeout=SECONDS, context=self._context)
            if self._context is not None
            else http.client.HTTPConnection("127.0.0.1", self._port, timeout=SECONDS)
        )
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            connection.request(method, target, body, named)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def upload(self, name: str, content: bytes) -> str:
        """Carry out the sender's three requests; where the package is."""
        hash_ = hashlib.sha256(content).hexdigest()
        status, _, body = self.ask("GET", f"/Marti/sync/missionquery?hash={hash_}")
        if status == 404:
            form = (
                f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="assetfile"; filename="{name}"\r\n'
                "Content-Type: application/x-zip-compressed\r\n\r\n"
            ).encode()
            form += content + f"\r\n--{BOUNDARY}--\r\n".encode()
            status, _, body = self.ask(
                "POST",
                f"/Marti/sync/missionupload?hash={hash_}&filename={quote(name)}&creatorUid={self.uid}",
                form,
                Content_Type=f"multipart/form-data; boundary={BOUNDARY}",
                Expect="100-continue",
            )
        assert status == 200, (status, body)
        status, _, _ = self.ask("PUT", f"/Marti/api/sync/metadata/{hash_}/tool", b"private", Content_Type="text/plain")
        assert status == 200, status
        return body.decode("ascii")

    def offer(self, url: str, name: str, content: bytes, to: str) -> str:
        """Tell another phone of a package; the id under which it shall acknowledge it."""
        ack = str(uuid.uuid4())
        hash_ = hashlib.sha256(content).hexdigest()
        self.stream.say(
            f'<event version="2.0" uid="{uuid.uuid4()}" type="b-f-t-r" how="h-e" time="2026-01-31T12:00:00.000Z" '
            f'start="2026-01-31T12:00:00.000Z" stale="2036-01-31T12:00:10.000Z">'
            f'<point lat="0" lon="0" hae="0" ce="9999999" le="9999999"/><detail>'
            f'<fileshare filename="{name}" senderUrl="{url.replace("&", "&amp;")}" sizeInBytes="{len(content)}" '
            f'sha256="{hash_}" senderUid="{self.uid}" senderCallsign="{self.callsign}" name="{name}"/>'
            f'<ackrequest uid="{ack}" ackrequested="true" tag="{name}"/>'
            f'<marti><dest callsign="{to}"/></marti></detail></event>'.encode()
        )
        return ack

    def receive(self) -> tuple[bytes, str]:
        """Wait for an offer, download what it is about, check that, and acknowledge it."""
        share = self.stream.wait_for_type("b-f-t-r").find("detail/fileshare")
        assert share is not None
        url = urlsplit(share.attrib["senderUrl"])
        status, headers, content = self.ask("GET", f"{url.path}?{url.query}&receiver={self.callsign}")
        assert status == 200, (status, content)
        assert headers["Content-Length"] == share.attrib["sizeInBytes"] == str(len(content))
        assert hashlib.sha256(content).hexdigest() == share.attrib["sha256"]
        self.stream.say(
            f'<event version="2.0" uid="{self.uid}" type="b-f-t-a" how="m-g" time="2026-01-31T12:00:01.000Z" '
            f'start="2026-01-31T12:00:01.000Z" stale="2036-01-31T12:00:10.000Z">'
            f'<point lat="0" lon="0" hae="0" ce="9999999" le="9999999"/><detail>'
            f'<ackresponse uid="{share.attrib["name"]}" senderUid="{self.uid}" success="true" tag="t" reason="" '
            f'sha256="{share.attrib["sha256"]}" sizeInBytes="{len(content)}"/>'
            f'<marti><dest callsign="{share.attrib["senderCallsign"]}"/></marti></detail></event>'.encode()
        )
        return content, share.attrib["senderUrl"]


class TransferTests(SynchronousTestCase):
    def transfer(self, server: ServerProcess, first: ssl.SSLContext | None, second: ssl.SSLContext | None) -> None:
        """Send a package there, and the same one on to a third who has it from the second."""
        alpha, bravo = Atak(self, server, "ALPHA", first), Atak(self, server, "BRAVO", second)
        alpha.stream.wait_for_uid(bravo.uid)
        bystander = Atak(self, server, "CHARLIE", first)
        content, name = package(1), "Fotos & Lage ü.zip"
        shown = "Fotos Lage.zip"
        url = alpha.upload(name, content)
        scheme = "http" if first is None else "https"
        hash_ = hashlib.sha256(content).hexdigest()
        self.assertEqual(url, f"{scheme}://127.0.0.1:{server.port(1)}/Marti/sync/content?hash={hash_}")
        alpha.offer(url, shown, content, "BRAVO")
        received, sender_url = bravo.receive()
        self.assertEqual((received == content, sender_url), (True, url))
        response = alpha.stream.wait_for_type("b-f-t-a").find("detail/ackresponse")
        assert response is not None
        self.assertEqual((response.get("success"), response.get("senderUid")), ("true", bravo.uid))
        # The one who has it now passes it on: the server has it already, and nothing is uploaded again.
        self.assertEqual(bravo.upload(name, content), url)
        # What is private is no news for anybody else.
        status, _, listed = bystander.ask("GET", "/Marti/sync/search?keywords=missionpackage&tool=public")
        self.assertEqual((status, hash_.encode() in listed), (200, False))
        self.assertNotIn("b-f-t-r", [event.get("type") for event in bystander.stream.so_far()])
        self.assertNotIn("Traceback", server.log)

    def test_row28_over_tcp(self) -> None:
        """Two phones without encryption exchange a package as ATAK does, byte for byte, and the sender is told so."""
        server = ServerProcess(
            self, "--cot-endpoint=tcp:0:interface=127.0.0.1", "--marti-endpoint=tcp:0:interface=127.0.0.1"
        ).start()
        self.transfer(server, None, None)

    def test_row28_over_tls(self) -> None:
        """Two phones with certificates exchange a package as ATAK does, byte for byte, and the sender is told so."""
        pki = PKI(Path(self.mktemp()).absolute())
        server = ServerProcess(
            self, f"--cot-endpoint={pki.endpoint()}", f"--marti-endpoint={pki.endpoint(clientCert='optional')}"
        ).start()
        contexts = []
        for name in ("ALPHA", "BRAVO"):
            context = tls_context(pki, pki.ca.issue(name))
            context.check_hostname = False  # commo goes by address
            contexts.append(context)
        self.transfer(server, *contexts)
