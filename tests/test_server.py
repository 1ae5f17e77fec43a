from __future__ import annotations

import atexit
import errno
import os
import resource
import signal
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import CannotListenError, ReactorNotRunning
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IStreamServerEndpoint
from twisted.internet.protocol import Factory
from twisted.logger import LogLevel
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from taky_twisted.config.limits import Limits
from taky_twisted.data_folder import DataFolder
from taky_twisted.doors import Door, DoorError, Doors
from taky_twisted.interfaces import EventStore, StoreError
from taky_twisted.records import Kept
from taky_twisted.reloading import Reloading
from taky_twisted.routing.router import Router
from taky_twisted.server import PRUNE_SECONDS, CannotStart, Server
from taky_twisted.stores import SqliteStore
from taky_twisted.stores.memory import MemoryStore
from taky_twisted.stores.migrations import migrations
from taky_twisted.streaming.connections import Connections
from taky_twisted.streaming.factory import CoTFactory
from tests.fakes import LogLines, MemoryRecorder, WireTransport
from tests.samples import marker, sa
from tests.stores import contract
from tests.test_doors import ADDRESS, OpenPort, ignore
from tests.threaded_clock import ThreadedClock


class Reactor(ThreadedClock):
    """A reactor that can be told to stop."""

    stops = 0
    stopped = False
    """Whether it does already."""

    def stop(self) -> None:
        self.stops += 1
        if self.stopped:
            raise ReactorNotRunning


class NotingStore(MemoryStore):
    """A store that notes when it is used."""

    steps: list[str]

    def open(self) -> Deferred[Kept]:
        self.steps.append("store opens")
        return super().open()

    def close(self) -> Deferred[None]:
        self.steps.append("store closes")
        return super().close()


class LateStore(NotingStore):
    """A store that needs the reactor to open."""

    def __init__(self, clock: Reactor, steps: list[str]) -> None:
        super().__init__(clock)
        self.steps = steps
        self.opened: Deferred[Kept] = Deferred()

    def open(self) -> Deferred[Kept]:
        super().open()
        return self.opened


class NotingRecorder(MemoryRecorder):
    """A recorder that notes when it is used, and takes its time to stop."""

    steps: list[str]

    def __init__(self) -> None:
        super().__init__()
        self.written: Deferred[None] = Deferred()

    def start(self) -> None:
        self.steps.append("recorder starts")

    def stop(self) -> Deferred[None]:
        self.steps.append("recorder stops")
        return self.written


class NotingPort(OpenPort):
    """A port that notes when it is closed."""

    steps: list[str]

    def stopListening(self) -> Deferred[None] | None:
        self.steps.append("door closes")
        return super().stopListening()


@implementer(IStreamServerEndpoint)
class NotingEndpoint:
    """An endpoint that notes when it is used; with a problem it cannot be."""

    def __init__(self, steps: list[str], problem: Exception | None = None) -> None:
        self._steps, self._problem = steps, problem

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        self._steps.append("door opens")
        if self._problem is not None:
            failed: Deferred[IListeningPort] = Deferred()
            failed.errback(Failure(self._problem))
            return failed
        port = NotingPort()
        port.steps = self._steps
        return succeed(port)


class ServerTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = Reactor()
        self.path = Path(self.mktemp())
        self.steps: list[str] = []
        self.addCleanup(signal.signal, signal.SIGTERM, signal.getsignal(signal.SIGTERM))
        self.addCleanup(signal.signal, signal.SIGHUP, signal.getsignal(signal.SIGHUP))

    def server(
        self,
        store: EventStore | None = None,
        problem: Exception | None = None,
        recorder: NotingRecorder | None = None,
        api: Any = None,
        more: Sequence[Service] = (),
    ) -> Server:
        """Assemble a server."""
        if store is None:
            store = NotingStore(self.reactor)
            store.steps = self.steps
        if recorder is not None:
            recorder.steps = self.steps
        self.folder = DataFolder(self.path)
        self.router = Router(self.reactor, store, Limits())
        connections = Connections(self.reactor, Limits())
        self.factory = CoTFactory(self.reactor, self.router, connections, "tcp:8087")
        doors = Doors([Door("tcp:8087", "CoT", NotingEndpoint(self.steps, problem), Factory(), ignore)], [])
        reloading = Reloading(self.reactor, [], connections.close_refused)
        return Server(self.reactor, self.folder, store, self.router, recorder, connections, doors, reloading, api, more)

    def start(self, server: Server) -> Server:
        """Start as twistd does."""
        server.privilegedStartService()
        server.startService()
        self.addCleanup(self.stop, server)
        return server

    def stop(self, server: Server) -> None:
        """Stop, if it still runs, and wait for the end."""
        if server.running:
            self.reactor.wait(server.stopService())

    def locked(self) -> bool:
        """Whether somebody uses the data folder."""
        other = DataFolder(self.path)
        try:
            other.check()
        except Exception as error:  # noqa: BLE001 - any refusal is one
            return "is using it" in str(error)
        return False

    def connect(self) -> WireTransport:
        """Connect a client."""
        transport = WireTransport(ADDRESS)
        protocol = self.factory.buildProtocol(ADDRESS)
        assert protocol is not None
        self.protocol = protocol
        self.protocol.makeConnection(transport)
        return transport


