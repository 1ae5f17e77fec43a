from __future__ import annotations

import os
import shutil
import socket
import stat
import tempfile
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase, TestCase

from taky_twisted.admin.protocol import AdminProtocol
from taky_twisted.admin.sockets import MAX_CONNECTIONS, AdminSocket, AdminSockets, admin_path
from taky_twisted.data_folder import SocketError
from taky_twisted.identity.errors import EndpointError
from tests.admin.running import Server
from tests.fakes import LogLines


class EndpointTests(SynchronousTestCase):
    def test_paths(self) -> None:
        """A unix socket is named as Twisted does; relative names start where the server is started."""
        for description, path in (
            ("unix:/run/taky/admin.sock", "/run/taky/admin.sock"),
            ("unix:address=/run/a\\:b", "/run/a:b"),
            ("UNIX:/a:mode=600", "/a"),
            ("unix:/a:mode=0600", "/a"),
            ("unix:a.sock", os.path.abspath("a.sock")),
        ):
            self.assertEqual(admin_path(description), Path(path))

    def test_refused(self) -> None:
        """Whatever others could reach or read is refused, in words that say what to write."""
        for description, words in (
            ("tcp:9000", "on a unix socket only; write unix:/run/taky/admin.sock"),
            ("", "on a unix socket only"),
            ("unix:", "write unix:PATH"),
            ("unix:/a:/b", "write unix:PATH"),
            ("unix:/a:backlog=5", "write unix:PATH"),
            ("unix:/a:mode=666", "for its owner alone; leave mode= out"),
        ):
            with self.subTest(description):
                self.assertIn(words, str(self.assertRaises(EndpointError, admin_path, description)))


class SocketsTestCase(TestCase):
    def setUp(self) -> None:
        # Not mktemp(): a socket's path must be short.
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        self.path = self.folder / "admin.sock"
        self.server = Server()
        self.log = LogLines(self)

    def sockets(self, *paths: Path, wanted: bool = True) -> AdminSockets:
        return AdminSockets(
            reactor, [AdminSocket(path, lambda: AdminProtocol(self.server.admin), wanted) for path in paths]
        )

    def start(self, *paths: Path, wanted: bool = True) -> AdminSockets:
        sockets = self.sockets(*paths or (self.path,), wanted=wanted)
        sockets.startService()
        self.addCleanup(lambda: sockets.stopService() if sockets.running else None)
        return sockets

    async def refused(self, path: Path) -> str:
        """Try to listen and fail; nothing is left open then."""
        other = self.folder / "other.sock"
        sockets = self.sockets(other, path)
        error = self.assertRaises(SocketError, sockets.startService)
        self.assertEqual(sockets._ports, [])
        while other.exists():
            await deferToThread(lambda: None)
        return str(error)


class ListeningTests(SocketsTestCase):
    def ask(self) -> Deferred[bytes]:
        def run() -> bytes:
            with socket.socket(socket.AF_UNIX) as caller:
                caller.settimeout(10)
                caller.connect(str(self.path))
                caller.sendall(b'{"v": 1, "do": "ping"}\n')
                return caller.recv(1000)

        return deferToThread(run)

    async def test_answers(self) -> None:
        """Operators are answered; when the server stops the socket is gone."""
        sockets = self.start()
        self.assertIn(b"taky_twisted", await self.ask())
        await sockets.stopService()
        self.assertFalse(self.path.exists())

    async def test_removed(self) -> None:
        """A socket that somebody has removed is no trouble when the server stops."""
        sockets = self.start()
        self.path.unlink()
        await sockets.stopService()

    def test_owner_alone(self) -> None:
        """Whatever the umask, nobody but its owner may open the socket, and files made later are as ever."""
        self.addCleanup(os.umask, os.umask(0))
        self.start()
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o600)
        self.assertEqual(os.umask(0), 0)

    async def test_left_behind(self) -> None:
        """What a server left that was killed is replaced."""
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(self.path))
            dead.listen()
        self.assertTrue(self.path.exists())
        self.start()
        self.assertIn(b"taky_twisted", await self.ask())

    async def test_another_server(self) -> None:
        """The socket of a server that lives is left alone."""
        with socket.socket(socket.AF_UNIX) as alive:
            alive.bind(str(self.path))
            alive.listen()
            self.assertIn("another server answers there; stop it first", await self.refused(self.path))
            self.assertTrue(self.path.exists())

    async def test_something_else(self) -> None:
        """No file is ever replaced."""
        self.path.write_text("precious", "ascii")
        self.assertIn("something else is there; move it away", await self.refused(self.path))
        self.assertEqual(self.path.read_text("ascii"), "precious")

    async def test_strange_socket(self) -> None:
        """Nor is a socket of another kind."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as strange:
            strange.bind(str(self.path))
            self.assertIn("another program has it", await self.refused(self.path))

    async def test_too_long(self) -> None:
        """A path that the system cannot have is refused in words that say how long it may be."""
        length = 107 - len(str(self.folder)) - 1
        self.start(self.folder / ("x" * length))
        error = await self.refused(self.folder / ("x" * (length + 1)))
        self.assertIn("has 108 bytes, and the system allows 107. Choose a data folder with a shorter path.", error)

    async def test_no_folder(self) -> None:
        """A folder that is not there, or is none, is named."""
        self.assertIn(
            "nothing/admin.sock: No such file or directory", await self.refused(self.folder / "nothing/admin.sock")
        )
        (self.folder / "file").touch()
        self.assertIn("Not a directory", await self.refused(self.folder / "file/admin.sock"))

    def test_not_asked_for(self) -> None:
        """A socket that nobody asked for is missed by nobody: the server starts, with a warning."""
        self.start(self.folder / ("x" * 200), self.path, wanted=False)
        (line,) = [line for line in self.log() if "shorter path" in line]
        self.assertIn("Until then takyctl cannot reach the server.", line)
        self.assertTrue(self.path.exists())


class FullTests(SocketsTestCase):
    async def test_connections(self) -> None:
        """So many operators may ask at once; when the server stops all are closed."""
        sockets = self.start()
        (factory,) = sockets._factories

        def connect() -> list[socket.socket]:
            made = [socket.socket(socket.AF_UNIX) for _ in range(MAX_CONNECTIONS + 1)]
            for each in made:
                each.settimeout(10)
                each.connect(str(self.path))
                if each is not made[-1]:
                    each.sendall(b'{"v": 1, "do": "ping"}\n')
                    assert each.recv(1000)
            return made

        callers = await deferToThread(connect)
        for caller in callers:
            self.addCleanup(caller.close)
        self.assertEqual(await deferToThread(callers[-1].recv, 1000), b"")
        callers[0].close()
        while not any(protocol.over for protocol in factory._all):
            await deferToThread(lambda: None)
        self.assertIn(b"taky_twisted", await ListeningTests.ask(self))  # type: ignore[arg-type]  # the same set-up
        await sockets.stopService()
        self.assertEqual(await deferToThread(callers[1].recv, 1000), b"")
        while not all(protocol.over for protocol in factory._all):
            await deferToThread(lambda: None)
