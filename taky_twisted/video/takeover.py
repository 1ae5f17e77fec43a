"""Video feeds of taky, which was here before: taken over at the first start, and left as they are.

taky keeps ``<upload_path>/video_feed/<UID>.xml`` with one ``<feed>`` each, as it was posted (taky 0.10,
``taky/dps/views/video.py``); whose it is it does not keep.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from taky_twisted.enterprise_sync.takeover import is_marked, mark
from taky_twisted.identity.principal import ANON_GROUP
from taky_twisted.logs import Logger
from taky_twisted.own_thread import OwnThread
from taky_twisted.video.connections import MAX_DOCUMENT, Feed
from taky_twisted.video.errors import BadVideo
from taky_twisted.video.feed_xml import read_feeds
from taky_twisted.video.videos import Videos

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorFromThreads

FOLDER = "video_feed"
MAX_FILES = 10_000
"""Files that are looked at."""

log = Logger()


async def take_over(upload_path: Path, videos: Videos, marker: Path | None, reactor: IReactorFromThreads) -> None:
    """Take over what taky has, unless that was done before.

    Args:
        upload_path: taky's folder.
        videos: gets the feeds.
        marker: a file that says that it was done; None: the feeds are forgotten at the next start anyway.
        reactor: takes calls from the thread that reads the files.
    """
    thread = OwnThread("taky's video feeds", reactor)
    try:
        feeds = await thread.run(_read_all, upload_path, marker)
        if feeds:
            taken = await videos.adopt(feeds, frozenset({ANON_GROUP}))
            log.info("{taken} video feeds of taky were taken over from {path}", taken=taken, path=str(upload_path))
            if marker is not None:
                await thread.run(mark, marker, upload_path)
    finally:
        thread.stop()


def _read_all(upload_path: Path, marker: Path | None) -> list[Feed]:
    """Read all feeds that can be read; none if that was done before."""
    if is_marked(marker, upload_path):
        return []
    feeds: list[Feed] = []
    paths = sorted((upload_path / FOLDER).glob("*.xml"))
    if len(paths) > MAX_FILES:
        log.warn(
            "{path} has more than {most} video feeds of taky; the others were not taken over",
            path=str(upload_path / FOLDER),
            most=MAX_FILES,
        )
    for path in paths[:MAX_FILES]:
        try:
            feeds += _read(upload_path, path)
        except (BadVideo, OSError, RuntimeError) as error:  # the last: links in a circle
            log.warn("{path} of taky was not taken over: {error}", path=str(path), error=str(error))
    return feeds


def _read(upload_path: Path, path: Path) -> list[Feed]:
    real = path.resolve()
    if not real.is_relative_to(upload_path.resolve()):
        raise BadVideo("it is a link out of taky's folder")
    if not real.is_file():
        raise BadVideo("it is no file")
    with open(real, "rb") as file:
        document = file.read(MAX_DOCUMENT + 1)
    if len(document) > MAX_DOCUMENT:
        raise BadVideo("it is too large")
    return read_feeds(document)
