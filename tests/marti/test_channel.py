from __future__ import annotations

from twisted.internet.address import IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import ITransport
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from taky_twisted.config.limits import Limits
from taky_twisted.marti import connections
from taky_twisted.marti.channel import LINGER_SECONDS, MIN_BODY_BYTES, SMALL_BYTES
from taky_twisted.marti.replies import Reply, text
from taky_twisted.marti.request import MartiRequest
from taky_twisted.marti.routes import route
from tests.marti.asking import Connection, parsed, spell
from tests.marti.test_request import RequestTestCase, Sink
from tests.marti.test_site import TLSTestCase
from tests.marti.tls_connection import TLSConnection
from tests.pki import ClientTLS

LIMITS = Limits()
HEADERS, IDLE, STALL = LIMITS.http_header_seconds, LIMITS.http_idle_seconds, LIMITS.http_stall_seconds


class Successor:
    """What takes over a connection in these tests."""

    def __init__(self) -> None:
        self.received = b""
        self.transport: ITransport | None = None
        self.lost = self.finished = 0

    def makeConnection(self, transport: ITransport) -> None:
        self.transport = transport

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Failure) -> None:
        self.lost += 1

    def finish(self) -> None:
        self.finished += 1


class Area:
    """Routes that take their time."""

    def __init__(self) -> None:
        self.sink = Sink()
        self.requests: list[MartiRequest] = []
        self.successor = Successor()
        self.waiting: Deferred[Reply] = Deferred()
        self.cancelled = False

    @route("/Marti/quick")
    def quick(self, request: MartiRequest) -> Reply:
        """Answer at once."""
        return text("quick")

    @route("/Marti/long")
    def long(self, request: MartiRequest) -> Reply:
        """Answer with a long text."""
        return text("x" * request.arguments.count("length", SMALL_BYTES + 1))

    @route("/Marti/take", "POST", body=2 * SMALL_BYTES)
    def take(self, request: MartiRequest) -> Reply:
        """Take a long body in memory."""
        return text(str(len(request.data)))

    @route("/Marti/waits")
    async def waits(self, request: MartiRequest) -> Reply:
        """Answer later."""
        return await self.waiting

    @route("/Marti/upload", "PUT", body="receive")
    def upload(self, request: MartiRequest) -> Reply:
        """Take an upload."""
        return text("stored")

    @route("/Marti/switch")
    async def switch(self, request: MartiRequest) -> Reply:
        """Hand the connection over."""
        if "late" in request.arguments:
            await self.waiting
        request.channel.hand_over(self.successor)
        try:
            return await Deferred[Reply]()
        finally:
            self.cancelled = True

    def receive(self, request: MartiRequest) -> Sink:
        """Take an upload's body."""
        self.requests.append(request)
        return self.sink


class ChannelTestCase(RequestTestCase):
    limits = LIMITS

    def setUp(self) -> None:
        super().setUp()
        self.own = Area()
        self.ask = type(self.ask)(self.own)
        self.clock = self.ask.clock

    def pass_time(self, seconds: float, step: float = 1.0) -> None:
        """Let time pass in steps."""
        for _ in range(int(seconds / step)):
            self.clock.advance(step)


