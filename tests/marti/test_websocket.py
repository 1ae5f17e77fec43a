from __future__ import annotations

from base64 import b64encode

from twisted.internet.error import ConnectionLost
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from wsproto.connection import Connection as Frames
from wsproto.connection import ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong, TextMessage

from taky_twisted.config.limits import Limits
from taky_twisted.cot.xmlcodec import decode
from taky_twisted.identity.principal import ANON_GROUP, ANONYMOUS, Principal
from taky_twisted.marti.site import ServerInfo
from taky_twisted.marti.websocket import LOOK_SECONDS, MAX_EVENT_BYTES, PING_SECONDS, WebSocketArea
from taky_twisted.routing.switching import switch
from taky_twisted.routing.tak_stream import CLOSE_SECONDS
from tests.fakes import LogLines, MemoryRecorder, MemorySink, Site, principal
from tests.marti.asking import Answer, Asking, Connection, spell
from tests.marti.websocket_client import KEY, UPGRADE, WebSocketClient, tak
from tests.samples import chat, marker, ping, sa, to, xml

LIMITS = Limits(
    input_events_per_second=10,
    input_bytes_per_second=100_000,
    outbox_bytes=4096,
    max_event_to_client=4096,
    max_event_bytes=8192,
    max_unidentified_bytes=4096,
)
ACCEPT = "BACScCJPNqyz+UBoqMH89VmURoA="  # for `KEY`, by RFC 6455
PATH = "/takproto/1"


class WebSocketTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.site = Site(limits=LIMITS)
        self.log = LogLines(self)
        self.recorder = MemoryRecorder()
        self.info = ServerInfo()
        area = WebSocketArea(self.site.clock, self.site.router, LIMITS, self.info, self.recorder)
        self.ask = Asking(area, clock=self.site.clock)

    def connect(self, who: Principal | None = None, headers: dict[str, str] | None = None) -> WebSocketClient:
        """Connect a client that says nothing yet."""
        self.ask.door.who = who
        client = WebSocketClient(Connection(self.ask.door), headers)
        self.assertTrue(client.head.startswith(b"HTTP/1.1 101 "), client.head)
        self.site.turn()
        return client

    def join(self, uid: str, who: Principal | None = None) -> WebSocketClient:
        """Connect a client that reports itself and has read what it was shown."""
        client = self.connect(who)
        self.say(client, sa(uid, uid))
        client.messages()
        return client

    def say(self, client: WebSocketClient, *documents: bytes) -> None:
        """Let a client send, and the reactor turn end."""
        client.say(*documents)
        self.site.turn()

    def goodbye(self, client: WebSocketClient) -> tuple[int, str | None]:
        """Read the goodbye that a client got, and answer it."""
        client.messages()
        assert client.closed is not None, "no goodbye"
        return client.closed.code, client.closed.reason

    def pending(self) -> int:
        """Count what the clock still has to do for connections."""
        return len([call for call in self.site.clock.getDelayedCalls() if "Contacts" not in str(call)])

    def lines(self, word: str) -> list[str]:
        """Read the log lines with a word in them."""
        return [line for line in self.log() if word in line]


