"""Clients that come, stay and go: handshakes, idle memory, newcomers, and memory over a long time."""

from __future__ import annotations

import time
from functools import partial

from . import events, proc
from .crowd import CLOSED, OPEN, Client, Crowd, Failed, tell
from .events import KEY_BYTES, NUMBER_END
from .jobs import Job, Outcome
from .loads import mixed_sender, position_sender
from .talk import Sender, Talk
from .tally import Tally

STILL_SECONDS = 3.0
"""Without anything said, before memory is read."""
PUBLISH_WINDOW = 64
PATIENCE_SECONDS = 60.0


def storm(job: Job) -> Outcome:
    """Clients connect, are answered once, and leave, some at a time."""
    outcome, crowd = Outcome(), job.crowd()
    waits: list[float] = []
    live: dict[Client, bool] = {}  # whether it has pinged
    begun = 0
    cpu, start = proc.cpu_seconds(job.pid), time.monotonic()
    while len(waits) < job.count("connects"):
        while len(live) < job.count("at_once") and begun < job.count("connects"):
            live[crowd.begin(begun)] = False
            begun += 1
        crowd.turn(1)
        for client, pinged in list(live.items()):
            if client.state == CLOSED:
                raise Failed(f"{len(waits)} of {begun} connections were answered: {crowd.disconnected[:1]}")
            if client.state == OPEN and not pinged:
                live[client] = True
                client.ping()
            elif pinged and not client.awaits_pong:
                waits.append((time.monotonic() - client.begun) * 1000)
                client.leave()
                del live[client]
        if time.monotonic() - start > PATIENCE_SECONDS * 5:
            raise Failed(f"only {len(waits)} connections in {PATIENCE_SECONDS * 5:g} s")
    seconds = time.monotonic() - start
    waits.sort()
    outcome.figures = {
        "cpu_us_per_connect": (proc.cpu_seconds(job.pid) - cpu) * 1e6 / len(waits),
        "connects_per_s": len(waits) / seconds,
        "p50_ms": waits[len(waits) // 2],
        "p99_ms": waits[len(waits) * 99 // 100],
        "max_ms": waits[-1],
        "rss_mb": proc.memory_kb(job.pid) / 1024,
    }
    outcome.judge(job, crowd)
    crowd.close()
    return outcome


def idle(job: Job) -> Outcome:
    """Many are connected and silent; then one of them says something, and all others hear it."""
    outcome, crowd = Outcome(), job.crowd()
    before, cpu, start = proc.memory_kb(job.pid), proc.cpu_seconds(job.pid), time.monotonic()
    clients = crowd.connect(job.count("clients"))
    crowd.identify(clients[: job.count("identified")])
    crowd.settle(clients)
    outcome.figures["connect_s"] = time.monotonic() - start
    outcome.figures["cpu_us_per_connect"] = (proc.cpu_seconds(job.pid) - cpu) * 1e6 / len(clients)
    crowd.go_on(STILL_SECONDS)
    after = proc.memory_kb(job.pid)
    outcome.figures["empty_mb"] = before / 1024
    outcome.figures["rss_mb"] = after / 1024
    outcome.figures["kb_per_client"] = (after - before) / len(clients)

    crowd.tally = tally = Tally(len(clients))
    talk = Talk(crowd, tally, job.run, [])
    sender = position_sender(clients[0], tally, crowd)
    for client in clients:
        tell(tally, client, sampled=True)
    cpu = proc.cpu_seconds(job.pid)
    for _ in range(job.count("events")):
        talk.say(sender)
        talk.drain()
    outcome.figures["cpu_us_per_delivered"] = (
        (proc.cpu_seconds(job.pid) - cpu) * 1e6 / (job.count("events") * (len(clients) - 1))
    )
    outcome.figures |= tally.latency_ms()
    outcome.judge(job, crowd, tally)
    crowd.close()
    return outcome


def replay(job: Job) -> Outcome:
    """Newcomers are shown all map items; one client has said them, unless the server knows them from before."""
    outcome, crowd = Outcome(), job.crowd()
    items = job.count("items")
    key = events.stream_key(0)
    if job.size["publish"]:
        _publish(job, crowd, key, items)
    seconds: list[float] = []
    cpu = proc.cpu_seconds(job.pid)
    for _ in range(job.count("newcomers")):
        seen: list[int] = []

        def listen(marks: list[bytes], now: int, seen: list[int] = seen) -> None:
            seen.extend(int(mark[KEY_BYTES + 1 : NUMBER_END]) for mark in marks)

        start = time.monotonic()
        newcomer = crowd.begin(0)
        newcomer.listen = listen
        complete = crowd.until(partial(_has, seen, items), PATIENCE_SECONDS)
        seconds.append(time.monotonic() - start)
        newcomer.leave()
        if not complete or len(seen) != items or set(seen) != set(range(items)):
            outcome.wrong.append(f"a newcomer was shown {len(set(seen))} of {items} items, {len(seen)} in all")
            break
    outcome.figures = {
        "cpu_ms": (proc.cpu_seconds(job.pid) - cpu) * 1e3 / len(seconds),
        "seconds": sorted(seconds)[len(seconds) // 2],
        "rss_mb": proc.memory_kb(job.pid) / 1024,
    }
    outcome.judge(job, crowd)
    crowd.close()
    return outcome


def _has(seen: list[int], items: int) -> bool:
    return len(seen) >= items


def _publish(job: Job, crowd: Crowd, key: bytes, items: int) -> None:
    speaker, observer = crowd.connect(2)
    crowd.settle([speaker, observer])
    crowd.tally = tally = Tally(2)
    tally.open(key, [observer.index])
    tell(tally, observer, sampled=False)

    def spell(number: int, mark: str) -> bytes:
        return events.marker(f"item-{job.run}-{number}", 0, number, mark)

    talk = Talk(crowd, tally, job.run, [])
    sender = Sender(speaker, key, spell)
    while tally.sent[key] < items:
        goal = min(items, tally.heard_by_all(key) + PUBLISH_WINDOW)
        while tally.sent[key] < goal:
            talk.say(sender)
        if not crowd.until(lambda: tally.heard_by_all(key) > tally.sent[key] - PUBLISH_WINDOW, PATIENCE_SECONDS):
            raise Failed(f"{tally.lost} items that were said are not heard")
    talk.drain()
    if not tally.complete():
        raise Failed(f"{tally.lost} of {items} items were not heard when they were said")
    for client in (speaker, observer):
        client.leave()


def soak(job: Job) -> Outcome:
    """Events of all kinds at a rate, while others connect and leave under the same names again and again."""
    outcome, crowd, size = Outcome(), job.crowd(), job.size
    steady = crowd.connect(job.count("clients"))
    crowd.identify(steady)
    crowd.settle(steady)
    crowd.tally = tally = Tally(len(steady) + job.count("visitors"))
    senders = [mixed_sender(client, tally, crowd) for client in steady]
    for client in steady:
        tell(tally, client, sampled=True)
    talk = Talk(crowd, tally, job.run, senders, rate=size["rate"] / len(steady))
    visits = _Visits(crowd, tally, job, len(steady))
    samples: list[tuple[float, float]] = []  # events said, KB
    due = 0.0

    def each_turn(now: float) -> None:
        nonlocal due
        visits.go_on(now)
        if now >= due:
            due = now + 1.0
            samples.append((float(talk.said), proc.memory_kb(job.pid)))

    talk.go_on(size["settle"], each_turn)
    samples.clear()
    tally.forget_latencies()
    said, cpu = talk.said, proc.cpu_seconds(job.pid)
    talk.go_on(size["seconds"], each_turn)
    cpu = proc.cpu_seconds(job.pid) - cpu
    talk.drain()
    outcome.figures = {
        "bytes_per_event": slope(samples) * 1024,
        "first_mb": samples[0][1] / 1024,
        "rss_mb": samples[-1][1] / 1024,
        "events": talk.said - said,
        "visits": visits.count,
        "cpu_us_per_event": cpu * 1e6 / max(talk.said - said, 1),
        **tally.latency_ms(),
    }
    outcome.judge(job, crowd, tally)
    crowd.close()
    return outcome


class _Visits:
    """Clients that connect, say who they are, stay for a while, leave, and come again."""

    def __init__(self, crowd: Crowd, tally: Tally, job: Job, first: int) -> None:
        self._crowd, self._tally = crowd, tally
        self._stay = job.size["stay"]
        self._period = self._stay / max(job.count("visitors"), 1)
        self._slots: dict[int, Client | None] = {first + n: None for n in range(job.count("visitors"))}
        self._arriving: dict[Client, bool] = {}  # whether it has said who it is
        self._due = 0.0
        self._turns = 0
        self.count = 0

    def go_on(self, now: float) -> None:
        """Let the next one come or go, and those who have come say who they are."""
        for client, named in list(self._arriving.items()):
            if client.state == CLOSED:
                del self._arriving[client]
            elif client.state == OPEN and not named:
                self._arriving[client] = True
                client.say(events.position(client.index))
                client.ping()
            elif named and not client.awaits_pong:
                # Everything that is said from here on is owed to it: the pong came after it was let in.
                self._tally.join(client.index, self._tally.sent)
                tell(self._tally, client, sampled=False)
                del self._arriving[client]
        if now >= self._due:
            self._due = now + self._period
            slot = list(self._slots)[self._turns % len(self._slots)]
            self._turns += 1
            visitor = self._slots[slot]
            if visitor is None or visitor.state == CLOSED:
                visitor = self._slots[slot] = self._crowd.begin(slot)
                self._arriving[visitor] = False
                self.count += 1
            else:
                self._tally.leave(slot)
                self._arriving.pop(visitor, None)
                visitor.leave()
                self._slots[slot] = None


def slope(samples: list[tuple[float, float]]) -> float:
    """Fit a line by least squares; how steep it is."""
    count = len(samples)
    if count < 2:
        return 0.0
    mean_x, mean_y = sum(x for x, _ in samples) / count, sum(y for _, y in samples) / count
    spread = sum((x - mean_x) ** 2 for x, _ in samples)
    return sum((x - mean_x) * (y - mean_y) for x, y in samples) / spread if spread else 0.0
