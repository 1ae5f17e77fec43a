"""PyTAK, a client that others wrote, on a real server through a WebSocket."""

from __future__ import annotations

import time
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.end_to_end.server_process import ServerProcess
from tests.end_to_end.test_pytak import PyTAKClient
from tests.pki import PKI, Credentials
from tests.samples import chat, marker, to


class WebSocketTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.pki = PKI(Path(self.mktemp()).absolute())
        self.server = ServerProcess(
            self,
            "--cot-endpoint=tcp:0:interface=127.0.0.1",
            "--marti-endpoint=tcp:0:interface=127.0.0.1",
            f"--marti-endpoint={self.pki.endpoint()}",
            "--anonymous-http=true",
        ).start()

    def stream(self, uid: str) -> PyTAKClient:
        """Connect over TCP."""
        return PyTAKClient(self, f"tcp://127.0.0.1:{self.server.port(0)}", uid)

    def plain(self, uid: str) -> PyTAKClient:
        """Connect with a WebSocket over TCP."""
        return PyTAKClient(self, f"ws://127.0.0.1:{self.server.port(1)}/takproto/1", uid)

    def encrypted(self, uid: str, credentials: Credentials) -> PyTAKClient:
        """Connect with a WebSocket over TLS and a client certificate."""
        return PyTAKClient(
            self,
            f"wss://localhost:{self.server.port(2)}/takproto/1",
            uid,
            PYTAK_TLS_CLIENT_CERT=self.pki.write(f"{uid}.pem", credentials.pem),
            PYTAK_TLS_CLIENT_KEY=self.pki.write(f"{uid}.key", credentials.key_pem()),
            PYTAK_TLS_CLIENT_CAFILE=self.pki.ca_path,
        )

    def test_three_clients(self) -> None:
        """PyTAK by TCP, by a WebSocket and by one with a certificate see each other; a private chat is private."""
        stream, plain, encrypted = self.stream("TCP"), self.plain("WS"), self.encrypted("WSS", self.pki.client)
        clients = (stream, plain, encrypted)
        for client in clients:
            client.report()
        for client in clients:
            client.wait_for(*(other.uid for other in clients if other is not client))
        self.server.wait_for_log(r"WSS \(WSS\) joined as ALPHA-1 .*WebSocket")

        stream.say(marker("MARK-1", now=time.time()))
        plain.wait_for("MARK-1")
        encrypted.wait_for("MARK-1")
        plain.say(chat("WS", "for you", room="WSS", uids=("WSS",), marti=to("WSS"), now=time.time()))
        plain.say(marker("AFTER", now=time.time()))
        heard = {
            client.uid: [event.get("type") for event in client.wait_for("AFTER")] for client in (stream, encrypted)
        }
        self.assertEqual(heard, {"TCP": ["a-h-G"], "WSS": ["b-t-f", "a-h-G"]})
        # A newcomer is shown what is there, event by event.
        self.plain("NEW").wait_for("MARK-1", "AFTER")
        encrypted.end()
        self.server.wait_for_log(r"WSS left: ")
