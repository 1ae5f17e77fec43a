"""What an operator sets on one node counts on all, for people with real sockets and operators with real takyctl."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from tests.end_to_end.node_site import NodesTestCase
from tests.end_to_end.server_process import ServerProcess
from tests.end_to_end.stream_client import Closed
from tests.pki import Credentials

TELLING_SECONDS = 2.0
"""Within how many seconds of the operator's command what it says is in Redis, in any case."""


class SharedSettingsTests(NodesTestCase):
    """Three nodes, each with a register of its own, as on three machines."""

    def make(self, number: int) -> ServerProcess:
        node = super().make(number)
        register = self.pki.folder / f"register-{number}.txt"
        (node.folder / "taky.conf").write_text(f"[taky]\nroot_dir = {node.data_dir}\n[ssl]\ncert_db = {register}\n")
        return node

    def is_refused(self, node: int, credentials: Credentials) -> bool:
        """Whether a node lets somebody in no more."""
        try:
            client = self.join(node, "BAD", credentials)
            client.so_far()
        except (OSError, Closed):
            return True
        client.close()
        return False

    def users(self, node: int) -> dict[str, dict[str, object]]:
        """List the accounts of a node by name."""
        return {each["name"]: each for each in json.loads(self.takyctl(node, "users", "list", "-j"))}

    def offline(self, node: int, *arguments: str) -> None:
        """Run takyctl on the site of a node that does not run."""
        command = [sys.executable, "-m", "taky_twisted.cli.takyctl", "-c", str(self.nodes[node].folder / "taky.conf")]
        subprocess.run([*command, *arguments], capture_output=True, timeout=60, check=True)

    def restart(self, node: ServerProcess) -> None:
        """Start a node again."""
        node.launch()
        self.wait_until_open(node)

    def test_revoked(self) -> None:
        """A certificate that is revoked on one node is refused by all, and its connections end, also elsewhere."""
        credentials = self.pki.ca.issue("mallory")
        serial = credentials.certificate.serial_number
        bad = self.join(1, "BAD", credentials)
        bad.so_far()
        self.takyctl(0, "kickban", "--serial", f"{serial:x}")
        bad.until_closed()
        for node in range(3):
            self.eventually(lambda node=node: self.is_refused(node, credentials), f"node {node}")  # type: ignore[misc]

    def test_banned_while_down(self) -> None:
        """A node that was down when somebody was banned refuses him from its first moment, with only Redis to tell."""
        credentials = self.pki.ca.issue("mallory")
        self.join(2, "BAD", credentials)
        self.nodes[2].kill()
        self.takyctl(0, "kickban", "mallory")
        time.sleep(TELLING_SECONDS)
        for node in self.nodes[:2]:
            node.kill()
        self.restart(self.nodes[2])
        self.assertTrue(self.is_refused(2, credentials))

    def test_users(self) -> None:
        """Accounts are those of all nodes at once; also what was changed on a node that was stopped, or down."""
        self.takyctl(0, "users", "add", "anna", "--no-password", "--group", "red")
        for node in (1, 2):
            self.eventually(lambda node=node: "anna" in self.users(node), "known")  # type: ignore[misc]
        self.nodes[2].terminate()
        self.nodes[2].wait()
        self.offline(2, "users", "add", "offline", "--no-password")
        self.offline(2, "users", "remove", "anna")
        self.takyctl(1, "users", "add", "meanwhile", "--no-password")
        self.restart(self.nodes[2])
        for node in range(3):
            self.eventually(lambda node=node: set(self.users(node)) == {"offline", "meanwhile"}, "the same")  # type: ignore[misc]

    def test_outage(self) -> None:
        """What is changed while Redis is away, and comes back empty, counts everywhere when it is back."""
        self.takyctl(0, "users", "add", "before", "--no-password")
        self.redis.kill()
        self.takyctl(0, "users", "add", "during", "--no-password")
        self.takyctl(1, "users", "add", "too", "--no-password")
        self.nodes[0].wait_for_log("serves its last copy")
        self.redis.start()
        for node in range(3):
            self.eventually(lambda node=node: set(self.users(node)) == {"before", "during", "too"}, "the same", 10)  # type: ignore[misc]

    def test_alone(self) -> None:
        """Without Redis a node starts with its last copy, and says so."""
        self.takyctl(0, "users", "add", "anna", "--no-password")
        self.eventually(lambda: "anna" in self.users(1), "known")
        for node in self.nodes:
            node.terminate()
            node.wait()
        self.redis.kill()
        self.restart(self.nodes[1])
        self.assertIn("serves its last copy", self.nodes[1].log)
        self.assertIn("anna", self.users(1))

    def test_one_server(self) -> None:
        """All nodes have the same server id, and the same key for access tokens."""
        for name in ("server-id", "jwt.key"):
            self.assertEqual(len({(node.data_dir / name).read_bytes() for node in self.nodes}), 1, name)

    def test_files(self) -> None:
        """Files that are stored on several nodes have different numbers; one that is deleted is gone everywhere."""
        digests = []
        for number in range(6):
            address = f"{self.marti(number % 3)}/Marti/sync/upload?name=f{number}.txt"
            upload = Request(address, data=b"%d" % number, headers={"Content-Type": "text/plain"})
            with urlopen(upload, timeout=20) as answer:
                digests.append(answer.read().decode().partition('"Hash"')[2].split('"')[1])
        for node in range(3):
            self.eventually(lambda node=node: len(self.found(node)) == 6, "all are known")  # type: ignore[misc]
        numbers = {each["PrimaryKey"] for each in self.found(0)}
        self.assertEqual(len(numbers), 6)

    def marti(self, node: int) -> str:
        return f"http://127.0.0.1:{self.nodes[node].port(2)}"

    def found(self, node: int) -> list[dict[str, object]]:
        try:
            with urlopen(f"{self.marti(node)}/Marti/sync/search", timeout=20) as answer:
                found: list[dict[str, object]] = json.loads(answer.read())["results"]
        except HTTPError as error:
            raise AssertionError(error.read()) from error
        return found
