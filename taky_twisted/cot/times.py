"""CoT times: what is accepted, and the one form that is sent.

Sources: ATAK-CIV ``commoncommo/core/impl/platform.cpp`` (a ``Z`` at the end, unsigned 32-bit seconds, three fraction
digits), TAK Server ``remote/util/DateUtil.java`` (offsets).
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from functools import lru_cache

from .errors import MalformedEvent

LATEST = 0xFFFFFFFF
"""2106-02-07T06:28:15Z, seconds since the epoch: the last instant that ATAK can read."""

MAX_CHARS = 64
"""Longer is no time; what is read is remembered for a while."""

_EPOCH = datetime(1970, 1, 1)
_SENT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z", re.ASCII)
_ACCEPTED = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.([0-9]{1,9}))?(?:Z|([+-])([0-9]{2}):?([0-9]{2}))",
    re.ASCII,
)
_SECOND = timedelta(seconds=1)
_EARLIEST = (datetime.min - _EPOCH) / _SECOND


@lru_cache(4096)  # time and start are mostly the same, and many events have the same stale
def parse_time(text: str) -> tuple[float, bool]:
    """Read a CoT time.

    Returns:
        Seconds since the epoch, and whether the text is already in the form that is sent.

    Raises:
        MalformedEvent: the text is no time.
    """
    try:
        if _SENT.fullmatch(text):
            return (datetime.fromisoformat(text[:23]) - _EPOCH) / _SECOND, True
        match = _ACCEPTED.fullmatch(text.strip()) if len(text) <= MAX_CHARS else None
        if match is None:
            raise ValueError("not YYYY-MM-DDThh:mm:ss[.fraction] with Z or an offset")
        whole, fraction, sign, hours, minutes = match.groups()
        seconds = (datetime.fromisoformat(whole) - _EPOCH) / _SECOND
        if fraction:
            seconds += int(fraction[:3].ljust(3, "0")) / 1000
        if sign:
            offset = (int(hours) * 60 + int(minutes)) * 60
            seconds += -offset if sign == "+" else offset
        if seconds < _EARLIEST:
            raise ValueError("before the year 1")
        return seconds, False
    except ValueError as error:
        raise MalformedEvent(f"{text[:40]!r} is no time ({error})") from error


def format_time(seconds: float) -> str:
    """Spell seconds since the epoch as ATAK reads them: milliseconds and ``Z``; later than 2106 becomes 2106."""
    moment = _EPOCH + timedelta(milliseconds=round(min(seconds, LATEST) * 1000))
    return f"{moment.isoformat(timespec='milliseconds')}Z"
