from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable

from twisted.internet import reactor
from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IAddress, IListeningPort, IProtocolFactory, IStreamServerEndpoint
from twisted.internet.protocol import DatagramProtocol, Factory
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface import implementer

from taky_twisted.doors import Door, DoorError, Doors
from tests.fakes import LogLines

ADDRESS = IPv4Address("TCP", "127.0.0.1", 8087)


@implementer(IListeningPort)
class OpenPort:
    """A port that listens nowhere; closing takes until ``closed`` fires, or no time at all."""

    def __init__(self, address: IAddress = ADDRESS, slow: bool = False) -> None:
        self._address = address
        self.open = self.reading = self.connected = True
        self.closed: Deferred[None] | None = Deferred() if slow else None

    def startListening(self) -> None:
        raise AssertionError("it does already")

    def stopListening(self) -> Deferred[None] | None:
        self.open = False
        return self.closed

    def getHost(self) -> IAddress:
        return self._address

    def stopReading(self) -> None:
        self.reading = False

    def startReading(self) -> None:
        self.reading = True


@implementer(IStreamServerEndpoint)
class FakeEndpoint:
    """An endpoint that gives a port, or cannot."""

    def __init__(self, outcome: OpenPort | Exception) -> None:
        self._outcome = outcome
        self.factories: list[IProtocolFactory] = []

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        self.factories.append(protocolFactory)
        if isinstance(self._outcome, Exception):
            return fail(self._outcome)
        return succeed(self._outcome)


def ignore(_: IListeningPort) -> None:
    """Adjust nothing."""


def door(
    outcome: OpenPort | Exception, name: str = "tcp:8087", adjust: Callable[[IListeningPort], None] = ignore
) -> Door:
    """Describe a door."""
    return Door(name, "CoT", FakeEndpoint(outcome), Factory(), adjust)


class DoorsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.log = LogLines(self)

    def error(
        self, *outcomes: OpenPort | Exception, datagrams: list[Callable[[], IListeningPort]] | None = None
    ) -> str:
        """Fail to open some doors; read why."""
        with self.assertRaises(DoorError) as caught:
            Doors([door(outcome) for outcome in outcomes], datagrams or []).privilegedStartService()
        self.assertNotIn("\n", str(caught.exception))
        return str(caught.exception)

    def test_open(self) -> None:
        """Every door listens with its factory, is adjusted, and has a line in the log."""
        first, second, third = OpenPort(), OpenPort(UNIXAddress("/run/taky.sock")), OpenPort()
        adjusted: list[IListeningPort] = []
        described = [door(first, adjust=adjusted.append), door(second, "unix:/run/taky.sock", adjusted.append)]
        doors = Doors(described, [lambda: third])
        doors.privilegedStartService()
        self.assertEqual(adjusted, [first, second])
        self.assertEqual(doors.ports, [first, second, third])
        self.assertEqual([each.endpoint.factories for each in described], [[each.factory] for each in described])  # type: ignore[attr-defined]
        self.assertEqual(
            self.log(),
            [
                "CoT door tcp:8087 is open on 127.0.0.1 port 8087",
                "CoT door unix:/run/taky.sock is open on UNIXAddress('/run/taky.sock')",
            ],
        )

    def test_others_listen(self) -> None:
        """Where others take people in on the same ports, nobody is made to wait for one that is still starting."""
        port = OpenPort()
        doors = Doors([door(port)], [], others_listen=True)
        doors.privilegedStartService()
        doors.hold()
        self.assertEqual(doors.ports, [])
        doors.startService()
        self.assertEqual(doors.ports, [port])

    def test_others_listen_low_port(self) -> None:
        """Then it is not root any more, and nobody can hand it a port: what a low one takes is said."""
        doors = Doors([door(CannotListenError("", 443, OSError(errno.EACCES, "Permission denied")))], [], True)
        doors.privilegedStartService()
        error = self.assertRaises(DoorError, doors.startService)
        self.assertIn("not permitted; ", str(error))
        self.assertIn("CAP_NET_BIND_SERVICE", str(error))
        self.assertNotIn("systemd to hand over", str(error))

    def test_describe(self) -> None:
        """Operators read what is open, where, and whether it speaks TLS."""
        unix = OpenPort(UNIXAddress("/run/taky.sock"))
        doors = Doors([door(OpenPort()), door(unix, "unix:/run/taky.sock")], [OpenPort])
        self.assertEqual(doors.describe(), [])
        doors.privilegedStartService()
        self.assertEqual(
            doors.describe(),
            [
                {"what": "CoT", "name": "tcp:8087", "host": "127.0.0.1", "port": 8087, "tls": False},
                {"what": "CoT", "name": "unix:/run/taky.sock", "host": None, "port": None, "tls": False},
            ],
        )

    def test_shut(self) -> None:
        """It is known which doors take nobody in: all before they are opened or while they are held, or single ones."""
        ports = [OpenPort(), OpenPort()]
        udp = OpenPort()
        doors = Doors([door(ports[0]), door(ports[1], "tcp:8089")], [lambda: udp])
        both = ["CoT door tcp:8087", "CoT door tcp:8089"]
        self.assertEqual(doors.shut(), both)
        doors.privilegedStartService()
        self.assertEqual(doors.shut(), [])
        doors.hold()
        self.assertEqual(doors.shut(), both)
        doors.startService()
        self.assertEqual(doors.shut(), [])
        for port in (ports[1], udp):
            port.connected = False
        self.assertEqual(doors.shut(), ["CoT door tcp:8089", "the UDP door"])
        ports[1].connected = True
        self.assertEqual(doors.shut(), ["the UDP door"])

    def test_once(self) -> None:
        """What was opened with privileges is not opened again without."""
        described = door(OpenPort())
        doors = Doors([described], [])
        doors.privilegedStartService()
        doors.startService()
        self.assertEqual(len(described.endpoint.factories), 1)  # type: ignore[attr-defined]
        self.assertTrue(doors.running)

    def test_without_privileges(self) -> None:
        """A program that knows no privileged phase opens the doors too."""
        doors = Doors([door(OpenPort())], [])
        doors.startService()
        self.assertEqual(len(doors.ports), 1)

    def test_held(self) -> None:
        """Doors can be held: their ports are ours, and nobody is taken in before everything else has started."""
        port, datagrams = OpenPort(), OpenPort()
        doors = Doors([door(port)], [lambda: datagrams])
        doors.privilegedStartService()
        self.assertEqual((port.reading, datagrams.reading), (True, True))
        doors.hold()
        self.assertEqual((port.reading, datagrams.reading), (False, False))
        doors.startService()
        self.assertEqual((port.reading, datagrams.reading), (True, True))

    def test_all_or_none(self) -> None:
        """If one door cannot be opened the others are closed again."""
        first, second = OpenPort(), OpenPort()
        self.error(first, second, CannotListenError("", 1, OSError(errno.EADDRINUSE, "Address already in use")))
        self.assertFalse(first.open or second.open)

    def test_reasons(self) -> None:
        """The operator reads which door it is, what is wrong, and what to do."""
        for number, text in (
            (
                errno.EADDRINUSE,
                (
                    "another program listens there already; stop it, or choose another port with --cot-endpoint or in"
                    " taky.conf"
                ),
            ),
            (errno.EACCES, "not permitted; ports below 1024 are for root, or for systemd to hand over"),
            (errno.EADDRNOTAVAIL, "this machine does not have that address"),
            (errno.EIO, "Input/output error"),
        ):
            problem = self.error(CannotListenError("", 8087, OSError(number, os.strerror(number))))
            self.assertEqual(problem, f"cannot open CoT door tcp:8087: {text}")

    def test_other_errors(self) -> None:
        """An error without a socket is told as it is."""
        self.assertEqual(
            self.error(CannotListenError("", 1, None)), "cannot open CoT door tcp:8087: Couldn't listen on any:1: None."
        )
        self.assertEqual(
            self.error(FileNotFoundError(2, "No such file or directory")),
            "cannot open CoT door tcp:8087: No such file or directory",
        )

    def test_bug(self) -> None:
        """A bug is no message for the operator."""
        with self.assertRaises(RuntimeError):
            Doors([door(RuntimeError("a bug"))], []).privilegedStartService()

    def test_datagrams(self) -> None:
        """A UDP port that cannot be opened closes the doors too."""
        first = OpenPort()

        def listen() -> IListeningPort:
            raise CannotListenError("", 8087, OSError(errno.EADDRINUSE, "Address already in use"))

        def join() -> IListeningPort:
            raise CannotListenError("239.2.3.1", 6969, OSError(errno.ENODEV, "No such device"))

        self.assertEqual(
            self.error(first, datagrams=[listen]),
            "cannot open the UDP door on any address port 8087: another program listens there already; stop it, or"
            " choose another port with --udp-port or --multicast or in taky.conf",
        )
        self.assertFalse(first.open)
        self.assertEqual(
            self.error(datagrams=[join]),
            "cannot open the UDP door on 239.2.3.1 port 6969: no network card of this machine has that address, or a"
            " route there; name another interface",
        )

    def test_close(self) -> None:
        """Stopping closes every door at once and is done when the last is closed."""
        quick, slow = OpenPort(), OpenPort(slow=True)
        doors = Doors([door(quick), door(slow)], [])
        doors.startService()
        stopped = doors.stopService()
        self.assertFalse(quick.open or slow.open)
        self.assertNoResult(stopped)
        assert slow.closed is not None
        slow.closed.callback(None)
        self.assertIsNone(self.successResultOf(stopped))
        self.assertEqual(doors.ports, [])


class RealDoorsTests(TestCase):
    """The system's own refusals."""

    def test_in_use(self) -> None:
        """A port where somebody listens is named as such, and no other door stays open."""
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            described = [
                Door(name, "CoT", serverFromString(reactor, f"{name}:interface=127.0.0.1"), Factory(), ignore)
                for name in ("tcp:0", f"tcp:{port}")
            ]
            doors = Doors(described, [])
            with self.assertRaises(DoorError) as caught:
                doors.privilegedStartService()
        self.assertIn(f"cannot open CoT door tcp:{port}: another program listens there already", str(caught.exception))
        self.assertEqual(doors.ports, [])

    def test_no_such_address(self) -> None:
        """An address that this machine does not have is named as such."""
        endpoint = serverFromString(reactor, "tcp:0:interface=203.0.113.9")
        with self.assertRaises(DoorError) as caught:
            Doors([Door("tcp:0", "monitor", endpoint, Factory(), ignore)], []).privilegedStartService()
        self.assertEqual(
            str(caught.exception), "cannot open monitor door tcp:0: this machine does not have that address"
        )

    def test_udp_in_use(self) -> None:
        """So is a UDP port."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
            taken.bind(("127.0.0.1", 0))
            port = taken.getsockname()[1]

            def listen() -> IListeningPort:
                opened: IListeningPort = reactor.listenUDP(port, DatagramProtocol(), "127.0.0.1")  # type: ignore[attr-defined]
                return opened

            with self.assertRaises(DoorError) as caught:
                Doors([], [listen]).privilegedStartService()
        self.assertIn(f"cannot open the UDP door on 127.0.0.1 port {port}: another program", str(caught.exception))
