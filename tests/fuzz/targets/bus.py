"""Batches of words that come from Redis: from another node, a newer version, or whoever else may write there.

Holds: only `EnvelopeError` is raised; a word that is read can be told, and is heard as the same; its events are such as
this server delivers; no more bytes are made of a batch than it has, but for a small factor.
"""

from __future__ import annotations

from contextlib import suppress

from taky_twisted.bus import envelope, errors, fields, versions
from taky_twisted.bus.envelope import Outgoing, open_batch, sender_of
from taky_twisted.bus.errors import EnvelopeError
from taky_twisted.cot.event import Event
from taky_twisted.cot.times import LATEST
from taky_twisted.interfaces import Node
from taky_twisted.routing import words as routing_words
from taky_twisted.routing.words import Ask, Digest, Present, Switched, Word
from tests.bus.ear import CHAT, REPORT, SPEAKER, kick, left, said
from tests.bus.words import content
from tests.fuzz.target import Target
from tests.fuzz.targets.xml_events import check_delivered

NODE = Node("0123456789abcdef", "host-1", "1.2.3", 1_772_359_200.5)

assert envelope and errors and fields and routing_words  # to be instrumented


def events_of(word: object) -> list[Event]:
    """List the events in a word."""
    values = [getattr(word, name) for name in getattr(word, "__slots__", ())]
    flat = [each for value in values for each in (value if isinstance(value, tuple) else [value])]
    return [each for each in flat if isinstance(each, Event)]


def run(data: bytes) -> None:
    text = data[:100].decode("utf-8", "replace")
    if versions.is_version(text):
        assert versions.seconds_of(text) >= 0
    with suppress(EnvelopeError):
        sender_of(data)
    try:
        batch = open_batch(data)
    except EnvelopeError as error:
        assert len(str(error)) < 1000, error
        return
    heard: list[Word] = []
    with suppress(EnvelopeError):
        for word in batch.words():
            heard.append(word)
    outgoing = Outgoing(NODE, 1)
    told = []
    for word in heard:
        for event in events_of(word):
            check_delivered(event.xml, cut=False)
        try:
            outgoing.add(word)
        except EnvelopeError:
            continue
        if all(max(event.time, event.start, event.stale) <= LATEST for event in events_of(word)):
            told.append(word)
        else:
            outgoing = Outgoing(NODE, 1)  # such times are told as the last one that can be, and read so
            told.clear()
    again = list(open_batch(outgoing.finish(batch.node.counts)).words())
    assert [content(word) for word in again] == [content(word) for word in told], (told, again)


def written(*told: Word) -> bytes:
    """Write a batch."""
    outgoing = Outgoing(NODE, 17)
    for word in told:
        outgoing.add(word)
    return outgoing.finish({"clients": 3}, bye=True)


TARGET = Target(
    run,
    seeds=lambda: [
        written(),
        written(said(), said(True), left(1), kick(2), Present(SPEAKER, True, (REPORT, CHAT))),
        written(Digest(tuple(range(256)), 1.5), Ask(""), Switched(SPEAKER)),
        b"taky-bus 2 a 1\n{}\n",
        b"taky-bus 1 a 1\n" + b'{"node":{},"words":[{"word":"Said","speaker":0,"event":{"xml":[0,0]}}]}\n',
        b"taky-bus 1 a 1\n" + b"[" * 2000 + b"\n",
    ],
    words=[
        *(b"taky-bus 1 ", b'{"node":{', b'"words":[', b'"speakers":[', b'"principals":[', b'"word":"', b'"counts":{'),
        b"}\n",
        *(f'"{kind}"'.encode() for kind in envelope._WORDS),
        *(b"null", b"true", b"-1", b"1e999", b"NaN", b"9" * 30, b"\\ud800", b"\\u0000", b"[0,9]", b"[[", b'""'),
        b'"bye":true',
    ],
    max_bytes=8192,
)
