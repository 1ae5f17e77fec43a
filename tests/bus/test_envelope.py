from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from typing import Any, get_args

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.bus import envelope
from taky_twisted.bus.envelope import MAX_BATCH, MAX_BYTES, MAX_HEADER, Incoming, Outgoing, open_batch, sender_of
from taky_twisted.bus.errors import EnvelopeError, NewerBatch
from taky_twisted.identity.principal import Principal
from taky_twisted.interfaces import Node
from taky_twisted.routing.words import Ask, Digest, Kick, Known, Present, Said, Switched, Word
from tests.bus.ear import CHAT, REPORT, SPEAKER, kick, left, said
from tests.bus.words import KINDS, WORDS, content
from tests.samples import event
from tests.takproto.arbitrary import BRIEF, damaged, documents

NODE = Node("0123456789abcdef", "host-1 ü", "1.2.3", 1_772_359_200.5)


def written(*told: Word, number: int = 1, **keys: Any) -> bytes:
    """Write a batch."""
    outgoing = Outgoing(NODE, number)
    for word in told:
        outgoing.add(word)
    return outgoing.finish(**keys)


def read(data: bytes) -> list[Word]:
    """Read all words of a batch."""
    return list(open_batch(data).words())


def changed(data: bytes, change: Any) -> bytes:
    """Change the JSON of a batch."""
    first, header, rest = data.split(b"\n", 2)
    told = json.loads(header)
    change(told)
    return b"\n".join([first, json.dumps(told).encode(), rest])


SAMPLES = [
    written(),
    written(said(), said(True), left(1), kick(2), Present(SPEAKER, True, (REPORT, CHAT)), counts={"a": 1}, bye=True),
    written(Digest(tuple(range(256)), 1.5), Ask(""), Switched(replace(SPEAKER, granted=Principal("a")))),
]


class RoundTripTests(SynchronousTestCase):
    def test_every_word(self) -> None:
        """Every kind of word that nodes have is carried."""
        self.assertEqual(set(KINDS), set(get_args(Word)))
        for kind, strategy in KINDS.items():

            @settings(BRIEF, max_examples=50)
            @given(strategy)
            def carried(word: Word) -> None:
                (heard,) = read(written(word))
                self.assertEqual(content(heard), content(word))

            with self.subTest(kind.__name__):
                carried()

    @settings(BRIEF, max_examples=50)
    @given(st.lists(WORDS, max_size=8), st.integers(0, 10**18 - 1))
    def test_batch(self, told: list[Word], number: int) -> None:
        """What is told together is heard in its order, from whom and as which batch it was told."""
        batch = open_batch(written(*told, number=number))
        self.assertEqual((batch.instance, batch.number, batch.bye), (NODE.instance, number, False))
        self.assertEqual([content(word) for word in batch.words()], [content(word) for word in told])

    @settings(BRIEF, max_examples=100)
    @given(documents())
    def test_events_stay_as_they_are(self, document: bytes) -> None:
        """Whatever the server delivers here, it delivers byte for byte the same on every other node."""
        said_here = event(document)
        (heard,) = read(written(Said(SPEAKER, said_here)))
        assert isinstance(heard, Said)
        self.assertEqual(heard.event.xml, said_here.xml)
        self.assertEqual(heard.event.detail, said_here.detail)
        self.assertEqual(heard.event.uid, said_here.uid)

    def test_node(self) -> None:
        """A batch says who its node is, what it counts if that is due, and whether it is the last one."""
        batch = open_batch(written(counts={"clients": 3}, bye=True))
        self.assertEqual(batch.node, replace(NODE, counts={"clients": 3}))
        self.assertTrue(batch.bye)
        self.assertEqual(open_batch(written()).node, NODE)
        long = Outgoing(Node("i", "x" * 1000, "y" * 1000), 1).finish(dict.fromkeys(map(str, range(200)), 1))
        node = open_batch(long).node
        self.assertEqual((len(node.name), len(node.version), len(node.counts)), (200, 200, 100))

    def test_tables(self) -> None:
        """Who speaks is written once for all that it says."""
        other = replace(SPEAKER, connection=2)
        one, many = written(said()), written(*[said()] * 9, Said(other, REPORT))
        self.assertEqual(many.count(b'"peer"'), 2)
        self.assertEqual(one.count(b'"peer"'), 1)
        heard = read(many)
        self.assertIs(heard[0].speaker, heard[8].speaker)  # type: ignore[union-attr]
        self.assertEqual(heard[9].speaker, other)  # type: ignore[union-attr]

    def test_size(self) -> None:
        """It is known how large a batch becomes, before it is written."""
        outgoing = Outgoing(NODE, 1)
        for _ in range(100):
            outgoing.add(said())
        self.assertIn(len(outgoing.finish()) - outgoing.size, range(100, 300))


