"""Any word that nodes may tell each other."""

from __future__ import annotations

from hypothesis import strategies as st

from taky_twisted.cot.event import PROLOG, Destinations, Event
from taky_twisted.cot.xmlcodec import decode
from taky_twisted.identity.principal import Certificate, Principal
from taky_twisted.routing import words
from taky_twisted.routing.records import Emergency, Item, KnownContact, MissedChat, Tombstone
from taky_twisted.routing.words import Speaker
from tests.samples import cancel, chat, delete, emergency, marker, sa

TEXTS = st.one_of(
    st.sampled_from(["", "FOX1", "Ä'LPHA 猫 😀 \u202e", 'a "b" \\ {c}', "\n\r\t\0", "\udc80"]), st.text(max_size=10)
)
TIMES = st.one_of(st.sampled_from([0.0, 1_772_359_200.125]), st.floats(allow_nan=False, allow_infinity=False))
NUMBERS = st.integers(0, 1 << 40)
GROUPS = st.frozensets(TEXTS, max_size=3)
BYTES = st.one_of(st.just(PROLOG + b"<event/>"), st.binary(max_size=30))
TUPLES = st.lists(TEXTS, max_size=3).map(tuple)

CERTIFICATES = st.builds(Certificate, TEXTS, TEXTS, st.integers(0, 1 << 160), TIMES, TIMES)
PRINCIPALS = st.one_of(
    st.just(Principal()),
    st.builds(Principal, st.none() | TEXTS, GROUPS, GROUPS, st.none() | CERTIFICATES, st.booleans(), st.booleans()),
)
SPEAKERS = st.builds(Speaker, NUMBERS, PRINCIPALS, PRINCIPALS, TEXTS, TIMES, st.booleans())
_DESTINATIONS = st.none() | st.builds(Destinations, TUPLES, TUPLES, TUPLES, TUPLES, st.booleans())
_DOCUMENTS = st.sampled_from(
    [
        *(sa("A", "ALPHA"), marker(), chat("A"), delete("X"), emergency("A", "ALPHA"), cancel("A", "ALPHA")),
        chat("A", marti='<dest callsign="BRAVO"/>'),
        marker(extra="<a b='ü &amp; \"'><![CDATA[<x>]]></a><!-- gone -->"),
    ]
)


def _event(document: bytes, to: Destinations | None) -> Event:
    made = decode(document)
    made.detail.destinations = to
    return made


EVENTS = st.builds(_event, _DOCUMENTS, _DESTINATIONS)
RECORDS = st.one_of(
    st.builds(Item, TEXTS, TEXTS, BYTES, GROUPS, TIMES, TIMES, TIMES),
    st.builds(Tombstone, TEXTS, GROUPS, TIMES, TIMES),
    st.builds(
        KnownContact,
        *(TEXTS, TEXTS, TEXTS, TEXTS, TEXTS, TEXTS, st.none() | TEXTS),
        *(GROUPS, GROUPS, TIMES, TIMES, BYTES, st.booleans()),
    ),
    st.builds(Emergency, TEXTS, BYTES, GROUPS, TEXTS, st.none() | TEXTS, TIMES, TUPLES, TUPLES),
    st.builds(MissedChat, NUMBERS, TEXTS, st.none() | TEXTS, BYTES, GROUPS, TIMES),
)
KINDS = {
    words.Said: st.builds(words.Said, SPEAKERS, EVENTS),
    words.Left: st.builds(words.Left, NUMBERS, st.booleans()),
    words.Switched: st.builds(words.Switched, SPEAKERS),
    words.Present: st.builds(words.Present, SPEAKERS, st.booleans(), st.lists(EVENTS, max_size=3).map(tuple)),
    words.AllPresent: st.builds(words.AllPresent, st.lists(NUMBERS, max_size=5).map(tuple)),
    words.Ask: st.builds(words.Ask, TEXTS),
    words.Digest: st.builds(words.Digest, st.lists(NUMBERS, max_size=256).map(tuple), TIMES),
    words.Known: st.builds(
        words.Known, st.lists(RECORDS, max_size=4).map(tuple), st.lists(NUMBERS, max_size=4).map(tuple), TIMES
    ),
    words.Handed: st.builds(words.Handed, TEXTS, NUMBERS, TEXTS, EVENTS, GROUPS, st.none() | TEXTS),
    words.Settled: st.builds(words.Settled, TEXTS, TEXTS),
    words.Kick: st.builds(words.Kick, TEXTS, TEXTS),
    words.Wanted: st.builds(words.Wanted, TEXTS, TEXTS, TEXTS, NUMBERS, NUMBERS),
}
WORDS = st.one_of(*KINDS.values())


def content(value: object) -> object:
    """Say what a word, or anything in it, consists of; two words that are the same say the same."""
    if isinstance(value, Event):
        return "Event", value.xml, value.uid, value.type, value.time, repr(value.detail)
    if isinstance(value, tuple):
        return [content(part) for part in value]
    if hasattr(value, "__slots__") and not isinstance(value, frozenset):
        return [type(value).__name__, *(content(getattr(value, name)) for name in value.__slots__)]
    return type(value).__name__, value