class HeaderDeadlineTests(ChannelTestCase):
    """Slowloris: the time for headers is absolute."""

    def test_silent(self) -> None:
        """A connection on which nothing is said is closed."""
        connection = self.connect()
        self.clock.advance(HEADERS - 0.1)
        self.assertIsNone(connection.closed)
        self.clock.advance(0.1)
        self.assertEqual((connection.closed, connection.transport.value()), ("closed", b""))
        self.clock.advance(LINGER_SECONDS)
        self.assertEqual(connection.closed, "aborted")

    def test_drips(self) -> None:
        """Byte by byte, line by line: whoever has not said its headers by then is told so and closed."""
        for piece in (b"G", b"X-Header: 1\r\n"):
            connection = self.connect()
            connection.send(b"GET /Marti/quick HTTP/1.1\r\n")
            for _ in range(int(HEADERS)):
                self.assertIsNone(connection.closed)
                connection.send(piece)
                self.clock.advance(1)
            self.assertEqual(connection.closed, "closed")
            status, message = self.wrong(connection)
            self.assertEqual((status, message), (408, "the headers were not complete within 30 seconds"))
            connection.send(b"\r\n\r\n")
            self.assertEqual(connection.transport.value(), b"")
            self.clock.advance(LINGER_SECONDS)
            self.assertEqual(connection.closed, "aborted")
            connection.lose()

    def test_next_request(self) -> None:
        """On an open connection the time begins with the first byte of the next request."""
        connection = self.connect()
        connection.send(spell("GET", "/Marti/quick"))
        connection.answer()
        self.pass_time(IDLE - 1)
        connection.send(b"G")
        self.pass_time(HEADERS - 1)
        self.assertIsNone(connection.closed)
        self.clock.advance(1)
        self.assertEqual(connection.closed, "closed")

    def test_in_time(self) -> None:
        """Whoever is slow and yet in time is answered."""
        connection = self.connect()
        for byte in spell("GET", "/Marti/quick"):
            connection.send(bytes([byte]))
            self.clock.advance(0.1)
        self.assertEqual(connection.answer().body, b"quick")

    def test_idle(self) -> None:
        """Between two requests a connection may wait for a minute."""
        connection = self.connect()
        for _ in range(3):
            connection.send(spell("GET", "/Marti/quick"))
            self.assertEqual(connection.answer().body, b"quick")
            self.clock.advance(IDLE - 1)
        self.assertIsNone(connection.closed)
        self.clock.advance(1)
        self.assertEqual(connection.closed, "closed")

    def test_handler_may_take_long(self) -> None:
        """While we are the ones who are slow no time runs, neither after headers nor after a body."""
        connection = self.connect()
        connection.send(spell("GET", "/Marti/waits"))
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.clock.advance(3600)
        self.own.waiting.callback(text("done"))
        self.assertEqual(connection.answer().body, b"done")


class BodyDeadlineTests(ChannelTestCase):
    def begin(self) -> Connection:
        """Begin an upload of unlimited patience."""
        connection = self.connect()
        connection.send(self.head("PUT", "/Marti/upload", "Content-Length: 100000"))
        return connection

    def test_minimum(self) -> None:
        """A body that brings too little is refused and forgotten; one byte more, and it goes on."""
        for size, goes_on in ((MIN_BODY_BYTES - 1, False), (MIN_BODY_BYTES, True)):
            sink = self.own.sink = Sink()
            connection = self.begin()
            for _ in range(size):
                connection.send(b"x")
                self.clock.advance(STALL / (size + 1))
            self.assertIsNone(connection.closed)
            self.clock.advance(STALL / size)
            if goes_on:
                self.assertEqual(connection.transport.value(), b"")
                self.clock.advance(STALL)
            status, message = self.wrong(connection)
            self.assertEqual((status, message), (408, "the body brought less than 600 bytes in 60 seconds"))
            self.assertEqual(sink.aborted, 1)
            self.clock.advance(LINGER_SECONDS)
            self.assertEqual(connection.closed, "aborted")
            connection.lose()

    def test_slow_radio(self) -> None:
        """A link of 20 bytes a second takes its hour and a half, and the file is stored."""
        connection = self.begin()
        for _ in range(1000):
            connection.send(b"x" * 100)
            self.clock.advance(5)
        self.assertEqual(connection.answer().body, b"stored")

    def test_our_pause(self) -> None:
        """While we do not take the body the client's time stands still, and begins anew when we do."""
        connection = self.begin()
        (request,) = self.own.requests
        self.clock.advance(STALL - 1)
        request.pause()
        self.clock.advance(3600)
        request.resume()
        self.clock.advance(STALL - 1)
        self.assertEqual(connection.transport.value(), b"")
        self.clock.advance(1)
        self.assertEqual(self.wrong(connection)[0], 408)
        request.pause()
        request.resume()
        self.assertEqual(connection.transport.producerState, "producing")

    def test_full_transport(self) -> None:
        """While the client's answers wait for it, Twisted does not read; that is no slow body."""
        connection = self.begin()
        connection.channel.pauseProducing()
        self.clock.advance(STALL / 2)
        connection.channel.resumeProducing()
        connection.channel.pauseProducing()
        self.clock.advance(STALL / 2)
        self.assertEqual(connection.transport.value(), b"")
        connection.channel.resumeProducing()
        self.clock.advance(STALL)
        self.assertEqual(self.wrong(connection)[0], 408)

    def test_paused_twice(self) -> None:
        """A sink's pause outlasts that of the transport."""
        connection = self.begin()
        (request,) = self.own.requests
        request.pause()
        connection.channel.pauseProducing()
        connection.channel.resumeProducing()
        self.assertEqual(connection.transport.producerState, "paused")
        request.resume()
        self.assertEqual(connection.transport.producerState, "producing")

    def test_closed_meanwhile(self) -> None:
        """On a connection that we are closing nothing is paused any more."""
        connection = self.begin()
        (request,) = self.own.requests
        connection.channel.abort("")
        request.pause()
        request.resume()
        self.assertEqual(connection.transport.producerState, "producing")


