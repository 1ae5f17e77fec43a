from __future__ import annotations

import contextlib
from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.video import feed_xml as module
from taky_twisted.video.connections import Connection, Feed
from taky_twisted.video.errors import BadVideo
from taky_twisted.video.feed_xml import alone, connection_element, document, feed_element, read_feeds

ATAK = b"""<?xml version='1.0' encoding='UTF-8' standalone='yes' ?>
<videoConnections>
<feed>
<protocol>rtsp</protocol>
<alias>Gate &amp; yard</alias>
<uid>f-1</uid>
<address>192.0.2.7</address>
<port>554</port>
<roverPort>-1</roverPort>
<ignoreEmbeddedKLV>false</ignoreEmbeddedKLV>
<preferredMacAddress/>
<preferredInterfaceAddress/>
<path>/live</path>
<buffer>-1</buffer>
<timeout>5000</timeout>
<rtspReliable>1</rtspReliable>
</feed>
<feed><protocol>udp</protocol><alias>Drone</alias><uid>f-2</uid><address>239.1.1.1</address><port>1234</port></feed>
</videoConnections>
"""
"""As ATAK posts it."""
MINIMAL = "<protocol>udp</protocol><alias>A</alias><uid>U</uid><address>a</address>"


def feed(inner: str = "", start: str = MINIMAL) -> bytes:
    """Spell one feed."""
    return f"<videoConnections><feed>{start}{inner}</feed></videoConnections>".encode()


def children(element: str) -> dict[str, str | None]:
    """Read the children of an element."""
    return {child.tag: child.text for child in ElementTree.fromstring(element)}


class ReadTests(SynchronousTestCase):
    """What is read of XML."""

    def test_what_atak_says(self) -> None:
        """What ATAK posts is read, several feeds at once."""
        first, second = read_feeds(ATAK)
        self.assertEqual((first.uid, first.alias, first.url), ("f-1", "Gate & yard", "rtsp://192.0.2.7:554/live"))
        self.assertEqual(
            first.texts,
            {
                "roverPort": "-1",
                "ignoreEmbeddedKLV": "false",
                "bufferTime": "-1",
                "networkTimeout": "5000",
                "rtspReliable": "1",
            },
        )
        self.assertEqual((second.uid, second.url, second.active), ("f-2", "udp://239.1.1.1:1234", True))

    def test_one_alone(self) -> None:
        """One feed may be the whole document, as taky keeps it and ATAK exports it."""
        (read,) = read_feeds(f"<feed>{MINIMAL}</feed>".encode())
        self.assertEqual(read.url, "udp://a")

    def test_none(self) -> None:
        """A list may be empty, and what is not a feed is passed by."""
        self.assertEqual(read_feeds(b"<videoConnections/>"), [])
        self.assertEqual(
            read_feeds(b"<VideoConnections><other><feed><uid>x</uid></feed></other></VideoConnections>"), []
        )

    def test_latin_1(self) -> None:
        """ATAK's HTTP library writes umlauts in Latin-1, whatever the document says; UTF-8 is read as such."""
        said = ATAK.decode().replace("Drone", "Käfer")
        for encoding in ("utf-8", "latin-1"):
            self.assertEqual(read_feeds(said.encode(encoding))[1].alias, "Käfer")

    def test_spellings(self) -> None:
        """Other clients write names in other cases, with a namespace, white space, and switch feeds off."""
        (read,) = read_feeds(
            b'<v:videoConnections xmlns:v="x"><v:FEED><!-- c --><v:protocol> RTSP\n</v:protocol>'
            b"<v:alias><![CDATA[<A>]]></v:alias><v:uid>U</v:uid><v:address>h</v:address><v:active>False</v:active>"
            b"<v:x><v:y>1</v:y></v:x></v:FEED></v:videoConnections>"
        )
        self.assertEqual(read, Feed("U", "<A>", "rtsp://h", active=False))

    def test_numbers(self) -> None:
        """A number that is none is what ATAK takes for it: nothing."""
        for text in ("x", "", "1.5", "99999999999", "--1", "\u0661"):
            (read,) = read_feeds(feed(f"<port>{text}</port><timeout>{text}</timeout>"))
            self.assertEqual((read.url, read.texts), ("udp://a", {}))

    def test_raw(self) -> None:
        """A URL that ATAK hands to its player as it is stays as it is."""
        (read,) = read_feeds(
            feed(start="<protocol>raw</protocol><alias>A</alias><uid>U</uid><address>rtsp://h/x</address>")
        )
        self.assertEqual((read.url, read.raw), ("rtsp://h/x", True))
        shown = children(feed_element(read))
        self.assertEqual((shown["protocol"], shown["address"], shown["port"]), ("raw", "rtsp://h/x", "-1"))

    def test_file(self) -> None:
        """A file has a path and no address."""
        said = "<protocol>file</protocol><alias>A</alias><uid>U</uid><address/><path>/sdcard/x</path>"
        self.assertEqual(read_feeds(feed(start=said))[0].url, "file:///sdcard/x")

    def test_senseless(self) -> None:
        """What makes no sense is refused, and the text says what it is."""
        lines = "<!DOCTYPE x [<!ENTITY a 'aaaaaaaaaa'><!ENTITY b '&a;&a;&a;&a;&a;'>]>"
        for said, what in (
            (b"", "no XML"),
            (b"\x00", "no XML"),
            (b"{}", "no XML"),
            (b"<videoConnections>", "no XML"),
            (b"<a/>", "not <videoConnections>"),
            (b"<" + b"a" * 1000 + b"/>", "not <videoConnections>"),
            (f"{lines}<videoConnections><feed><alias>&b;</alias></feed></videoConnections>".encode(), "refused"),
            (b'<!DOCTYPE x SYSTEM "file:///etc/passwd"><videoConnections/>', "refused"),
            (feed(start=MINIMAL.replace("A<", "&b;<")), "no XML"),
            ("<!DOCTYPE x><videoConnections/>".encode("utf-16"), "refused"),
            (b"<videoConnections>" + b"<a>" * 30 + b"</a>" * 30 + b"</videoConnections>", "inside each other"),
            (feed(start=MINIMAL.replace("<uid>U</uid>", "")), "no uid"),
            (feed(start=MINIMAL.replace("<uid>U</uid>", "<uid> </uid>")), "no uid"),
            (feed(start=MINIMAL.replace("<alias>A</alias>", "")), "no alias"),
            (feed(start=MINIMAL.replace("<protocol>udp</protocol>", "")), "no protocol"),
            (feed(start=MINIMAL.replace("udp", "u d p")), "protocol"),
            (feed(start=MINIMAL.replace("<address>a</address>", "")), "no address"),
            (feed(start=MINIMAL.replace("udp", "raw").replace("<address>a</address>", "<path>x</path>")), "no address"),
            (feed(f"<uid>{'x' * 1025}</uid>"), "uid"),
            (feed(f"<alias>{'x' * 1025}</alias>"), "alias"),
            (feed(f"<path>{'x' * 20000}</path>"), "address"),
            (feed(f"<thumbnail>{'x' * 20000}</thumbnail>"), "thumbnail"),
        ):
            error = self.assertRaises(BadVideo, read_feeds, said)
            self.assertIn(what, str(error))

    def test_too_many(self) -> None:
        """A document may have so many feeds."""
        self.patch(module, "MAX_FEEDS", 2)
        one = f"<feed>{MINIMAL}</feed>"
        self.assertEqual(len(read_feeds(document("videoConnections", [one] * 2))), 2)
        self.assertRaises(BadVideo, read_feeds, document("videoConnections", [one] * 3))

    @given(st.binary(max_size=60) | st.text("<>/feduivoCnctaslprk&;! ['\"]", max_size=60).map(str.encode))
    def test_anything(self, said: bytes) -> None:
        """Whatever is posted, it is read or refused in words."""
        for wrapped in (said, b"<videoConnections><feed>" + said + b"</feed></videoConnections>"):
            with contextlib.suppress(BadVideo):
                read_feeds(wrapped)