class HandshakeTests(WebSocketTestCase):
    def refused(self, method: str = "GET", **headers: str | None) -> Answer:
        """Ask with some headers changed or left out, and be refused."""
        changed = {name.replace("_", "-"): value for name, value in headers.items()}
        asked = {name: value for name, value in (UPGRADE | changed).items() if value is not None}
        answer = self.ask(method, PATH, headers=asked)
        self.assertFalse(self.site.router.subscriptions)
        return answer

    def test_accepted(self) -> None:
        """The answer is the one of RFC 6455; no extension and no subprotocol is agreed to."""
        client = self.connect(
            headers={"Sec-WebSocket-Extensions": "permessage-deflate", "Sec-WebSocket-Protocol": "chat"}
        )
        status, *lines = client.head.decode().split("\r\n")
        self.assertEqual(status, "HTTP/1.1 101 Switching Protocols")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        self.assertEqual(headers, {"upgrade": "websocket", "connection": "Upgrade", "sec-websocket-accept": ACCEPT})

    def test_spelling(self) -> None:
        """Header values may be spelled in other ways, the path with a slash too many."""
        for headers in (
            {"Upgrade": "WebSocket", "Connection": "UPGRADE"},
            {"Upgrade": "h2c, websocket", "Connection": "close , upgrade"},
        ):
            self.connect(headers=headers)
        connection = Connection(self.ask.door)
        connection.send(spell("GET", "//takproto/1?x=y", headers=UPGRADE))
        self.assertTrue(connection.transport.value().startswith(b"HTTP/1.1 101 "))

    def test_no_upgrade(self) -> None:
        """Whoever asks for no WebSocket, or for another version, is told what to ask for."""
        for answer in (
            self.refused(Upgrade=None),
            self.refused(Upgrade="h2c"),
            self.refused(Connection=None),
            self.refused(Connection="keep-alive"),
            self.refused(Sec_WebSocket_Version=None),
            self.refused(Sec_WebSocket_Version="8"),
            self.refused(Upgrade="\xff"),
        ):
            self.assertEqual((answer.status, answer.json["status"]), (426, "UPGRADE_REQUIRED"))
            self.assertEqual((answer.headers["upgrade"], answer.headers["sec-websocket-version"]), ("websocket", "13"))
            self.assertIn("this is a WebSocket", answer.json["message"])

    def test_bad_key(self) -> None:
        """A key that is none is refused."""
        for key in (None, "", "x", b64encode(b"15 bytes, alas.").decode(), b64encode(b"s" * 17).decode(), "\xff" * 24):
            answer = self.refused(Sec_WebSocket_Key=key)
            self.assertEqual((answer.status, "Sec-WebSocket-Key" in answer.json["message"]), (400, True), key)
        two = spell("GET", PATH, headers=UPGRADE | {"sec-websocket-KEY": KEY})
        connection = Connection(self.ask.door)
        connection.send(two)
        self.assertEqual(connection.answer().status, 400)

    def test_other_methods(self) -> None:
        """Only GET begins a WebSocket, only HTTP/1.1, and without a body."""
        self.assertEqual(self.refused("HEAD").status, 400)
        self.assertEqual(self.refused("POST").status, 405)
        connection = Connection(self.ask.door)
        connection.send(spell("GET", PATH, headers=UPGRADE).replace(b"HTTP/1.1", b"HTTP/1.0"))
        self.assertEqual(connection.answer().status, 400)
        connection = Connection(self.ask.door)
        connection.send(spell("GET", PATH, b"body", headers=UPGRADE))
        self.assertEqual(connection.answer().status, 413)

    def test_origin(self) -> None:
        """A page of another host may not use the certificate of whoever looks at it; ours, and programs, may."""
        self.connect(headers={"Origin": "http://tak.example:8080"})
        self.info.public_url = "https://tak.example.org"
        self.connect(headers={"Origin": "https://tak.example.org"})
        self.assertEqual(len(self.site.router.subscriptions), 2)
        for origin in ("https://evil.example", "null", "\xff"):
            connection = Connection(self.ask.door)
            connection.send(spell("GET", PATH, headers=UPGRADE | {"Origin": origin}))
            answer = connection.answer()
            self.assertEqual((answer.status, "Origin" in answer.json["message"]), (403, True))
        self.assertEqual(len(self.site.router.subscriptions), 2)

    def test_nobody(self) -> None:
        """Who has no identity where one is wanted is refused as for any other request."""
        self.ask.door.anonymous = False
        connection = Connection(self.ask.door)
        connection.send(spell("GET", PATH, headers=UPGRADE))
        self.assertEqual(connection.answer().status, 401)

    def test_in_one_piece(self) -> None:
        """What is sent together with the request is not lost."""
        other = self.site.join("OTHER")
        connection = Connection(self.ask.door)
        frames = WebSocketClient(Connection(self.ask.door)).frames
        connection.send(spell("GET", PATH, headers=UPGRADE) + frames.send(BytesMessage(data=tak(marker("EARLY")))))
        self.site.turn()
        self.assertEqual(other.uids(), ["EARLY"])

    def test_after_another_request(self) -> None:
        """A connection that has asked for something else before may become a WebSocket."""
        connection = Connection(self.ask.door)
        connection.send(spell("GET", "/nothing"))
        self.assertEqual(connection.answer().status, 404)
        client = WebSocketClient(connection)
        self.assertTrue(client.head.startswith(b"HTTP/1.1 101 "))