class OutflowTests(ChannelTestCase):
    """Answers that nobody reads."""

    def test_no_byte(self) -> None:
        """A client that is owed an answer and lets no byte of it out is cut off."""
        connection = self.connect()
        connection.send(spell("GET", "/Marti/waits"))
        connection.channel.pauseProducing()
        self.pass_time(STALL - 1)
        self.assertIsNone(connection.closed)
        self.pass_time(1)
        self.assertEqual(connection.closed, "aborted")
        self.assertEqual(
            self.log(), ["198.51.100.7:40000 at HTTP closed: no byte of an answer could be sent for 60 seconds"]
        )

    def test_many_do_not_read(self) -> None:
        """Long answers that nobody reads do not fill the memory: from some amount on only short ones are given."""
        self.patch(connections, "MAX_UNREAD_BYTES", 2 * SMALL_BYTES + 2)
        waiting = [self.connect() for _ in range(3)]
        for connection in waiting:
            connection.channel.pauseProducing()
            connection.send(spell("GET", "/Marti/long"))
        self.assertEqual([connection.answer().status for connection in waiting], [200, 200, 503])
        self.assertEqual(self.ask("GET", f"/Marti/long?length={SMALL_BYTES}").status, 200)
        waiting[0].channel.resumeProducing()
        for _ in range(3):
            self.assertEqual(self.ask("GET", "/Marti/long").status, 200)
        waiting[1].lose()
        again = [self.connect() for _ in range(2)]
        for connection in again:
            connection.channel.pauseProducing()
            connection.send(spell("GET", "/Marti/long"))
        self.assertEqual([connection.answer().status for connection in again], [200, 200])

    def test_many_bodies(self) -> None:
        """Bodies in memory count as well while they come, and until they are answered."""
        self.patch(connections, "MAX_UNREAD_BYTES", 3 * SMALL_BYTES)
        whole = spell("POST", "/Marti/take", b"x" * (SMALL_BYTES + 9))
        waiting = [self.connect() for _ in range(3)]
        for connection in waiting:
            connection.send(whole[:-1])
        self.assertEqual(waiting[2].answer().status, 503)
        for connection in waiting[:2]:
            connection.send(whole[-1:])
            self.assertEqual(connection.answer().body, b"%d" % (SMALL_BYTES + 9))
        waiting[2].lose()
        self.assertEqual(self.ask.connections._unread, 0)

    def test_gone(self) -> None:
        """What is still made for a client that is gone does not count."""
        connection = self.connect()
        connection.send(spell("PUT", "/Marti/upload", headers={"Content-Length": "9"}))
        connection.lose()
        (request,) = self.own.requests
        request.hold(1 << 40)
        self.assertEqual(self.ask.connections._unread, 0)

    def test_reads_on(self) -> None:
        """One that has taken all in time may go on."""
        connection = self.connect()
        connection.send(spell("GET", "/Marti/waits"))
        connection.channel.pauseProducing()
        self.pass_time(STALL - 1)
        connection.channel.resumeProducing()
        self.pass_time(STALL * 2)
        self.assertIsNone(connection.closed)

    def test_slow_reader(self) -> None:
        """One that reads a byte now and then is served to the end, also when it is the last answer."""
        for last in (False, True):
            self.own.waiting = Deferred()
            connection = self.connect()
            connection.send(spell("GET", "/Marti/waits"))
            connection.channel.pauseProducing()
            if last:
                connection.channel.loseConnection()
            for sent in range(10):
                connection.transport.sent = sent  # type: ignore[attr-defined]
                self.pass_time(STALL * 0.9)
            self.assertNotEqual(connection.closed, "aborted")
            self.pass_time(STALL * 2)
            self.assertEqual(connection.closed, "aborted")
            connection.lose()