class WriteTests(SynchronousTestCase):
    """What is written as XML."""

    def test_as_atak_reads_it(self) -> None:
        """A feed has all that ATAK reads, and what it posted comes back as it was."""
        posted = {child.tag: child.text for child in ElementTree.fromstring(ATAK)[0]}
        shown = children(feed_element(read_feeds(ATAK)[0]))
        self.assertEqual(
            {name: text for name, text in posted.items() if text},
            {name: shown[name] for name, text in posted.items() if text},
        )
        self.assertEqual((shown["active"], shown["id"], shown["preferredMacAddress"]), ("true", "f-1", None))

    def test_everything(self) -> None:
        """All that the older API has is written and read again."""
        texts = {name: str(number) for number, name in enumerate(module._TEXTS.values())}
        feed = Feed("<&\"'>", "ä 猫", "srt://h:1/p?q=1&r=<2>", active=False, texts=texts)
        self.assertEqual(read_feeds(document("videoConnections", [feed_element(feed)])), [feed])

    def test_none(self) -> None:
        """The root element, by which ATAK knows the answer, is there without feeds as well."""
        self.assertEqual(
            document("videoConnections", []),
            b'<?xml version="1.0" encoding="UTF-8"?><videoConnections></videoConnections>',
        )

    def test_connection(self) -> None:
        """The newer API's XML has attributes, without those of which nothing is known."""
        feeds = (Feed("f<1>", 'G"ate', "udp://x", False, texts={"range": "5"}, numbers={"width": 640}),)
        root = ElementTree.fromstring(alone(connection_element(Connection("c&1", "Gates", feeds, thumbnail="t"))))
        self.assertEqual(
            (root.tag, dict(root.attrib)),
            (
                "videoCollection",
                {"uid": "c&1", "active": "true", "alias": "Gates", "thumbnail": "t"},
            ),
        )
        self.assertEqual(
            dict(root[0].attrib),
            {
                "uid": "f<1>",
                "active": "false",
                "alias": 'G"ate',
                "url": "udp://x",
                "preferredMacAddress": "",
                "roverPort": "-1",
                "ignoreEmbeddedKLV": "false",
                "timeout": "5000",
                "buffer": "-1",
                "rtspReliable": "0",
                "range": "5",
                "width": "640",
            },
        )
