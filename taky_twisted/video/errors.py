"""What goes wrong with video connections; the texts are for whoever asked."""

from __future__ import annotations


class VideoError(Exception):
    """Something cannot be done with a video connection."""


class BadVideo(VideoError):
    """A description makes no sense."""


class NoSuchVideo(VideoError):
    """There is no such connection or feed, or not for this caller."""


class NotYours(VideoError):
    """It is somebody else's, or for groups that the caller is not in."""


class NoRoom(VideoError):
    """The server cannot keep any more."""
