"""Operators: who may open their sockets, and what can be asked there; the tables of the manual are complete."""

from __future__ import annotations

import json
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
from taky_twisted.admin.sockets import admin_path
from taky_twisted.admin.taky_protocol import TakyProtocol
from taky_twisted.cli.takyctl import parser
from taky_twisted.config import Settings
from taky_twisted.data_folder import ADMIN_SOCKET, TAKY_SOCKET
from taky_twisted.doors import Doors
from taky_twisted.identity.errors import EndpointError
from taky_twisted.operating import admin_sockets
from taky_twisted.reloading import Reloading
from tests.admin.running import Server, Wire
from tests.fakes import Site
from tests.security.tables import table

NOBODY = 65534
"""A user with no rights of his own."""
OTHERS = stat.S_IRWXG | stat.S_IRWXO


class CommandsTests(SynchronousTestCase):
    def test_ours(self) -> None:
        """The table has every command of our protocol, and each is one."""
        verbs = AdminProtocol(Server().admin)._verbs
        self.assertEqual([row["command"] for row in table("operators")], list(verbs))
        self.assertEqual({row["taky-admin.sock"] for row in table("operators")}, {"yes"})

    def test_takys(self) -> None:
        """On taky's socket taky's commands are answered, and no others."""
        for row in table("operators"):
            wire = Wire(TakyProtocol(Server().admin))
            (answer,) = wire.ask({"cmd": row["command"], "user": "nobody"}, end=b"\0")
            known = "Invalid cmd" not in answer.get("error", "")
            self.assertEqual(known, row["taky-mgmt.sock"] == "yes", row)

    def test_nothing_changes(self) -> None:
        """Whoever only looks changes nothing."""
        for row in table("operators"):
            server = Server()
            Wire(AdminProtocol(server.admin)).ask({"v": 1, "do": row["command"], "name": "fox", "whom": "fox"})
            if row["changes"] == "nothing":
                self.assertEqual(server.steps, [], row)

    def test_takyctl(self) -> None:
        """The table has every verb of takyctl; each works on the site's files or through the server's socket."""
        (choices,) = [action.choices for action in parser()._actions if action.choices]
        self.assertEqual({row["verb"] for row in table("takyctl")}, set(choices))
        for row in table("takyctl"):
            self.assertIn(row["needs"], ("files", "socket", "socket or files"))

    def test_no_network(self) -> None:
        """Nothing but a unix socket of its owner is ever served to operators."""
        for endpoint in ("tcp:9000", "ssl:9000", "unix:/a:mode=666", "unix:/a:mode=660", "systemd:domain=INET:index=0"):
            self.assertRaises(EndpointError, admin_path, endpoint)


class SocketsTests(TestCase):
    """Real sockets, as the server opens them."""

    def setUp(self) -> None:
        # Not mktemp(): the path of a socket must be short. The folder is open, so that the socket alone decides.
        self.folder = Path(tempfile.mkdtemp())
        self.folder.chmod(0o755)
        self.addCleanup(shutil.rmtree, self.folder)
        site = Site()
        doors, reloading = Doors([], []), Reloading(reactor, [], lambda: None)
        self.sockets = admin_sockets(
            reactor, Settings(), self.folder, site.router, site.connections, site.connections.failures, reloading,
            doors, [], None,
        )  # fmt: skip
        before = os.umask(0)  # whatever the operator's is
        try:
            self.sockets.startService()
        finally:
            os.umask(before)
        self.addCleanup(self.sockets.stopService)

    def test_modes(self) -> None:
        """Both sockets are their owner's alone, whatever the umask."""
        for name in (ADMIN_SOCKET, TAKY_SOCKET):
            mode = (self.folder / name).stat().st_mode
            self.assertTrue(stat.S_ISSOCK(mode))
            self.assertEqual(mode & OTHERS, 0, name)

    def test_never_open(self) -> Deferred[None]:
        """Not even for a moment can others open them: they are made so, and not changed afterwards."""
        seen: list[int] = []
        listen = reactor.listenUNIX  # type: ignore[attr-defined]

        def listening(path: str, *args: object, **more: object) -> object:
            before = os.umask(0)
            os.umask(before)
            seen.append(before & OTHERS)
            return listen(path, *args, **more)

        self.patch(reactor, "listenUNIX", listening)

        def again(_: object) -> None:
            self.sockets.startService()
            self.assertEqual(seen, [OTHERS, OTHERS])

        return self.sockets.stopService().addCallback(again)

    def test_owner(self) -> Deferred[None]:
        """Who runs the server is answered."""

        def ask() -> bytes:
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(10)
                client.connect(str(self.folder / ADMIN_SOCKET))
                client.sendall(b'{"v": 1, "do": "ping"}\n')
                return client.recv(1000)

        def answered(said: bytes) -> None:
            self.assertEqual(json.loads(said)["pong"], "taky_twisted")

        asking: Deferred[bytes] = deferToThread(ask)
        return asking.addCallback(answered)

    def test_others(self) -> None:
        """Another user cannot connect; that can only be tried by root, else the modes above have to do."""
        for name in (ADMIN_SOCKET, TAKY_SOCKET):
            self.assertEqual(_connect_as_nobody(self.folder / name), os.geteuid() == 0, name)


def _connect_as_nobody(path: Path) -> bool:
    """Whether somebody else is refused; False if nobody could be somebody else."""
    child = os.fork()
    if not child:
        status = 1
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(path))
            status = 2
        except PermissionError:
            status = 0 if os.getuid() == NOBODY else 1
        finally:
            os._exit(status)
    _, ended = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(ended)
    assert code != 2, f"{path} lets others in"
    return code == 0
