"""Coming, going and one-shot senders on real sockets, and how a server ends."""

from __future__ import annotations

import random
import socket
import struct
import time
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.end_to_end.server_process import ServerProcess
from tests.end_to_end.stream_client import PROLOG, StreamClient, link_uid, tls_context
from tests.pki import PKI
from tests.ports import free_port
from tests.samples import chat, marker, ping, sa, to

GROUP = "239.255.77.2"


class ServerTestCase(SynchronousTestCase):
    server: ServerProcess

    def connect(self, receive_buffer: int | None = None) -> StreamClient:
        """Connect to the first door."""
        return StreamClient(self, self.server.port(), receive_buffer=receive_buffer)

    def join(self, uid: str, receive_buffer: int | None = None) -> StreamClient:
        """Connect a client that reports itself and has read what it was shown."""
        client = self.connect(receive_buffer)
        client.say(sa(uid, uid, now=time.time()))
        client.so_far()
        return client


class StreamTests(ServerTestCase):
    def setUp(self) -> None:
        self.server = ServerProcess(self).start()

    def test_T35_reset(self) -> None:
        """A connection that breaks off is announced a few seconds later, once, as ATAK needs it."""
        a, b = self.join("A"), self.join("B")
        begin = time.monotonic()
        a.reset()
        notice = b.hear(15)
        # At most six seconds on a server that has the processor to itself; tests/routing shows that with a clock.
        self.assertTrue(4.5 < time.monotonic() - begin < 12, time.monotonic() - begin)
        link = notice.find("detail/link")
        assert link is not None
        self.assertEqual(notice.get("type"), "t-x-d-d")
        self.assertEqual(
            {name: link.get(name) for name in ("uid", "type", "relation")},
            {"uid": "A", "type": "a-f-G-U-C", "relation": "p-p"},
        )
        self.assertEqual(b.so_far(), [])

    def test_T35_goodbye(self) -> None:
        """A client that says goodbye is announced as gone at once."""
        a, b = self.join("A"), self.join("B")
        a.so_far()  # or the system breaks the connection off, because of what was not read
        begin = time.monotonic()
        a.close()
        self.assertEqual(link_uid(b.hear()), "A")
        self.assertLess(time.monotonic() - begin, 3)

    def test_T36_reconnect_without_certificates(self) -> None:
        """A client that is back before its old socket is known dead never looks offline; that one is closed."""
        old, b = self.join("A"), self.join("B")
        new = self.join("A")
        begin = time.monotonic()
        b.say(chat("B", marti=to("A"), now=time.time()))
        self.assertEqual(new.hear().get("type"), "b-t-f")
        self.assertEqual([event.get("type") for event in old.until_closed(15)], ["a-f-G-U-C"], "B's report, no chat")
        self.assertLess(time.monotonic() - begin, 15)
        self.assertEqual([event.get("uid") for event in b.so_far()], ["A"])
        self.assertEqual(new.so_far(), [])

    def test_T79_one_shot(self) -> None:
        """A sender that says one event and is gone is heard, gets no pong, and nobody is told that it left."""
        b = self.join("B")
        forms = (b"%s", b'<?xml version="1.0"?>\n%s\n')
        for number, form in enumerate(forms):
            client = self.connect()
            client.say(form.replace(b"%s", marker(f"M-{number}", now=time.time())))
            client.close()
            self.assertEqual(b.hear().get("uid"), f"M-{number}")
        half = self.connect()
        half.say(marker("M-2", now=time.time()))
        half.socket.shutdown(socket.SHUT_WR)
        self.assertEqual(b.hear().get("uid"), "M-2")
        self.assertNotIn("takPong", [event.get("uid") for event in half.until_closed()])
        self.assertEqual(b.so_far(), [])

    def test_T31_T02_byte_by_byte(self) -> None:
        """A ping and a report that arrive one byte a segment count like any other."""
        b = self.join("B")
        a = self.connect()
        a.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in ping() + sa("A", "FOX \N{FOX FACE}", now=time.time()):
            a.say(bytes([byte]))
        self.assertEqual(a.wait_for_uid("takPong").get("type"), "t-x-c-t-r")
        contact = b.wait_for_uid("A").find("detail/contact")
        assert contact is not None
        self.assertEqual(contact.get("callsign"), "FOX \N{FOX FACE}")

    def test_T03_five_hundred_in_one_write(self) -> None:
        """Five hundred events in one write arrive, all and in order."""
        a, b = self.join("A"), self.join("B")
        a.so_far()
        a.say(*(marker(f"M-{number}", now=time.time()) for number in range(500)))
        self.assertEqual([b.hear().get("uid") for _ in range(500)], [f"M-{number}" for number in range(500)])


