"""Who says how much when, and what that costs the server."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from . import proc
from .crowd import OPEN, Client, Crowd
from .events import mark
from .jobs import Job
from .tally import Tally

STALL_SECONDS = 2.0
"""Without anything arriving for so long, what is under way is given up and counted as lost."""
DRAIN_SECONDS = 8.0
MAX_WAITING = 64 << 10
"""Bytes that a sender holds back at most."""

Spell = Callable[[int, str], bytes]
"""Makes an event from its number and its mark."""


@dataclass
class Sender:
    """One stream: who says it, and what."""

    client: Client
    key: bytes
    spell: Spell
    as_heard: Callable[[bytes], bytes] = lambda document: document
    """How it should arrive."""
    due: float = 0.0
    """When the next one is said, for those who keep a rate."""


class Talk:
    """Senders that keep so many events under way, or say so many in a second."""

    def __init__(
        self, crowd: Crowd, tally: Tally, run: str, senders: Sequence[Sender], *, window: int = 0, rate: float = 0.0
    ) -> None:
        """Make a conversation that has not begun.

        Args:
            crowd: the clients.
            tally: where all streams are open.
            run: see `events.mark`.
            senders: who speaks.
            window: events under way for each sender; 0 if they keep a rate.
            rate: events per second and sender.
        """
        self._crowd, self._tally, self._run = crowd, tally, run
        self._senders, self._window = senders, window
        self._period = 1 / rate if rate else 0.0
        self.said = 0
        self.stalls = 0
        self._begun = False
        self._arrived = (0, 0.0)

    def go_on(self, seconds: float, each_turn: Callable[[float], object] = lambda now: None) -> None:
        """Talk for a while; with every turn something else may be done."""
        now = time.monotonic()
        end = now + seconds
        if not self._begun:
            self._begun = True
            self._arrived = (self._tally.delivered, now)
            for place, sender in enumerate(self._senders):
                sender.due = now + self._period * place / len(self._senders)
        while now < end:
            wait = self._say_what_is_due(now) if self._period else self._fill_windows()
            self._crowd.turn(max(0.0, min(wait, end - now)))
            now = time.monotonic()
            self._look_for_stall(now)
            each_turn(now)

    def drain(self) -> None:
        """Say nothing more, and wait for what is under way."""
        self._crowd.until(self._tally.complete, DRAIN_SECONDS)

    def say(self, sender: Sender) -> None:
        """Say one event."""
        tally, key = self._tally, sender.key
        number = tally.sent[key]
        document = sender.spell(number, mark(self._run, key, number))
        tally.say(key, sender.as_heard(document))
        self.said += 1
        sender.client.say(document)

    def _fill_windows(self) -> float:
        tally, window = self._tally, self._window
        for sender in self._senders:
            free = window + tally.heard_by_all(sender.key) - tally.sent[sender.key]
            while free > 0 and sender.client.state == OPEN and len(sender.client.channel.waiting) < MAX_WAITING:
                self.say(sender)
                free -= 1
        return 0.05

    def _say_what_is_due(self, now: float) -> float:
        for sender in self._senders:
            while sender.due <= now:
                sender.due += self._period
                if sender.client.state == OPEN and len(sender.client.channel.waiting) < MAX_WAITING:
                    self.say(sender)
        return min(sender.due for sender in self._senders) - time.monotonic()

    def _look_for_stall(self, now: float) -> None:
        delivered, since = self._arrived
        if delivered != self._tally.delivered or (self._period and self._tally.complete()):
            self._arrived = (self._tally.delivered, now)
        elif now - since > STALL_SECONDS:
            self.stalls += 1
            self._tally.give_up()
            self._arrived = (delivered, now)


class Meter:
    """What the server used, and what was said and heard, since it was made."""

    def __init__(self, job: Job, talk: Talk, tally: Tally) -> None:
        self._job, self._talk, self._tally = job, talk, tally
        tally.forget_latencies()
        self._begin = self._now()

    def figures(self) -> dict[str, float]:
        """Compute what an event costs, and how late events were; of several nodes also what the busiest one does."""
        seconds, said, delivered, redis, *nodes = (
            now - then for now, then in zip(self._now(), self._begin, strict=True)
        )
        cpu, each = sum(nodes), 1e6 / max(said, 1)
        joined = {"busiest_us_per_event": max(nodes) * each, "redis_us_per_event": redis * each}
        return {
            "events_per_s": said / seconds,
            "delivered_per_s": delivered / seconds,
            "cpu_us_per_event": cpu * each,
            "cpu_us_per_delivered": cpu * 1e6 / max(delivered, 1),
            "server_cpu": cpu / seconds,
            **(joined if self._job.redis_pid else {}),
            **self._tally.latency_ms(),
        }

    def _now(self) -> tuple[float, ...]:
        processes = (self._job.redis_pid, *self._job.pids)
        used = [proc.cpu_seconds(pid) if pid else 0.0 for pid in processes]
        return time.monotonic(), self._talk.said, self._tally.delivered, *used
