"""What was said, as Google Earth, ATAK and CloudTAK read it: tracks, places and routes in KML.

Sources: the KML 2.2 schema with Google's ``gx`` extensions (``gx:Track`` has as many times as places); what ATAK looks
for is in ATAK-CIV ``android/track/BreadcrumbReceiver.java``, what else is exported in TAK Server
``MissionKMLServlet.java`` and ``LatestKMLServlet.java``.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import groupby, pairwise
from operator import attrgetter
from typing import IO, Any, Protocol
from xml.parsers import expat

from lxml import etree

from taky_twisted.cot.times import format_time

from .documents import MAX_BYTES, Build
from .records import Moment

KML = "http://www.opengis.net/kml/2.2"
GX = "http://www.google.com/kml/ext/2.2"
ROUTE = "b-m-r"
MAX_ROUTE_POINTS = 10_000
"""Points of one route; more are left out."""
STYLES = {
    "a-f": ("friendly", "ffffe080"),
    "a-n": ("neutral", "ffaaffaa"),
    "a-h": ("hostile", "ff8080ff"),
    "a-u": ("unknown", "ff80ffff"),
    ROUTE: ("route", "ffffffff"),
    "": ("other", "ffc0c0c0"),
}
"""By the beginning of a type: a style's name, and its color as alpha, blue, green, red."""

Point = tuple[float, float, "float | None"]
"""Latitude, longitude, height."""
_ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Writer(Protocol):
    """How lxml writes a document piece by piece."""

    def element(self, tag: str, attrib: Any = None, nsmap: Any = None) -> Any:
        """Open an element for the time of a ``with``."""

    def write(self, *content: Any) -> None:
        """Write a text."""


