"""Look at all counters once. It happens in the reactor's thread, a little in each turn, and nothing is spelled here."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import twisted
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from taky_twisted import __version__
from taky_twisted.metrics import catalog
from taky_twisted.metrics.catalog import Metric
from taky_twisted.metrics.refusals import REASONS, What
from taky_twisted.routing.tak_stream import TAKStream
from taky_twisted.routing.tally import BOUNDS

if TYPE_CHECKING:
    from taky_twisted.metrics.watched import Watched

CHUNK = 250
"""Connections and contacts that are looked at in one reactor turn: less than a millisecond."""
NO_ROUTE = "none"
"""Stands for the route of requests to what there is not."""

Labels = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Reading:
    """The values of one metric at one moment."""

    metric: Metric
    values: Mapping[Labels, float]
    """By the values of its labels; of a histogram how many are in each class, by the class' end."""
    total: float = 0.0
    """Of a histogram, the sum of what was measured."""


@dataclass(slots=True)
class _Streams:
    clients: Counter[Labels]
    full: int = 0
    backlog: int = 0


async def read(watched: Watched, clock: IReactorTime, faults: Mapping[str, bool]) -> list[Reading]:
    """Look at everything.

    Args:
        watched: the server.
        clock: the reactor.
        faults: every fault that there may be, and whether it is there.
    """
    streams = await _streams(watched, clock)
    contacts = await _contacts(watched, clock)
    readings = [
        Reading(catalog.CLIENTS, streams.clients),
        _one(catalog.FULL, streams.full),
        _one(catalog.BACKLOG, streams.backlog),
        Reading(catalog.CONTACTS, contacts),
        Reading(catalog.FAULT, {(name,): int(there) for name, there in faults.items()}),
        Reading(catalog.BUILD, {(__version__, platform.python_version(), twisted.__version__): 1}),
    ]
    for part in (_doors, _events, _kept, _store, _history, _bus, _process):
        readings += part(watched)
    return readings


async def _streams(watched: Watched, clock: IReactorTime) -> _Streams:
    found = _Streams(Counter(dict.fromkeys(watched.clients, 0)))
    subscriptions = list(watched.router.subscriptions)
    for start in range(0, len(subscriptions), CHUNK):
        for subscription in subscriptions[start : start + CHUNK]:
            sink = subscription.sink
            if isinstance(sink, TAKStream):
                state = sink.state
                found.clients[state.door, state.protocol] += 1
                found.full += state.full
                found.backlog += state.backlog
        await deferLater(clock, 0)
    watched.clients.update(found.clients)
    return found


async def _contacts(watched: Watched, clock: IReactorTime) -> dict[Labels, float]:
    states = Counter({"present": 0, "away": 0})
    contacts = list(watched.router.contacts)
    for start in range(0, len(contacts), CHUNK * 4):
        states.update("present" if each.present else "away" for each in contacts[start : start + CHUNK * 4])
        await deferLater(clock, 0)
    return {(state,): count for state, count in states.items()}


def _one(metric: Metric, value: float) -> Reading:
    return Reading(metric, {(): value})


def _doors(watched: Watched) -> Iterator[Reading]:
    counts, refused = watched.counts(), watched.refusals.counts

    def by_reason(what: What) -> dict[Labels, float]:
        # What never happened is 0, so that a first time is seen as a change.
        return {(reason,): refused[what, reason] for reason in REASONS[what]}

    yield _one(catalog.HANDSHAKES, counts.handshakes)
    yield _one(catalog.HTTP_CONNECTIONS, counts.http)
    yield _one(catalog.SUPPRESSED, counts.left_out)
    yield Reading(catalog.REFUSED, by_reason("connection"))
    yield Reading(catalog.TLS, {("ok",): counts.handshaken, **by_reason("tls")})
    yield Reading(catalog.LOGINS_FAILED, by_reason("login"))
    yield _one(catalog.FAILED, watched.failures.total)
    yield _one(catalog.DOORS_SHUT, len(watched.shut()))
    ends = watched.certificates()
    yield Reading(catalog.CERTIFICATE_END, {(door,): end.timestamp() for door, end in ends.items()})
    answered: Counter[Labels] = Counter()
    for (route, status), count in watched.answered.items():
        answered[route or NO_ROUTE, f"{status // 100}xx"] += count
    yield Reading(catalog.HTTP_REQUESTS, answered)


def _events(watched: Watched) -> Iterator[Reading]:
    tally = watched.router.audiences.tally
    heard: dict[Labels, float] = {}
    for name, kind in tally.kinds.items():
        heard[name, "routed"] = kind.heard - kind.refused
        heard[name, "refused"] = kind.refused
    heard["other", "unreadable"] = tally.unreadable
    yield Reading(catalog.HEARD, heard)
    yield _one(catalog.DELIVERED, tally.delivered)
    waited: dict[Labels, float] = {(reason,): count for reason, count in tally.waited.items()}
    yield Reading(catalog.DROPPED, {("thinned",): tally.thinned, **waited})
    yield Reading(catalog.CLOSED, {(reason,): count for reason, count in tally.closed.items()})
    ends = [*map(str, BOUNDS), "+Inf"]
    counts: dict[Labels, float] = {(end,): count for end, count in zip(ends, tally.latency.counts, strict=True)}
    yield Reading(catalog.LATENCY, counts, tally.latency.total)


def _kept(watched: Watched) -> Iterator[Reading]:
    router = watched.router
    yield _one(catalog.ITEMS, len(router.retained))
    yield _one(catalog.EMERGENCIES, len(router.emergencies))
    yield _one(catalog.CHATS, len(router.chats))


def _store(watched: Watched) -> Iterator[Reading]:
    state = watched.store()
    yield _one(catalog.STORE_WRITABLE, int(state.writable))
    yield _one(catalog.STORE_PENDING, state.pending)
    yield _one(catalog.STORE_WRITTEN, state.written)


def _history(watched: Watched) -> Iterator[Reading]:
    history = watched.history
    yield Reading(catalog.HISTORY_KEPT, {} if history is None else {(): int(not history.trouble)})
    yield Reading(catalog.HISTORY_QUEUED, {} if history is None else {(): history.queued})
    yield Reading(catalog.HISTORY_LOST, {} if history is None else {(): history.lost})


def _bus(watched: Watched) -> Iterator[Reading]:
    bus = watched.bus
    yield Reading(catalog.BUS_UP, {} if bus is None else {(): int(bus.up)})
    yield Reading(catalog.BUS_NODES, {} if bus is None else {(): len(bus.nodes)})
    words: dict[Labels, float] = {}
    if (counts := watched.words) is not None:
        words = {("told",): counts.told, ("heard",): counts.heard}
        words |= {("dropped",): counts.dropped, ("undelivered",): counts.undelivered}
    yield Reading(catalog.BUS_WORDS, words)


def _process(watched: Watched) -> Iterator[Reading]:
    pulse = watched.pulse
    yield _one(catalog.LAG, pulse.lag)
    yield _one(catalog.WORST_LAG, pulse.worst)
    yield _one(catalog.CLOCK_JUMPS, pulse.jumps)
