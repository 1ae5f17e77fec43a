"""Clients that do not read: what that does to the others, to the server, and to themselves."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from itertools import pairwise

from . import events, proc
from .crowd import CLOSED, Client, Crowd, tell
from .events import KEY_BYTES, NUMBER_END
from .jobs import Job, Outcome
from .loads import position_sender
from .talk import Meter, Sender, Talk
from .tally import Tally

CLOSING_SECONDS = 30.0
"""How much later than its ``stall_seconds`` the server may close: the kernel's buffers fill first."""
CATCH_UP_SECONDS = 10.0


@dataclass
class Heard:
    """What a client heard that stopped reading for a while: the numbers of each stream, in order."""

    numbers: dict[bytes, list[int]] = field(default_factory=dict)

    def listen(self, marks: list[bytes], now: int) -> None:
        """Take what came."""
        for mark in marks:
            self.numbers.setdefault(mark[:KEY_BYTES], []).append(int(mark[KEY_BYTES + 1 : NUMBER_END]))

    def missing(self, key: bytes, sent: int) -> int:
        """Count what never came."""
        return sent - len(set(self.numbers.get(key, ())))

    def backward(self, key: bytes) -> int:
        """Count how often a number was not higher than the one before."""
        numbers = self.numbers.get(key, [])
        return sum(later <= earlier for earlier, later in pairwise(numbers))

    def newest(self, key: bytes) -> int:
        """Name the last number that came; -1 if none did."""
        return self.numbers.get(key, [-1])[-1]


@dataclass
class _Memory:
    """The server's memory in KB, looked at twice a second."""

    pid: int
    before: float
    peak: float = 0.0
    due: float = 0.0

    def look(self, now: float) -> None:
        if now >= self.due:
            self.due = now + 0.5
            self.peak = max(self.peak, proc.memory_kb(self.pid))


def stalled(job: Job) -> Outcome:
    """First everybody reads; then some stop, one of them reads again in time, and the server closes the others."""
    outcome, crowd, size = Outcome(), job.crowd(), job.size
    readers = crowd.connect(job.count("clients") - job.count("stalled") - job.count("resuming"))
    stalling = crowd.connect(job.count("stalled"), narrow=True)
    resuming = crowd.connect(job.count("resuming"), narrow=True)
    crowd.identify(crowd.clients)
    crowd.settle(crowd.clients)
    crowd.tally = tally = Tally(len(crowd.clients))
    positions = [position_sender(client, tally, crowd) for client in readers[: job.count("senders")]]
    chats = _chat_sender(readers[-1], tally, crowd)
    for client in stalling + resuming:
        tally.leave(client.index)
    for client in readers:
        tell(tally, client, sampled=True)
    heard = [Heard() for _ in resuming]
    for client, ears in zip(resuming, heard, strict=True):
        client.listen = ears.listen
    crowd.may_close.update(stalling)

    talk = Talk(crowd, tally, job.run, positions, rate=size["rate"])
    chatter = _Chatter(crowd, tally, job, chats)
    talk.go_on(size["warm"], chatter.go_on)
    meter = Meter(job, talk, tally)
    talk.go_on(size["base"], chatter.go_on)
    outcome.figures = {f"base_{name}": value for name, value in meter.figures().items() if name.endswith("_ms")}

    memory = _Memory(job.pid, before=proc.memory_kb(job.pid))
    begin = time.monotonic()
    chatter.alarming = True
    for client in stalling + resuming:
        client.pause()
    meter = Meter(job, talk, tally)

    def each_turn(now: float) -> None:
        chatter.go_on(now)
        memory.look(now)
        if now - begin > size["resume_after"]:
            for client in resuming:
                if client.paused:
                    client.channel.widen()
                    client.resume()

    talk.go_on(size["seconds"], each_turn)
    while not all(client.state == CLOSED for client in stalling) and time.monotonic() - begin < (
        size["stall_seconds"] + CLOSING_SECONDS
    ):
        talk.go_on(0.5, each_turn)
    outcome.figures |= {name: value for name, value in meter.figures().items() if name.endswith("_ms")}
    outcome.figures["p99_ratio"] = outcome.figures["p99_ms"] / outcome.figures["base_p99_ms"]
    talk.drain()
    keys = [sender.key for sender in positions]
    crowd.until(lambda: all(_caught_up(ears, keys, tally) for ears in heard), CATCH_UP_SECONDS)

    kept_back = len(stalling) + len(resuming)
    outcome.figures["peak_mb_per_stalled"] = (memory.peak - memory.before) / 1024 / kept_back
    outcome.figures["after_mb_per_stalled"] = (proc.memory_kb(job.pid) - memory.before) / 1024 / kept_back
    outcome.figures["rss_mb"] = proc.memory_kb(job.pid) / 1024
    closed = [client.closed_at - begin for client in stalling if client.state == CLOSED]
    outcome.figures["closed_after_s"] = max(closed, default=0.0)
    if len(closed) < len(stalling):
        outcome.wrong.append(f"{len(stalling) - len(closed)} clients that never read were not closed")
    for ears in heard:
        _judge_resumed(outcome, ears, keys, chats.key, chatter.alarms, tally)
    outcome.judge(job, crowd, tally)
    chatter.cancel()
    crowd.settle(readers)
    crowd.close()
    return outcome