class UpgradeTests(SynchronousTestCase):
    def test_unknown(self) -> None:
        """What a later version says more is passed over, and the rest is understood."""
        data = written(said(), left(1), Known(()), Present(SPEAKER, False, (REPORT,)))

        def change(told: Any) -> None:
            told["later"] = {"x": [1]}
            told["node"]["later"] = told["speakers"][0]["later"] = told["principals"].append({"later": 1})
            for word in told["words"]:
                word["later"] = [[]]
            told["words"].insert(1, {"word": "Sung", "event": {"xml": [0, 10]}})
            told["words"][3]["records"] = [{"kind": "Later", "xml": [0, 5]}]

        self.assertEqual([content(w) for w in read(changed(data, change))], [content(word) for word in read(data)])

    def test_lacking(self) -> None:
        """What an earlier version does not say has the value that it has when nothing is said."""

        def change(told: Any) -> None:
            del told["speakers"][0]["since"], told["node"]["version"], told["node"]["started"]

        data = changed(written(said()), change)
        self.assertEqual([content(word) for word in read(data)], [content(Said(replace(SPEAKER, since=0.0), REPORT))])
        self.assertEqual(open_batch(data).node.version, "")

    def test_newer(self) -> None:
        """A version that must not be read is told from nonsense."""
        data = written(left(1)).replace(b"taky-bus 1", b"taky-bus 2")
        self.assertRaises(NewerBatch, open_batch, data)
        self.assertRaises(NewerBatch, sender_of, data)


