"""A router without wires, and people who speak to it."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.config.limits import Limits
from taky_twisted.cot.event import Event
from taky_twisted.identity.principal import ANONYMOUS, Principal
from taky_twisted.records import Record
from taky_twisted.routing.router import Router
from taky_twisted.routing.subscription import Subscription
from taky_twisted.stores.memory import MemoryStore
from tests.fakes import LogLines, MemorySink
from tests.samples import NOW, event, sa


class Peer:
    """A connection without a wire."""

    def __init__(self, tests: RouterCase, proved: Principal, **keys: object) -> None:
        self._tests = tests
        self.sink = MemorySink()
        self.subscription: Subscription = tests.router.subscribe(proved, self.sink, "peer", **keys)  # type: ignore[arg-type]

    def say(self, *documents: bytes) -> None:
        """Say something; the reactor turn ends."""
        for document in documents:
            self.subscription.publish(event(document))
        self._tests.clock.advance(0)

    def heard(self) -> list[Event]:
        """Take what was delivered since the last time."""
        self._tests.clock.advance(0)
        events, self.sink.events = self.sink.events, []
        return events

    def uids(self) -> list[str]:
        """Take the uids of what was delivered."""
        return [each.uid for each in self.heard()]

    def types(self) -> list[str]:
        """Take the types of what was delivered."""
        return [each.type for each in self.heard()]

    def shown(self) -> list[str]:
        """Tell what it was shown when it came: uids, and of departures whose they are."""
        return [f"-{each.detail.link_uid}" if each.type == "t-x-d-d" else each.uid for each in self.sink.replayed]

    def leave(self, clean: bool = True) -> None:
        """Be gone."""
        self.subscription.close(clean)
        self._tests.clock.advance(0)


class RouterCase(SynchronousTestCase):
    """A router on a clock of ours."""

    limits = Limits()

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.rightNow = NOW
        self.store = MemoryStore(self.clock)
        self.log = LogLines(self)
        self.begin()

    def begin(self, **keys: object) -> None:
        """Start a router on what the store has."""
        self.router = Router(self.clock, self.store, self.limits, **keys)  # type: ignore[arg-type]
        self.successResultOf(self.store.open().addCallback(self.router.restore))

    def connect(self, proved: Principal = ANONYMOUS, **keys: object) -> Peer:
        """Connect somebody who says nothing yet."""
        return Peer(self, proved, **keys)

    def join(self, uid: str, callsign: str | None = None, proved: Principal = ANONYMOUS, **keys: object) -> Peer:
        """Connect somebody who reports itself."""
        peer = self.connect(proved)
        peer.say(sa(uid, callsign or uid, **keys))  # type: ignore[arg-type]
        return peer

    def team(self, *uids: str, **keys: object) -> list[Peer]:
        """Connect several who have heard of each other."""
        peers = [self.join(uid, **keys) for uid in uids]  # type: ignore[arg-type]
        for peer in peers:
            peer.heard()
        return peers

    def kept(self, kind: type) -> list[str]:
        """Tell the keys of what would survive a restart now."""
        self.router.contacts.save()
        kept = self.successResultOf(self.store.open())
        records: list[Record] = [*kept.items, *kept.tombstones, *kept.contacts, *kept.emergencies, *kept.chats]
        return sorted(record.key for record in records if isinstance(record, kind))
