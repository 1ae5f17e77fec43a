"""Limits of the HTTP API that have no test at their edge beside their module."""

from __future__ import annotations

import json
from base64 import b64encode
from datetime import datetime, timezone
from importlib import import_module
from pathlib import Path
from urllib.parse import quote

from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.cot.xmlcodec import decode
from taky_twisted.enrollment.access_tokens import AccessTokens
from taky_twisted.history.documents import IN_MEMORY_BYTES
from taky_twisted.identity.accounts import Accounts
from taky_twisted.identity.principal import ANONYMOUS
from taky_twisted.identity.proofs import Auth
from taky_twisted.marti import cot
from taky_twisted.marti.channel import LINGER_SECONDS
from taky_twisted.marti.connections import FINISH_SECONDS
from taky_twisted.marti.errors import BadRequest
from taky_twisted.marti.file_words import checked_text, checked_words
from taky_twisted.marti.groups import GroupsArea
from taky_twisted.marti.oauth import OAuthArea
from taky_twisted.marti.site import Marti, ServerInfo
from taky_twisted.stores.memory import MemoryStore
from tests.fakes import MemorySink, Site, principal
from tests.limits.edges import Edges, value_of
from tests.marti.asking import Asking, Connection, Door, spell
from tests.marti.enroll_server import ADMIN, EnrollServer
from tests.marti.file_server import FileServer
from tests.marti.history_server import HistoryServer
from tests.marti.test_callers import CallersTestCase
from tests.marti.test_channel import ChannelTestCase
from tests.marti.test_kml import FORM
from tests.marti.test_video import FEED, SAID, VideoCase
from tests.marti.test_websocket import WebSocketTestCase
from tests.samples import sa, xml

HASH = "ab" * 32


def announced(connection: Connection, method: str, path: str, size: int) -> bool:
    """Announce a body of a size; tell whether it was asked for, and not refused as too large."""
    head = f"{method} {path} HTTP/1.1\r\nHost: tak.example\r\nContent-Length: {size}\r\nExpect: 100-continue\r\n\r\n"
    connection.send(head.encode())
    said = connection.transport.value()
    connection.transport.clear()
    connection.lose()
    assert said[:12] in (b"HTTP/1.1 100", b"HTTP/1.1 413"), said
    return bytes(said[9:12]) == b"100"


class BodyTests(Edges, SynchronousTestCase):
    def test_history(self) -> None:
        """Questions, injected events and tracks have bodies of so many bytes, as announced."""
        server = HistoryServer(self)
        for limit, path in (
            ("marti.routes.SMALL_BODY", "/Marti/api/cot"),
            ("marti.kml.TRACKS_BYTES", "/Marti/TracksKML"),
            ("marti.injectors.BODY_BYTES", "/Marti/api/injectors/cot/uid"),
        ):
            self.assert_edge(limit, lambda size, path=path: announced(server.connect(), "POST", path, size))  # type: ignore[misc]

    def test_files(self) -> None:
        """So has what is said of a file anew."""
        server = FileServer(self)
        path = f"/Marti/api/sync/metadata/{HASH}/keywords"
        self.assert_edge("marti.sync_metadata.BODY_BYTES", lambda size: announced(server.connect(), "PUT", path, size))

    def test_enrolling(self) -> None:
        """And a request for a token or a certificate."""
        server = EnrollServer(self)
        server.door.who = ADMIN
        self.assert_edge(
            "enrollment.signing_requests.MAX_BYTES",
            lambda size: announced(Connection(server.door), "POST", "/Marti/api/tls/signClient/v2", size),
        )
        accounts = Accounts(server.reactor, MemoryStore(server.reactor))
        tokens = AccessTokens(server.reactor, Path(self.mktemp()), accounts)
        self.addCleanup(accounts.stop)
        self.addCleanup(tokens.stop)
        marti = Marti.of([OAuthArea(accounts, tokens)], ServerInfo())
        door = Door(marti, server.reactor, False, server.connections, "ssl:8446", enrolls=True)
        door.tls = True
        self.assert_edge(
            "marti.oauth.FORM_BYTES", lambda size: announced(Connection(door), "POST", "/oauth/token", size)
        )

    def test_whole(self) -> None:
        """A body that came in spite of the limit is refused as well, whether or not its size was announced."""
        server = HistoryServer(self)
        for headers in ({}, {"Transfer-Encoding": "chunked"}):
            for more, status in ((-1, 200), (0, 200), (1, 413)):
                body = b"[]".ljust(int(value_of("marti.routes.SMALL_BODY")) + more)
                connection = server.connect()
                if headers:
                    wire = spell("POST", "/Marti/api/cot", b"", headers).replace(b"Content-Length: 0\r\n", b"")
                    connection.send(wire + b"%x\r\n" % len(body) + body + b"\r\n0\r\n\r\n")
                else:
                    connection.send(spell("POST", "/Marti/api/cot", body))
                self.assertEqual(server.answer(connection).status, status, (headers, more))
                connection.lose()