class _Chatter:
    """Two chat messages a second, and when it is time an alert of somebody else each second."""

    def __init__(self, crowd: Crowd, tally: Tally, job: Job, chats: Sender) -> None:
        self._crowd, self._tally, self._job, self._chats = crowd, tally, job, chats
        self._talk = Talk(crowd, tally, job.run, [chats])
        self._next_chat = self._next_alarm = 0.0
        self.alarming = False
        self.alarms: list[bytes] = []
        """A stream for each alert."""

    def go_on(self, now: float) -> None:
        """Say what is due."""
        if now >= self._next_chat:
            self._next_chat = now + 0.5
            self._talk.say(self._chats)
        if self.alarming and now >= self._next_alarm and len(self.alarms) < self._job.count("emergencies"):
            self._next_alarm = now + 1.0
            key = events.stream_key(events.MAX_STREAMS - 1 - len(self.alarms))
            self._tally.repeated.add(key)
            raiser = self._crowd.clients[len(self.alarms)]
            self.alarms.append(key)
            raiser.say(events.emergency(raiser.index, events.mark(self._job.run, key, 0)))

    def cancel(self) -> None:
        """End all alerts."""
        for raiser in self._crowd.clients[: len(self.alarms)]:
            raiser.say(events.cancel(raiser.index))


def _chat_sender(client: Client, tally: Tally, crowd: Crowd) -> Sender:
    key = events.stream_key(len(tally.sent))
    tally.open(key, (other.index for other in crowd.clients if other is not client))
    return Sender(client, key, lambda number, mark: events.chat(client.index, number, mark))


def _caught_up(ears: Heard, keys: list[bytes], tally: Tally) -> bool:
    return all(ears.newest(key) == tally.sent[key] - 1 for key in keys)


def _judge_resumed(
    outcome: Outcome, ears: Heard, keys: list[bytes], chats: bytes, alarms: list[bytes], tally: Tally
) -> None:
    """A client that reads again in time has all that matters, and of positions the newest."""
    lost_chats = ears.missing(chats, tally.sent[chats])
    lost_alarms = sum(ears.missing(key, 1) for key in alarms)
    old = sum(ears.newest(key) != tally.sent[key] - 1 for key in keys)
    disorder = sum(ears.backward(key) for key in [*keys, chats])
    outcome.figures["resumed_skipped_positions"] = sum(ears.missing(key, tally.sent[key]) for key in keys)
    for count, what in (
        (lost_chats, "chats lost"),
        (lost_alarms, "emergencies lost"),
        (old, "positions that are not the newest"),
        (disorder, "events out of order"),
    ):
        if count:
            outcome.wrong.append(f"a client that read again in time has {count} {what}")
