"""What an event costs."""

from __future__ import annotations

import os

from twisted.trial.unittest import SynchronousTestCase

from bench.crowd import Crowd
from bench.events import XML
from bench.jobs import Job
from bench.talk import Meter, Talk
from bench.tally import Tally


class MeterTests(SynchronousTestCase):
    def measure(self, pids: list[int], redis_pid: int = 0) -> dict[str, float]:
        """Measure what processes use while this one works; nothing is said."""
        job = Job("w1", {}, [1] * len(pids), pids, "", redis_pid=redis_pid)
        crowd, tally = Crowd(job.ports, None, "", XML), Tally(0)
        self.addCleanup(crowd.close)
        meter = Meter(job, Talk(crowd, tally, "", []), tally)
        before = os.times()
        while sum(os.times()[:2]) - sum(before[:2]) < 0.05:
            pass
        return meter.figures()

    def test_one_process(self) -> None:
        """A server that is one process has its own cost, and none of nodes."""
        figures = self.measure([os.getpid()])
        self.assertGreater(figures["cpu_us_per_event"], 20_000)
        self.assertEqual(figures["cpu_us_per_delivered"], figures["cpu_us_per_event"])
        self.assertNotIn("redis_us_per_event", figures)

    def test_nodes(self) -> None:
        """Of several nodes the cost is that of all; the busiest one's, and that of Redis, are told beside it."""
        one = os.getpid()
        figures = self.measure([os.getppid(), one, one], redis_pid=one)
        self.assertGreater(figures["busiest_us_per_event"], 20_000)
        self.assertGreaterEqual(figures["cpu_us_per_event"], 2 * figures["busiest_us_per_event"])
        self.assertEqual(figures["redis_us_per_event"], figures["busiest_us_per_event"])
