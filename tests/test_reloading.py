from __future__ import annotations

from typing import cast

from twisted.logger import LogLevel
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.endpoints import server_endpoint
from taky_twisted.identity.certificates import certificate_of
from taky_twisted.identity.tls import MutualTLS
from taky_twisted.reloading import LOOK_SECONDS, Reloading
from tests.fakes import LogLines
from tests.pki import PKI
from tests.threaded_clock import ThreadedClock


class BrokenTLS:
    """TLS with a bug."""

    looks = 0

    def changed(self) -> bool:
        self.looks += 1
        raise RuntimeError("a bug")


class ReloadingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = ThreadedClock()
        self.log = LogLines(self)
        self.pki = PKI(self.mktemp())
        endpoint = server_endpoint(self.clock, self.pki.endpoint(register=self.pki.register_path))
        self.tls: MutualTLS = endpoint.tls  # type: ignore[attr-defined]
        self.closed = 0
        """How often whom the files refuse was closed."""
        self.reloading = Reloading(self.clock, [self.tls], self.close)
        self.reloading.startService()
        self.addCleanup(self.stop)

    def close(self) -> None:
        self.closed += 1

    def stop(self) -> None:
        if self.reloading.running:
            self.reloading.stopService()

    def look(self) -> None:
        """Let the time pass until the files are looked at, and the thread do that."""
        self.clock.advance(LOOK_SECONDS)
        self.clock.run_one()

    def refused(self) -> bool:
        """Whether the good client is refused by now."""
        return self.tls.refusal_of(certificate_of(self.pki.client.certificate)) is not None

    def test_nothing_new(self) -> None:
        """As long as no file changes nothing is read, nobody closed, nothing logged."""
        self.look()
        self.look()
        self.assertEqual((self.closed, self.log()), (0, []))

    def test_revoked(self) -> None:
        """A serial that is marked in the register counts within two seconds, and who uses it is closed."""
        self.pki.write_register(R=[self.pki.client])
        self.assertFalse(self.refused())
        self.look()
        self.assertTrue(self.refused())
        self.assertEqual(self.closed, 1)
        (line,) = self.log()
        self.assertIn("certificates and revocations were read again", line)

    def test_interval(self) -> None:
        """Files are not looked at more often than that."""
        self.pki.write_register(R=[self.pki.client])
        self.clock.advance(LOOK_SECONDS - 0.1)
        self.assertEqual(self.reloading._reads, 0)
        self.clock.advance(0.1)
        self.clock.run_one()
        self.assertTrue(self.refused())

    def test_request(self) -> None:
        """On request everything is read at once, changed or not."""
        self.clock.wait(self.reloading.reload())
        self.assertEqual((self.closed, len(self.log(LogLevel.info))), (1, 1))

    def test_bad_file(self) -> None:
        """A file that cannot be used is warned of once, not at every look; what was read before still counts."""
        good = self.tls.serverConnectionForTLS(cast("object", None)).get_context()  # type: ignore[arg-type]
        for garbage in (b"garbage", b"more garbage"):
            self.pki.write("server.pem", garbage)
            self.look()
        (line,) = self.log(LogLevel.warn)
        self.assertRegex(line, r"server\.pem: no certificate in it .*; what was read before still counts$")
        self.assertIs(self.tls.serverConnectionForTLS(cast("object", None)).get_context(), good)  # type: ignore[arg-type]

    def test_mended_file(self) -> None:
        """A file that is mended is used again, and if it breaks again there is a new warning."""
        self.pki.write("server.pem", b"garbage")
        self.look()
        self.pki.write("server.pem", self.pki.server.pem)
        self.look()
        self.assertEqual(len(self.log(LogLevel.info)), 1)
        self.pki.write("server.pem", b"garbage!")
        self.look()
        self.assertEqual(len(self.log(LogLevel.warn)), 2)

    def test_request_with_a_bad_file(self) -> None:
        """Who asks is always told."""
        self.pki.write("server.pem", b"garbage")
        self.look()
        self.clock.wait(self.reloading.reload())
        self.assertEqual(len(self.log(LogLevel.warn)), 2)

    def test_bug(self) -> None:
        """A bug is logged as one, and the files are looked at all the same the next time."""
        self.stop()
        broken = BrokenTLS()
        self.reloading = Reloading(self.clock, [cast(MutualTLS, broken)], self.close)
        self.reloading.startService()
        self.look()
        self.look()
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 2)
        self.assertEqual(broken.looks, 2)

    def test_without_tls(self) -> None:
        """A server without certificates looks at nothing, and a request is no error."""
        self.stop()
        self.reloading = Reloading(self.clock, [], self.close)
        self.reloading.startService()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.clock.wait(self.reloading.reload())
        self.assertEqual((self.closed, self.log()), (0, []))

    def test_stopped_meanwhile(self) -> None:
        """Stopping does not wait for a disk; the thread ends when it is done."""
        reading = self.reloading.reload()
        self.reloading.stopService()
        self.clock.wait(reading)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.reloading._reads, 0)
