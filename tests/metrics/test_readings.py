from __future__ import annotations

from datetime import datetime, timezone

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.interfaces import StoreState
from taky_twisted.metrics import catalog
from taky_twisted.metrics.catalog import METRICS, Metric
from taky_twisted.metrics.health import FAULTS
from taky_twisted.metrics.readings import CHUNK, Labels, Reading, read
from taky_twisted.routing.tally import BOUNDS
from tests.fakes import MemorySink, principal
from tests.metrics.watched_site import FakeBus, FakeHistory, FakeWords, WatchedSite
from tests.samples import chat, emergency, marker, sa, to


class ReadingsTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.server = WatchedSite()
        self.site = self.server.site
        self.faults = dict.fromkeys(FAULTS, False)

    def all(self) -> dict[str, Reading]:
        """Look at everything."""
        reading = Deferred.fromCoroutine(read(self.server.watched, self.server.reactor, self.faults))
        for _ in range(50):
            self.server.reactor.advance(0)
        readings = self.successResultOf(reading)
        return {each.metric.name: each for each in readings}

    def values(self, metric: Metric) -> dict[Labels, float]:
        """Look at one metric."""
        return dict(self.all()[metric.name].values)

    def value(self, metric: Metric) -> float:
        """Look at one without labels."""
        return self.values(metric)[()]


