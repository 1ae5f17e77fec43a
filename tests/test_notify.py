from __future__ import annotations

import os
import shutil
import socket
import tempfile
from pathlib import Path

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.notify import Notifying, notify
from tests.fakes import LogLines


class NotifyingTests(SynchronousTestCase):
    def setUp(self) -> None:
        folder = tempfile.mkdtemp()  # a socket's path must be short
        self.addCleanup(shutil.rmtree, folder)
        self.path = str(Path(folder, "notify"))
        self.systemd = self.listen(self.path)
        self.clock = Clock()

    def listen(self, address: str) -> socket.socket:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(listener.close)
        listener.bind(address)
        listener.setblocking(False)
        return listener

    def told(self) -> list[str]:
        """Read what systemd was told since the last time."""
        told = []
        try:
            while True:
                told.append(self.systemd.recv(1000).decode())
        except BlockingIOError:
            return told

    def start(self, **environment: str) -> Notifying:
        notifying = Notifying(self.clock, environment)
        notifying.startService()
        return notifying

    def test_life(self) -> None:
        """Systemd is told when the server answers, and when it stops."""
        notifying = self.start(NOTIFY_SOCKET=self.path)
        self.assertEqual(self.told(), [])
        self.clock.advance(0)
        self.assertEqual(self.told(), ["READY=1"])
        self.clock.advance(1000)
        notifying.stopService()
        self.assertEqual(self.told(), ["STOPPING=1"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_watchdog(self) -> None:
        """Where systemd waits for signs of life it gets them twice as often as it needs them."""
        notifying = self.start(NOTIFY_SOCKET=self.path, WATCHDOG_USEC="30000000", WATCHDOG_PID=str(os.getpid()))
        self.clock.pump([0, 15, 15])
        self.assertEqual(self.told(), ["READY=1", "WATCHDOG=1", "WATCHDOG=1", "WATCHDOG=1"])
        notifying.stopService()
        self.clock.advance(15)
        self.assertEqual(self.told(), ["STOPPING=1"])

    def test_not_our_watchdog(self) -> None:
        """A watchdog that waits for another process, or that means nothing, gets nothing."""
        self.start(NOTIFY_SOCKET=self.path, WATCHDOG_USEC="30000000", WATCHDOG_PID="1").stopService()
        self.start(NOTIFY_SOCKET=self.path, WATCHDOG_USEC="often")
        self.clock.pump([0, 15, 15])
        self.assertEqual(self.told(), ["STOPPING=1", "READY=1"])

    def test_without_systemd(self) -> None:
        """Without systemd there is nobody to tell."""
        self.start().stopService()
        self.assertEqual((self.told(), self.clock.getDelayedCalls()), ([], []))

    def test_stopped_at_once(self) -> None:
        """A server that stops before it answered was never ready."""
        self.start(NOTIFY_SOCKET=self.path).stopService()
        self.clock.advance(0)
        self.assertEqual(self.told(), ["STOPPING=1"])

    def test_abstract(self) -> None:
        """Systemd may listen where no folder is."""
        self.systemd = self.listen(f"\0taky-test-{os.getpid()}")
        notify(f"@taky-test-{os.getpid()}", "READY=1")
        self.assertEqual(self.told(), ["READY=1"])

    def test_gone(self) -> None:
        """That systemd cannot be told is a warning, and the server goes on."""
        log = LogLines(self)
        self.start(NOTIFY_SOCKET=self.path + "-gone")
        self.clock.advance(0)
        self.assertEqual(log(), ["systemd cannot be told READY=1: No such file or directory"])

    def test_supervised(self) -> None:
        """Whoever is not systemd is not called so."""
        log = LogLines(self)
        self.start(NOTIFY_SOCKET=self.path + "-gone", TAKY_SUPERVISOR="4711")
        self.clock.advance(0)
        (line,) = log()
        self.assertTrue(line.startswith("the process that started this one cannot be told READY=1"), line)
