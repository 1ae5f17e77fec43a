"""Those who come again and again: who they are, and what becomes of them."""

from __future__ import annotations

import contextlib
import socket
import threading

from twisted.trial.unittest import SynchronousTestCase

from bench.crowd import Crowd
from bench.events import XML
from bench.flood import SOURCE, Flood, counts, parse

METRICS = """# HELP taky_connections_refused_total Connections that were not taken in.
# TYPE taky_connections_refused_total counter
taky_connections_refused_total{reason="max_handshakes"} 12.0
taky_tls_handshakes_total{result="ok"} 1.234567e+06
taky_tls_handshakes_total{result="too_slow"} 3
taky_events_dropped_total{reason="overflow"} 9.0
taky_contacts{state="online"} 9.0
"""


class Door:
    """Takes in everybody, and answers who speaks or closes everybody at once."""

    def __init__(self, test: SynchronousTestCase, answers: bool) -> None:
        self.addresses: list[str] = []
        self._answers = answers
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._connections: list[socket.socket] = []
        self.port: int = self._listening.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()
        test.addCleanup(self._close)

    def _serve(self) -> None:
        with contextlib.suppress(OSError):  # it is shut down
            while True:
                connection, (address, _) = self._listening.accept()
                self.addresses.append(address)
                self._connections.append(connection)
                if not self._answers:
                    connection.close()
                    continue
                connection.settimeout(0.2)
                with contextlib.suppress(TimeoutError):  # it is mute
                    if b"t-x-c-t" in connection.recv(1 << 16):
                        connection.sendall(b'<event type="t-x-c-t-r"></event>')

    def _close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        for each in (self._listening, *self._connections):
            each.close()


class FloodTests(SynchronousTestCase):
    def come(self, door: Door, *kinds: str) -> Flood:
        """Let each kind come once."""
        speaking, mute = (Crowd([door.port], None, "", XML, SOURCE) for _ in range(2))
        self.addCleanup(speaking.close)
        self.addCleanup(mute.close)
        flood = Flood(speaking, mute, list(kinds), stay=0.3)
        flood.come(len(kinds), 0.01)
        return flood

    def test_answered(self) -> None:
        """Who asks is answered, named or not; who is mute is left alone. All have one address."""
        door = Door(self, answers=True)
        flood = self.come(door, "asking", "asking", "mute")
        figures = flood.figures()
        self.assertEqual([figures[name] for name in ("connects", "answered", "not_answered")], [3, 2, 0])
        self.assertEqual(figures["mute_closed"], 0)
        self.assertGreater(figures["answer_p99_ms"], 0)
        self.assertEqual(set(door.addresses), {SOURCE})

    def test_refused(self) -> None:
        """Who is closed before it is answered counts as refused, and a mute one as closed."""
        door = Door(self, answers=False)
        figures = self.come(door, "mute", "greeting", "asking").figures()
        self.assertEqual([figures[name] for name in ("answered", "not_answered", "mute_closed")], [0, 2, 1])
        self.assertEqual(figures["answer_p50_ms"], 0)


class CountsTests(SynchronousTestCase):
    def test_metrics(self) -> None:
        """Of what a server counts those that came to nothing are read, by reason."""
        self.assertEqual(parse(METRICS), {"refused_max_handshakes": 12, "tls_ok": 1_234_567, "tls_too_slow": 3})

    def test_none(self) -> None:
        """A server that does not count is not asked."""
        self.assertEqual(counts(0), {})