class QuestionTests(Edges, SynchronousTestCase):
    def setUp(self) -> None:
        self.ask = HistoryServer(self)

    def good(self, method: str, target: str, body: bytes = b"", headers: dict[str, str] | None = None) -> bool:
        """Whether a question is answered; or refused as senseless."""
        answer = self.ask(method, target, body, headers)
        self.assertIn(answer.status, (200, 400, 404), answer.body)
        return answer.status != 400

    def test_uids(self) -> None:
        """A question may be about so many uids."""
        self.assert_edge(
            "marti.cot.MAX_UIDS", lambda count: self.good("POST", "/Marti/api/cot", json.dumps(["x"] * count).encode())
        )

    def test_window(self) -> None:
        """A question about everybody's newest position is about a day at most."""

        def fits(seconds: int) -> bool:
            start, end = (
                quote(datetime.fromtimestamp(at, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")) for at in (0, seconds)
            )
            return self.good("GET", f"/Marti/api/cot/sa?start={start}&end={end}")

        self.assert_edge("marti.cot.MAX_WINDOW_SECONDS", fits)
        self.assertEqual(cot.MAX_WINDOW_SECONDS, 24 * 3600, "the refusal says 24 hours")

    def test_time(self) -> None:
        """A question about tracks and places is about a year at most, however it is asked."""
        for spelled in (
            "/Marti/LatestKML?cotType=a-f&secago={}",
            "/Marti/KmlMasterSA?secago={}",
            "/Marti/ExportMissionKML?startTime=2026-03-01T10:00:00Z&endTime=2026-03-01T11:00:00Z&multiTrackThreshold={}",
        ):
            self.assert_edge(
                "marti.kml.MAX_SECONDS",
                lambda seconds, spelled=spelled: self.good("GET", spelled.format(seconds)),  # type: ignore[misc]
            )

    def test_places(self) -> None:
        """A document tells of so many places, and says when there are more."""
        self.patch(import_module("taky_twisted.marti.kml"), "MAX_PLACES", 5)

        def all_of(count: int) -> bool:
            names = [f"{count}-{number}" for number in range(count)]
            for name in names:
                self.ask.say(sa(name, name), step=10)
            end = self.ask.clock.seconds()
            start, end_ = (
                datetime.fromtimestamp(at, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
                for at in (end - 10 * count, end)
            )
            body = f"startTime={start}&endTime={end_}".encode()
            answer = self.ask("POST", "/Marti/ExportMissionKML", body, FORM)
            self.ask.clock.rightNow += 100
            there = sum(f">{name}<".encode() in answer.body for name in names)
            self.assertEqual(there, min(count, 5))
            return there == count

        self.assert_edge("marti.kml.MAX_PLACES", all_of)

    def test_sending(self) -> None:
        """Answers that are being sent have such a size together, to the byte."""
        self.ask.say(*(sa(f"A{number}", "A") for number in range(200)), step=10)
        target = "/Marti/api/cot"
        body = json.dumps([f"A{number}" for number in range(200)]).encode()
        size = len(self.ask("POST", target, body).body)
        self.assertGreater(size, IN_MEMORY_BYTES)
        for room, status in ((2 * size + 1, 200), (2 * size, 200), (2 * size - 1, 503)):
            self.patch(import_module("taky_twisted.marti.answers"), "MAX_SENDING_BYTES", room)
            waiting = self.ask.connect()
            waiting.channel.pauseProducing()
            waiting.send(spell("POST", target, body))
            while not waiting.transport.value():
                self.ask.clock.run_one()
            self.assertEqual(self.ask("POST", target, body).status, status, room - 2 * size)
            waiting.lose()
            self.ask.clock.wait(self.ask.answers._thread.run(lambda: None))


class FileTests(Edges, SynchronousTestCase):
    def setUp(self) -> None:
        self.ask = FileServer(self)

    def said(self, **words: str) -> bool:
        """Whether an upload of which that is said is taken."""
        query = "&".join(f"{name}={quote(text)}" for name, text in words.items())
        answer = self.ask("POST", f"/Marti/sync/upload?{query}", b"data")
        self.assertIn(answer.status, (200, 400), answer.body)
        return answer.status == 200

    def test_words(self) -> None:
        """Texts and lists have their sizes, each and all together."""

        def checks(check: object, *arguments: object) -> bool:
            try:
                check(*arguments)  # type: ignore[operator]
            except BadRequest:
                return False
            return True

        self.assert_edge("marti.file_words.MAX_TEXT", lambda size: checks(checked_text, "tool", "x" * size))
        self.assert_edge("marti.file_words.MAX_TEXT", lambda size: checks(checked_words, "keywords", ["x" * size]))
        self.assert_edge("marti.file_words.MAX_TEXT", lambda size: self.said(tool="x" * size))
        self.assert_edge(
            "marti.file_words.MAX_WORDS", lambda count: checks(checked_words, "keywords", list(map(str, range(count))))
        )
        self.assert_edge("marti.file_words.MAX_REMARKS", lambda size: self.said(remarks="x" * size))
        self.assert_edge("marti.file_words.FAR", lambda meters: self.said(altitude=str(meters)))
        self.assert_edge("marti.file_words.FAR", lambda meters: self.said(altitude=str(-meters)))

    def test_all_words(self) -> None:
        """What is said of a file in all has a size, the name included."""

        def fits(size: int) -> bool:
            rest = size - 2000 - 255 - 255
            keywords = ",".join(["x" * 200] * 0 + [f"{number:0200}" for number in range(rest // 200)])
            return self.said(
                name="n" * 255, tool="t" * 255, remarks="r" * 2000, keywords=keywords, creatorUid="c" * (rest % 200)
            )

        self.assert_edge("marti.file_words.MAX_ALL", fits)

    def test_deleted(self) -> None:
        """So many files are deleted by one request."""

        def fits(count: int) -> bool:
            body = ("PrimaryKey=" + ",".join(map(str, range(1, count + 1)))).encode()
            return self.ask("POST", "/Marti/sync/delete", body, FORM).status != 400

        self.assert_edge("marti.sync.MAX_DELETED", fits)


class AreaTests(Edges, SynchronousTestCase):
    def test_certificates(self) -> None:
        """So many certificates are revoked by one request."""
        server = EnrollServer(self)

        def fits(count: int) -> bool:
            ids = ",".join(map(str, range(count)))
            return server.ask("DELETE", f"/Marti/api/certadmin/cert/revoke/{ids}", who=ADMIN).status != 400

        self.assert_edge("marti.certadmin.MAX_IDS", fits, small=20)

    def test_groups(self) -> None:
        """A request names so many groups, and a device with so many characters."""
        site = Site()
        ask = Asking(GroupsArea(site.clock, site.router), clock=site.clock)
        ask.marti.granted = lambda who, host: site.router.groups.granted(who, host=host)
        alice = principal("alice", ["Red"], ["Red"])
        bits = ask("GET", "/Marti/api/groups/all", who=alice).json["data"][0]["bitpos"]

        def put(body: list[int], query: str = "") -> bool:
            answer = ask("PUT", f"/Marti/api/groups/activebits{query}", json.dumps(body).encode(), who=alice)
            self.assertIn(answer.status, (200, 400))
            return answer.status == 200

        self.assert_edge("marti.groups.MAX_ENTRIES", lambda count: put([bits] * count))
        self.assert_edge("marti.groups.MAX_UID_CHARS", lambda size: put([bits], f"?clientUid={'x' * size}"))


class VideoTests(Edges, VideoCase):
    def test_connections(self) -> None:
        """So many connections are made by one request."""

        def fits(count: int) -> bool:
            self.begin()
            said = [
                SAID | {"uuid": f"c-{number}", "feeds": [FEED | {"uuid": f"f-{number}"}]} for number in range(count)
            ]
            answer = self.post(*said)
            self.assertIn(answer.status, (200, 400))
            return answer.status == 200

        self.assert_edge("marti.video.MAX_CONNECTIONS", fits, small=20)


class CredentialsTests(Edges, CallersTestCase):
    auth: Auth = "password"

    def test_length(self) -> None:
        """A name and a password may be so long as they are sent; a longer one is not even looked at."""

        def looked_at(size: int) -> bool:
            self.accounts.checks.clear()
            spelled = b64encode(b"Fox:".ljust(size * 3 // 4, b"x"))
            self.assertEqual(len(spelled), size)
            self.ask(headers={"Authorization": f"Basic {spelled.decode()}"})
            return bool(self.accounts.checks)

        most = int(value_of("marti.callers.MAX_CREDENTIALS_CHARS"))
        self.assertEqual([looked_at(most + more) for more in (-4, 0, 4)], [True, True, False])


class TimeTests(Edges, ChannelTestCase):
    def test_lingering(self) -> None:
        """Who was refused and goes on sending is cut off after some seconds, and not before."""
        connection = self.connect()
        connection.send(b"POST /Marti/none HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n")
        self.clock.advance(LINGER_SECONDS - 0.1)
        connection.send(b"x")
        self.assertIsNone(connection.closed)
        self.clock.advance(0.1)
        self.assertEqual(connection.closed, "aborted")

    def test_finishing(self) -> None:
        """A stop waits for what is being asked for so many seconds, and not longer."""
        connection = self.connect()
        connection.send(spell("GET", "/Marti/waits"))
        stopped = self.ask.connections.stopService()
        assert stopped is not None
        self.clock.advance(FINISH_SECONDS - 0.1)
        self.assertIsNone(connection.closed)
        self.clock.advance(0.1)
        self.assertEqual(connection.closed, "aborted")
        connection.lose()
        self.successResultOf(stopped)


class WebSocketTests(Edges, WebSocketTestCase):
    def test_event(self) -> None:
        """An event up to a size is sent, to the byte; a larger one is offered as a file."""
        self.patch(import_module("taky_twisted.marti.websocket"), "MAX_EVENT_BYTES", 2000)
        self.site.router.offers.base_url = lambda to: "http://192.0.2.10:8080"
        web = self.connect()
        speaker = self.site.router.subscribe(ANONYMOUS, MemorySink(), "peer")

        def sent(size: int) -> bool:
            uid = f"LARGE-{size}"
            spelled = xml(uid, detail="<remarks></remarks>")
            extra = size - len(decode(spelled).xml)
            self.site.router.route(decode(spelled.replace(b"<remarks>", b"<remarks>" + b"x" * extra)), speaker)
            self.site.turn()
            (event,) = web.heard()
            return event.uid == uid

        self.assert_edge("marti.websocket.MAX_EVENT_BYTES", sent)