class OrderTests(ServerTestCase):
    """What comes first when it starts and when it stops."""

    def test_start(self) -> None:
        """Ports are taken with privileges; folder, store and recorder are ours before anybody can be served."""
        server = self.server(recorder=NotingRecorder())
        server.privilegedStartService()
        self.assertEqual(self.steps, ["door opens"])
        self.assertFalse(self.path.exists(), "root made the folder of somebody else")
        recorder_stops = server._recorder
        server.startService()
        self.assertEqual(self.steps, ["door opens", "store opens", "recorder starts"])
        self.assertTrue(self.locked())
        assert isinstance(recorder_stops, NotingRecorder)
        recorder_stops.written.callback(None)
        self.stop(server)

    def test_name(self) -> None:
        """The flow tag is whole before the first event: it names this server, the same after a restart."""
        server = self.start(self.server())
        tag = server.router.flow_tag
        self.assertRegex(tag, r"^TAK-Server-[0-9a-f]{32}$")
        self.stop(server)
        self.assertEqual(self.start(self.server()).router.flow_tag, tag)

    def test_stop(self) -> None:
        """Doors close first; the store closes when nobody can say anything any more; then the folder is free."""
        recorder = NotingRecorder()
        server = self.start(self.server(recorder=recorder))
        transport = self.connect()
        self.steps.clear()
        stopped = server.stopService()
        self.assertEqual((self.steps, transport.lost), (["door closes"], "lose"))
        self.protocol.connectionLost()
        self.assertEqual(self.steps, ["door closes", "recorder stops"])
        self.assertTrue(self.locked())
        self.assertNoResult(stopped)
        recorder.written.callback(None)
        self.assertEqual(self.steps, ["door closes", "recorder stops", "store closes"])
        self.assertIsNone(self.successResultOf(stopped))
        self.assertFalse(self.locked())

    def test_api(self) -> None:
        """The Marti API takes over what was stored before anybody can ask, and ends before the store does."""

        class NotingApi(Service):
            def restore(api, kept: Kept) -> None:
                self.steps.append("API restores")

            def startService(api) -> None:
                super().startService()
                self.steps.append("API starts")

            def stopService(api) -> None:
                super().stopService()
                self.steps.append("API stops")

        server = self.start(self.server(api=NotingApi()))
        self.stop(server)
        self.assertEqual(
            self.steps,
            ["door opens", "store opens", "API restores", "API starts", "API stops", "door closes", "store closes"],
        )

    def test_contacts_are_saved(self) -> None:
        """Who was there a moment before the stop is known after the next start, as somebody who left."""
        store = MemoryStore(self.reactor)
        server = self.start(self.server(store))
        self.connect()
        self.protocol.dataReceived(sa("A", "FOX1", now=self.reactor.seconds()))
        stopped = server.stopService()
        self.protocol.connectionLost()
        self.reactor.wait(stopped)
        again = self.start(self.server(store))
        contact = again.router.contacts.get("A")
        assert contact is not None
        self.assertEqual((contact.callsign, contact.present), ("FOX1", False))

    def test_pruning(self) -> None:
        """What is stale is forgotten while the server runs, and no timer is left when it has stopped."""
        server = self.start(self.server())
        self.connect()
        now = self.reactor.seconds()
        self.protocol.dataReceived(marker(now=now, stale=PRUNE_SECONDS / 2))
        self.assertEqual(len(list(server.router.retained.visible(frozenset({"__ANON__"}), now))), 1)
        self.reactor.advance(PRUNE_SECONDS)
        self.assertEqual(len(server.router.retained), 0)
        stopped = server.stopService()
        self.protocol.connectionLost()
        self.reactor.wait(stopped)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_pruning_broke_down(self) -> None:
        """A bug in forgetting is logged and does not keep the server from stopping."""
        server = self.server()
        server._pruning.f = lambda: 1 / 0
        self.start(server)
        self.reactor.advance(PRUNE_SECONDS)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.stop(server)
        self.assertFalse(self.locked())

    def test_file_limit(self) -> None:
        """As many connections are allowed as the system lets us."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 1000), hard))
        self.start(self.server())
        self.assertEqual(resource.getrlimit(resource.RLIMIT_NOFILE), (hard, hard))
        self.start(self.server_in_another_folder())

    def test_more(self) -> None:
        """What else there is starts when the folder is locked and the doors are open, and stops with the server."""
        steps, test = self.steps, self

        class Noting(Service):
            def startService(self) -> None:
                super().startService()
                steps.append("locked" if test.locked() else "not locked")

            def stopService(self) -> None:
                super().stopService()
                steps.append("more stops")

        server = self.start(self.server(more=[Noting()]))
        self.assertEqual(self.steps[-1], "locked")
        self.assertIn("door opens", self.steps)
        self.stop(server)
        self.assertIn("more stops", self.steps)

    def server_in_another_folder(self) -> Server:
        """Assemble a second server."""
        self.path = Path(self.mktemp())
        return self.server()


class CannotStartTests(ServerTestCase):
    """What an operator can mend ends the program with one line and exit status 1."""

    def error(self, start: Callable[[], None]) -> str:
        """Fail to start; read why."""
        with self.assertRaises(CannotStart) as caught:
            start()
        # twistd tells the process that waits for a daemon of ordinary exceptions alone.
        self.assertIsInstance(caught.exception, Exception)
        self.assertIsInstance(caught.exception, SystemExit)
        text = caught.exception.code
        assert isinstance(text, str), "exit status 1 and this text"
        self.assertNotIn("\n", text)
        self.assertTrue(text.startswith("taky: "), text)
        return text

    def test_folder_in_use(self) -> None:
        """A data folder that another server uses is the first thing to be told, before any port is touched."""
        other = DataFolder(self.path)
        other.open()
        self.addCleanup(other.close)
        text = self.error(self.server().privilegedStartService)
        self.assertRegex(text, rf"cannot use the data folder .*another server \(process {os.getpid()}, running since")
        self.assertEqual(self.steps, [])

    def test_folder_taken_meanwhile(self) -> None:
        """So is one that was taken between the check and the start."""
        server = self.server()
        server.privilegedStartService()
        other = DataFolder(self.path)
        other.open()
        self.addCleanup(other.close)
        self.assertIn("is using it", self.error(server.startService))

    def test_port_in_use(self) -> None:
        """A door that cannot be opened."""
        problem = CannotListenError("", 8087, OSError(errno.EADDRINUSE, "Address already in use"))
        text = self.error(self.server(problem=problem).privilegedStartService)
        self.assertIn("cannot open CoT door tcp:8087: another program listens there already", text)

    def test_newer_store(self) -> None:
        """A store that a newer version of this program has written is left alone."""
        self.path.mkdir()
        newer = SqliteStore(self.path / "taky.sqlite", self.reactor, schema=[*migrations(), "CREATE TABLE new (x)"])
        self.successResultOf(newer.open())
        self.reactor.wait(newer.close())
        server = self.server(SqliteStore(self.path / "taky.sqlite", self.reactor))
        server.privilegedStartService()
        self.assertRegex(self.error(server.startService), "taky.sqlite.*newer")

    def test_bug(self) -> None:
        """A bug is no message for the operator."""
        with self.assertRaises(RuntimeError):
            self.server(problem=RuntimeError("a bug")).privilegedStartService()


class LateStoreTests(ServerTestCase):
    """A store that is open only when the reactor runs."""

    def setUp(self) -> None:
        super().setUp()
        self.store = LateStore(self.reactor, self.steps)
        self.log = LogLines(self)
        self.addCleanup(atexit.unregister, os._exit)

    def port(self, server: Server) -> NotingPort:
        """Take the door's port."""
        (port,) = server.doors.ports
        assert isinstance(port, NotingPort)
        return port

    def noting(self) -> Service:
        """Make a service that notes when it is used."""
        steps = self.steps

        class Noting(Service):
            def startService(self) -> None:
                super().startService()
                steps.append("more starts")

            def stopService(self) -> None:
                super().stopService()
                steps.append("more stops")

        return Noting()

    def test_doors_wait(self) -> None:
        """Nobody is taken in, and nobody told that we are ready, before what was kept is there."""
        server = self.start(self.server(self.store, recorder=(recorder := NotingRecorder()), more=[self.noting()]))
        recorder.written.callback(None)
        self.assertEqual(self.steps, ["door opens", "store opens"])
        self.assertFalse(self.port(server).reading)
        self.assertTrue(self.locked())
        contact = replace(contract.contact("A"), stale=self.reactor.seconds() + 600)
        self.store.opened.callback(Kept(contacts=[contact]))
        self.assertIsNotNone(server.router.contacts.get("A"))
        self.assertEqual(self.steps, ["door opens", "store opens", "recorder starts", "more starts"])
        self.assertTrue(self.port(server).reading)
        self.stop(server)
        self.assertEqual(self.steps[4:], ["more stops", "door closes", "recorder stops", "store closes"])

    def fails(self, error: Exception) -> list[str]:
        """Fail to open; read what the operator is told."""
        server = self.start(self.server(self.store, more=[self.noting()]))
        self.store.opened.errback(error)
        self.assertEqual(self.reactor.stops, 1)
        self.stop(server)
        self.assertEqual(self.steps, ["door opens", "store opens", "door closes", "store closes"])
        self.assertFalse(self.locked())
        return self.log(LogLevel.critical)

    def test_cannot_open(self) -> None:
        """One that cannot be opened is told in one line, and ends the program."""
        self.assertEqual(self.fails(StoreError("cannot use it")), ["taky: cannot use it"])

    def test_bug(self) -> None:
        """A bug is logged as one, and ends the program as well."""
        self.assertEqual(self.fails(RuntimeError("a bug")), ["starting failed"])
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_cannot_serve(self) -> None:
        """So does what goes wrong behind it."""

        class Broken(Service):
            def startService(self) -> None:
                raise DoorError("cannot open that door")

        self.start(self.server(self.store, more=[Broken()]))
        self.store.opened.callback(Kept())
        self.assertEqual(self.log(LogLevel.critical), ["taky: cannot open that door"])
        self.assertEqual(self.reactor.stops, 1)

    def test_stopped_before(self) -> None:
        """Who stops it before that waits for nothing, and gets no error."""
        server = self.start(self.server(self.store, more=[self.noting()]))
        self.reactor.advance(0)
        self.stop(server)
        self.assertEqual(self.steps, ["door opens", "store opens", "door closes", "store closes"])
        self.assertFalse(self.locked())
        self.assertEqual((self.log(LogLevel.critical), self.reactor.stops), ([], 0))


