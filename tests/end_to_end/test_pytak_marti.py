"""PyTAK over HTTP: a client that others wrote posts events and asks for positions, on a real server."""

from __future__ import annotations

import re
import time
import urllib.request
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.end_to_end.server_process import ServerProcess
from tests.end_to_end.stream_client import SECONDS
from tests.end_to_end.test_pytak import PyTAKClient
from tests.pki import PKI, Credentials
from tests.samples import marker, sa


class PyTAKMartiTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.pki = PKI(Path(self.mktemp()).absolute())
        self.server = ServerProcess(
            self,
            "--cot-endpoint=tcp:0:interface=127.0.0.1",
            "--marti-endpoint=tcp:0:interface=127.0.0.1",
            f"--marti-endpoint={self.pki.endpoint()}",
            "--anonymous-http=true",
        ).start()

    def plain(self, uid: str) -> PyTAKClient:
        """Ask over HTTP."""
        return PyTAKClient(self, f"marti+http://127.0.0.1:{self.server.port(1)}", uid, MARTI_POLL_INTERVAL="1")

    def encrypted(self, uid: str, credentials: Credentials) -> PyTAKClient:
        """Ask over HTTPS with a client certificate."""
        return PyTAKClient(
            self,
            f"marti://localhost:{self.server.port(2)}",
            uid,
            MARTI_POLL_INTERVAL="1",
            PYTAK_TLS_CLIENT_CERT=self.pki.write(f"{uid}.pem", credentials.pem),
            PYTAK_TLS_CLIENT_KEY=self.pki.write(f"{uid}.key", credentials.key_pem()),
            PYTAK_TLS_CLIENT_CAFILE=self.pki.ca_path,
        )

    def test_both_ways(self) -> None:
        """What PyTAK posts reaches streams, and it hears the positions of streams and of other PyTAKs by asking."""
        stream = PyTAKClient(self, f"tcp://127.0.0.1:{self.server.port(0)}", "STREAM")
        first, second = self.plain("PLAIN"), self.encrypted("TLS", self.pki.client)
        stream.report()
        self.server.wait_for_log("STREAM .* joined")
        first.report()
        second.say(marker("MARK", now=time.time()))
        stream.wait_for("PLAIN", "MARK")
        for client in (first, second):
            heard = client.wait_for("STREAM", "PLAIN", "MARK")
            (report,) = [event for event in heard if event.get("uid") == "STREAM"][:1]
            group = report.find("detail/__group")
            assert group is not None
            self.assertEqual(group.attrib, {"role": "Team Member", "name": "Cyan"})

    def test_restart(self) -> None:
        """After kill -9 the history is there, but for the last moment."""
        stream = PyTAKClient(self, f"tcp://127.0.0.1:{self.server.port(0)}", "STREAM")
        for number in range(3):
            stream.say(sa(f"A-{number}", f"ALPHA-{number}", now=time.time()))
        end = time.monotonic() + SECONDS
        while self.places() != {"ALPHA-0", "ALPHA-1", "ALPHA-2"}:
            self.assertLess(time.monotonic(), end)
            time.sleep(0.05)
        time.sleep(1)
        self.server.kill()
        self.server.start()
        self.assertEqual(self.places(), {"ALPHA-0", "ALPHA-1", "ALPHA-2"})

    def places(self) -> set[str]:
        """Name the places that Google Earth is shown."""
        url = f"http://127.0.0.1:{self.server.port(1)}/Marti/LatestKML?cotType=a-f"
        with urllib.request.urlopen(url, timeout=SECONDS) as answer:
            return set(re.findall(r"<Placemark><name>(.*?)</name>", answer.read().decode()))