class BackPressureTests(ChannelTestCase):
    """Clients that ask for more than they read."""

    def full(self) -> Connection:
        """Have an answer under way to a client that has stopped reading."""
        self.own.waiting = Deferred()
        connection = self.connect()
        connection.send(spell("GET", "/Marti/waits"))
        connection.channel.pauseProducing()
        return connection

    def test_not_read(self) -> None:
        """What a client asks next is answered when it has read what it was owed; so answers do not pile up here."""
        connection = self.full()
        connection.send(spell("GET", "/Marti/quick") * 2)
        self.own.waiting.callback(text("done"))
        self.assertEqual(connection.answer().body, b"done")
        self.assertEqual(connection.transport.value(), b"")
        connection.channel.resumeProducing()
        self.assertEqual(connection.transport.value().count(b"HTTP/1.1 200 OK"), 2)
        self.clock.advance(IDLE)
        self.assertEqual(connection.closed, "closed")

    def test_full_again(self) -> None:
        """It is served one answer at a time if it reads no faster."""
        connection = self.full()
        connection.send(spell("GET", "/Marti/quick") * 2)
        self.own.waiting.callback(text("done"))
        write = connection.transport.write

        def full(data: bytes) -> None:
            write(data)
            connection.channel.pauseProducing()

        connection.transport.write = full  # type: ignore[method-assign]
        for body in (b"done", b"quick", b"quick"):
            self.assertEqual(connection.answer().body, body)
            self.assertEqual(connection.transport.value(), b"")
            connection.channel.resumeProducing()

    def test_sends_on(self) -> None:
        """Whoever goes on sending without reading is not read from any more until its answer is out."""
        connection = self.full()
        for _ in range(20):
            connection.send(b"x" * 1000)
        self.assertEqual(connection.transport.producerState, "paused")
        connection.channel.resumeProducing()
        self.assertEqual(connection.transport.producerState, "paused", "the handler is not done yet")
        self.own.waiting.callback(text("done"))
        self.assertEqual(connection.transport.producerState, "producing")

    def test_end(self) -> None:
        """While its last answer waits for the client, it is cut off if it reads nothing, and when the server stops."""
        for stops in (False, True):
            connection = self.full()
            self.own.waiting.callback(text("done"))
            if stops:
                connection.channel.close_when_done()
                self.assertIsNone(connection.closed)
                connection.channel.resumeProducing()
                self.assertEqual(connection.closed, "closed")
            else:
                self.pass_time(STALL)
                self.assertEqual(connection.closed, "aborted")
            connection.lose()

    def test_last(self) -> None:
        """A client that wants to close is closed as soon as it has read its answer."""
        self.own.waiting = Deferred()
        connection = self.connect()
        connection.send(self.head("GET", "/Marti/waits", "Connection: close"))
        connection.channel.pauseProducing()
        self.own.waiting.callback(text("done"))
        self.assertEqual(connection.closed, "closed")

    def test_producer(self) -> None:
        """Who wants to send more in pieces learns at once that there is no room."""
        connection = self.full()
        producer = StringTransport()
        connection.channel.registerProducer(producer, True)
        self.assertEqual(producer.producerState, "paused")
        connection.channel.resumeProducing()
        self.assertEqual(producer.producerState, "producing")
        connection.channel.unregisterProducer()


