"""Spell readings as Prometheus reads them: its own text format, or OpenMetrics for who asks for that."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from taky_twisted.metrics.readings import Reading

_OPEN = "application/openmetrics-text; version=1.0.0"


class Exposition:
    """Has what the Prometheus client knows of this process, and adds readings to it."""

    def __init__(self) -> None:
        self._process = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=self._process)
        GCCollector(registry=self._process)

    def spell(self, readings: Sequence[Reading], accept: str) -> tuple[bytes, str]:
        """Spell everything; this reads files, and takes a few milliseconds: it is done in a thread.

        Args:
            readings: what was looked at.
            accept: the header of this name: who can read OpenMetrics says so there.

        Returns:
            A body and its content type.
        """
        # The Prometheus client fails at odd versions: it is told of the one that we mean.
        encode, content_type = choose_encoder(_OPEN if "application/openmetrics-text" in accept else "")
        return encode(_Page([*map(_family, readings), *self._process.collect()])), content_type


class _Page(Collector):
    """Families that are there already."""

    def __init__(self, families: Iterable[Family]) -> None:
        self._families = families

    def collect(self) -> Iterator[Family]:
        return iter(self._families)


def _family(reading: Reading) -> Family:
    metric = reading.metric
    if metric.kind == "histogram":
        sums = accumulate(reading.values.values())
        buckets = [(end, float(count)) for (end,), count in zip(reading.values, sums, strict=True)]
        return HistogramMetricFamily(metric.name, metric.says, buckets=buckets, sum_value=reading.total)
    kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    family: Family = kind(metric.name, metric.says, labels=metric.labels)
    for labels, value in reading.values.items():
        family.add_metric(labels, value)  # type: ignore[attr-defined]  # of both kinds
    return family
