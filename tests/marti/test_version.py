from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.marti.site import ServerInfo
from taky_twisted.marti.version import VersionArea
from tests.marti.asking import NODE_ID, Asking


class VersionTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.ask = Asking(VersionArea(ServerInfo(node_id=NODE_ID)))

    def test_row01_config(self) -> None:
        """ATAK finds what it looks for in the server's version."""
        answer = self.ask("GET", "/Marti/api/version/config")
        self.assertEqual((answer.status, answer.type), (200, "application/json"))
        self.assertEqual(answer.json["type"], "ServerConfig")
        self.assertGreaterEqual(int(answer.json["version"]), 2)
        self.assertIsInstance(answer.json["data"]["version"], str)
        self.assertEqual(answer.json["nodeId"], NODE_ID)
        self.assertEqual(answer.json["data"]["hostname"], "tak.example")

    def test_words(self) -> None:
        """Older ATAKs look for two words."""
        for path in ("/Marti/api/version", "/Marti/api/ver"):
            answer = self.ask("GET", path)
            self.assertEqual((answer.status, answer.type), (200, "text/plain"))
            self.assertTrue(answer.body.startswith(b"TAK Server "))

    def test_numbers(self) -> None:
        """The version in numbers has no envelope."""
        self.assertEqual(set(self.ask("GET", "/Marti/api/version/info").json) >= {"major", "minor", "patch"}, True)

    def test_node_id(self) -> None:
        """A server has an id."""
        self.assertEqual(self.ask("GET", "/Marti/api/node/id").body, NODE_ID.encode())