class _Counted:
    """A file that knows how much was written to it, also inside of an archive."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.size = 0

    def write(self, data: bytes) -> int:
        self.size += len(data)
        return self._file.write(data)


def kml(name: str, write: Callable[[Writer, Callable[[], bool]], int], limit: int) -> Build:
    """Make what writes a KML document.

    Args:
        name: the document's.
        write: writes what it is about and says how many things that were; it is told by a call when it must stop.
        limit: how many things were asked for.
    """

    def build(file: IO[bytes]) -> tuple[int, bool]:
        counted = _Counted(file)
        full = lambda: counted.size > MAX_BYTES  # noqa: E731  # reads better than three lines
        with etree.xmlfile(counted, encoding="utf-8") as writer:
            writer.write_declaration()
            with writer.element(_kml("kml"), nsmap={None: KML, "gx": GX}), writer.element(_kml("Document")):
                _text(writer, _kml("name"), name)
                _styles(writer)
                count = write(writer, full)
        return count, count >= limit or full()

    return build


def kmz(build: Build) -> Build:
    """Make what writes the same document zipped, as the first thing in an archive."""

    def build_zip(file: IO[bytes]) -> tuple[int, bool]:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("doc.kml", "w") as inside:
            return build(inside)

    return build_zip


def write_tracks(writer: Writer, moments: Iterable[Moment], gap: float | None, full: Callable[[], bool]) -> int:
    """Write where everybody went.

    Args:
        writer: writes.
        moments: positions by uid, and for each uid in the order of time; what is no unit is written as a place.
        gap: seconds without a position after which a track begins anew; None for one track whatever happened.
        full: says when to stop.

    Returns:
        How many positions were written.
    """
    count = 0
    for _, group in groupby(moments, attrgetter("uid")):
        if full():
            break
        found = list(group)
        last = found[-1]
        count += len(found)
        if not last.type.startswith("a-"):
            write_place(writer, last)
            continue
        tracks = _split(found, gap)
        with _placemark(writer, last):
            if len(tracks) == 1:
                _track(writer, tracks[0])
                continue
            with writer.element(_gx("MultiTrack")):
                _text(writer, _gx("interpolate"), "0")
                for track in tracks:
                    _track(writer, track)
    return count


def write_place(writer: Writer, moment: Moment) -> None:
    """Write where something is."""
    with _placemark(writer, moment):
        with writer.element(_kml("TimeStamp")):
            _text(writer, _kml("when"), format_time(moment.time))
        with writer.element(_kml("Point")):
            _height_mode(writer, moment.hae is not None)
            _text(writer, _kml("coordinates"), _coordinates(moment.lat, moment.lon, moment.hae, ","))


def write_route(writer: Writer, moment: Moment) -> bool:
    """Write a route as a line, if it has one."""
    points = route_points(moment.xml)
    if len(points) < 2:
        return False
    with _placemark(writer, moment):
        with writer.element(_kml("TimeSpan")):
            _text(writer, _kml("begin"), format_time(moment.time))
        with writer.element(_kml("LineString")):
            _text(writer, _kml("tessellate"), "1")
            _height_mode(writer, all(hae is not None for _, _, hae in points))
            _text(writer, _kml("coordinates"), " ".join(_coordinates(*point, ",") for point in points))
    return True


def write_links(writer: Writer, links: Iterable[tuple[str, str]], seconds: int) -> int:
    """Write links to other documents, names and addresses, that are to be loaded again and again."""
    count = 0
    with writer.element(_kml("Folder")):
        _text(writer, _kml("name"), "TAK")
        for name, address in links:
            with writer.element(_kml("NetworkLink")):
                _text(writer, _kml("name"), name)
                _text(writer, _kml("visibility"), str(int(not count)))  # what is first is shown without being asked for
                with writer.element(_kml("Link")):
                    _text(writer, _kml("href"), address)
                    _text(writer, _kml("refreshMode"), "onInterval")
                    _text(writer, _kml("refreshInterval"), str(seconds))
            count += 1
    return count


def route_points(xml: bytes) -> list[Point]:
    """Read the points of a route: ``<link point="lat,lon[,hae]"/>`` in ``<detail>`` (ATAK-CIV ``Route.java``)."""
    points: list[Point] = []
    depth = 0

    def start(name: str, attributes: Mapping[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth == 3 and name == "link" and len(points) < MAX_ROUTE_POINTS:
            try:
                lat, lon, *rest = (float(number) for number in attributes.get("point", "").split(","))
            except ValueError:
                return
            if abs(lat) <= 90 and abs(lon) <= 180:
                points.append((lat, lon, rest[0] if rest and abs(rest[0]) < 1e6 else None))

    def end(_: str) -> None:
        nonlocal depth
        depth -= 1

    parser = expat.ParserCreate("UTF-8")
    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.Parse(xml, True)
    return points


def _split(moments: list[Moment], gap: float | None) -> list[list[Moment]]:
    tracks = [moments[:1]]
    for before, moment in pairwise(moments):
        if gap is not None and moment.time - before.time > gap:
            tracks.append([])
        tracks[-1].append(moment)
    return tracks


def _track(writer: Writer, moments: list[Moment]) -> None:
    with writer.element(_gx("Track")):
        _height_mode(writer, all(moment.hae is not None for moment in moments))
        for moment in moments:
            _text(writer, _kml("when"), format_time(moment.time))
        for moment in moments:
            _text(writer, _gx("coord"), _coordinates(moment.lat, moment.lon, moment.hae, " "))


@contextmanager
def _placemark(writer: Writer, moment: Moment) -> Iterator[None]:
    with writer.element(_kml("Placemark")):
        _text(writer, _kml("name"), moment.callsign or moment.uid)
        _text(writer, _kml("description"), f"{moment.uid} {moment.type}")
        _text(writer, _kml("styleUrl"), f"#{_style(moment.type)}")
        yield


def _styles(writer: Writer) -> None:
    for name, color in STYLES.values():
        with writer.element(_kml("Style"), {"id": name}):
            with writer.element(_kml("IconStyle")):
                _text(writer, _kml("color"), color)
            with writer.element(_kml("LineStyle")):
                _text(writer, _kml("color"), color)
                _text(writer, _kml("width"), "3")


def _style(type_: str) -> str:
    return next(name for start, (name, _) in STYLES.items() if type_.startswith(start))


def _height_mode(writer: Writer, known: bool) -> None:
    _text(writer, _kml("altitudeMode"), "absolute" if known else "clampToGround")


def _coordinates(lat: float, lon: float, hae: float | None, between: str) -> str:
    return between.join((f"{lon:.7f}", f"{lat:.7f}", f"{hae or 0:.1f}"))


def _text(writer: Writer, tag: str, text: str) -> None:
    with writer.element(tag):
        writer.write(_ILLEGAL.sub("\ufffd", text))


def _kml(name: str) -> str:
    return f"{{{KML}}}{name}"


def _gx(name: str) -> str:
    return f"{{{GX}}}{name}"
