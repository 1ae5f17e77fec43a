"""The log for programs: one JSON object a line, with the same words and values that the log for people has.

A value is in a line only if the text shows it: what is kept out of the text, such as a password, is nowhere else.
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timezone
from math import isfinite
from string import Formatter
from typing import Any

from twisted.logger import FileLogObserver, LogEvent, LogLevel, formatEvent
from twisted.python.failure import Failure
from twisted.python.logfile import LogFile

MAX_CHARS = 8192
"""Of one text in a line; what is longer is cut."""
DAEMON_FILE = "twistd.log"
"""Where twistd logs to if it is in the background and nothing else is said."""


_where: tuple[str | None, Callable[[Callable[[], object]], object]] = None, lambda call: call()
"""A file, or None for standard output; and what calls something in the reactor's thread."""


class NoPlace(Exception):
    """The log cannot be written as JSON where it is wanted; the text says why."""


def json_line(event: LogEvent) -> str | None:
    """Spell an event; None if it says nothing, as in the log for people."""
    text, failure = formatEvent(event), event.get("log_failure")
    if not text and not isinstance(failure, Failure):
        return None
    level = event.get("log_level", LogLevel.info)
    line: dict[str, Any] = {
        "time": _time(event.get("log_time")),
        "level": level.name,
        "namespace": str(event.get("log_namespace", "-")),
        "message": _cut(text),
    }
    if "log_system" in event:
        line["system"] = _cut(str(event["log_system"]))
    fields = dict(_fields(event))
    if fields:
        line["fields"] = fields
    if isinstance(failure, Failure):
        line["traceback"] = _cut(failure.getTraceback())
    return json.dumps(line) + "\n"  # all but ASCII is escaped, and control characters with it


def choose(options: Mapping[str, Any], in_reactor: Callable[[Callable[[], object]], object]) -> str:
    """Decide that this process logs JSON, to where its options say.

    Args:
        options: twistd's.
        in_reactor: calls something in the reactor's thread, later.

    Returns:
        What ``--logger`` has to be: twistd takes the name of a function there.

    Raises:
        NoPlace: the options want the log where no JSON can go.
    """
    global _where  # one process, one log
    if options.get("syslog"):
        raise NoPlace("the system's log takes no JSON; leave --syslog out, or the format of the log")
    if options.get("logger"):
        raise NoPlace("--logger says already how the log is written; leave that out, or the format of the log")
    path, foreground = options.get("logfile") or "", bool(options.get("nodaemon"))
    if path == "-" and not foreground:
        raise NoPlace("a server in the background cannot log to its terminal; name a --logfile")
    terminal = path == "-" or (foreground and not path)
    _where = None if terminal else path or DAEMON_FILE, in_reactor
    return f"{__name__}.{observer.__name__}"


def observer() -> FileLogObserver:
    """Begin to log; twistd calls this after `choose`."""
    path, in_reactor = _where
    if path is None:
        return FileLogObserver(sys.stdout, json_line)
    file: Any = LogFile.fromFullPath(path)
    if not signal.getsignal(signal.SIGUSR1):  # as twistd does with the log for people
        signal.signal(signal.SIGUSR1, lambda *_: in_reactor(file.rotate))
    return FileLogObserver(file, json_line)


def _time(seconds: object) -> str:
    moment = datetime.fromtimestamp(seconds if isinstance(seconds, float) else 0.0, timezone.utc)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _fields(event: LogEvent) -> Iterator[tuple[str, Any]]:
    """Go through what the text shows."""
    text = event.get("log_format")
    if not isinstance(text, str):
        return
    try:
        names = [name for _, name, _, _ in Formatter().parse(text)]
    except ValueError:
        return  # then the text says so
    for name in names:
        if name and not name.startswith("log_"):
            yield name, _value(name, event)


def _value(name: str, event: LogEvent) -> Any:
    value = event.get(name, event)  # of a part, such as error.reason, there is only what is shown
    if value is None or isinstance(value, bool | int) or (isinstance(value, float) and isfinite(value)):
        return value
    return _cut(value if isinstance(value, str) else formatEvent({**event, "log_format": f"{{{name}}}"}))


def _cut(text: str) -> str:
    # Half of a surrogate pair is no text to most readers of JSON, which would refuse the whole line.
    text = text.encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= MAX_CHARS else text[: MAX_CHARS - 3] + "..."
