from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from taky_twisted import __version__
from taky_twisted.admin import commands
from taky_twisted.admin.protocol import MAX_NAME_CHARS, AdminProtocol
from taky_twisted.enrollment.invites import Invites
from taky_twisted.identity.accounts import Accounts
from tests.admin.running import Server, Wire
from tests.samples import marker


def asking(do: str, **more: object) -> dict[str, Any]:
    """Spell a request."""
    return {"v": 1, "do": do, **more}


class ProtocolTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.server = Server()
        self.wire = self.connect()

    def connect(self) -> Wire:
        return Wire(AdminProtocol(self.server.admin))

    def ask(self, do: str, **more: object) -> dict[str, Any]:
        """Ask something that has one answer, and read what is in it."""
        (answer,) = self.wire.ask(asking(do, **more))
        self.assertEqual((answer.pop("v"), answer.pop("ok")), (1, True))
        return dict(answer)

    def refused(self, request: object) -> str:
        """Ask something that cannot be done, and read why."""
        (answer,) = self.wire.ask(request)
        self.assertEqual((answer["v"], answer["ok"]), (1, False))
        return str(answer["error"])


class AskingTests(ProtocolTestCase):
    def test_ping(self) -> None:
        """A ping says which server that is."""
        self.assertEqual(self.ask("ping"), {"pong": "taky_twisted", "version": __version__})

    def test_status(self) -> None:
        """A status says who is connected, and what is open."""
        self.server.site.join("A")
        self.server.reactor.advance(5)
        status = self.ask("status")
        self.assertEqual((status["uptime"], status["num_clients"]), (5.0, 0))
        self.assertEqual(status["doors"], [{"what": "CoT", "name": "tcp:0"}])

    def test_stats(self) -> None:
        """Statistics count what there is."""
        stats = self.ask("stats")
        self.assertEqual((stats["streams"], stats["retained"], stats["failures"]), (7, 0, 0))

    def test_reload(self) -> None:
        """Certificates are read again on request."""
        self.assertEqual(self.ask("reload"), {})
        self.assertEqual(self.server.steps, ["reload"])

    def test_kickban(self) -> None:
        """A name is closed at once, then banned, and closed again should it have come back in between."""
        self.server.revoked = [0x4D2]
        self.assertEqual(self.ask("kickban", name="ALPHA-1"), {"revoked_sns": [0x4D2], "dropped": 2})
        self.assertEqual(self.server.steps, ["kick ALPHA-1", "ban ALPHA-1", "reload", "kick ALPHA-1"])

    def test_kickban_by_others(self) -> None:
        """Who has changed the register already only has it read again."""
        self.assertEqual(self.ask("kickban"), {"revoked_sns": [], "dropped": 0})
        self.assertEqual(self.server.steps, ["reload"])

    def test_several(self) -> None:
        """Requests are answered in the order in which they come; empty lines do not matter."""
        answers = self.wire.ask(asking("ping"), b"", asking("status"), b" \r", asking("reload"))
        self.assertEqual([sorted(answer)[1] for answer in answers], ["pong", "doors", "v"])


class RefusingTests(ProtocolTestCase):
    def test_nonsense(self) -> None:
        """Whoever writes something else is told what is expected, and may go on."""
        for nonsense in (b"GET / HTTP/1.1\r", b"[]", b"1", b'"x"', b"[" * 5000, b"\xff\xfe"):
            self.assertEqual(self.refused(nonsense), "a request is a line with a JSON object")
        self.assertEqual(self.ask("ping")["pong"], "taky_twisted")

    def test_version(self) -> None:
        """A program of another version is told which one is spoken here."""
        for request in ({"do": "ping"}, {"v": 2, "do": "ping"}, {"v": "1", "do": "ping"}):
            self.assertEqual(self.refused(request), 'this server speaks version 1: say "v": 1')

    def test_verb(self) -> None:
        """A verb that there is not is refused, with those that there are."""
        for request in ({"v": 1}, asking("dance")):
            self.assertIn("ping, status, stats, reload, kickban, ", self.refused(request))
        self.assertEqual(self.refused({"v": 1, "do": 5}), "do is a text")

    def test_names(self) -> None:
        """Names are texts of a reasonable length."""
        for name in ("", 5, None, "x" * (MAX_NAME_CHARS + 1), ["x"]):
            self.assertIn("name is a text of 1 to", self.refused(asking("kickban", name=name)))
        self.assertIn("whom is a text", self.refused(asking("trace")))
        self.assertEqual(self.server.steps, [])
        self.assertEqual(self.ask("kickban", name="x" * MAX_NAME_CHARS)["dropped"], 2)

    def test_users(self) -> None:
        """What is asked of accounts is answered by whoever has them."""
        self.server.admin._running.accounts = Accounts(self.server.reactor, self.server.site.store)
        self.assertEqual(self.ask("users", action="add", name="fox")["in"], ["__ANON__"])
        self.assertIn("name is a text", self.refused(asking("users", action="remove")))

    def test_invites(self) -> None:
        """So is what is asked of invites."""
        running = self.server.admin._running
        running.accounts = Accounts(self.server.reactor, self.server.site.store)
        running.invites = Invites(self.server.site.store, self.server.reactor)
        self.assertEqual(self.ask("invites", action="invite", name="fox")["uses"], 1)
        self.assertEqual(self.ask("invites", action="withdraw", name="fox")["withdrawn"], 1)