class NonsenseTests(SynchronousTestCase):
    def assert_refused(self, data: bytes) -> None:
        """It cannot be read, and that is all that happens."""
        self.assertRaises(EnvelopeError, read, data)

    def test_truncated(self) -> None:
        """A batch that was cut off anywhere is refused."""
        for data in SAMPLES:
            for cut in range(len(data)):
                try:
                    read(data[:cut])
                except EnvelopeError:
                    continue
                self.assertEqual(data[:cut].count(b"\n"), 2, cut)

    def test_damaged(self) -> None:
        """Whatever is done to a batch, it is read or refused."""

        @BRIEF
        @given(damaged(SAMPLES))
        def survives(data: bytes) -> None:
            with contextlib.suppress(EnvelopeError):
                read(data)

        survives()

    def test_damaged_json(self) -> None:
        """So it is when the JSON is sound, and says something else."""
        values = st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
            max_leaves=4,
        )

        @BRIEF
        @given(st.data())
        def survives(drawn: st.DataObject) -> None:
            def change(told: Any) -> None:
                for _ in range(drawn.draw(st.integers(1, 3))):
                    place = told
                    while isinstance(place, dict | list) and place:
                        keys = sorted(place) if isinstance(place, dict) else range(len(place))
                        key = drawn.draw(st.sampled_from(keys))
                        if not isinstance(place[key], dict | list) or drawn.draw(st.integers(0, 3)) == 0:
                            place[key] = drawn.draw(values)
                            break
                        place = place[key]

            with contextlib.suppress(EnvelopeError):
                read(changed(drawn.draw(st.sampled_from(SAMPLES)), change))

        survives()

    def test_first_line(self) -> None:
        """Who tells is a short plain name, and the number is one."""
        self.assertEqual(sender_of(b"taky-bus 1 a-B9 17\nrest"), ("a-B9", 17))
        for first in (
            *(b"", b"taky-bus", b"taky-bus 1 a", b"taky-bus 1 a -1", b"taky-bus 1 a 1 ", b"Taky-bus 1 a 1"),
            *(b"taky-bus 1 " + b"a" * 65 + b" 1", b"taky-bus 1 a " + b"1" * 19, b"taky-bus 1 \xe9 1", b"x" * 300),
        ):
            self.assertRaises(EnvelopeError, sender_of, first + b"\n{}\n")
        self.assertRaises(EnvelopeError, sender_of, b"taky-bus 1 a 1")

    def test_json(self) -> None:
        """JSON that would cost too much, or is none, is refused."""
        for header in (
            *(b"", b"[]", b"1", b"{}", b"{", b'{"node":{}}\xff', b"\xff", b"[" * 100_000, b"1" * 5000, b"NaN"),
            *(b'{"node":1}', b'{"node":{},"counts":1}', b'{"node":{"name":1}}', b'{"node":{"started":NaN}}'),
            *(b'{"node":{"started":1e999}}', b'{"node":{},"words":1}', b'{"node":{},"words":[1]}'),
            *(b'{"node":{},"words":[{}]}', b'{"node":{},"words":[{"word":[]}]}', b'{"node":{},"speakers":[{}]}'),
            b'{"node":{},"counts":{' + b",".join(b'"%d":1' % number for number in range(101)) + b"}}",
            b'{"node":{},"words":[' + b"1," * 200_000 + b"1]}",
            b'{"node":{}}' + b" " * MAX_HEADER,
        ):
            self.assert_refused(b"taky-bus 1 a 1\n" + header + b"\n")
        self.assertEqual(read(b'taky-bus 1 a 1\n{"node":{}}\n'), [])

    def test_large(self) -> None:
        """Nobody reads more than fits, nor writes it."""
        self.assert_refused(b'taky-bus 1 a 1\n{"node":{}}\n' + b" " * MAX_BATCH)
        large = replace(REPORT, xml=b" " * (MAX_BYTES + 1))
        outgoing = Outgoing(NODE, 1)
        outgoing.add(said())
        self.assertRaises(EnvelopeError, outgoing.add, Said(SPEAKER, large))
        self.assertRaises(EnvelopeError, outgoing.add, Kick("x" * (1 << 20), ""))
        named = replace(SPEAKER, granted=Principal("x" * envelope.MAX_SHARED))
        self.assertRaises(EnvelopeError, outgoing.add, Switched(named))
        outgoing.add(said(True))
        self.assertEqual([content(word) for word in read(outgoing.finish())], [content(said()), content(said(True))])

    def test_largest(self) -> None:
        """The largest word that is written can be read."""
        name = "x" * (envelope.MAX_SHARED - 100)
        speaker = replace(SPEAKER, granted=Principal(name), active=Principal(name + "y"), peer=name)
        outgoing = Outgoing(NODE, 1)
        outgoing.add(Switched(speaker))
        outgoing.add(Kick("x" * (envelope.MAX_TEXTS - 100), ""))
        self.assertEqual(len(list(open_batch(outgoing.finish()).words())), 2)

    def test_places(self) -> None:
        """Bytes come from behind the JSON, in order, and none twice: so nothing small becomes large."""
        for place in ([0, 1 << 20], [-1, 5], [5, -1], [0], [0, 1, 2], "x", None, [0.5, 1], [True, 1], [10**30, 1]):

            def change(told: Any, place: Any = place) -> None:
                told["words"][0]["event"]["xml"] = place

            self.assert_refused(changed(written(said()), change))

        def twice(told: Any) -> None:
            told["words"][1]["event"]["xml"] = told["words"][0]["event"]["xml"]

        self.assert_refused(changed(written(said(), said()), twice))

    def test_no_event(self) -> None:
        """An event that is no object is refused."""
        refused: list[Any] = [None, 1, "x", []]
        for value in refused:

            def change(told: Any, value: Any = value) -> None:
                told["words"][0]["event"] = value

            self.assert_refused(changed(written(said()), change))

    def test_table_places(self) -> None:
        """A speaker or principal that is not in the table is refused."""
        for number in (1, -1, "0", None, 0.0, False):

            def speaker(told: Any, number: Any = number) -> None:
                told["words"][0]["speaker"] = number

            def principal(told: Any, number: Any = number) -> None:
                told["speakers"][0]["active"] = number

            self.assert_refused(changed(written(said()), speaker))
            self.assert_refused(changed(written(said()), principal))

    def test_bad_event(self) -> None:
        """An event that cannot be read is left out alone: asking for it again would not help."""
        spoiled = replace(REPORT, xml=REPORT.xml.replace(b"</event>", b"</evenT>"))
        bare = replace(REPORT, xml=b"<event/>")
        batch = open_batch(written(Said(SPEAKER, spoiled), left(1), Present(SPEAKER, True, (bare, REPORT)), left(2)))
        heard = list(batch.words())
        self.assertEqual([type(word).__name__ for word in heard], ["Left", "Present", "Left"])
        self.assertEqual(len(heard[1].reports), 1)  # type: ignore[union-attr]
        self.assertEqual(batch.unreadable, 2)

    def test_header_only(self) -> None:
        """Words are read one by one, so that nobody waits for all of them."""
        batch = open_batch(written(left(1), said(), said()))
        self.assertIsInstance(batch, Incoming)
        self.assertEqual(next(batch.words()), left(1))
