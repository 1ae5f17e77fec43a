"""Limits of streams that have no test at their edge beside their module."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.config.limits import Limits
from taky_twisted.routing.tak_stream import BUDGET_SECONDS
from tests.fakes import Site
from tests.samples import marker


class BudgetTests(SynchronousTestCase):
    def reads_on(self, said: bytes, **limits: int) -> bool:
        """Whether a connection that said something is read on at once; nothing of it is lost."""
        site = Site(limits=Limits().replaced(limits))
        reader, client = site.join("B"), site.connect()
        reader.heard()
        client.say(said)
        self.assertEqual(len(reader.heard()), said.count(b"</event>"))
        return client.transport.reading

    def test_events(self) -> None:
        """So many events are read in a second; with one more reading pauses."""
        for more, reads in ((-1, True), (0, True), (1, False)):
            said = b"".join(marker(f"M-{number}") for number in range(10 + more))
            self.assertEqual(self.reads_on(said, input_events_per_second=10), reads, more)

    def test_bytes(self) -> None:
        """So many bytes are read in a second; with one more reading pauses."""
        event = marker("M-1")
        for more, reads in ((-1, True), (0, True), (1, False)):
            said = event + b" " * (4000 + more - len(event))
            self.assertEqual(self.reads_on(said, input_bytes_per_second=4000), reads, more)

    def test_window(self) -> None:
        """What was said a second ago does not count any more, and what was said later does."""
        said = [b"".join(marker(f"M-{part}{number}") for number in range(10)) for part in range(2)]
        for pause, reads in ((BUDGET_SECONDS - 0.01, False), (BUDGET_SECONDS, True), (BUDGET_SECONDS + 0.01, True)):
            site = Site(limits=Limits().replaced({"input_events_per_second": 10}))
            client = site.connect()
            client.say(said[0])
            site.clock.advance(pause)
            client.say(said[1])
            self.assertEqual(client.transport.reading, reads, pause)
