from __future__ import annotations

import os
import re
from io import BytesIO
from pathlib import Path
from typing import IO

from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.history.documents import IN_MEMORY_BYTES, write_events, written
from taky_twisted.history.records import Moment
from tests.samples import chat, event, marker, sa


def moment(document: bytes) -> Moment:
    """Make what is found of an event."""
    said = event(document)
    return Moment(said.uid, said.type, said.detail.callsign, said.time, said.lat, said.lon, 0.0, said.xml)


class EventsTests(SynchronousTestCase):
    def test_row27_cut_as_text(self) -> None:
        """ATAK and PyTAK, who look for words instead of reading XML, find every event whole."""
        bare = (
            b'<event\nversion="2.0" uid="E" type="a-f" how="m" time="2026-03-01T10:00:00Z" start="2026-03-01T10:00:00Z"'
        )
        bare += b' stale="2026-03-01T10:00:00Z"><point lat="1" lon="2" hae="0" ce="0" le="0"/></event >'
        documents = [sa("A", "ALPHA"), marker("M", extra="<!-- </event> --><x/>"), chat("A"), bare]
        file = BytesIO()
        self.assertEqual(write_events(file, map(moment, documents), 100), (4, False))
        text = file.getvalue().decode()
        self.assertEqual(text.count("<event "), 4)
        self.assertEqual(text.count("</event>"), 4)
        self.assertIsNone(re.search(r"<event[^>]*/>", text))
        found = re.findall(r"<event\b[^>]*>.*?</event>", text, re.DOTALL)  # what PyTAK does
        self.assertEqual([event(one.encode()).uid for one in found], ["A", "M", "GeoChat.A.All Chat Rooms.m-1", "E"])

    def test_nothing(self) -> None:
        """Where there is nothing, that is a document too, with what ATAK looks for."""
        file = BytesIO()
        self.assertEqual(write_events(file, [], 100), (0, False))
        self.assertEqual(file.getvalue(), b'<?xml version="1.0" encoding="UTF-8"?>\n<events></events>')

    def test_bounds(self) -> None:
        """A document ends before it becomes too large, but has one event at least; it is known that there are more."""
        one = moment(marker("M"))
        size = len(one.xml) - len(b'<?xml version="1.0" encoding="UTF-8"?>\n')
        for max_bytes, expected in (
            (0, (1, True)),
            (2 * size - 1, (1, True)),
            (2 * size, (2, True)),
            (3 * size, (3, False)),
        ):
            self.assertEqual(write_events(BytesIO(), [one] * 3, 100, max_bytes), expected)
        self.assertEqual(write_events(BytesIO(), [one] * 3, 3), (3, True))


class WrittenTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()

    def test_small_and_large(self) -> None:
        """A document stands at its beginning, whatever its size, and no name of it is left in the folder."""
        for size in (0, 1, IN_MEMORY_BYTES, 3 * IN_MEMORY_BYTES):

            def build(file: IO[bytes], size: int = size) -> tuple[int, bool]:
                file.write(b"x" * size)
                return 7, True

            document = written(self.folder, build)
            self.assertEqual((document.size, document.count, document.cut), (size, 7, True))
            self.assertEqual(os.listdir(self.folder), [])
            self.assertEqual(document.file.read(), b"x" * size)
            document.file.close()

    def test_failure(self) -> None:
        """If it cannot be written nothing of it is left."""
        files = []

        def build(file: IO[bytes]) -> tuple[int, bool]:
            files.append(file)
            raise OSError("no room")

        self.assertRaises(OSError, written, self.folder, build)
        self.assertTrue(files[0].closed)
