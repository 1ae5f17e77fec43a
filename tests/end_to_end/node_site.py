"""A server of several nodes, each a process of its own, and the Redis that joins them."""

from __future__ import annotations

import itertools
import json
import selectors
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

from twisted.trial.unittest import SynchronousTestCase

from tests.end_to_end.server_process import ServerProcess
from tests.end_to_end.stream_client import Closed, StreamClient, tls_context
from tests.pki import PKI, Credentials
from tests.redis_server import RedisServer
from tests.samples import marker, sa

TOLD_SECONDS = 20.0
"""Within what time something must be the same on all nodes, on a machine that has much else to do."""
STEP_SECONDS = 0.05


class NodesTestCase(SynchronousTestCase):
    """Three nodes that share a Redis; each has a door without TLS and one with client certificates."""

    count = 3
    options: tuple[str, ...] = ("--emergency-period=1",)

    def setUp(self) -> None:
        self._ends = itertools.count()
        self.redis = RedisServer(self)
        self.pki = PKI(Path(self.mktemp()).absolute())
        # Not mktemp(): a socket's path must be short.
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.nodes = [self.make(number) for number in range(self.count)]
        for node in self.nodes:
            node.launch()
        for node in self.nodes:
            self.wait_until_open(node)

    def make(self, number: int) -> ServerProcess:
        """Describe a node; its register is its own, as on a machine of its own."""
        register = self.pki.write(f"register-{number}.txt", b"")
        folder = self.folder / str(number)
        folder.mkdir()
        (folder / "taky.conf").write_text(f"[ssl]\ncert_db = {register}\n", "utf-8")
        return ServerProcess(
            self,
            "--cot-endpoint=tcp:0:interface=127.0.0.1",
            f"--cot-endpoint={self.pki.endpoint(register=register)}",
            "--marti-endpoint=tcp:0:interface=127.0.0.1",
            "--anonymous-http=yes",
            f"--bus=redis:{self.redis.endpoint}",
            "--node-id=SITE",
            *self.options,
            folder=folder,
        )

    def wait_until_open(self, node: ServerProcess) -> None:
        """Wait until a node lets people in; its ports are taken before."""
        node.wait_for_log(r"taky-mgmt.sock is open", 20)

    # Clients

    def join(self, node: int, uid: str, credentials: Credentials | None = None, **keys: object) -> StreamClient:
        """Connect somebody to a node who says who it is."""
        context = tls_context(self.pki, credentials) if credentials is not None else None
        port = self.nodes[node].port(1 if credentials is not None else 0)
        client = StreamClient(self, port, context)
        client.say(sa(uid, uid, now=time.time(), **keys))  # type: ignore[arg-type]
        return client

    def connect(self, node: int) -> StreamClient:
        """Connect somebody who does not say who it is."""
        return StreamClient(self, self.nodes[node].port())

    def team(self, *uids: str) -> list[StreamClient]:
        """Connect several, one to each node, who have all heard of each other."""
        clients = [self.join(number % self.count, uid) for number, uid in enumerate(uids)]
        for number, client in enumerate(clients):
            missing = set(uids) - {uids[number]}
            while missing:
                missing.discard(str(client.hear().get("uid")))
        for client in clients:
            client.so_far()
        return clients

    def settle(self, *clients: StreamClient) -> list[list[Element]]:
        """Let everything arrive: each says a last word, which all others wait for; return what each heard before."""
        ends = [f"END-{next(self._ends)}" for _ in clients]
        for client, end in zip(clients, ends, strict=True):
            client.say(marker(end, now=time.time()))
        heard: list[list[Element]] = []
        for client, own in zip(clients, ends, strict=True):
            events, missing = [], set(ends) - {own}
            while missing:
                events.append(client.hear())
                missing.discard(str(events[-1].get("uid")))
            events += client.so_far()
            heard.append([event for event in events if not str(event.get("uid")).startswith("END-")])
        return heard

    def eventually(self, true: Callable[[], bool], what: str, seconds: float = TOLD_SECONDS) -> float:
        """Wait until something is so; return how long that took."""
        begin = time.monotonic()
        while not true():
            self.assertLess(time.monotonic() - begin, seconds, what)
            time.sleep(STEP_SECONDS)
        return time.monotonic() - begin

    def shown(self, node: int) -> list[str | None]:
        """Tell what a newcomer is shown."""
        client = self.connect(node)
        uids = client.uids()
        client.close()
        return uids

    # Operators

    def takyctl(self, node: int, *arguments: str) -> str:
        """Run takyctl for a node; return what it prints."""
        socket = self.nodes[node].data_dir / "taky-admin.sock"
        command = [
            *(sys.executable, "-m", "taky_twisted.cli.takyctl", "-c", str(self.nodes[node].folder / "taky.conf")),
            *(*arguments, "-U", str(socket)),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        self.assertEqual(done.returncode, 0, done.stderr + done.stdout)
        return done.stdout

    def status(self, node: int) -> dict[str, Any]:
        """Ask a node for its status."""
        told: dict[str, Any] = json.loads(self.takyctl(node, "status", "-j"))
        return told


class Load:
    """Clients that say numbered things at a rate, and count what each hears of each other."""

    def __init__(self, clients: dict[str, StreamClient]) -> None:
        self._clients = clients
        self._selector = selectors.DefaultSelector()
        self._rests = dict.fromkeys(clients, b"")
        self._said: dict[str, int] = dict.fromkeys(clients, 0)
        self._owed: dict[tuple[str, str], list[int]] = defaultdict(list)
        self.heard = 0
        self.lost: list[str] = []
        """What came twice, too late or never, in words."""
        for uid, client in clients.items():
            client.socket.setblocking(False)
            self._selector.register(client.socket, selectors.EVENT_READ, uid)

    def run(self, seconds: float, rate: float) -> None:
        """Say things at a rate (per second, by all together), and read."""
        uids = list(self._clients)
        begin = time.monotonic()
        for number in range(int(seconds * rate)):
            self.say(uids[number % len(uids)])
            self.read(begin + (number + 1) / rate - time.monotonic())

    def say(self, uid: str) -> None:
        """Let somebody say the next thing."""
        number = self._said[uid] = self._said[uid] + 1
        extra = f'<n from="{uid}" at="{number}"/>'
        self._clients[uid].socket.sendall(marker(f"M-{uid}", extra=extra, now=time.time()))
        for other in self._clients:
            if other != uid:
                self._owed[uid, other].append(number)

    def read(self, seconds: float) -> None:
        """Read what arrives in some time."""
        end = time.monotonic() + seconds
        while True:
            for key, _ in self._selector.select(max(0.0, end - time.monotonic())):
                self._read_one(key.data)
            if time.monotonic() >= end:
                return

    def finish(self, seconds: float = 10) -> list[str]:
        """Read until everything has come; return what went wrong."""
        end = time.monotonic() + seconds
        while any(self._owed.values()) and time.monotonic() < end:
            self.read(0.05)
        never = [
            f"{sender} to {receiver}: {owed} never came" for (sender, receiver), owed in self._owed.items() if owed
        ]
        return self.lost + never

    def drop(self, uid: str) -> None:
        """Let somebody be gone: it says nothing and is owed nothing any more."""
        client = self._clients.pop(uid)
        self._selector.unregister(client.socket)
        for pair in [pair for pair in self._owed if uid in pair]:
            del self._owed[pair]

    def close(self) -> None:
        """Stop reading."""
        self._selector.close()

    def _read_one(self, uid: str) -> None:
        data = self._clients[uid].socket.recv(1 << 18)
        if not data:
            raise Closed(uid)
        *documents, self._rests[uid] = (self._rests[uid] + data).split(b"</event>")
        for document in documents:
            mark = document.find(b'<n from="')
            if mark >= 0:
                _, sender, _, number, *_ = document[mark:].decode().split('"')
                self._take(sender, uid, int(number))

    def _take(self, sender: str, receiver: str, number: int) -> None:
        if sender not in self._clients:
            return  # it is gone; what it had said before may come or not
        self.heard += 1
        owed = self._owed[sender, receiver]
        if owed and owed[0] == number:
            del owed[0]
        elif number in owed:
            self.lost.append(f"{sender} to {receiver}: {number} came before {owed[0]}")
            owed.remove(number)
        else:
            self.lost.append(f"{sender} to {receiver}: {number} came again")