class RoutingTests(WebSocketTestCase):
    def test_both_hear_each_other(self) -> None:
        """A client here and one on a stream see each other, what was on the map before, and each other's pings not."""
        stream = self.site.join("STREAM")
        stream.say(marker("BEFORE"))
        web = self.connect()
        self.assertEqual(sorted(web.uids()), ["BEFORE", "STREAM"])
        self.say(web, sa("WEB", "WEB"), ping("WEB"))
        self.assertEqual(web.types(), ["t-x-c-t-r"])
        self.assertEqual(stream.uids(), ["WEB"])
        stream.say(marker("M-1"), marker("M-2"))
        self.assertEqual(web.uids(), ["M-1", "M-2"])
        self.say(web, chat("WEB", "for you", room="STREAM", uids=("STREAM",), marti=to("STREAM")))
        (message,) = stream.heard()
        self.assertEqual(message.type, "b-t-f")
        stream.say(chat("STREAM", "back", room="WEB", uids=("WEB",), marti=to("WEB")))
        self.assertEqual(web.types(), ["b-t-f"])
        name, document = self.recorder.recorded[0]
        self.assertEqual((name, b'uid="WEB"' in document), ("WEB", True))

    def test_two_here(self) -> None:
        """Two WebSockets hear each other, and neither hears itself."""
        a, b = self.join("A"), self.join("B")
        a.messages()
        self.say(a, marker("M-1"))
        self.assertEqual((a.uids(), b.uids()), ([], ["M-1"]))

    def test_groups(self) -> None:
        """Who speaks and hears in which group is decided by the certificate, here as anywhere."""
        red, blue = (
            self.connect(principal("red", ["red"], ["red"])),
            self.connect(principal("blue", ["blue"], ["blue"])),
        )
        both = self.site.connect(principal("both", ["red"], ["red", "blue"]))
        anonymous = self.site.connect(principal("other", [ANON_GROUP], [ANON_GROUP]))
        self.say(red, marker("RED"))
        self.say(blue, marker("BLUE"))
        self.assertEqual((red.uids(), blue.uids(), anonymous.uids()), ([], [], []))
        self.assertEqual(both.uids(), ["RED", "BLUE"])
        both.say(marker("M-1"))
        self.site.turn()
        self.assertEqual((red.uids(), blue.uids()), (["M-1"], []))

    def test_groups_switched_off(self) -> None:
        """Groups that are switched off are off here, and on again when they are switched on."""
        who, sender = principal("both", ["red"], ["red", "blue"]), self.site.connect(principal("blue", ["blue"], []))
        now = self.site.clock.seconds()
        switch(self.site.router, who, "", frozenset(["red"]), frozenset(["red"]), now)
        client = self.connect(who)
        sender.say(marker("M-1"))
        self.assertEqual(client.uids(), [])
        switch(self.site.router, who, "", frozenset(["red"]), frozenset(["red", "blue"]), now + 1)
        client.messages()
        sender.say(marker("M-2"))
        self.assertEqual(client.uids(), ["M-2"])

    def test_large(self) -> None:
        """Events that are too large for ATAK come whole."""
        web, stream = self.connect(), self.site.join("STREAM")
        web.heard()
        stream.say(xml("LARGE", detail=f"<remarks>{'x' * 6000}</remarks>"))
        (large,) = web.heard()
        self.assertGreater(len(large.xml), LIMITS.max_event_to_client)

    def test_very_large(self) -> None:
        """What is too large for most clients of WebSockets is offered as a file, at the address that they used."""
        self.site.router.offers.base_url = lambda to: f"http://{to.reached.host}:8080" if to.reached else None
        web = self.connect()
        big = decode(xml("VERY-LARGE", detail=f"<remarks>{'x' * MAX_EVENT_BYTES}</remarks>"))
        self.site.router.route(big, self.site.router.subscribe(ANONYMOUS, MemorySink(), "peer"))
        self.site.turn()
        (offer,) = web.heard()
        self.assertEqual(offer.type, "b-f-t-r")
        self.assertIn(b"http://192.0.2.10:8080/Marti/api/cot/xml/VERY-LARGE", offer.xml)

    def test_log(self) -> None:
        """The log says who joined and left, from where, and how."""
        client = self.join("A")
        client.send(CloseConnection(code=1001))
        self.assertEqual(self.goodbye(client)[0], 1001)
        self.assertTrue(client.transport.disconnecting)
        client.connection.lose()
        other = self.join("B")
        other.connection.channel.connectionLost(Failure(ConnectionLost()))
        self.site.pass_time(6)
        self.assertEqual(len(self.lines("joined")), 2)
        first, second = self.lines("left")
        self.assertRegex(first, r"^A left: it said goodbye \(198\.51\.100\.7:\d+ at WebSocket port 8080\)$")
        self.assertRegex(second, r"^B left: the connection broke \(")
        self.assertEqual(self.pending(), 0)