class DatagramTests(ServerTestCase):
    def setUp(self) -> None:
        self.udp, self.group = free_port(socket.SOCK_DGRAM), free_port(socket.SOCK_DGRAM)
        self.server = ServerProcess(
            self,
            "--cot-endpoint=tcp:0:interface=127.0.0.1",
            f"--udp-port={self.udp}",
            f"--multicast={GROUP}:{self.group}:127.0.0.1",
        )
        (self.server.folder / "taky.conf").write_text("[taky]\nbind_ip = 127.0.0.1\n")
        self.server.start()
        self.server.wait_for_log("is joined")
        self.sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(self.sender.close)

    def send(self, datagram: bytes) -> None:
        """Send to the UDP port."""
        self.sender.sendto(datagram, ("127.0.0.1", self.udp))

    def test_T80_datagrams(self) -> None:
        """An event in a datagram reaches everybody, a directed one its destination, rubbish nobody."""
        b, c = self.join("B"), self.join("C")
        b.so_far()
        self.send(b"\xbf\x02\xbf\x00")
        self.send(b"rubbish")
        self.send(chat("SENSOR", marti=to("C"), now=time.time()))
        self.send(marker(now=time.time()))
        self.assertEqual((b.hear().get("uid"), c.hear().get("type")), ("MARK-1", "b-t-f"))
        self.assertEqual((b.so_far(), c.uids()), ([], ["MARK-1"]))
        self.assertEqual(len(self.server.lines("is not passed on")), 2)

    def test_largest_datagram(self) -> None:
        """A datagram may be as large as what ATAK reads, with the prolog that it is given."""
        b = self.join("B")
        room = 65_536 - len(PROLOG) - len(marker(now=time.time()))
        self.send(marker(now=time.time(), extra=" " * room))
        self.assertEqual(b.hear().get("uid"), "MARK-1")

    def test_multicast(self) -> None:
        """What is said in the group is heard here."""
        b = self.join("B")
        self.sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
        self.sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, struct.pack("B", 0))
        self.sender.sendto(marker(now=time.time()), (GROUP, self.group))
        self.assertEqual(b.hear().get("uid"), "MARK-1")


class RobustnessTests(ServerTestCase):
    def test_T85_random_bytes(self) -> None:
        """Random bytes at every door harm nobody: no traceback, and clients go on."""
        pki = PKI(Path(self.mktemp()).absolute())
        udp = free_port(socket.SOCK_DGRAM)
        self.server = ServerProcess(
            self,
            "--cot-endpoint=tcp:0:interface=127.0.0.1",
            f"--cot-endpoint={pki.endpoint()}",
            "--monitor-endpoint=tcp:0:interface=127.0.0.1",
            f"--udp-port={udp}",
        )
        (self.server.folder / "taky.conf").write_text("[taky]\nbind_ip = 127.0.0.1\n")
        self.server.start()
        a, b = self.join("A"), self.join("B")
        a.so_far()
        choose = random.Random(85)
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(sender.close)
        pieces = [b"<event ", b"</event>", b"<!--", b"<![CDATA[", b"\xbf", b"\x16\x03\x01", b"<auth>", b"\xff\xfe"]
        for _ in range(60):
            data = b"".join(
                choose.choice(pieces) if choose.random() < 0.3 else choose.randbytes(choose.randrange(200))
                for _ in range(20)
            )
            sender.sendto(data, ("127.0.0.1", udp))
            for door in range(3):
                context = tls_context(pki, pki.client) if door == 1 and choose.random() < 0.5 else None
                client = StreamClient(self, self.server.port(door), context)
                client.say(data)
                if choose.random() < 0.5:
                    client.reset()
                else:
                    client.close()
        a.say(marker(now=time.time()))
        self.assertEqual(b.hear().get("uid"), "MARK-1")
        for trouble in ("Traceback", "#error]", "#critical]", "Unhandled"):
            self.assertNotIn(trouble, self.server.log)
        self.server.terminate()
        self.assertEqual(self.server.wait(), 0)


class StoppingTests(ServerTestCase):
    def test_T86_terminate(self) -> None:
        """SIGTERM: what is for somebody in particular is sent, nobody is told that the others leave, exit status 0."""
        self.server = ServerProcess(self).start()
        a, c = self.join("A"), self.join("C")
        b = self.join("B", receive_buffer=4096)
        c.so_far()
        a.so_far()
        text = "x" * 2500
        for number in range(250):
            a.say(chat("A", text, number=number, marti=to("B"), now=time.time()))
        a.so_far()
        begin = time.monotonic()
        self.server.terminate()
        numbers = [str(event.get("uid")).rpartition("m-")[2] for event in b.until_closed()]
        self.assertEqual(numbers, [str(number) for number in range(250)])
        self.assertEqual((a.until_closed(), c.until_closed()), ([], []))
        self.assertEqual(self.server.wait(), 0)
        self.assertLess(time.monotonic() - begin, 6)
        self.assertNotIn("Traceback", self.server.log)

    def test_T86_a_client_that_does_not_read(self) -> None:
        """A client that does not read keeps the server from ending for five seconds, not longer."""
        self.server = ServerProcess(self).start()
        a = self.join("A")
        self.join("B", receive_buffer=4096)
        a.so_far()
        for number in range(250):
            a.say(chat("A", "x" * 2500, number=number, marti=to("B"), now=time.time()))
        for number in range(100):
            a.say(marker(f"M-{number}", extra=f"<remarks>{'x' * 60_000}</remarks>", now=time.time()))
        a.so_far()
        begin = time.monotonic()
        self.server.terminate()
        self.assertEqual(self.server.wait(), 0)
        self.assertLess(time.monotonic() - begin, 8)

    def test_T86_tls(self) -> None:
        """TLS clients are told goodbye properly."""
        pki = PKI(Path(self.mktemp()).absolute())
        self.server = ServerProcess(self, f"--cot-endpoint={pki.endpoint()}").start()
        a = StreamClient(self, self.server.port(), tls_context(pki, pki.client))
        a.say(sa("A", "A", now=time.time()))
        self.assertEqual(a.so_far(), [])
        self.server.terminate()
        # An end without TLS's own would be an error here.
        self.assertEqual(a.socket.recv(100), b"")
        a.close()
        self.assertEqual(self.server.wait(), 0)
        self.assertNotIn("Traceback", self.server.log)
