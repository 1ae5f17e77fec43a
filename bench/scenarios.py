"""What there is to run: how large in full, how large in the short form, and what is worth comparing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from . import comings, flood, loads, readers, uploads
from .jobs import Job, Outcome, Size

TCP, TLS = "tcp", "tls"


@dataclass(frozen=True)
class Scenario:
    """One load."""

    name: str
    about: str
    run: Callable[[Job], Outcome]
    size: Size
    short: Size | None
    """What is smaller in the short form; None if it is not part of it."""
    ratios: tuple[str, ...]
    """Figures of which "how many times less" is said."""
    shown: tuple[str, ...] = ()
    """Figures in the table; without any it is a row in the table of loads."""
    over: tuple[str, ...] = (TCP, TLS)
    short_over: tuple[str, ...] = (TCP, TLS)
    rounds: int = 0
    """How often at most; 0 for as often as is asked for."""
    taky: Size | None = field(default_factory=dict)
    """What must be smaller for taky, which waits with select(2); None if it cannot do it at all."""
    limit: bool = False
    """Whether a program that only copies bytes can do it: all hear all, one event at a time."""
    nodes: bool = False
    """Whether a server of several nodes does it too."""
    counting: bool = False
    """Whether the server must say what it counts."""
    over_size: dict[str, Size] = field(default_factory=dict)
    """What is different over TCP or TLS."""
    restarted: bool = False
    """Whether ours is then started again on the same data, and must show the same once more."""
    seconds: float = 120.0
    """How long it may take besides what its size says, before it is ended."""

    def is_for(self, *, taky: bool = False, limit: bool = False, nodes: bool = False) -> bool:
        """Whether another server than one process of ours can do it."""
        return self.limit if limit else self.nodes if nodes else not (taky and self.taky is None)

    def sized(self, over: str, *, short: bool, against_taky: bool) -> Size:
        """Compute the size of one run."""
        size = self.size | self.over_size.get(over, {})
        if short:
            size |= self.short or {}
        if against_taky:
            size |= self.taky or {}
        return size


_LOAD: Size = {"warm": 1.0, "seconds": 4.0, "sample_every": 10, "identified": 0}
_SHORT: Size = {"clients": 21, "warm": 0.1, "seconds": 0.5, "sample_every": 4}
_COST = ("cpu_us_per_delivered",)
_STALL_FIGURES = (
    "base_p99_ms",
    "p99_ms",
    "p99_ratio",
    "peak_mb_per_stalled",
    "after_mb_per_stalled",
    "closed_after_s",
    "resumed_skipped_positions",
    "lost",
)
_FLOOD: Size = {
    "clients": 50,
    "rate": 1,
    "sample_every": 1,
    "warm": 1,
    "base": 10,
    "connects": 10_000,
    "seconds": 60,
    "stay": 12,
    "patience": 30,
}
_SHORT_FLOOD: Size = {"clients": 10, "rate": 5, "warm": 0.2, "base": 0.5, "connects": 150, "seconds": 1.5, "stay": 1}
_FLOOD_FIGURES = (
    "base_p99_ms",
    "p50_ms",
    "p99_ms",
    "max_ms",
    "lost",
    "base_server_cpu",
    "server_cpu",
    "grown_mb",
    "rss_mb",
    "connects",
    "coming_s",
    "answered",
    "not_answered",
    "answer_p50_ms",
    "answer_p99_ms",
    "mute_closed",
    "refused_max_connections",
    "refused_max_handshakes",
    "tls_ok",
    "tls_too_slow",
    "tls_broken_off",
)

SCENARIOS: dict[str, Scenario] = {
    scenario.name: scenario
    for scenario in (
        Scenario(
            "w1",
            "101 clients, one says positions, one event under way",
            loads.broadcast,
            _LOAD | {"clients": 101, "senders": 1, "window": 1},
            _SHORT,
            _COST,
            limit=True,
            nodes=True,
        ),
        Scenario(
            "flat",
            "101 clients, ten say positions, 16 events of each under way",
            loads.broadcast,
            _LOAD | {"clients": 101, "senders": 10, "window": 16},
            _SHORT | {"senders": 5},
            _COST,
            nodes=True,
        ),
        Scenario(
            "hz",
            "100 clients, each says one position a second",
            loads.broadcast,
            _LOAD | {"clients": 100, "senders": 100, "rate": 1, "sample_every": 1, "seconds": 8},
            _SHORT | {"senders": 21, "rate": 5},
            (*_COST, "p99_ms"),
            limit=True,
            nodes=True,
        ),
        Scenario(
            "direct",
            "100 clients, 50 say positions to one other each, 16 events of each under way",
            loads.direct,
            _LOAD | {"clients": 100, "senders": 50, "window": 16, "sample_every": 1},
            _SHORT | {"clients": 20, "senders": 10},
            ("cpu_us_per_event",),
            nodes=True,
        ),
        Scenario(
            "receivers1000",
            "as w1, with 1,001 clients",
            loads.broadcast,
            _LOAD | {"clients": 1001, "senders": 1, "window": 1, "identified": 50},
            None,
            _COST,
            rounds=3,
            limit=True,
        ),
        Scenario(
            "mixed",
            "100 clients; ten say positions, map items, chat and deletes to all, and positions to one",
            loads.mixed,
            _LOAD | {"clients": 100, "senders": 10, "window": 4},
            _SHORT | {"senders": 4},
            _COST,
            rounds=3,
            nodes=True,
        ),
        Scenario(
            "protobuf",
            "as flat, and every second of those who only listen speaks protobuf",
            loads.half_protobuf,
            _LOAD | {"clients": 101, "senders": 10, "window": 16},
            _SHORT | {"senders": 5},
            _COST,
            rounds=3,
            taky=None,
        ),
        Scenario(
            "slow",
            "100 clients, 20 say ten positions a second each; five stop reading, one of six reads again in time",
            readers.stalled,
            {
                "clients": 100,
                "senders": 20,
                "rate": 10,
                "stalled": 5,
                "resuming": 1,
                "emergencies": 10,
                "warm": 2,
                "base": 10,
                "resume_after": 20,
                "seconds": 40,
                "stall_seconds": 30,
            },
            {
                "clients": 20,
                "senders": 8,
                "rate": 100,
                "stalled": 2,
                "emergencies": 2,
                "warm": 0.2,
                "base": 0.5,
                "resume_after": 3.5,
                "seconds": 3,
                "stall_seconds": 3,
            },
            ("p99_ms",),
            _STALL_FIGURES,
            short_over=(TLS,),
            rounds=1,
            taky=None,
        ),
        Scenario(
            "stalled",
            "21 clients, 20 say ten positions a second each for a minute; one never reads",
            readers.stalled,
            {
                "clients": 22,
                "senders": 20,
                "rate": 10,
                "stalled": 1,
                "resuming": 0,
                "emergencies": 0,
                "warm": 2,
                "base": 10,
                "resume_after": 0,
                "seconds": 60,
                "stall_seconds": 30,
            },
            None,
            ("p99_ms",),
            _STALL_FIGURES,
            rounds=1,
            taky=None,
        ),
        Scenario(
            "storm",
            "clients connect, are answered once, and leave, 16 at a time",
            comings.storm,
            {"connects": 2000, "at_once": 16},
            {"connects": 60},
            ("cpu_us_per_connect",),
            ("cpu_us_per_connect", "connects_per_s", "p50_ms", "p99_ms", "max_ms", "rss_mb"),
            rounds=3,
            seconds=300,
        ),
        Scenario(
            "idle",
            "5,000 clients are connected and say nothing (900 with taky)",
            comings.idle,
            {"clients": 5000, "identified": 100, "events": 3},
            None,
            ("kb_per_client",),
            ("empty_mb", "rss_mb", "kb_per_client", "cpu_us_per_connect"),
            rounds=1,
            taky={"clients": 900},
            seconds=400,
        ),
        Scenario(
            "connections",
            "5,000 clients over TCP or 1,000 over TLS at once; all hear what one says",
            comings.idle,
            {"clients": 5000, "identified": 100, "events": 20},
            {"clients": 100, "identified": 20, "events": 3},
            ("cpu_us_per_delivered",),
            ("connect_s", "cpu_us_per_delivered", "p50_ms", "max_ms", "lost"),
            rounds=1,
            taky=None,
            over_size={TLS: {"clients": 1000, "events": 200}},
            seconds=400,
        ),
        Scenario(
            "replay",
            "newcomers are shown 5,000 map items; ours once more after a restart",
            comings.replay,
            {"items": 5000, "newcomers": 5, "publish": 1},
            {"items": 300, "newcomers": 2},
            ("cpu_ms", "seconds"),
            ("cpu_ms", "seconds", "rss_mb", "restarted_startup_s", "restarted_cpu_ms", "restarted_seconds"),
            rounds=3,
            restarted=True,
            seconds=600,
        ),
        Scenario(
            "uploads",
            "50 clients say a position a second each, while three files of 300 MB go up at the same time",
            uploads.uploads,
            {
                "clients": 50,
                "rate": 1,
                "sample_every": 1,
                "warm": 1,
                "base": 10,
                "uploads": 3,
                "megabytes": 300,
                "seconds": 200,
            },
            {"clients": 10, "rate": 5, "warm": 0.2, "base": 0.5, "uploads": 2, "megabytes": 3, "seconds": 20},
            ("p99_ms",),
            ("base_p99_ms", "p99_ms", "max_ms", "grown_mb", "mb_per_s", "lost"),
            rounds=1,
            taky=None,
        ),
        Scenario(
            "flood",
            "50 clients say a position a second each, while 10,000 others connect from one address within a minute",
            flood.flood,
            _FLOOD | {"greeting": 1, "asking": 1, "mute": 1},
            _SHORT_FLOOD,
            (),
            _FLOOD_FIGURES,
            rounds=1,
            taky=None,
            counting=True,
        ),
        Scenario(
            "mute",
            "as flood, and all others never say a byte",
            flood.flood,
            _FLOOD | {"greeting": 0, "asking": 0, "mute": 1},
            None,
            (),
            _FLOOD_FIGURES,
            rounds=1,
            taky=None,
            counting=True,
        ),
        Scenario(
            "soak",
            "30 clients say 300 events a second of all kinds, while others connect and leave",
            comings.soak,
            {"clients": 30, "visitors": 20, "stay": 10, "rate": 300, "settle": 120, "seconds": 780},
            None,
            (),
            ("bytes_per_event", "first_mb", "rss_mb", "events", "visits", "cpu_us_per_event", "p99_ms", "lost"),
            over=(TLS,),
            rounds=1,
            taky=None,
        ),
    )
}
"""All of them by name, in the order in which they are run."""


def chosen(
    names: Sequence[str], seconds: float | None = None, soak_minutes: float | None = None, nodes: bool = False
) -> list[Scenario]:
    """Take some scenarios, or all.

    Args:
        names: those wanted; none for all.
        nodes: leave out those that a server of several nodes is not asked to do.
        seconds: how long the loads are measured; None for as long as they say.
        soak_minutes: how long the soak takes; of which two minutes, or half, are not measured.
    """
    found = []
    for name in names or SCENARIOS:
        scenario = SCENARIOS[name]
        if nodes and not scenario.nodes:
            continue
        given: Size = {}
        if seconds is not None and not scenario.shown:
            given = {"seconds": seconds}
        if soak_minutes is not None and scenario.run is comings.soak:
            settle = min(120.0, soak_minutes * 30)
            given = {"settle": settle, "seconds": soak_minutes * 60 - settle}
        found.append(replace(scenario, size=scenario.size | given))
    return found