class RulesTests(WebSocketTestCase):
    def test_text(self) -> None:
        """Text is refused with 1003; the connection ends when the client has answered."""
        client = self.join("A")
        client.send(TextMessage(data="<event/>"))
        code, reason = self.goodbye(client)
        self.assertEqual(code, 1003)
        self.assertIn("Text messages not supported", reason or "")
        self.assertFalse(client.transport.disconnecting)
        assert client.closed is not None
        client.send(client.closed.response())
        self.assertTrue(client.transport.disconnecting)
        client.connection.lose()
        (line,) = self.lines("left")
        self.assertIn("Text messages not supported", line)
        self.assertEqual(self.pending(), 0)

    def test_too_large(self) -> None:
        """A message of the allowed size is passed on, a larger one ends the WebSocket with 1009."""
        other = self.site.join("OTHER")
        client = self.join("A")
        other.heard()
        limit = LIMITS.max_event_bytes + 11
        data = tak(marker("M-1"))
        client.send(BytesMessage(data=data + bytes(limit - len(data))))
        self.site.turn()
        self.assertEqual(other.uids(), ["M-1"])
        client.send(BytesMessage(data=b"\0" * limit, message_finished=False), BytesMessage(data=b"\0"))
        code, reason = self.goodbye(client)
        self.assertEqual((code, "max_event_bytes" in (reason or "")), (1009, True))

    def test_not_masked(self) -> None:
        """A client that does not mask is refused with 1002; if it does not answer it is cut off."""
        client = self.join("A")
        client.connection.send(b"\x82\x01x")
        self.assertEqual(self.goodbye(client)[0], 1002)
        self.site.clock.advance(CLOSE_SECONDS - 0.1)
        self.assertFalse(client.transport.disconnecting)
        self.site.clock.advance(0.2)
        self.assertTrue(client.transport.disconnecting)
        client.connection.lose()
        self.assertEqual(self.pending(), 0)

    def test_nothing_after_goodbye(self) -> None:
        """After a goodbye nothing is sent and nothing that comes is passed on."""
        other, client = self.site.join("OTHER"), self.join("A")
        client.send(TextMessage(data=""))
        self.goodbye(client)
        other.heard()
        other.say(marker("M-1"))
        client.connection.send(Frames(ConnectionType.CLIENT).send(BytesMessage(data=tak(marker("M-2")))))
        self.site.clock.advance(LOOK_SECONDS - 0.1)
        self.assertEqual((client.transport.value(), other.uids()), (b"", []))

    def test_unreadable(self) -> None:
        """An event that cannot be read is named in the log; the WebSocket stays."""
        client = self.join("A")
        client.send(BytesMessage(data=b"\xbf\x02\xff\xff"))
        self.say(client, marker("M-1"))
        self.assertEqual((len(self.lines("not passed on")), len(self.recorder.failures)), (1, 1))
        client.messages()
        self.assertIsNone(client.closed)

    def test_pings_answered(self) -> None:
        """A ping is answered with what it holds."""
        client = self.connect()
        client.send(Ping(payload=b"1"), Ping(payload=b"2"))
        client.messages()
        self.assertEqual(client.pongs, [b"1", b"2"])