class MalformedTests(ChannelTestCase):
    """What is no HTTP."""

    def test_malformed(self) -> None:
        """What cannot be read is answered 400 in JSON, and the connection closes."""
        for said in (
            b"nonsense\r\n\r\n",
            b"GET /\r\n\r\n",
            b"GET / HTTP/9\r\n\r\n",
            b"<event/>\r\n",
            b"GET /Marti/quick HTTP/1.1\r\nno colon\r\n\r\n",
            b"GET /Marti/quick HTTP/1.1\r\nno colon\r\nHost: h\r\n\r\n",
            b"GET /Marti/quick HTTP/1.1\r\na b: c\r\n\r\n",
            b"GET /Marti/quick HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
            b"PUT /Marti/upload HTTP/1.1\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n",
            b"PUT /Marti/upload HTTP/1.1\r\nContent-Length: " + b"9" * 5000 + b"\r\nHost: h\r\n\r\n",
            b"PUT /Marti/upload HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
            b"PUT /Marti/upload HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"PUT /Marti/upload HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n",
            b"PUT /Marti/upload HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
            b"GET /Marti/quick?" + b"a" * 20_000,
            b"GET /Marti/quick?" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n",
            b"GET /Marti/quick HTTP/1.1\r\n" + b"X: 1\r\n" * 600 + b"\r\n",
            b"GET /Marti/quick HTTP/1.1\r\n" + b"".join(b"X: %d\r\n" % n * 100 for n in range(40)) + b"\r\n",
        ):
            connection = self.connect()
            connection.send(said)
            self.assertEqual(self.wrong(connection), (400, "this is no HTTP request that can be read"), said[:60])
            self.assertEqual(connection.closed, "closed")
            connection.send(spell("GET", "/Marti/quick"))
            self.assertEqual(connection.transport.value(), b"")
            connection.lose()
        self.assertEqual(self.log(), [])

    def test_after_an_answer(self) -> None:
        """A good request before it is answered first."""
        connection = self.connect()
        connection.send(spell("GET", "/Marti/quick") + b"nonsense\r\n\r\n")
        first, _, second = connection.transport.value().partition(b"quick")
        self.assertTrue(first.startswith(b"HTTP/1.1 200 OK"))
        self.assertEqual(parsed(second).status, 400)

    def test_tls_at_a_plain_door(self) -> None:
        """Who speaks https at a plain port is cut off, and the log says what it was."""
        connection = self.connect()
        connection.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
        connection.channel.complain("again")
        self.assertEqual((connection.closed, connection.transport.value()), ("aborted", b""))
        self.assertEqual(
            self.log(), ["198.51.100.7:40000 at HTTP refused: the client speaks TLS (https); this port is plain HTTP"]
        )

    def test_peers(self) -> None:
        """The log names whoever it was."""
        for address, shown in (
            (IPv6Address("TCP", "2001:db8::1", 4000), "[2001:db8::1]:4000 at HTTP"),
            (UNIXAddress(""), "a local process at HTTP"),
        ):
            channel = self.ask.door.buildProtocol(address)
            assert channel is not None
            channel.makeConnection(StringTransport(peerAddress=address))
            self.assertEqual(channel.peer, shown)


