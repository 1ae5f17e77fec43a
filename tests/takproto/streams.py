"""Pieces of streams as clients, scripts and enemies send them, and ways to cut them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from hypothesis import strategies as st

from tests.samples import ATAK_PROLOG, chat, delete, marker, sa, xml

EMOJI = "FOX \U0001f98a"
TELESTRATION = xml(
    "TELE-1",
    "u-d-f-m",
    '<link line="&lt;event version=&quot;2.0&quot; uid=&quot;inner&quot;&gt;&lt;point/&gt;&lt;/event&gt;"/>',
)
"""ATAK puts whole events into attributes, escaped (takcot "Drawing Shapes - Telestration")."""


def renamed(document: bytes, old: bytes, new: bytes) -> bytes:
    """Change one place of a sample."""
    assert document.count(old) == 1, (old, document)
    return document.replace(old, new)


GOOD: tuple[tuple[bytes, str], ...] = (
    (sa("A", EMOJI), "A"),
    (ATAK_PROLOG + marker(), "MARK-1"),
    (b'<?xml version="1.0"?>\n' + chat("A", "&lt;/event&gt; \U0001f44b"), "GeoChat.A.All Chat Rooms.m-1"),
    (b"<?xml version='1.0' encoding='utf8' standalone='yes'?>\r\n" + delete("ITEM-1"), "delete-ITEM-1"),
    (TELESTRATION, "TELE-1"),
    (xml("CDATA", detail="<remarks><![CDATA[<?xml <event ]] </event>]]></remarks>"), "CDATA"),
    (xml("COMMENT", detail="<!-- </event> <?xm --><remarks>--</remarks>"), "COMMENT"),
    (xml("GT", detail="<remarks a='>' b=\"/>\">> '</remarks>"), "GT"),
    (renamed(xml("BLANKS"), b"</event>", b"</event \t\r\n>"), "BLANKS"),
    (renamed(xml("TAG"), b"<event version", b"<event\n\ta=\"'\" b='\"' c=\">\" d='/>' version"), "TAG"),
    (renamed(xml("SQUOTE"), b'version="2.0"', b"version='2.0'"), "SQUOTE"),
    (xml("PI", detail="<?pi </x> ?><x/>"), "PI"),
    (xml("NESTED", detail="<event/><events>e</events><auth/>"), "NESTED"),
)
"""Each is one event and the uid that comes out."""

BAD: tuple[bytes, ...] = (
    b"<event/>",
    b'<event uid="x" a="/>" b=\'"\' />',
    b"<event><point></event>",
    b"<event a='>' ></event>",
    b'<event uid="raw </event>',
    b"<event uid='\xff'></event>",
    xml("LAT", point='<point lat="abc" lon="0" hae="0" ce="0" le="0"/>'),
    xml("DEEP", detail="<a>" * 101 + "</a>" * 101),
    b'<!DOCTYPE event [<!ENTITY a "b">\n<!ENTITY c "&a;&a;">] >' + xml("DTD"),
    b'<!DOCTYPE event SYSTEM "file:///etc/passwd">' + xml("DTD"),
)
"""Each is one event that is not passed on."""

NOTHING: tuple[bytes, ...] = (
    b"",
    b"\n",
    b"\r\n",
    b" \t\r\n\r\n" * 3,
    b"\xef\xbb\xbf",
    ATAK_PROLOG,
    b"<?xml version='1.0' encoding=\"US-ASCII\"?>",
    b"<!-- between -->",
    b"<!-- holds </event> and < and ]]> -->",
    b"<!---->",
    b"<!-->-->",
    b"<?pi with > and </event> ?>",
    b"<?pi?>",
    b"<![CDATA[ lost </event> ]]>",
    b"</event>",
    b"</remarks ></detail>",
    b"junk > ' \" /",
    b"\x00\xff\xfe",
    b'<auth><cot username="fox1" password="secret" uid="A"/></auth>',
    b'<?xml version="1.0"?>\n<auth\n><cot username="&lt;" password="</event>"/></auth >\n',
    b"<auth/>",
    b'<auth a=">"/>',
    b"<stream><stream2></stream2></stream >",
    b"<foo/>",
    b"<foo a='/>' b=\">\" />",
    b"<foo><bar>text</bar><foob></foob></foo\n>",
    b"<foo a='>'></event></foo>",
    b"<e:event>x</e:event>",
    b"<events>y</events>",
    b"<1/>",
    b"< event>",
    b"<" + b"n" * 300 + b">",
)
"""Each says nothing; between events it does no harm."""

WHOLE_EVENT = xml("WHOLE")
LOOSE: tuple[bytes, ...] = (
    b"<!--",
    b"-->",
    b"<![CDATA[",
    b"]]>",
    b"<?",
    b"<?xml ",
    b"?>",
    b"<!",
    b"<!-",
    b"<![",
    b"<!DOCTYPE x [",
    b"]>",
    b"<",
    b">",
    b"/>",
    b'"',
    b"'",
    b"<auth>",
    b"<auth ",
    b"</auth>",
    b"<event ",
    b"<event\n",
    b"<event>",
    b"</event",
    b"</event>",
    b"</event >",
    b"</event" + b" " * 17 + b">",
    b"<events>",
    b"<foo>",
    b"<foo a='",
    b"</foo>",
    b"</" + b"n" * 300 + b">",
    b"<detail>",
    b" " * 40,
    b"x" * 600,
    WHOLE_EVENT[:-8],
    WHOLE_EVENT[:40],
    WHOLE_EVENT[40:],
    xml("OPEN-CDATA", detail="<remarks><![CDATA[ oops </remarks>"),
    xml("OPEN-COMMENT", detail="<!-- oops "),
    b'<event a="<!--" />',
    b'<event a=\'"\' b=">" />',
)
"""These break what is around them; what comes of it is the same for every cut."""

WORDS = (*(piece for piece, _ in GOOD), *BAD, *NOTHING, *LOOSE)

MIXED = b"".join(
    piece
    for group in (
        (NOTHING[1], GOOD[0][0], GOOD[1][0], NOTHING[4], GOOD[2][0], NOTHING[2], GOOD[3][0], GOOD[4][0], GOOD[5][0]),
        (BAD[0], NOTHING[7], GOOD[6][0], BAD[1], NOTHING[9], NOTHING[13], GOOD[8][0], BAD[2], NOTHING[11], GOOD[9][0]),
        (NOTHING[16], NOTHING[17], BAD[4], NOTHING[18], GOOD[7][0], NOTHING[19], NOTHING[25], NOTHING[26], BAD[8]),
        (WHOLE_EVENT[:-8], GOOD[1][0], LOOSE[-4], ATAK_PROLOG, WHOLE_EVENT, LOOSE[-3], WHOLE_EVENT, GOOD[11][0]),
        (
            NOTHING[14],
            NOTHING[28],
            b"<foo>",
            GOOD[1][0],
            GOOD[10][0],
            BAD[5],
            GOOD[12][0],
            b"</event >\r\n",
            GOOD[0][0],
        ),
    )
    for piece in group
)
"""A bit of everything."""

streams = st.lists(st.one_of(st.sampled_from(WORDS), st.binary(max_size=8)), max_size=12).map(b"".join)
"""Anything in any order."""


def pieces(stream: bytes, cuts: Sequence[int]) -> Iterator[bytes]:
    """Cut a stream at these places."""
    places = [0, *sorted(cuts), len(stream)]
    for start, end in pairwise(places):
        yield stream[start:end]


def cuts_of(stream: bytes) -> st.SearchStrategy[list[int]]:
    """Choose where to cut a stream."""
    return st.lists(st.integers(0, len(stream)), max_size=6)
