"""Many clients at once, and one that does not read."""

from __future__ import annotations

import re
import selectors
import time

from tests.end_to_end.server_process import ServerProcess
from tests.end_to_end.stream_client import Closed, StreamClient
from tests.end_to_end.test_lifecycle import ServerTestCase
from tests.samples import chat, marker, to

CLIENTS = 20
RATE = 200
"""Events in a second, by all together."""
LOAD_SECONDS = 4
PADDING = "x" * 6000
"""So that kernels cannot hide a client that does not read."""
_NUMBER = re.compile(rb"<remarks>(\d+) ")


class Crowd:
    """Clients that are read all at the same time; each event has a number, and when it arrived is noted."""

    def __init__(self, clients: list[StreamClient]) -> None:
        self._clients = clients
        self._selector = selectors.DefaultSelector()
        self._rests = [b""] * len(clients)
        self.arrived: list[dict[int, float]] = [{} for _ in clients]
        for index, client in enumerate(clients):
            client.socket.setblocking(False)
            self._selector.register(client.socket, selectors.EVENT_READ, index)

    def read(self, seconds: float) -> None:
        """Read what arrives in some time."""
        end = time.monotonic() + seconds
        while True:
            for key, _ in self._selector.select(max(0.0, end - time.monotonic())):
                self._read_one(key.data)
            if time.monotonic() >= end:
                return

    def _read_one(self, index: int) -> None:
        data = self._clients[index].socket.recv(1 << 18)
        if not data:
            raise Closed(f"client {index}")
        now = time.monotonic()
        data = self._rests[index] + data
        whole = data.rfind(b"</event>") + len(b"</event>")
        for number in _NUMBER.findall(data[:whole]):
            assert int(number) not in self.arrived[index], "an event came twice"
            self.arrived[index][int(number)] = now
        self._rests[index] = data[whole:]

    def close(self) -> None:
        """Stop reading."""
        self._selector.close()


class LoadTests(ServerTestCase):
    def setUp(self) -> None:
        self.server = ServerProcess(self).start()

    def position(self, client: int, number: int) -> bytes:
        """Spell a client's event."""
        remarks = f"<remarks>{number} {PADDING}</remarks>"
        return marker(f"P-{client}", extra=remarks, now=time.time())

    def test_T82_a_client_that_never_reads(self) -> None:
        """While one client never reads the others lose nothing and do not wait; it costs us a bounded backlog."""
        stuck = self.join("STUCK", receive_buffer=4096)
        clients = [self.join(f"C-{number}") for number in range(CLIENTS)]
        for client in clients:
            client.so_far()
        before = self.server.memory()
        crowd = Crowd(clients)
        self.addCleanup(crowd.close)
        sent: dict[int, float] = {}
        begin = time.monotonic()
        for number in range(RATE * LOAD_SECONDS):
            speaker = number % CLIENTS
            sent[number] = time.monotonic()
            clients[speaker].socket.sendall(self.position(speaker, number))
            if number % RATE == 0:
                clients[0].socket.sendall(chat("C-0", number=number, marti=to("STUCK"), now=time.time()))
            crowd.read(max(0.0, begin + (number + 1) / RATE - time.monotonic()))
        end = time.monotonic() + 10
        wanted = [{number for number in sent if number % CLIENTS != index} for index in range(CLIENTS)]
        while any(set(crowd.arrived[index]) != wanted[index] for index in range(CLIENTS)):
            self.assertLess(time.monotonic(), end, "events are missing")
            crowd.read(0.05)
        waits = sorted(at - sent[number] for arrived in crowd.arrived for number, at in arrived.items())
        self.assertLess(waits[len(waits) * 99 // 100], 5.0)
        self.assertLess(self.server.memory() - before, 32 << 20)

        clients[0].socket.sendall(marker("END", now=time.time()))
        types: dict[str | None, list[str | None]] = {}
        last = ""
        while last != "END":
            event = stuck.hear()
            last = str(event.get("uid"))
            types.setdefault(event.get("type"), []).append((event.findtext("detail/remarks") or "").partition(" ")[0])
        self.assertEqual(len(types["b-t-f"]), LOAD_SECONDS)
        numbers = [int(number) for number in types["a-h-G"] if number]
        self.assertLess(len(numbers), RATE * LOAD_SECONDS, "it was not slow enough to prove anything")
        newest = set(range(RATE * LOAD_SECONDS - CLIENTS, RATE * LOAD_SECONDS))
        self.assertTrue(newest <= set(numbers), sorted(newest - set(numbers)))

    def test_five_hundred_connections(self) -> None:
        """Five hundred clients at once all hear one event."""
        clients = [self.connect() for _ in range(500)]
        speaker = self.join("A")
        speaker.say(marker(now=time.time()))
        for client in clients:
            self.assertEqual([client.hear().get("uid") for _ in range(2)], ["A", "MARK-1"])
        self.assertLess(self.server.memory(), 200 << 20)
