"""Certificates at a real door: who comes in, who does not, and what the operator reads about it."""

from __future__ import annotations

import socket
import ssl
import time
import warnings
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.end_to_end.server_process import ServerProcess
from tests.end_to_end.stream_client import Closed, StreamClient, link_uid, tls_context
from tests.pki import PKI, Credentials
from tests.samples import ping, sa

VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)


class TLSTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.pki = PKI(Path(self.mktemp()).absolute())

    def start(self, *options: str) -> ServerProcess:
        """Start a server with a plain door and one for clients with certificates."""
        self.server = ServerProcess(
            self,
            "--cot-endpoint=tcp:0:interface=127.0.0.1",
            f"--cot-endpoint={self.pki.endpoint(register=self.pki.register_path)}",
            *options,
        ).start()
        return self.server

    def context(self, credentials: Credentials | None, version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
        """Make a client's TLS."""
        return tls_context(self.pki, credentials, version)

    def connect(self, context: ssl.SSLContext | None = None) -> StreamClient:
        """Connect to the door with TLS, by default with a good certificate."""
        return StreamClient(self, self.server.port(1), context or self.context(self.pki.client))

    def plain(self) -> StreamClient:
        """Connect to the plain door."""
        return StreamClient(self, self.server.port(0))

    def refused(self, context: ssl.SSLContext) -> str:
        """Connect, be refused without having heard anything, and read the one line about it."""
        before = len(self.server.lines(" refused"))
        try:
            # With TLS 1.3 the client's handshake is complete before the server has seen the certificate.
            client = self.connect(context)
            client.say(ping())
            self.assertEqual(client.until_closed(), [])
        except OSError:
            pass
        self.server.wait_for_log(rf"(?s)( refused.*){{{before + 1}}}")
        (line,) = self.server.lines(" refused")[before:]
        return line


class RefusingTests(TLSTestCase):
    def test_refused_certificates(self) -> None:
        """Whoever has no certificate, a foreign, expired or revoked one is refused, and the log tells them apart."""
        self.start()
        for version in VERSIONS:
            for credentials, words in (
                (None, "refused: the client showed no certificate"),
                (self.pki.foreign, "FOREIGN-6.* is from an authority that we do not trust"),
                (self.pki.namesake, "NAMESAKE-7.* is from another authority than ours, one with the same name"),
                (self.pki.expired, "EXPIRED-4.* expired on 20"),
                (self.pki.early, "EARLY-5.* is not valid before 20"),
                (self.pki.revoked, "REVOKED-3.* is revoked in the certificate register"),
            ):
                self.assertRegex(self.refused(self.context(credentials, version)), words)
            self.assertEqual(
                [event.get("uid") for event in self.connect(self.context(self.pki.client, version)).so_far()], []
            )
        self.assertNotIn("Traceback", self.server.log)

    def test_old_tls(self) -> None:
        """A client that speaks nothing newer than TLS 1.1 is refused with a line that says so."""
        self.start()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            context = tls_context(self.pki, None, ssl.TLSVersion.TLSv1_1, "ALL:@SECLEVEL=0")
        self.assertIn("refused: the client speaks only TLS versions that are too old", self.refused(context))

    def test_plain_text_at_a_tls_door(self) -> None:
        """CoT without TLS and HTTP are refused at a TLS door, each with one line that says what it was."""
        self.start()
        for said, words in (
            (sa("A", "A"), "the client speaks plain XML (CoT without TLS); this port wants TLS"),
            (b"GET / HTTP/1.1\r\n\r\n", "the client speaks plain HTTP; this port wants TLS (https)"),
        ):
            client = StreamClient(self, self.server.port(1))
            client.say(said)
            # What comes back is TLS's alert, nothing else.
            client.socket.settimeout(5)
            with self.subTest(said):
                answer = b""
                try:
                    while data := client.socket.recv(1000):
                        answer += data
                except ConnectionResetError:
                    pass
                self.assertNotIn(b"event", answer)
            self.server.wait_for_log(words.replace("(", r"\(").replace(")", r"\)"))
        self.assertEqual(len(self.server.lines("refused")), 2)

    def test_tls_at_a_plain_door(self) -> None:
        """A TLS client at a plain door is refused with one line that says so."""
        self.start()
        with self.assertRaises(OSError):
            StreamClient(self, self.server.port(0), self.context(self.pki.client))
        self.server.wait_for_log("refused: the client speaks TLS; this port is plain TCP")
        self.assertEqual(len(self.server.lines("refused")), 1)
        self.assertNotIn("Traceback", self.server.log)

    def test_T45_handshake_never_finished(self) -> None:
        """A client that connects and says nothing is closed when its time is over, with one line."""
        self.start("--handshake-seconds=1")
        begin = time.monotonic()
        client = StreamClient(self, self.server.port(1))
        self.assertEqual(client.until_closed(), [])
        self.assertTrue(0.9 < time.monotonic() - begin < 5, time.monotonic() - begin)
        self.server.wait_for_log("refused: the client did not finish the TLS handshake in time")

    def test_limit_outside_tls(self) -> None:
        """One connection too many is closed before any handshake, without a traceback, until there is room."""
        self.start("--max-connections=1")
        first = self.connect()
        first.so_far()
        self.assertIn("there are 1 connections (max_connections)", self.refused(self.context(self.pki.client)))
        first.close()
        self.server.wait_for_log("refused")
        for _ in range(100):
            try:
                self.connect().so_far()
                break
            except (OSError, Closed):
                time.sleep(0.05)
        else:
            self.fail("there is room, and nobody comes in")
        self.assertNotIn("Traceback", self.server.log)


class ConnectingTests(TLSTestCase):
    def test_alpn(self) -> None:
        """A client that offers application protocols connects."""
        self.start()
        for version in VERSIONS:
            context = self.context(self.pki.client, version)
            context.set_alpn_protocols(["takstream", "http/1.1"])
            self.assertEqual(self.connect(context).so_far(), [])

    def test_one_room(self) -> None:
        """Clients of both doors hear each other, and the log says who they are proved to be."""
        self.start()
        a, b = self.connect(), self.plain()
        b.so_far()
        a.say(sa("A", "FOX1", now=time.time()))
        self.assertEqual(b.hear().get("uid"), "A")
        b.say(sa("B", "FOX2", now=time.time()))
        self.assertEqual(a.hear().get("uid"), "B")
        self.server.wait_for_log(r"FOX1 \(A\) joined as ALPHA-1 from 127\.0\.0\.1:\d+ at ssl:0")
        self.server.wait_for_log(r"FOX2 \(B\) joined as anonymous from 127\.0\.0\.1:\d+ at tcp:0")

    def test_T44_revoked_while_connected(self) -> None:
        """Who is marked R in the register is dropped within seconds and cannot come back; the others see it leave."""
        self.start()
        a, b = self.connect(), self.connect(self.context(self.pki.second_client))
        a.say(sa("A", "FOX1", now=time.time()))
        b.wait_for_uid("A")
        self.pki.write_register(R=[self.pki.client, self.pki.revoked], V=[self.pki.second_client])
        begin = time.monotonic()
        a.until_closed()
        self.assertLess(time.monotonic() - begin, 5)
        self.server.wait_for_log(
            r"FOX1 left: the client's certificate \(ALPHA-1, .*is revoked in the certificate register"
        )
        self.assertIn("is revoked", self.refused(self.context(self.pki.client)))
        notice = b.wait_for_type("t-x-d-d")
        self.assertEqual(link_uid(notice), "A")
        self.assertEqual(b.so_far(), [])

    def test_hang_up(self) -> None:
        """On SIGHUP new clients are shown the new certificate, and nobody who is connected is dropped."""
        self.start()
        old = self.connect()
        self.assertEqual(old.so_far(), [])
        server = self.pki.ca.issue("localhost", server=True)
        self.pki.write("server.key", server.key_pem())
        self.pki.write("server.pem", server.pem)
        self.server.hang_up()
        self.server.wait_for_log("certificates and revocations were read again")
        new = self.connect()
        assert isinstance(new.socket, ssl.SSLSocket)
        shown = new.socket.getpeercert()
        assert shown is not None
        self.assertEqual(int(str(shown["serialNumber"]), 16), server.certificate.serial_number)
        self.assertEqual((new.so_far(), old.so_far()), ([], []))

    def test_hang_up_with_a_bad_file(self) -> None:
        """A certificate that cannot be used is warned of; clients still connect with what was read before."""
        self.start()
        self.connect().so_far()
        self.pki.write("server.pem", b"garbage")
        self.server.hang_up()
        self.server.wait_for_log(r"server\.pem: no certificate in it .*; what was read before still counts")
        self.assertEqual(self.connect().so_far(), [])

    def test_T35_without_a_goodbye(self) -> None:
        """A TLS client whose connection just ends may be back in a moment: it counts as gone after five seconds."""
        self.start()
        a, b = self.connect(), self.plain()
        a.say(sa("A", "FOX1", now=time.time()))
        b.wait_for_uid("A")
        begin = time.monotonic()
        a.socket.shutdown(socket.SHUT_RDWR)
        self.assertEqual(link_uid(b.wait_for_type("t-x-d-d", 15)), "A")
        self.assertTrue(4.5 < time.monotonic() - begin < 12, time.monotonic() - begin)

    def test_T35_with_a_goodbye(self) -> None:
        """A TLS client that says goodbye is announced as gone at once."""
        self.start()
        a, b = self.connect(), self.plain()
        a.say(sa("A", "FOX1", now=time.time()))
        b.wait_for_uid("A")
        a.so_far()
        begin = time.monotonic()
        assert isinstance(a.socket, ssl.SSLSocket)
        a.socket.unwrap()
        self.assertEqual(link_uid(b.wait_for_type("t-x-d-d")), "A")
        self.assertLess(time.monotonic() - begin, 3)

    def test_T36_reconnect_with_the_same_certificate(self) -> None:
        """The newer connection of one certificate takes over: the older is closed at once and nobody is told."""
        self.start()
        old, b = self.connect(), self.plain()
        old.say(sa("A", "FOX1", now=time.time()))
        b.wait_for_uid("A")
        new = self.connect()
        new.say(sa("A", "FOX1", now=time.time()))
        old.until_closed()
        self.server.wait_for_log("FOX1 left: it connected anew")
        self.assertEqual(b.uids(), ["A"])
        self.assertNotIn("Traceback", self.server.log)
