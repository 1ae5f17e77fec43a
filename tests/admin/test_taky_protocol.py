from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.admin.taky_protocol import TakyProtocol
from taky_twisted.enrollment.errors import EnrollmentError
from tests.admin.running import Server, Wire


class TakyProtocolTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.server = Server()
        self.wire = Wire(TakyProtocol(self.server.admin))

    def ask(self, request: object) -> Any:
        (answer,) = self.wire.ask(request, end=b"\0")
        return answer

    def test_ping(self) -> None:
        """A program of taky's finds that taky runs."""
        self.assertEqual(self.ask({"cmd": "ping"}), {"pong": "taky"})

    def test_status(self) -> None:
        """It is told who is connected, with taky's members and no others."""
        self.server.site.factory._router = self.server.router
        self.server.site.connect()
        self.assertEqual(
            self.ask({"cmd": "status"}),
            {
                "uptime": 0.0,
                "num_clients": 1,
                "clients": [
                    {"last_rx": 0.0, "num_rx": 0, "connected": self.server.reactor.seconds(), "anonymous": True}
                ],
            },
        )

    def test_kickban(self) -> None:
        """It is told which serials are revoked."""
        self.server.revoked = [7, 1 << 150]
        self.assertEqual(self.ask({"cmd": "kickban", "user": "ALPHA-1"}), {"revoked_sns": [7, 1 << 150]})
        self.assertIn("ban ALPHA-1", self.server.steps)

    def test_kickban_fails(self) -> None:
        """A ban that cannot be written down is an error, although the connections are closed."""
        self.server.problem = EnrollmentError("the disk is full")
        self.assertEqual(
            self.ask({"cmd": "kickban", "user": "ALPHA-1"}),
            {"error": "the disk is full; 2 connections were closed, but nothing keeps them away"},
        )
        self.assertEqual(self.server.steps, ["kick ALPHA-1", "ban ALPHA-1", "reload", "kick ALPHA-1"])

    def test_errors(self) -> None:
        """What is no request of taky's is answered as taky does, or where that breaks down, as it should."""
        for request, words in (
            ({"cmd": "dance"}, "Invalid cmd: dance"),
            ({}, "Invalid cmd: None"),
            ([], "Invalid cmd: None"),
            ({"cmd": "kickban"}, "user is missing"),
            (b"dance", "Expecting value"),
            (b"\xff", "can't decode"),
            (b"[" * 10_000, "recursion"),
        ):
            self.assertIn(words, self.ask(request)["error"])

    def test_several(self) -> None:
        """Several requests in one piece are answered in order; a line feed is no end here."""
        answers = self.wire.ask({"cmd": "ping"}, b'{\n"cmd":\n"x"\n}\n', end=b"\0")
        self.assertEqual(answers, [{"pong": "taky"}, {"error": "Invalid cmd: x"}])

    def test_gone(self) -> None:
        """Who has hung up before the answer is there does not hear it."""
        self.server.reactor.pool.held = []
        self.ask_nothing({"cmd": "status"})
        self.wire.hang_up()
        for run in self.server.reactor.pool.held:
            run()
        self.assertEqual(self.wire.written, b"")

    def ask_nothing(self, request: object) -> None:
        self.assertEqual(self.wire.ask(request, end=b"\0"), [])