class HandOverTests(ChannelTestCase):
    """Connections that go on as something else."""

    def setUp(self) -> None:
        super().setUp()
        self.connection = self.connect()
        self.connection.send(spell("GET", "/Marti/switch") + b"more")
        self.successor = self.own.successor

    def test_data(self) -> None:
        """From then on the successor hears everything, what had come already included, and no deadline of ours runs."""
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.connection.send(b" and more")
        self.assertEqual(self.successor.received, b"more and more")
        self.assertIs(self.successor.transport, self.connection.transport)
        self.assertIsNone(self.connection.transport.producer)

    def test_end(self) -> None:
        """It hears of the end, and the handler that waited ends as well; until then the connection counts."""
        self.assertEqual(len(self.ask.connections), 1)
        self.connection.lose()
        self.assertEqual((self.successor.lost, self.own.cancelled), (1, True))
        self.assertEqual(len(self.ask.connections), 0)

    def test_nothing_waits(self) -> None:
        """It hears nothing if nothing has come."""
        self.own.successor = Successor()
        connection = self.connect()
        connection.send(spell("GET", "/Marti/switch"))
        self.assertEqual(self.own.successor.received, b"")

    def test_late(self) -> None:
        """What comes while the handler still thinks about it is not lost either."""
        self.own.successor = Successor()
        connection = self.connect()
        connection.send(spell("GET", "/Marti/switch?late"))
        connection.send(b"early")
        self.own.waiting.callback(text(""))
        connection.send(b" bird")
        self.assertEqual(self.own.successor.received, b"early bird")

    def test_stop(self) -> None:
        """When the server stops it is asked to finish."""
        self.connection.channel.close_when_done()
        self.assertEqual((self.successor.finished, self.connection.closed), (1, None))


class HandshakeTests(TLSTestCase):
    def test_never_finished(self) -> None:
        """A TLS handshake that is not finished in time is cut off, and the log says so, once."""
        other = self.connect(None)
        tls = other.channel.transport.factory.creator
        connection = TLSConnection(self.site, tls, b"")
        self.clock.advance(LIMITS.handshake_seconds - 0.1)
        self.assertFalse(connection.closed)
        self.clock.advance(0.1)
        self.assertTrue(connection.closed)
        (line,) = self.log()
        self.assertIn("refused: the client did not finish the TLS handshake in time", line)

    def test_given_up(self) -> None:
        """A handshake that the client breaks off is in the log, too."""
        tls = self.connect(None).channel.transport.factory.creator
        TLSConnection(self.site, tls, b"").lose()
        self.assertEqual(len(self.log()), 1)

    def test_then_headers(self) -> None:
        """After the handshake the time for headers begins anew; then the connection is closed."""
        connection = self.connect(self.pki.client)
        self.clock.advance(HEADERS - 0.1)
        self.assertFalse(connection.closed)
        self.clock.advance(0.1)
        self.assertTrue(connection.closed)
        self.assertEqual((len(self.connections), self.log()), (0, []))

    def test_doctor(self) -> None:
        """The doctor knows who was refused, by name; and who left without a word, if it called us by a wrong one."""
        self.connect(self.pki.expired)
        failures = self.connections.failures
        (attempt,) = failures
        self.assertEqual((attempt.door, attempt.subject), (self.site.door, "EXPIRED-4"))
        tls = self.connect(None).channel.transport.factory.creator
        for calls, told in ((b"localhost", 1), (b"tak.example", 2)):
            TLSConnection(self.site, tls, ClientTLS(self.pki.ca, self.pki.client, calls=calls)).lose()
            self.assertEqual(failures.total, told)
        self.assertIn("called us tak.example, which is not in it", list(failures)[-1].reason)

    def test_no_goodbye(self) -> None:
        """A client that never says goodbye in TLS is cut off after a moment."""
        connection = self.connect(self.pki.client)
        cut: list[bool] = []
        connection.server_transport.abortConnection = lambda: cut.append(True)  # type: ignore[method-assign]
        # Nothing flows any more from here on.
        self.clock.advance(HEADERS)
        self.assertEqual(cut, [])
        self.clock.advance(LINGER_SECONDS)
        self.assertEqual(cut, [True])
