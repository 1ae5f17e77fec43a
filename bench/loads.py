"""Clients that say and hear, all of them at the speed of the server or at a rate."""

from __future__ import annotations

from collections.abc import Callable

from . import events, proc
from .crowd import Client, Crowd, Failed, MakeEncoding, node_of, tell
from .jobs import Job, Outcome
from .talk import Meter, Sender, Talk
from .tally import Tally

OpenStreams = Callable[[Crowd, Tally], list[Sender]]

MARKERS_EACH = 20
"""Map items that one sender has, moves and deletes."""
MEETING_SECONDS = 10.0


def broadcast(job: Job) -> Outcome:
    """Some say positions, everybody else hears them."""
    return _talk(job, lambda crowd, tally: [position_sender(client, tally, crowd) for client in _senders(job, crowd)])


def direct(job: Job) -> Outcome:
    """Some say positions to one other client each, by callsign."""

    def open_streams(crowd: Crowd, tally: Tally) -> list[Sender]:
        return [direct_sender(client, tally, crowd) for client in _senders(job, crowd)]

    return _talk(job, open_streams)


def mixed(job: Job) -> Outcome:
    """Positions, map items, chat and deletes to everybody, and messages to one, from the same senders."""

    def open_streams(crowd: Crowd, tally: Tally) -> list[Sender]:
        senders = [mixed_sender(client, tally, crowd) for client in _senders(job, crowd)]
        return senders + [direct_sender(sender.client, tally, crowd) for sender in senders]

    return _talk(job, open_streams)


def half_protobuf(job: Job) -> Outcome:
    """Some say positions in XML; of all others every second one hears them in protobuf."""
    from .protobuf import Protobuf

    return _talk(
        job, lambda crowd, tally: [position_sender(client, tally, crowd) for client in _senders(job, crowd)], Protobuf
    )


def position_sender(client: Client, tally: Tally, crowd: Crowd) -> Sender:
    """Open a stream of self-reports to everybody else."""

    def spell(number: int, mark: str) -> bytes:
        return events.position(client.index, number, mark)

    return Sender(client, _open_to_others(client, tally, crowd), spell)


def mixed_sender(client: Client, tally: Tally, crowd: Crowd) -> Sender:
    """Open a stream to everybody else: of 20 events 14 positions, 3 map items, 2 chats, 1 delete."""
    index = client.index

    def spell(number: int, mark: str) -> bytes:
        kind, round_ = number % 20, number // 20
        if kind in (3, 9, 15):
            return events.marker(f"item-{index}-{(round_ * 3 + kind // 6) % MARKERS_EACH}", index, number, mark)
        if kind in (6, 12):
            return events.chat(index, number, mark)
        if kind == 18:
            return events.delete(f"item-{index}-{round_ * 3 % MARKERS_EACH}", index, number, mark)
        return events.position(index, number, mark)

    return Sender(client, _open_to_others(client, tally, crowd), spell)


def direct_sender(client: Client, tally: Tally, crowd: Crowd) -> Sender:
    """Open a stream to the client opposite, who hears it without the destination."""
    count = len(crowd.clients)
    receiver = (client.index + count // 2) % count
    callsign = events.callsign_of(receiver)
    key = events.stream_key(len(tally.sent))
    tally.open(key, [receiver])
    dest = f'<marti><dest callsign="{callsign}"/></marti>'.encode()

    def spell(number: int, mark: str) -> bytes:
        return events.position(client.index, number, mark, callsign)

    return Sender(client, key, spell, lambda document: document.replace(dest, b""))


def _open_to_others(client: Client, tally: Tally, crowd: Crowd) -> bytes:
    key = events.stream_key(len(tally.sent))
    tally.open(key, (other.index for other in crowd.clients if other is not client))
    return key


def _senders(job: Job, crowd: Crowd) -> list[Client]:
    return crowd.clients[: job.count("senders")]


def gather(job: Job, crowd: Crowd, identified: int | None = None, other_encoding: MakeEncoding | None = None) -> Tally:
    """Connect everybody, let them say who they are, and listen; some of them as samples of how late events are.

    Args:
        job: how many.
        crowd: where they join.
        identified: how many say who they are; None for all.
        other_encoding: how every second one speaks that is no sender.
    """
    half = (job.count("clients") - job.count("senders")) // 2 if other_encoding is not None else 0
    clients = crowd.connect(job.count("clients") - half)
    clients += crowd.connect(half, encoding=other_encoding)
    crowd.identify(clients[:identified])
    crowd.settle(clients)
    if len(job.ports) > 1:
        _meet(job, crowd)
    crowd.tally = tally = Tally(len(clients))
    for client in clients:
        tell(tally, client, sampled=client.index % job.count("sample_every") == 0)
    return tally


def _meet(job: Job, crowd: Crowd) -> None:
    """Wait until each node knows what clients of the others have said: one of each says something that all hear."""
    tally = Tally(len(crowd.clients))
    talk = Talk(crowd, tally, job.run, [])
    for client in crowd.clients:
        tell(tally, client, sampled=False)
    speakers = {node_of(client.index, len(job.ports)): client for client in crowd.clients}
    for client in speakers.values():
        talk.say(position_sender(client, tally, crowd))
    if not crowd.until(tally.complete, MEETING_SECONDS):
        raise Failed(f"the nodes do not hear each other within {MEETING_SECONDS:g} s: {tally.lost} events are missing")


def _talk(job: Job, open_streams: OpenStreams, other_encoding: MakeEncoding | None = None) -> Outcome:
    outcome, crowd, size = Outcome(), job.crowd(), job.size
    tally = gather(job, crowd, job.count("identified") or None, other_encoding)
    talk = Talk(
        crowd,
        tally,
        job.run,
        open_streams(crowd, tally),
        window=int(size.get("window", 0)),
        rate=size.get("rate", 0.0),
    )
    talk.go_on(size["warm"])
    meter = Meter(job, talk, tally)
    talk.go_on(size["seconds"])
    outcome.figures = meter.figures()
    talk.drain()
    outcome.figures["rss_mb"] = sum(map(proc.memory_kb, job.pids)) / 1024
    outcome.figures["stalls"] = talk.stalls
    outcome.judge(job, crowd, tally)
    crowd.close()
    return outcome
