from __future__ import annotations

import json
import os
from datetime import datetime, timedelta, timezone
from typing import Any

from twisted.logger import LogLevel
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.interfaces import StoreState
from taky_twisted.metrics.health import EXPIRY, FAULTS, LAG_SECONDS, LOOK_SECONDS, Health, open_files, report
from taky_twisted.metrics.pulse import WINDOW_SECONDS
from tests.fakes import LogLines
from tests.metrics.watched_site import FakeBus, FakeHistory, WatchedSite
from tests.samples import NOW


class HealthTests(SynchronousTestCase):
    """Each fault is told with its name, since when, and what to do; and told no more when it is over."""

    def setUp(self) -> None:
        self.server = WatchedSite()
        self.server.pulse.startService()
        self.health = Health(self.server.watched, self.server.reactor, lambda: self.server.files)
        self.addCleanup(self.server.pulse.stopService)

    def look(self) -> tuple[int, dict[str, Any]]:
        """Ask how the server is."""
        faults = self.successResultOf(self.health.look())
        status, document = report(faults, self.server.reactor.seconds())
        return status, json.loads(json.dumps(document))

    def assert_well(self) -> None:
        """Nothing is wrong."""
        status, document = self.look()
        self.assertEqual((status, document["status"], document["faults"]), (200, "healthy", []))
        self.assertFalse(any(self.health.present.values()))

    def assert_fault(self, name: str, severity: str, *words: str) -> dict[str, Any]:
        """One thing is wrong."""
        status, document = self.look()
        (fault,) = document["faults"]
        self.assertEqual((fault["name"], fault["severity"], document["status"]), (name, severity, severity))
        self.assertEqual(status, 503 if severity == "unhealthy" else 200)
        for word in words:
            self.assertIn(word, fault["what"])
        self.assertTrue(fault["do"])
        self.assertIn(name, FAULTS)
        self.assertEqual([each for each, there in self.health.present.items() if there], [name])
        return dict(fault)

    def test_well(self) -> None:
        """A server without faults says so, its version and the time, and nothing else."""
        _, document = self.look()
        self.assertEqual(sorted(document), ["faults", "status", "time", "version"])
        self.assertEqual(document["time"], "2026-03-01T10:00:00Z")
        self.assert_well()

    def test_store(self) -> None:
        """A store that cannot be written."""
        self.server.state = StoreState("the disk is full. Make room.", NOW - 60, 3)
        fault = self.assert_fault("store", "unhealthy", "3 changes wait", "the disk is full. Make room.")
        self.assertEqual(fault["since"], "2026-03-01T09:59:00Z")
        self.server.state = StoreState(written=NOW)
        self.assert_well()

    def test_history(self) -> None:
        """History that leaves something out; clients are served all the same."""
        self.server.watched.history = FakeHistory("the disk is full. Make room.", 0, 4)
        self.assert_fault("history", "degraded", "the disk is full")
        self.server.watched.history = FakeHistory("", 0, 4)
        self.assert_well()
        self.server.watched.history = None
        self.assert_well()

    def test_bus(self) -> None:
        """A bus that is away; a server without one has no such fault."""
        self.server.watched.bus = bus = FakeBus(up=False)
        self.assert_fault("bus", "unhealthy", "away")
        bus.up = True
        self.assert_well()

    def test_certificate(self) -> None:
        """A door's certificate that ends soon, or has ended."""
        now = datetime.fromtimestamp(NOW, timezone.utc)
        self.server.ends = {"CoT ssl:8089": now + EXPIRY, "Marti ssl:8443": now + timedelta(days=300)}
        self.assert_well()
        self.server.ends = {"CoT ssl:8089": now + EXPIRY - timedelta(seconds=1)}
        self.assert_fault("certificate", "degraded", "CoT ssl:8089 (ends on 2026-03-15 09:59 UTC)")
        self.server.ends = {"CoT ssl:8089": now}
        self.assert_fault("certificate", "degraded", "CoT ssl:8089 (ended on 2026-03-01 10:00 UTC)")

    def test_door(self) -> None:
        """A door that takes nobody in."""
        self.server.shut = ["CoT door ssl:8089", "Marti door ssl:8443"]
        self.assert_fault("door", "unhealthy", "CoT door ssl:8089, Marti door ssl:8443")
        self.server.shut = []
        self.assert_well()

    def test_files(self) -> None:
        """Files and connections that are nearly used up."""
        self.server.files = (899, 1000)
        self.assert_well()
        self.server.files = (900, 1000)
        self.assert_fault("files", "unhealthy", "900 of 1000")

    def test_lag(self) -> None:
        """A reactor that comes late, and a while later no more."""
        self.server.pass_time(0.5, late=LAG_SECONDS)
        self.assert_well()
        self.server.pass_time(0.5, late=LAG_SECONDS + 0.1)
        self.assert_fault("lag", "unhealthy", "2.1 s late")
        for _ in range(int(WINDOW_SECONDS / 0.5) + 1):
            self.server.pass_time(0.5)
        self.assert_well()

    def test_clock(self) -> None:
        """A clock that was set, either way."""
        for seconds, word in ((7200.0, "ahead by 7200 s"), (-60.0, "back by 60 s")):
            self.server.pulse.jumped(seconds)
            self.assert_fault("clock", "unhealthy", word)
        self.server.steady += WINDOW_SECONDS + 0.1
        self.server.pulse.stopService()  # it would count that as being late
        self.assert_well()

    def test_since(self) -> None:
        """Since when something is wrong is known although nobody asked, and begins anew when it comes back."""
        self.health.startService()
        self.addCleanup(self.health.stopService)
        self.server.shut = ["CoT door tcp:1"]
        self.server.reactor.advance(LOOK_SECONDS)
        self.server.reactor.advance(20)
        self.assertEqual(self.assert_fault("door", "unhealthy")["since"], "2026-03-01T10:00:05Z")
        self.server.shut = []
        self.assert_well()
        self.server.shut = ["CoT door tcp:1"]
        self.assertEqual(self.assert_fault("door", "unhealthy")["since"], "2026-03-01T10:00:25Z")

    def test_several(self) -> None:
        """Several faults are told together, and the gravest counts."""
        now = datetime.fromtimestamp(NOW, timezone.utc)
        self.server.ends = {"CoT ssl:8089": now}
        self.server.watched.bus = FakeBus(up=False)
        status, document = self.look()
        self.assertEqual((status, [fault["name"] for fault in document["faults"]]), (503, ["bus", "certificate"]))

    def test_goes_on(self) -> None:
        """A look that fails is told as a mistake, and does not end the looking."""
        log = LogLines(self)
        answers: list[tuple[int, int]] = []
        health = Health(self.server.watched, self.server.reactor, lambda: answers[0])
        health.startService()
        self.addCleanup(health.stopService)
        self.assertEqual(log(LogLevel.critical), ["looking for faults failed"])
        self.assertEqual(len(self.flushLoggedErrors(IndexError)), 1)
        answers.append((1000, 1000))
        self.server.reactor.advance(LOOK_SECONDS)
        self.assertTrue(health.present["files"])

    def test_stop(self) -> None:
        """Nothing is left to be done when it has stopped, also if it never began."""
        self.health.stopService()
        self.health.startService()
        self.health.stopService()
        self.server.pulse.stopService()
        self.assertEqual(self.server.reactor.getDelayedCalls(), [])


class OpenFilesTests(SynchronousTestCase):
    def test_counted(self) -> None:
        """One more open file is one more."""
        before, allowed = open_files()
        with open(os.devnull):
            self.assertEqual(open_files(), (before + 1, allowed))
        self.assertLess(before, allowed)

    def test_none_left(self) -> None:
        """Where not even the folder can be read, all are in use; where there is no such folder, nobody knows."""

        def refuse(error: OSError) -> Any:
            def listdir(_: str) -> list[str]:
                raise error

            return listdir

        allowed = open_files()[1]
        self.patch(os, "listdir", refuse(OSError(24, "Too many open files")))
        self.assertEqual(open_files(), (allowed, allowed))
        self.patch(os, "listdir", refuse(FileNotFoundError(2, "No such file or directory")))
        self.assertEqual(open_files(), (0, allowed))