class BudgetTests(WebSocketTestCase):
    def test_events(self) -> None:
        """Who says more than it may in a second is not read for a moment; nothing is lost."""
        other, client = self.site.join("OTHER"), self.join("A")
        other.heard()
        self.site.clock.advance(1)
        client.messages()
        client.say(*[marker(f"M-{number}") for number in range(20)])
        self.site.turn()
        self.assertEqual((len(other.uids()), client.transport.producerState), (20, "paused"))
        self.site.clock.advance(1.9)
        self.assertEqual(client.transport.producerState, "paused")
        self.site.clock.advance(0.2)
        self.assertEqual(client.transport.producerState, "producing")

    def test_frames(self) -> None:
        """Frames with nothing in them count, too."""
        client = self.join("A")
        self.site.clock.advance(1)
        client.send(*[BytesMessage(data=b"", message_finished=False) for _ in range(10)])
        self.assertEqual(client.transport.producerState, "producing")
        client.send(BytesMessage(data=b""))
        self.assertEqual(client.transport.producerState, "paused")
        client.connection.lose()
        self.assertEqual(self.pending(), 0)


class SlowReaderTests(WebSocketTestCase):
    def test_waits(self) -> None:
        """What a client does not take waits, and comes in order."""
        other, client = self.site.join("OTHER"), self.join("A")
        client.full()
        other.say(marker("M-1"))
        other.say(marker("M-2"))
        self.assertEqual(client.uids(), [])
        client.reads_on()
        self.assertEqual(client.uids(), ["M-1", "M-2"])

    def test_thinned(self) -> None:
        """Of what is older than a second the newest of each uid comes, and every chat."""
        other, client = self.site.join("OTHER"), self.join("A")
        client.full()
        for number in range(5):
            self.site.clock.advance(1)
            other.say(marker("M-1", callsign=str(number)), chat("OTHER", number=number))
        client.reads_on()
        heard = client.heard()
        self.assertEqual([each.type for each in heard].count("b-t-f"), 5)
        (newest,) = [each for each in heard if each.uid == "M-1"]
        self.assertIn(b'callsign="4"', newest.xml)

    def test_too_slow(self) -> None:
        """A client for which too much waits is cut off."""
        other, client = self.site.join("OTHER"), self.join("A")
        client.full()
        for number in range(60):
            other.say(chat("OTHER", "x" * 100, number=number))
        self.assertTrue(client.transport.disconnecting)
        client.connection.lose()
        (line,) = self.lines("left")
        self.assertIn("it reads too slowly", line)

    def test_stalled(self) -> None:
        """A client that takes nothing for long is cut off; it is not pinged meanwhile."""
        client = self.join("A")
        client.full()
        self.site.pass_time(LIMITS.stall_seconds - 1)
        self.assertFalse(client.transport.disconnecting)
        self.site.pass_time(LOOK_SECONDS + 1)
        self.assertTrue(client.transport.disconnecting)
        client.messages()
        self.assertEqual(client.pings, 0)
        client.connection.lose()
        self.assertIn("took nothing", self.lines("left")[0])
        self.assertEqual(self.pending(), 0)

    def test_pongs_do_not_pile_up(self) -> None:
        """A client that pings and does not read gets one pong a second."""
        client = self.join("A")
        client.full()
        client.send(Ping(payload=b"1"), Ping(payload=b"2"))
        client.messages()
        self.assertEqual(client.pongs, [b"1"])


