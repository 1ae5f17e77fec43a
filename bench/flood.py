"""Somebody connects again and again, from one address, while clients talk: what that does to the clients."""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
import time
import urllib.request
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from . import channels, events, proc
from .channels import HOST
from .crowd import CLOSED, OPEN, Client, Crowd
from .jobs import Job, Outcome
from .loads import gather, position_sender
from .talk import Meter, Talk

SOURCE = "127.0.0.2"
"""Where all of them come from; the clients that talk are elsewhere, or a limit for an address would end them too."""
KINDS = ("greeting", "asking", "mute")
"""Says who it is, and leaves when it is answered; leaves at the first answer; never says a byte, and stays a while."""
FIRST_INDEX = 5000
"""Behind the names of the clients that talk."""
ANSWER_SECONDS = 15.0
"""Who is not answered for so long is given up."""
FAMILIES = {"taky_connections_refused_total": "refused_", "taky_tls_handshakes_total": "tls_"}
"""What the server counts of connections that come to nothing, and what we call it."""


def flood(job: Job) -> Outcome:
    """First only the clients talk, then the others come, at an even rate."""
    outcome, crowd, size = Outcome(), job.crowd(), job.size
    tally = gather(job, crowd)
    talk = Talk(
        crowd, tally, job.run, [position_sender(client, tally, crowd) for client in crowd.clients], rate=size["rate"]
    )
    talk.go_on(size["warm"])
    meter = Meter(job, talk, tally)
    talk.go_on(size["base"])
    outcome.figures = {
        f"base_{name}": value for name, value in meter.figures().items() if name.endswith(("_ms", "_cpu"))
    }

    before = peak = proc.memory_kb(job.pid)
    counted = counts(job.metrics_port)
    command = [sys.executable, "-m", "bench.flood", str(job.ports[0]), job.certificates, json.dumps(size)]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parent.parent)
    meter = Meter(job, talk, tally)

    def each_turn(now: float) -> None:
        nonlocal peak
        peak = max(peak, proc.memory_kb(job.pid))

    end = time.monotonic() + size["seconds"] + size["patience"]
    while running.poll() is None and time.monotonic() < end:
        talk.go_on(0.25, each_turn)
    outcome.figures |= {
        name: value for name, value in meter.figures().items() if name.endswith(("_ms", "_cpu", "_per_s"))
    }
    talk.drain()
    running.kill()
    said, _ = running.communicate()
    if running.returncode or not said:
        outcome.wrong.append(f"those who come again and again were not done: status {running.returncode}")
    else:
        outcome.figures |= json.loads(said)
    for name, count in counts(job.metrics_port).items():
        outcome.figures[name] = count - counted.get(name, 0.0)
    outcome.figures["grown_mb"] = (peak - before) / 1024
    outcome.figures["rss_mb"] = proc.memory_kb(job.pid) / 1024
    outcome.judge(job, crowd, tally)
    crowd.close()
    return outcome


def counts(port: int) -> dict[str, float]:
    """Ask the server how many connections came to nothing, and why; nothing of a server that does not count."""
    if not port:
        return {}
    with urllib.request.urlopen(f"http://{HOST}:{port}/metrics", timeout=10) as answer:
        return parse(answer.read().decode())


def parse(text: str) -> dict[str, float]:
    """Read the counts out of what Prometheus is shown."""
    found = re.findall(r'^(\w+)\{\w+="(\w+)"\} ([0-9.e+]+)$', text, re.MULTILINE)
    return {FAMILIES[family] + reason: float(value) for family, reason, value in found if family in FAMILIES}


@dataclass
class Flood:
    """Those who come again and again."""

    speaking: Crowd
    mute: Crowd
    kinds: list[str]
    """Who comes, in turns."""
    stay: float
    """How long the mute ones stay, in seconds."""
    begun: int = 0
    waits: list[float] = field(default_factory=list)
    """How long each was without an answer, in milliseconds."""
    refused: int = 0
    """Those who were closed before they were answered."""
    closed: int = 0
    """Those who never spoke and were closed before they left."""
    _waiting: dict[Client, tuple[str, bool]] = field(default_factory=dict)
    _silent: deque[Client] = field(default_factory=deque)

    def come(self, count: int, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Let so many come in that time, and wait until those who speak are answered or not."""
        start = clock()
        while self.begun < count or self._waiting or self._silent:
            now = clock()
            if self.begun < count and now >= start + self.begun * seconds / count:
                self._begin(self.kinds[self.begun % len(self.kinds)])
            else:
                due = start + self.begun * seconds / count - now if self.begun < count else 0.05
                self.speaking.turn(min(max(due, 0.0), 0.05))
            self.mute.turn(0)
            self._look(now)

    def _begin(self, kind: str) -> None:
        index = FIRST_INDEX + self.begun
        self.begun += 1
        if kind == "mute":
            self._silent.append(self.mute.begin(index))
        else:
            self._waiting[self.speaking.begin(index)] = kind, False

    def _look(self, now: float) -> None:
        while self._silent and now - self._silent[0].begun >= self.stay:
            client = self._silent.popleft()
            self.closed += client.state == CLOSED
            client.leave()
        for client, (kind, asked) in list(self._waiting.items()):
            answered = asked and not client.awaits_pong
            if client.state == OPEN and not asked:
                if kind == "greeting":
                    client.say(events.position(client.index))
                client.ping()
                self._waiting[client] = kind, True
            elif answered or client.state == CLOSED or now - client.begun > ANSWER_SECONDS:
                if answered:
                    self.waits.append((now - client.begun) * 1000)
                else:
                    self.refused += 1
                client.leave()
                del self._waiting[client]

    def figures(self) -> dict[str, float]:
        """Say what became of them."""
        ordered = sorted(self.waits) or [0.0]
        return {
            "connects": self.begun,
            "answered": len(self.waits),
            "not_answered": self.refused,
            "mute_closed": self.closed,
            "answer_p50_ms": ordered[len(ordered) // 2],
            "answer_p99_ms": ordered[len(ordered) * 99 // 100],
        }


def main(port: int, certificates: str, size: dict[str, float]) -> dict[str, float]:
    """Come, as many and as often as is wanted; say what became of it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    context = channels.client_context(Path(certificates)) if certificates else None
    speaking = Crowd([port], context, "", events.XML, SOURCE)
    mute = Crowd([port], None, "", events.XML, SOURCE)
    kinds = [kind for kind in KINDS for _ in range(int(size[kind]))]
    coming = Flood(speaking, mute, kinds, size["stay"])
    begin = time.monotonic()
    coming.come(int(size["connects"]), size["seconds"])
    figures = coming.figures() | {"coming_s": time.monotonic() - begin}
    speaking.close()
    mute.close()
    return figures


if __name__ == "__main__":
    os.nice(5)  # the clients that talk measure time
    print(json.dumps(main(int(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3]))))
