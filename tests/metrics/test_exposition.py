from __future__ import annotations

from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from taky_twisted.metrics import catalog
from taky_twisted.metrics.catalog import METRICS, PROCESS
from taky_twisted.metrics.exposition import Exposition
from tests.metrics.test_readings import ReadingsTestCase
from tests.metrics.watched_site import FakeBus, FakeWords
from tests.samples import marker

OPEN = "application/openmetrics-text"
OF_PROMETHEUS = f"{OPEN};version=1.0.0,{OPEN};version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"


class ExpositionTests(ReadingsTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.server.watched.bus, self.server.watched.words = FakeBus(), FakeWords()
        self.exposition = Exposition()

    def spell(self, accept: str = "") -> tuple[str, str]:
        """Spell everything; return the text and its type."""
        body, content_type = self.exposition.spell(list(self.all().values()), accept)
        return body.decode("utf-8"), content_type

    def test_text(self) -> None:
        """Prometheus' own parser reads everything, and finds every metric with its kind, help and values."""
        self.site.join("A").say(marker("M"))
        self.site.router.audiences.tally.latency.observe(0.003)
        text, content_type = self.spell()
        self.assertEqual(content_type, "text/plain; version=0.0.4; charset=utf-8")
        families = {family.name: family for family in read_text(text)}
        for metric in METRICS:
            family = families[metric.name.removesuffix("_total")]
            self.assertEqual((family.type, family.documentation), (metric.kind, metric.says), metric.name)
            for sample in family.samples:
                self.assertEqual(set(sample.labels) - {"le"}, set(metric.labels), metric.name)
        samples = {
            (sample.name, *sorted(sample.labels.items())): sample.value
            for family in families.values()
            for sample in family.samples
        }
        self.assertEqual(samples["taky_events_heard_total", ("kind", "marker"), ("outcome", "routed")], 1)
        self.assertEqual(samples["taky_clients", ("door", "test"), ("protocol", "xml")], 1)
        buckets = [samples["taky_delivery_seconds_bucket", ("le", end)] for end in ("0.0025", "0.005", "5.0", "+Inf")]
        self.assertEqual(buckets, [0, 1, 1, 1])
        self.assertEqual((samples["taky_delivery_seconds_count",], samples["taky_delivery_seconds_sum",]), (1, 0.003))

    def test_process(self) -> None:
        """What the Prometheus client says of the process is there, under the names that the manual has."""
        names = {sample.name for family in read_text(self.spell()[0]) for sample in family.samples}
        others = {name for name in names if not name.startswith("taky_")}
        self.assertEqual(others, set(PROCESS))

    def test_openmetrics(self) -> None:
        """Who can read OpenMetrics gets that, and its parser reads it."""
        for accept in (OPEN, OF_PROMETHEUS, f"text/plain, {OPEN}; version=1.0.0; charset=utf-8"):
            text, content_type = self.spell(accept)
            self.assertTrue(content_type.startswith(f"{OPEN}; version=1.0.0; charset=utf-8"), content_type)
            self.assertTrue(text.endswith("# EOF\n"))
            names = {family.name for family in read_openmetrics(text)}
            self.assertEqual({metric.name.removesuffix("_total") for metric in METRICS} - names, set())

    def test_odd_wishes(self) -> None:
        """Whatever else is asked for, there is a page that can be read, and what was asked for is not repeated."""
        for accept in (
            "*/*",
            "text/html",
            "text/plain;version=abc",
            "text/plain;version=1.0.0;escaping=allow-utf-8",
            "é" * 99,
        ):
            self.assertEqual(self.spell(accept)[1], "text/plain; version=0.0.4; charset=utf-8")
        for accept in (f"{OPEN};version=x.y", f"{OPEN};version=9;escaping=\r\nX: y", f"{OPEN};version="):
            self.assertTrue(self.spell(accept)[1].startswith(f"{OPEN}; version=1.0.0; charset=utf-8"))

    def test_awkward_labels(self) -> None:
        """A door's name may have any characters."""
        self.server.watched.answered = {('/a"b\\c\nd', 200): 1}
        families = {family.name: family for family in read_text(self.spell()[0])}
        (sample,) = families[catalog.HTTP_REQUESTS.name.removesuffix("_total")].samples
        self.assertEqual(sample.labels["route"], '/a"b\\c\nd')