class StreamingTests(ProtocolTestCase):
    def test_failures(self) -> None:
        """The doctor tells what went wrong up to now."""
        self.server.failures.tell("10.0.0.1", "ssl:8089", "the client showed no certificate")
        first, last = self.wire.ask(asking("doctor"))
        self.assertEqual((first["more"], first["attempt"]["address"], first["attempt"]["count"]), (True, "10.0.0.1", 1))
        self.assertNotIn("more", last)

    def test_failures_live(self) -> None:
        """It goes on with each new one until the operator has seen enough."""
        (began,) = self.wire.ask(asking("doctor", follow=True))
        self.assertTrue(began["more"])
        self.server.failures.tell("10.0.0.1", "ssl:8089", "why")
        (told,) = self.wire.heard()
        self.assertEqual((told["attempt"]["reason"], told["more"]), ("why", True))
        self.wire.hang_up()
        self.server.failures.tell("10.0.0.1", "ssl:8089", "why")
        self.assertEqual((self.wire.heard(), self.server.failures._watchers), ([], {}))

    def test_trace(self) -> None:
        """A trace tells what becomes of each event."""
        self.wire.ask(asking("trace", whom="a"))
        self.server.site.factory._router = self.server.router
        a, b = self.server.site.join("A"), self.server.site.join("B")
        a.say(marker())
        self.server.reactor.advance(0)
        *_, told = self.wire.heard()
        self.assertEqual((told["traced"]["uid"], told["traced"]["rules"]), ("MARK-1", {"echo": 1, "delivered": 1}))
        self.assertEqual(b.uids(), ["MARK-1"])
        self.wire.hang_up()
        self.assertIsNone(self.server.router.tracing)

    def test_trace_of_nodes(self) -> None:
        """Who asks one of several nodes is told which others there are: what their clients get is not known here."""
        self.patch(commands, "nodes", lambda router: [{"name": "beta"}])
        (began,) = self.wire.ask(asking("trace", whom="a"))
        self.assertEqual(began, {"v": 1, "ok": True, "more": True, "nodes": [{"name": "beta"}]})

    def test_others_are_answered(self) -> None:
        """One operator who watches keeps no other from asking; what he asks himself has to wait."""
        watching, self.wire = self.wire, self.connect()
        watching.ask(asking("doctor", follow=True), asking("ping"))
        self.assertEqual(self.ask("ping")["pong"], "taky_twisted")
        self.assertEqual(watching.heard(), [])

    def test_who_does_not_read(self) -> None:
        """What an operator's program does not read is left out, not kept; afterwards it is told how much that was."""
        self.wire.ask(asking("doctor", follow=True))
        producer = self.wire.producer
        assert producer is not None
        producer.pauseProducing()
        for number in range(1000):
            self.server.failures.tell("10.0.0.1", "ssl:8089", str(number))
        self.assertEqual(self.wire.heard(), [])
        producer.resumeProducing()
        for _ in range(2):
            self.server.failures.tell("10.0.0.1", "ssl:8089", "last")
        first, second = self.wire.heard()
        self.assertEqual((first["left_out"], "left_out" in second), (1000, False))
        producer.stopProducing()
        self.server.failures.tell("10.0.0.1", "ssl:8089", "gone")
        self.assertEqual(self.wire.heard(), [])