class SilenceTests(WebSocketTestCase):
    def test_pinged(self) -> None:
        """A client is pinged every 30 seconds and stays as long as it answers, whether or not it says anything."""
        client = self.connect()
        for number in range(1, 21):
            self.site.clock.pump([LOOK_SECONDS] * (PING_SECONDS // LOOK_SECONDS - 1))
            client.messages()
            self.assertEqual(client.pings, number - 1)
            self.site.clock.advance(LOOK_SECONDS)
            client.messages()
            self.assertEqual(client.pings, number)
            client.send(Pong())
        self.assertGreater(20 * PING_SECONDS, LIMITS.idle_seconds)
        self.assertFalse(client.transport.disconnecting)

    def test_silent(self) -> None:
        """A client from which nothing is heard, not even a pong, is cut off after `idle_seconds`."""
        client = self.connect()
        self.site.pass_time(LIMITS.idle_seconds)
        self.assertFalse(client.transport.disconnecting)
        self.site.pass_time(LOOK_SECONDS)
        self.assertTrue(client.transport.disconnecting)
        client.connection.lose()
        self.assertEqual((len(self.lines("idle_seconds")), self.pending()), (1, 0))


class EndTests(WebSocketTestCase):
    def test_server_stops(self) -> None:
        """A server that stops says goodbye with 1001, sends what is directed before, and waits for the answer."""
        other, client = self.site.join("OTHER"), self.join("A")
        client.full()
        other.say(marker("M-1"), chat("OTHER", "for you", room="A", uids=("A",), marti=to("A")))
        stopped = self.ask.door.connections.stopService()
        assert stopped is not None
        self.assertNoResult(stopped)
        client.messages()
        self.assertIsNone(client.closed)
        client.reads_on()
        self.assertEqual(client.types(), ["b-t-f"])
        self.assertEqual(self.goodbye(client), (1001, "the server stops"))
        assert client.closed is not None
        client.send(client.closed.response())
        self.assertTrue(client.transport.disconnecting)
        self.assertNoResult(stopped)
        client.connection.lose()
        self.successResultOf(stopped)
        self.assertEqual(self.pending(), 0)

    def test_dead_client_at_the_stop(self) -> None:
        """A client that does not answer the goodbye is not waited for."""
        client = self.join("A")
        self.ask.door.connections.stopService()
        self.assertEqual(self.goodbye(client)[0], 1001)
        self.assertFalse(client.transport.disconnecting)
        self.site.clock.advance(CLOSE_SECONDS)
        self.assertTrue(client.transport.disconnecting)
        client.connection.lose()
        self.assertEqual(self.pending(), 0)

    def test_stop_after_a_goodbye(self) -> None:
        """A server that stops says no second goodbye to whom it has said one, and sends nothing after it."""
        other, client = self.site.join("OTHER"), self.join("A")
        client.send(TextMessage(data=""))
        self.assertEqual(self.goodbye(client)[0], 1003)
        other.say(marker("M-1"))
        self.ask.door.connections.stopService()
        self.assertEqual(client.transport.value(), b"")

    def test_lost_at_once(self) -> None:
        """A connection whose end is told of while it is looked at is looked at no more."""
        client = self.connect()
        client.transport.abortConnection = client.connection.lose  # type: ignore[method-assign]
        self.site.pass_time(LIMITS.idle_seconds + LOOK_SECONDS)
        self.assertEqual((len(self.site.router.subscriptions), self.pending()), (0, 0))

    def test_router_closes(self) -> None:
        """A subscription that is closed by the router ends with 1000 and the reason."""
        client = self.join("A")
        (subscription,) = self.site.router.subscriptions
        subscription.close_peer("you have a new connection")
        self.assertEqual(self.goodbye(client), (1000, "you have a new connection"))

    def test_aborted(self) -> None:
        """Whoever cuts the connection off, for a revoked certificate for example, leaves nothing behind."""
        client = self.join("A")
        client.connection.channel.abort("its certificate is revoked")
        self.assertTrue(client.transport.disconnecting)
        client.connection.lose()
        self.assertEqual((len(self.site.router.subscriptions), len(self.ask.door.connections)), (0, 0))
        self.assertEqual(self.pending(), 0)

    def test_counted(self) -> None:
        """A WebSocket counts as an HTTP connection as long as it lasts."""
        client = self.connect()
        self.assertEqual(len(self.ask.door.connections), 1)
        client.connection.lose()
        self.assertEqual(len(self.ask.door.connections), 0)
        self.assertEqual(self.flushLoggedErrors(), [])
