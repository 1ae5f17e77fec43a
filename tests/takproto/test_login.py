from __future__ import annotations

import resource
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.takproto.errors import RemoteProtocolError
from taky_twisted.takproto.login import MAX_TEXT_CHARS, Credentials, LoginReader, read_login

PROLOG = b'<?xml version="1.0"?>\n'
AUTH = PROLOG + b'<auth><cot username="fox1" password="secret" uid="ANDROID-1"/></auth>'
PAGE = resource.getpagesize()
FOX = Credentials("fox1", "secret", "ANDROID-1")
EVENT = b'<event version="2.0" uid="A" type="a-f-G"><point/></event>'


class ReaderTests(SynchronousTestCase):
    def test_in_one_piece(self) -> None:
        """ATAK's message is read, and what stands right behind it is kept."""
        reader = LoginReader(1000)
        self.assertEqual(reader.receive(AUTH + EVENT), FOX)
        self.assertEqual(reader.rest(), EVENT)
        self.assertEqual(reader.rest(), b"")

    def test_every_cut(self) -> None:
        """Wherever the network cuts it, it is read, and nothing behind it is lost."""
        for cut in range(1, len(AUTH + EVENT)):
            reader = LoginReader(1000)
            pieces = (AUTH + EVENT)[:cut], (AUTH + EVENT)[cut:]
            said = reader.receive(pieces[0])
            rest = reader.rest() + pieces[1] if said is not None else b""
            if said is None:
                said = reader.receive(pieces[1])
                rest = reader.rest()
            self.assertEqual((said, rest), (FOX, EVENT), f"cut at {cut}")

    def test_byte_by_byte(self) -> None:
        """A slow drip is read, too."""
        reader = LoginReader(1000)
        found = [reader.receive(AUTH[at : at + 1]) for at in range(len(AUTH))]
        self.assertEqual(found, [None] * (len(AUTH) - 1) + [FOX])

    def test_byte_order_mark(self) -> None:
        """A byte order mark in front does no harm, in whatever pieces it comes."""
        for cut in range(4):
            reader = LoginReader(1000)
            self.assertIsNone(reader.receive(b"\xef\xbb\xbf"[:cut]))
            self.assertEqual(reader.receive(b"\xef\xbb\xbf"[cut:] + AUTH), FOX, f"cut at {cut}")

    def test_something_else(self) -> None:
        """An event, a frame of the other protocol, or anything that is refused first is an error."""
        for first in (EVENT, PROLOG + EVENT, b"\xbf", b"<!DOCTYPE auth><auth/>", b"<auth>" + EVENT):
            error = self.assertRaises(RemoteProtocolError, LoginReader(1000).receive, first)
            self.assertIn("did not say a name and a password", str(error))

    def test_too_much(self) -> None:
        """What does not end is cut off at the limit, not before."""
        for size, wrong in ((999, False), (1000, False), (1001, True)):
            reader = LoginReader(1000)
            data = b"<auth>".ljust(size, b"x")
            if wrong:
                self.assertRaises(RemoteProtocolError, reader.receive, data)
            else:
                self.assertIsNone(reader.receive(data))


class ReadingTests(SynchronousTestCase):
    def test_spellings(self) -> None:
        """Any order, any quotes, further attributes, entities, and the attributes on <auth> itself are read."""
        for document, expected in (
            (b"<auth><cot password='p' username='u'/></auth>", Credentials("u", "p")),
            (b'<auth><cot username="u" password="p" callsign="C" x="y"></cot></auth>', Credentials("u", "p")),
            (b'<auth username="u" password="p" uid="A"/>', Credentials("u", "p", "A")),
            (
                b'<auth><!-- --><?x y?><a/><cot username="&lt;&#228;" password="&amp;&quot;"/></auth>',
                Credentials("<ä", '&"'),
            ),
            ('<auth><cot username="ü" password="ß"/></auth>'.encode(), Credentials("ü", "ß")),
        ):
            self.assertEqual(read_login(document), expected)

    def test_incomplete(self) -> None:
        """Without a name and a password it is refused; nothing of it is in the text."""
        for document in (
            b"<auth/>",
            b'<auth><cot username="u"/></auth>',
            b'<auth><cot username="" password="hidden1"/></auth>',
            b'<auth><cot username="u" password=hidden1></auth>',
            b'<auth><cot username="u" password="hidden1">\xff</cot></auth>',
            b'<auth><cot username="&x;" password="hidden1"/></auth>',
        ):
            error = self.assertRaises(RemoteProtocolError, read_login, document)
            self.assertNotIn("hidden1", str(error))

    def test_long(self) -> None:
        """A name or a password that is too long is refused; the uid is cut."""
        longest = "x" * MAX_TEXT_CHARS
        said = read_login(f'<auth><cot username="{longest}" password="{longest}" uid="{longest}y"/></auth>'.encode())
        self.assertEqual((said.username, said.password, said.uid), (longest, longest, longest))
        for name, password in ((longest + "x", "p"), ("u", longest + "x")):
            document = f'<auth><cot username="{name}" password="{password}"/></auth>'.encode()
            self.assertRaises(RemoteProtocolError, read_login, document)

    def test_nothing_is_left_behind(self) -> None:
        """The names that a stranger invents take no memory once they are read."""

        def read(count: int) -> int:
            for number in range(count):
                names = "".join(f"<n{number}.{other}/>" for other in range(3000))
                read_login(f'<auth><cot username="u" password="p"/>{names}</auth>'.encode())
            return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * PAGE

        before = read(5)
        self.assertLess(read(100) - before, 4 << 20)

    def test_hidden(self) -> None:
        """The password is not shown where such a thing is printed."""
        self.assertNotIn("secret", repr(FOX))
