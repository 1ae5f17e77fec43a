"""A site without sockets, and what of it is watched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from taky_twisted.identity.failures import Failures
from taky_twisted.interfaces import Node, StoreState
from taky_twisted.metrics.pulse import Pulse
from taky_twisted.metrics.refusals import Refusals
from taky_twisted.metrics.watched import Counts, Watched
from taky_twisted.routing.words import Word
from tests.admin.running import Reactor
from tests.fakes import Site
from tests.samples import NOW


@dataclass
class FakeBus:
    """What joins nodes, as far as it is looked at."""

    instance: str = "us"
    up: bool = True
    crowded: bool = False
    nodes: Sequence[Node] = (Node("other", "other"),)

    def tell(self, word: Word) -> None:
        raise AssertionError("who watches says nothing")


@dataclass
class FakeWords:
    """What a bus has carried."""

    told: int = 4
    heard: int = 3
    dropped: int = 2
    undelivered: int = 1


@dataclass
class FakeHistory:
    """History, as far as it is looked at."""

    trouble: str = ""
    queued: int = 0
    lost: int = 0


class WatchedSite:
    """Everything that is looked at, for a test to change."""

    def __init__(self) -> None:
        self.site = Site()
        self.reactor = Reactor()
        self.reactor.rightNow = NOW
        self.steady = 1000.0
        self.failures = Failures(self.reactor)
        self.pulse = Pulse(self.reactor, lambda: self.steady)
        self.state = StoreState()
        self.shut: list[str] = []
        self.ends: Mapping[str, datetime] = {}
        self.files = (100, 1000)
        self.history = FakeHistory()
        self.watched = Watched(
            router=self.site.router,
            failures=self.failures,
            refusals=Refusals(self.failures),
            pulse=self.pulse,
            store=lambda: self.state,
            counts=lambda: Counts(handshakes=1, handshaken=2, http=3, left_out=4),
            shut=lambda: self.shut,
            certificates=lambda: self.ends,
            answered={("/Marti/api/version", 200): 2, ("/Marti/api/version", 204): 1, ("", 404): 5},
            history=self.history,
        )

    def pass_time(self, seconds: float, late: float = 0.0) -> None:
        """Let time pass, by both clocks; the reactor may come late."""
        self.steady += seconds + late
        self.reactor.advance(seconds)