class SignalTests(ServerTestCase):
    def test_terminate(self) -> None:
        """SIGTERM stops the reactor as if the work were done: exit status 0."""
        self.start(self.server())
        self.reactor.advance(0)
        os.kill(os.getpid(), signal.SIGTERM)
        self.reactor.run_one()
        self.assertEqual(self.reactor.stops, 1)

    def test_terminate_twice(self) -> None:
        """Being told to stop again while it stops is nothing to complain about."""
        self.start(self.server())
        self.reactor.advance(0)
        self.reactor.stopped = True
        os.kill(os.getpid(), signal.SIGTERM)
        self.reactor.run_one()
        self.assertEqual(self.reactor.stops, 1)

    def test_hang_up(self) -> None:
        """SIGHUP reads certificates again."""
        server = self.start(self.server())
        reloads: list[None] = []
        server._reloading._reloaded = lambda: reloads.append(None)
        self.reactor.advance(0)
        os.kill(os.getpid(), signal.SIGHUP)
        self.reactor.run_one()
        self.assertEqual(server._reloading._reads, 1)
        self.reactor.run_one()
        self.assertEqual(server._reloading._reads, 0)

    def test_while_it_stops(self) -> None:
        """What is asked of a server that stops is not done any more, and does no harm."""
        recorder = NotingRecorder()
        server = self.start(self.server(recorder=recorder))
        self.reactor.advance(0)
        stopping = server.stopService()
        self.assertIn("recorder stops", self.steps)
        os.kill(os.getpid(), signal.SIGHUP)
        self.reactor.run_one()
        self.assertEqual(server._reloading._reads, 0)
        recorder.written.callback(None)
        self.reactor.wait(stopping)

    def test_given_back(self) -> None:
        """When the server has stopped the signals mean what they meant before."""
        before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGHUP)
        server = self.start(self.server())
        self.reactor.advance(0)
        self.assertNotEqual((signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGHUP)), before)
        self.stop(server)
        self.assertEqual((signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGHUP)), before)

    def test_stopped_at_once(self) -> None:
        """A server that stops before the reactor's first turn takes no signals."""
        before = signal.getsignal(signal.SIGTERM)
        self.stop(self.start(self.server()))
        self.reactor.advance(0)
        self.assertEqual(signal.getsignal(signal.SIGTERM), before)

    def test_no_hang_up_here(self) -> None:
        """A system without SIGHUP has SIGTERM alone."""
        number = signal.SIGHUP
        server = self.start(self.server())
        self.addCleanup(setattr, signal, "SIGHUP", number)
        del signal.SIGHUP
        self.reactor.advance(0)
        self.assertEqual(list(server._signals), [signal.SIGTERM])