class ReadingsTests(ReadingsTestCase):
    def test_all_of_them(self) -> None:
        """Every metric that there is has one reading, with as many labels as it says."""
        self.server.watched.bus, self.server.watched.words = FakeBus(), FakeWords()
        readings = self.all()
        self.assertEqual(sorted(readings), sorted(metric.name for metric in METRICS))
        for reading in readings.values():
            expected = 1 if reading.metric is catalog.LATENCY else len(reading.metric.labels)
            for labels in reading.values:
                self.assertEqual(len(labels), expected, reading.metric.name)
                self.assertTrue(all(isinstance(label, str) for label in labels), reading.metric.name)

    def test_clients(self) -> None:
        """Clients are told apart by door and protocol, and who reads slowly is seen; nothing else is counted."""
        a, b = self.site.join("A"), self.site.join("B")
        self.site.connect(monitor=True)
        self.site.subscribe(principal("X"), MemorySink())
        self.assertEqual(self.values(catalog.CLIENTS), {("test", "xml"): 2, ("monitor", "xml"): 1})
        self.assertEqual((self.value(catalog.FULL), self.value(catalog.BACKLOG)), (0, 0))
        b.full()
        a.say(marker("M"))
        self.assertEqual(self.value(catalog.FULL), 1)
        self.assertGreater(self.value(catalog.BACKLOG), 300)

    def test_no_clients(self) -> None:
        """Where nobody is any more there are 0, and not nothing: else a board goes on to show who was there last."""
        self.server.watched.clients.add(("other", "xml"))
        a = self.site.join("A")
        self.assertEqual(self.values(catalog.CLIENTS), {("other", "xml"): 0, ("test", "xml"): 1})
        a.leave()
        self.assertEqual(self.values(catalog.CLIENTS), {("other", "xml"): 0, ("test", "xml"): 0})

    def test_many(self) -> None:
        """Many are looked at in several turns, and the server goes on in between."""
        for _ in range(CHUNK + 1):
            self.site.connect()
        reading = Deferred.fromCoroutine(read(self.server.watched, self.server.reactor, self.faults))
        self.assertNoResult(reading)
        self.site.connect()
        for _ in range(10):
            self.server.reactor.advance(0)
        first = self.successResultOf(reading)[0]
        self.assertEqual(dict(first.values), {("test", "xml"): CHUNK + 1})

    def test_events(self) -> None:
        """Events are told apart by kind and by what became of them."""
        a = self.site.join("A")
        a.say(marker("M"), chat("A", marti=to("B")), emergency("A", "A"), b"<event uid='x'/>")
        tally = self.site.router.audiences.tally
        tally.kinds["marker"].refused += 1
        tally.thinned += 7
        tally.was_closed("stalled", 5)
        heard = self.values(catalog.HEARD)
        self.assertEqual((heard["position", "routed"], heard["chat", "routed"]), (1, 1))
        self.assertEqual((heard["marker", "routed"], heard["marker", "refused"]), (0, 1))
        self.assertEqual((heard["emergency", "routed"], heard["other", "unreadable"]), (1, 1))
        self.assertEqual(self.values(catalog.DROPPED), {("thinned",): 7, ("overflow",): 0, ("stalled",): 5})
        self.assertEqual(self.values(catalog.CLOSED), {("overflow",): 0, ("stalled",): 1, ("idle",): 0})
        self.assertEqual(self.value(catalog.DELIVERED), tally.delivered)

    def test_latency(self) -> None:
        """Each class of the histogram is there with its end."""
        self.site.router.audiences.tally.latency.observe(0.2)
        self.site.router.audiences.tally.latency.observe(99.0)
        reading = self.all()[catalog.LATENCY.name]
        self.assertEqual(list(reading.values), [*((str(bound),) for bound in BOUNDS), ("+Inf",)])
        self.assertEqual((reading.values[("0.25",)], reading.values[("+Inf",)], reading.total), (1, 1, 99.2))

    def test_kept(self) -> None:
        """What the map has is counted."""
        a = self.site.join("A")
        self.site.join("B").leave()
        a.say(marker("M"), marker("N"), emergency("A", "A"), chat("A", marti=to("B")))
        self.assertEqual(self.values(catalog.CONTACTS), {("present",): 1, ("away",): 1})
        self.assertEqual([self.value(each) for each in (catalog.ITEMS, catalog.EMERGENCIES)], [2, 1])
        self.assertEqual(self.value(catalog.CHATS), len(self.site.router.chats))

    def test_doors(self) -> None:
        """What the doors count, and whom they refuse."""
        for reason in (
            "the password is wrong",
            "the client showed no certificate",
            "there are 5 (max_connections)",
            "?",
        ):
            self.server.failures.tell("192.0.2.1", "door", reason)
        self.server.shut = ["CoT door tcp:1"]
        self.server.ends = {"CoT ssl:8089": datetime(2026, 3, 1, 10, tzinfo=timezone.utc)}
        logins = self.values(catalog.LOGINS_FAILED)
        self.assertEqual((logins[("wrong_password",)], logins[("no_account",)]), (1, 0))
        tls = self.values(catalog.TLS)
        self.assertEqual((tls[("ok",)], tls[("no_certificate",)], tls[("expired",)]), (2, 1, 0))
        self.assertEqual(self.values(catalog.REFUSED)[("max_connections",)], 1)
        self.assertEqual(self.value(catalog.FAILED), 4)
        self.assertEqual([self.value(each) for each in (catalog.HANDSHAKES, catalog.HTTP_CONNECTIONS)], [1, 3])
        self.assertEqual([self.value(each) for each in (catalog.SUPPRESSED, catalog.DOORS_SHUT)], [4, 1])
        self.assertEqual(self.values(catalog.CERTIFICATE_END), {("CoT ssl:8089",): 1_772_359_200.0})

    def test_requests(self) -> None:
        """Requests are told apart by their route's pattern and the class of the answer, whatever is asked for."""
        self.assertEqual(self.values(catalog.HTTP_REQUESTS), {("/Marti/api/version", "2xx"): 3, ("none", "4xx"): 5})

    def test_store(self) -> None:
        """How the store is doing."""
        self.server.state = StoreState("full. Make room.", 5.0, 7, 3.0)
        for metric, value in ((catalog.STORE_WRITABLE, 0), (catalog.STORE_PENDING, 7), (catalog.STORE_WRITTEN, 3.0)):
            self.assertEqual(self.value(metric), value)
        self.server.state = StoreState()
        self.assertEqual(self.value(catalog.STORE_WRITABLE), 1)

    def test_history(self) -> None:
        """History is there or not, kept or not."""
        metrics = (catalog.HISTORY_KEPT, catalog.HISTORY_QUEUED, catalog.HISTORY_LOST)
        self.assertEqual([self.value(each) for each in metrics], [1, 0, 0])
        self.server.watched.history = FakeHistory("full. Make room.", 10, 3)
        self.assertEqual([self.value(each) for each in metrics], [0, 10, 3])
        self.server.watched.history = None
        self.assertEqual([self.values(each) for each in metrics], [{}, {}, {}])

    def test_bus(self) -> None:
        """The bus is there or not, up or not; words are counted by whoever counts them."""
        metrics = (catalog.BUS_UP, catalog.BUS_NODES, catalog.BUS_WORDS)
        self.assertEqual([self.values(each) for each in metrics], [{}, {}, {}])
        self.server.watched.bus = FakeBus(up=False)
        self.assertEqual([self.values(each) for each in metrics], [{(): 0}, {(): 1}, {}])
        self.server.watched.bus, self.server.watched.words = FakeBus(), FakeWords()
        self.assertEqual(self.value(catalog.BUS_UP), 1)
        words = {("told",): 4, ("heard",): 3, ("dropped",): 2, ("undelivered",): 1}
        self.assertEqual(self.values(catalog.BUS_WORDS), words)

    def test_process(self) -> None:
        """How late the reactor is, whether the clock was set, and which faults there are."""
        self.server.pulse.startService()
        self.addCleanup(self.server.pulse.stopService)
        self.server.pass_time(0.5, late=1.5)
        self.server.pulse.jumped(60)
        self.faults["clock"] = True
        metrics = (catalog.LAG, catalog.WORST_LAG, catalog.CLOCK_JUMPS)
        self.assertEqual([self.value(each) for each in metrics], [1.5, 1.5, 1])
        faults = self.values(catalog.FAULT)
        self.assertEqual((len(faults), faults[("clock",)], faults[("store",)]), (len(FAULTS), 1, 0))

    def test_no_names_of_clients(self) -> None:
        """No label has anything in it that a client chose: there would be no end to them."""
        a = self.site.join("SECRET-UID", "SECRET-CALLSIGN", principal("SECRET-NAME"))
        a.say(sa("SECRET-UID", "SECRET-CALLSIGN"), marker("SECRET-ITEM"))
        for reading in self.all().values():
            self.assertNotIn("SECRET", str(reading.values))
