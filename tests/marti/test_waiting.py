"""Requests of callers whose password is still being checked."""

from __future__ import annotations

from twisted.internet.defer import Deferred

from taky_twisted.config.limits import Limits
from taky_twisted.identity.principal import Principal
from taky_twisted.marti.channel import LINGER_SECONDS
from taky_twisted.marti.errors import MartiError, TooMany, WrongCredentials
from taky_twisted.marti.request import MartiRequest
from tests.fakes import principal
from tests.marti.asking import Door, spell
from tests.marti.test_request import CONTINUE, RequestTestCase

FOX = Principal("fox", by_password=True)


class WaitingDoor(Door):
    """A door that finds out who asks when the test says so."""

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]  # those of Door
        self.asked: list[Deferred[Principal]] = []
        self.tls = True

    def caller(self, request: MartiRequest) -> Deferred[Principal]:  # type: ignore[override]  # see MartiSite
        self.asked.append(Deferred())
        return self.asked[-1]


class WaitingTests(RequestTestCase):
    limits = Limits(upload_bytes=100_000, uploads_per_principal=2, http_stall_seconds=4)

    def setUp(self) -> None:
        super().setUp()
        self.door = WaitingDoor(self.ask.marti, self.clock, False, self.ask.connections)
        self.ask.door = self.door

    def decide(self, answer: Principal | MartiError | RuntimeError = FOX) -> None:
        """Find out who asked first."""
        asked = self.door.asked.pop(0)
        if isinstance(answer, Exception):
            asked.errback(answer)
        else:
            asked.callback(answer)

    def test_no_body(self) -> None:
        """A request without a body is answered as soon as it is known who asks."""
        connection = self.connect()
        connection.send(spell("GET", "/Marti/echo"))
        self.assertEqual(connection.transport.value(), b"")
        self.decide()
        answer = connection.answer()
        self.assertEqual((answer.status, answer.json["who"]), (200, "fox"))
        self.assertEqual(connection.channel.account, "fox")

    def test_no_account(self) -> None:
        """Only a password makes a connection an account's."""
        connection = self.connect()
        connection.send(spell("GET", "/Marti/echo"))
        self.decide(principal("fox"))
        self.assertEqual((connection.answer().status, connection.channel.account), (200, None))

    def test_body(self) -> None:
        """A body that comes at once is taken, wherever it is cut; none of it is lost."""
        request = spell("POST", "/Marti/small", b"0123456789", {"Content-Type": "text/x"})
        for cut in range(len(request) - 12, len(request) + 1):
            connection = self.connect()
            connection.send(request[:cut])
            if not self.door.asked:
                continue  # its headers are not whole yet
            if cut % 2:
                connection.send(request[cut:])
            self.decide()
            if not cut % 2 and cut < len(request):
                connection.send(request[cut:])
            self.assertEqual(connection.answer().body, b"0123456789|text/x", cut)

    def test_nothing_is_read(self) -> None:
        """The client is stopped meanwhile, and goes on afterwards."""
        connection = self.connect()
        connection.send(self.head("PUT", "/Marti/upload", "Content-Length: 6"))
        self.assertEqual(connection.transport.producerState, "paused")
        self.assertEqual(self.area.requests, [])
        self.clock.advance(60)  # that is not the client's fault
        self.decide()
        self.assertEqual(connection.transport.producerState, "producing")
        connection.send(b"abcdef")
        self.assertEqual(connection.answer().body, b"6")

    def test_deadline_afterwards(self) -> None:
        """Afterwards the body has to come in time, as any other."""
        connection = self.connect()
        connection.send(self.head("PUT", "/Marti/upload", "Content-Length: 6"))
        self.decide()
        self.clock.advance(4)
        self.assertEqual(self.wrong(connection)[0], 408)

    def test_continue(self) -> None:
        """Who asks whether to send the body is told so when it is known that it is wanted, not before."""
        connection = self.connect()
        head = self.head("POST", "/Marti/small", "Content-Length: 10", "Expect: 100-Continue")
        connection.send(head)
        self.assertEqual(connection.transport.value(), b"")
        self.decide()
        self.assertEqual(connection.transport.value(), CONTINUE)
        connection.transport.clear()
        connection.send(b"0123456789")
        self.assertEqual(connection.answer().body, b"0123456789|")
        connection.send(head)
        self.decide(WrongCredentials("no"))
        self.assertEqual(self.wrong(connection), (401, "no"))

    def test_refused(self) -> None:
        """Who is refused is told so at once; what comes of the body is thrown away."""
        connection = self.connect()
        connection.send(self.head("PUT", "/Marti/upload", "Content-Length: 60000"))
        connection.send(b"x" * 1000)
        self.decide(WrongCredentials("no"))
        answer = connection.answer()
        self.assertEqual((answer.status, answer.headers["www-authenticate"]), (401, 'Basic realm="Marti"'))
        self.assertEqual(answer.headers["connection"], "close")
        self.assertEqual(self.area.requests, [])
        connection.send(b"x" * 1000)
        self.clock.advance(LINGER_SECONDS)
        self.assertEqual(connection.closed, "aborted")

    def test_refused_whole(self) -> None:
        """The same when all of it has come; without a body the connection stays for another try."""
        connection = self.connect()
        connection.send(spell("POST", "/Marti/small", b"x"))
        self.decide(TooMany("later"))
        self.assertEqual(self.wrong(connection), (429, "later"))
        connection = self.connect()
        for error in (WrongCredentials("no"), TooMany("later")):
            connection.send(spell("GET", "/Marti/echo"))
            self.decide(error)
            self.assertEqual(self.wrong(connection)[1], str(error))
        connection.send(spell("GET", "/Marti/echo"))
        self.decide()
        self.assertEqual(connection.answer().status, 200)

    def test_not_allowed(self) -> None:
        """What is wrong with a request is found out when it is known who asks, as always."""
        for method, path, status in (
            ("GET", "/Marti/admin", 403),
            ("GET", "/Marti/none", 404),
            ("POST", "/Marti/small", 413),
        ):
            connection = self.connect()
            connection.send(spell(method, path, b"x" * 11))
            self.decide()
            self.assertEqual(connection.answer().status, status)

    def test_bug(self) -> None:
        """A bug of ours lets nobody in; it is in the log, and the client hears that it was ours."""
        connection = self.connect()
        connection.send(spell("GET", "/Marti/echo"))
        self.decide(RuntimeError("a bug"))
        status, message = self.wrong(connection)
        self.assertEqual(status, 500)
        self.assertNotIn("a bug", message)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_gone(self) -> None:
        """A client that goes meanwhile leaves nothing behind, whoever it was."""
        for answer in (FOX, WrongCredentials("no"), RuntimeError("a bug")):
            for request in (spell("GET", "/Marti/echo"), self.head("PUT", "/Marti/upload", "Content-Length: 6")):
                connection = self.connect()
                connection.send(request)
                connection.lose()
                self.decide(answer)
        self.assertEqual(self.area.requests, [])
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 2)

    def test_pipelined(self) -> None:
        """Requests that come in one piece are answered in order, each for its own caller."""
        connection = self.connect()
        connection.send(spell("GET", "/Marti/echo") + spell("GET", "/Marti/cot/b"))
        self.assertEqual(len(self.door.asked), 1)
        self.decide()
        self.assertEqual(len(self.door.asked), 1)
        self.decide(WrongCredentials("no"))
        answers = connection.transport.value()
        self.assertEqual([answers.count(b" 200 OK"), answers.count(b" 401 Unauthorized")], [1, 1])
        self.assertLess(answers.index(b" 200 OK"), answers.index(b" 401 "))
