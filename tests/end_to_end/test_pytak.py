"""PyTAK, a client that others wrote, on a real server."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from queue import Empty, SimpleQueue
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from twisted.trial.unittest import SynchronousTestCase

from tests.end_to_end.server_process import ServerProcess
from tests.end_to_end.stream_client import SECONDS
from tests.pki import PKI, Credentials
from tests.samples import chat, marker, sa, to

SCRIPT = Path(__file__).with_name("pytak_client.py")


class PyTAKClient:
    """A process with PyTAK in it."""

    def __init__(self, test: SynchronousTestCase, url: str, uid: str, **settings: str) -> None:
        self.uid = uid
        command = [sys.executable, str(SCRIPT), json.dumps({"COT_URL": url, **settings})]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, encoding="utf-8"
        )
        self._heard: SimpleQueue[Element] = SimpleQueue()
        self._reading = threading.Thread(target=self._read)
        self._reading.start()
        test.addCleanup(self.end)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._heard.put(ElementTree.fromstring(json.loads(line)))

    def say(self, document: bytes) -> None:
        """Let it send a document."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(document.decode()) + "\n")
        self._process.stdin.flush()

    def report(self) -> None:
        """Let it report itself; its callsign is its uid."""
        self.say(sa(self.uid, self.uid, now=time.time()))

    def wait_for(self, *uids: str) -> list[Element]:
        """Wait until it has heard of all of these; return everything that it heard on the way."""
        end, missing, events = time.monotonic() + 2 * SECONDS, set(uids), []
        while missing:
            try:
                event = self._heard.get(timeout=max(0.0, end - time.monotonic()))
            except Empty:
                raise AssertionError(f"{self.uid} never heard {missing}") from None
            missing.discard(event.get("uid", ""))
            events.append(event)
        return events

    def end(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        self._reading.join()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()


class PyTAKTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.pki = PKI(Path(self.mktemp()).absolute())
        plain = "--cot-endpoint=tcp:0:interface=127.0.0.1"
        self.server = ServerProcess(self, plain, f"--cot-endpoint={self.pki.endpoint()}").start()

    def plain(self, uid: str) -> PyTAKClient:
        """Connect over TCP."""
        return PyTAKClient(self, f"tcp://127.0.0.1:{self.server.port(0)}", uid)

    def encrypted(self, uid: str, credentials: Credentials) -> PyTAKClient:
        """Connect over TLS with a client certificate."""
        return PyTAKClient(
            self,
            f"tls://localhost:{self.server.port(1)}",
            uid,
            PYTAK_TLS_CLIENT_CERT=self.pki.write(f"{uid}.pem", credentials.pem),
            PYTAK_TLS_CLIENT_KEY=self.pki.write(f"{uid}.key", credentials.key_pem()),
            PYTAK_TLS_CLIENT_CAFILE=self.pki.ca_path,
        )

    def test_T33_T64_T65_four_clients(self) -> None:
        """Two PyTAK clients over TCP and two over TLS see each other, and after kill -9 what was on the map."""
        clients = [
            self.plain("PLAIN-1"),
            self.plain("PLAIN-2"),
            self.encrypted("TLS-1", self.pki.client),
            self.encrypted("TLS-2", self.pki.second_client),
        ]
        everybody = [client.uid for client in clients]
        for client in clients:
            client.report()
        for client in clients:
            client.wait_for(*(uid for uid in everybody if uid != client.uid))
        self.server.wait_for_log(r"TLS-2 \(TLS-2\) joined as BRAVO-2")

        first, second, third, fourth = clients
        first.say(marker("MARK-1", now=time.time()))
        fourth.say(marker("MARK-2", now=time.time()))
        for client in clients:
            client.wait_for(
                *{"MARK-1", "MARK-2"}
                - ({"MARK-1"} if client is first else set())
                - ({"MARK-2"} if client is fourth else set())
            )

        third.say(chat("TLS-1", "for you", room="PLAIN-2", uids=("PLAIN-2",), marti=to("PLAIN-2"), now=time.time()))
        third.say(marker("AFTER", now=time.time()))
        heard = {client.uid: client.wait_for("AFTER") for client in (first, second, fourth)}
        types = {uid: [event.get("type") for event in events] for uid, events in heard.items()}
        self.assertEqual(types, {"PLAIN-1": ["a-h-G"], "PLAIN-2": ["b-t-f", "a-h-G"], "TLS-2": ["a-h-G"]})
        self.assertEqual(heard["PLAIN-2"][0].findtext("detail/remarks"), "for you")
        self.assertIsNone(heard["PLAIN-2"][0].find("detail/marti"))

        time.sleep(1)  # what the store promises: at most the last second is lost
        self.server.kill()
        self.server.start()
        self.plain("NEW").wait_for("MARK-1", "MARK-2")
        self.encrypted("NEW-TLS", self.pki.client).wait_for("MARK-1", "MARK-2")

    def test_T16_T25_protobuf(self) -> None:
        """A PyTAK client that sends protobuf and one that sends XML see each other."""
        url = f"tcp://127.0.0.1:{self.server.port(0)}"
        frames, plain = PyTAKClient(self, url, "FRAMES", TAK_PROTO="1"), self.plain("PLAIN")
        frames.report()
        (report,) = [event for event in plain.wait_for("FRAMES") if event.get("uid") == "FRAMES"]
        group = report.find("detail/__group")
        assert group is not None
        self.assertEqual(group.attrib, {"role": "Team Member", "name": "Cyan"})
        plain.report()
        plain.say(marker("MARK-1", now=time.time()))
        frames.wait_for("PLAIN", "MARK-1")
        frames.say(chat("FRAMES", "for you", room="PLAIN", uids=("PLAIN",), marti=to("PLAIN"), now=time.time()))
        (message,) = plain.wait_for("GeoChat.FRAMES.PLAIN.m-1")
        self.assertEqual((message.findtext("detail/remarks"), message.find("detail/marti")), ("for you", None))
