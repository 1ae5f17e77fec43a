from __future__ import annotations

import json
import os
import socket
from pathlib import Path

from taky_twisted.cli import running
from taky_twisted.cli.commands import CommandError
from taky_twisted.cli.running import NotRunning, RunningServer
from taky_twisted.config import load
from taky_twisted.identity.errors import EndpointError
from tests.cli.answering import AnsweringTestCase


class FindingTests(AnsweringTestCase):
    def found(self, named: Path | None = None) -> Path:
        return RunningServer.of(load(str(self.conf)), named).path

    def test_socket(self) -> None:
        """The socket is the one that the operator names, else the configuration's, else the data folder's."""
        self.assertEqual(self.found(), self.data / "taky-admin.sock")
        self.configure("admin_endpoints = unix:/run/taky.sock")
        self.assertEqual(self.found(), Path("/run/taky.sock"))
        self.assertEqual(self.found(Path("x")), Path("x"))
        self.configure("admin_endpoints = unix:address=here.sock")
        self.assertEqual(self.found(), self.folder / "here.sock")
        self.configure("admin_endpoints = unix:")
        self.assertRaises(EndpointError, self.found)

    def test_workers(self) -> None:
        """Of several processes the first is asked; while it is away, the next."""
        (self.data / "worker-2").mkdir()
        server = RunningServer.of(load(str(self.conf)), None)
        self.assertIn("no server answers", str(self.assertRaises(NotRunning, server.ask, "ping")))
        self.answer({"ok": True, "pong": "2"}, name="worker-2/taky-admin.sock")
        self.assertEqual(server.ask("ping")["pong"], "2")
        self.answer({"ok": True, "pong": "1"})
        self.assertEqual(server.ask("ping")["pong"], "1")

    def test_workers_elsewhere(self) -> None:
        """That is so, too, where the first one's socket has another place: those of the others have not."""
        (self.data / "worker-2").mkdir()
        self.configure("admin_endpoints = unix:address=here.sock")
        server = RunningServer.of(load(str(self.conf)), None)
        self.answer({"ok": True, "pong": "2"}, name="worker-2/taky-admin.sock")
        self.assertEqual(server.ask("ping")["pong"], "2")
        self.assertEqual([each.path for each in server.further], [self.data / "worker-2/taky-admin.sock"])

    def test_protocol(self) -> None:
        """By its name one sees which protocol is spoken at a socket."""
        self.assertTrue(RunningServer(Path("/x/taky-mgmt.sock")).is_takys)
        self.assertFalse(RunningServer(Path("/x/taky-admin.sock")).is_takys)


class AskingTests(AnsweringTestCase):
    def server(self, *answers: object, end: bytes = b"\n") -> RunningServer:
        return RunningServer(self.answer(*answers, end=end))  # type: ignore[arg-type]

    def error(self, *answers: object) -> str:
        return str(self.assertRaises(CommandError, self.server(*answers).ask, "ping"))

    def test_ask(self) -> None:
        """A request is one line that says the version; the answer is what the server says."""
        self.assertEqual(self.server({"ok": True, "pong": "x"}).ask("kickban", name="a")["pong"], "x")
        self.assertEqual(json.loads(self.requests[0]), {"v": 1, "do": "kickban", "name": "a"})

    def test_stream(self) -> None:
        """Several answers come one by one, however they are cut."""
        answers = [{"ok": True, "more": True, "n": 1}, {"ok": True, "more": True, "n": 2}, {"ok": True}]
        wire = b"".join(json.dumps(each).encode() + b"\n" for each in answers)
        for cut in (1, 20, len(wire) - 1):
            self.assertEqual(list(self.server(wire[:cut], wire[cut:]).stream("doctor", {})), answers)

    def test_taky(self) -> None:
        """A server of taky is asked in its own words."""
        self.assertEqual(self.server({"pong": "taky"}, end=b"\0").ask_taky({"cmd": "ping"}), {"pong": "taky"})
        self.assertEqual(self.requests, [b'{"cmd": "ping"}'])
        server = self.server({"error": "no"}, end=b"\0")
        self.assertEqual(str(self.assertRaises(CommandError, server.ask_taky, {"cmd": "x"})), "no")

    def test_refused(self) -> None:
        """What the server refuses is told in its words."""
        self.assertEqual(self.error({"ok": False, "error": "too bad"}), "too bad")
        self.assertIn("does not say why", self.error({"ok": False}))

    def test_nonsense(self) -> None:
        """Somebody else at the socket is told apart from a server."""
        self.assertIn("does not speak our protocol", self.error(b"220 smtp.example\n"))
        self.assertIn("does not speak our protocol", self.error(b"[]\n"))
        self.assertIn("has ended the connection", self.error())
        self.assertIn("has ended the connection", self.error({"ok": True, "more": True}))

    def test_broken_off(self) -> None:
        """A server that breaks the connection off has ended it."""

        def receive(*_: object) -> bytes:
            raise ConnectionResetError

        self.patch(socket.socket, "recv", receive)
        with socket.socket(socket.AF_UNIX) as listener:
            path = self.folder / "x.sock"
            listener.bind(str(path))
            listener.listen()
            error = self.assertRaises(CommandError, RunningServer(path).ask, "ping")
        self.assertIn("has ended the connection", str(error))

    def test_too_much(self) -> None:
        """An answer without an end is not waited for until memory is full."""
        self.patch(running, "MAX_ANSWER_BYTES", 1000)
        self.assertIn("answers more than 1000 bytes at once", self.error(b"x" * 300_000))

    def test_too_slow(self) -> None:
        """A server that does not answer is not waited for forever."""
        self.patch(running, "ANSWER_SECONDS", 0.1)
        with socket.socket(socket.AF_UNIX) as silent:
            path = self.folder / "silent.sock"
            silent.bind(str(path))
            silent.listen()
            error = self.assertRaises(CommandError, RunningServer(path).ask, "ping")
        self.assertIn("did not answer within 0.1 seconds", str(error))

    def test_nobody(self) -> None:
        """Where nobody listens, the server does not run, or it is another site's."""
        for path in (self.folder / "nothing", self.folder / "left.sock"):
            if path.name == "left.sock":
                with socket.socket(socket.AF_UNIX) as left:
                    left.bind(str(path))
            error = self.assertRaises(NotRunning, RunningServer(path).ask, "ping")
            self.assertIn("does it run, and is this its site?", str(error))

    def test_long_path(self) -> None:
        """Where the path is too long for a socket the server has none, so nobody answers."""
        error = self.assertRaises(NotRunning, RunningServer(Path("/" + "x" * 200)).ask, "ping")
        self.assertIn("too long for a socket", str(error))

    def test_other_problems(self) -> None:
        """A path that cannot be a socket's is named with what is wrong with it."""
        (self.folder / "file").touch()
        path = self.folder / "file" / "x"
        self.assertIn("Not a directory", str(self.assertRaises(CommandError, RunningServer(path).ask, "ping")))

    def test_not_ours(self) -> None:
        """A socket of another user is told apart."""
        if os.geteuid() == 0:

            def connect(*_: object) -> None:
                raise PermissionError(13, "Permission denied")

            self.patch(socket.socket, "connect", connect)
            path = self.folder / "x"
        else:
            path = self.answer({"ok": True})
            path.chmod(0)
        error = self.assertRaises(CommandError, RunningServer(path).ask, "ping")
        self.assertIn("belongs to the user that the server runs as", str(error))
