"""What a client may ask of the list of files. Words are looked for as they are: nobody's pattern is ever run.

Source: TAK Server ``sync/SearchServlet.java`` (the parameters, and that several keywords mean any of them).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import asin, cos, radians, sin, sqrt

from taky_twisted.enterprise_sync.files import PACKAGE, PRIVATE, PUBLIC, Caller
from taky_twisted.enterprise_sync.records import StoredFile

EARTH_RADIUS = 6_371_008.8
"""Mean, in meters."""


@dataclass(frozen=True, slots=True)
class Search:
    """Everything that is given must fit; texts fit wherever they occur, in any case."""

    keywords: tuple[str, ...] = ()
    """One of them must occur in a keyword."""
    tool: str | None = None
    """To the letter."""
    hash: str | None = None
    """To the letter."""
    name: str = ""
    uid: str = ""
    mime_type: str = ""
    submitter: str = ""
    remarks: str = ""
    permission: str = ""
    number: int | None = None
    start: float | None = None
    """The earliest time of the upload, seconds since the epoch."""
    stop: float | None = None
    """The latest."""
    low: float | None = None
    """The least altitude, in meters."""
    high: float | None = None
    box: tuple[float, float, float, float] | None = None
    """West, south, east, north, in degrees; from east to west over the date line."""
    circle: tuple[float, float, float] | None = None
    """Longitude and latitude in degrees, radius in meters."""

    def fits(self, record: StoredFile, caller: Caller) -> bool:
        """Whether a file that a caller may see is listed.

        A private one is listed for its owner alone. Who looks for packages and names no tool is shown public ones and
        its own: an ATAK that could not read our version asks so.
        """
        if not caller.owns(record):
            if record.tool == PRIVATE:
                return False
            if self.tool is None and PACKAGE in self.keywords and record.tool != PUBLIC:
                return False
        return self._fits_exactly(record) and self._fits_words(record) and self._fits_place(record)

    def _fits_exactly(self, record: StoredFile) -> bool:
        return (
            self.tool in (None, record.tool)
            and self.hash in (None, record.hash)
            and self.number in (None, record.number)
            and (self.start is None or self.start <= record.submitted)
            and (self.stop is None or record.submitted <= self.stop)
        )

    def _fits_words(self, record: StoredFile) -> bool:
        return (
            (not self.keywords or any(occurs(word, one) for word in self.keywords for one in record.keywords))
            and occurs(self.name, record.name)
            and occurs(self.uid, record.uid)
            and occurs(self.mime_type, record.mime_type)
            and occurs(self.submitter, record.submitter or "")
            and occurs(self.remarks, record.remarks)
            and (not self.permission or any(occurs(self.permission, one) for one in record.permissions))
        )

    def _fits_place(self, record: StoredFile) -> bool:
        if self.low is not None and (record.altitude is None or record.altitude < self.low):
            return False
        if self.high is not None and (record.altitude is None or record.altitude > self.high):
            return False
        if self.box is None and self.circle is None:
            return True
        if record.longitude is None or record.latitude is None:
            return False
        if self.box is not None:
            west, south, east, north = self.box
            wide = west <= record.longitude <= east if west <= east else not east < record.longitude < west
            if not (wide and south <= record.latitude <= north):
                return False
        if self.circle is not None:
            longitude, latitude, radius = self.circle
            return distance(longitude, latitude, record.longitude, record.latitude) <= radius
        return True


def occurs(word: str, text: str) -> bool:
    """Whether a word occurs in a text, in any case; nothing occurs everywhere."""
    return word.casefold() in text.casefold()


def distance(longitude: float, latitude: float, other_longitude: float, other_latitude: float) -> float:
    """Measure between two places along the ground, in meters; all angles in degrees."""
    a, b = radians(latitude), radians(other_latitude)
    half = sin((b - a) / 2) ** 2 + cos(a) * cos(b) * sin(radians(other_longitude - longitude) / 2) ** 2
    return 2 * EARTH_RADIUS * asin(min(1.0, sqrt(half)))
