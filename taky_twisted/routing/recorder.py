"""Write down what is heard, for whoever has to find out what a client really sent (``log_cot``)."""

from __future__ import annotations

import re
from collections import defaultdict
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorFromThreads

from taky_twisted.background import logged
from taky_twisted.logs import Logger
from taky_twisted.own_thread import OwnThread
from taky_twisted.routing.recorded_files import OTHERS, RecordedFiles

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime

MAX_BYTES = 10 * 1024 * 1024
"""What one file holds before it is rotated."""
FILES = 5
"""How many files one sender has in all."""
QUEUE_BYTES = 8 * 1024 * 1024
"""What waits for the disk at most."""
ENTRY_BYTES = 400
"""What an entry costs in memory beside its text."""
FAILED_BYTES = 4096
"""How much is kept of what could not be understood."""
REASON_LENGTH = 500
"""How much is kept of why, in characters."""
WRITE_SECONDS = 0.25
"""How long entries are collected before they are written."""
CALM_SECONDS = 5.0
"""After this time in which nothing was left out the trouble is over."""
CLOSE_SECONDS = 5.0
"""After this time stopping gives up on a disk that does not answer."""

_UNPRINTABLE = re.compile("[^\n\t\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Entry(NamedTuple):
    """Something heard."""

    sender: str
    heard: float
    """Seconds since the epoch."""
    data: bytes
    reason: str | None
    """Why it could not be understood; None if it could."""


class Written(NamedTuple):
    """What became of a batch."""

    lost: int
    trouble: str | None
    """Why the lost ones were lost."""


class Recorder:
    """Write one file per sender, in a thread of its own.

    Nothing here ever waits or raises. What the disk does not take in time is left out and counted; the beginning and
    the end of such a time are in the log.
    """

    log = Logger()

    def __init__(
        self,
        folder: Path,
        clock: IReactorTime,
        *,
        max_bytes: int = MAX_BYTES,
        files: int = FILES,
        queue_bytes: int = QUEUE_BYTES,
        recorded: RecordedFiles | None = None,
    ) -> None:
        """Touch nothing yet.

        Args:
            folder: Where the files go; it is made, readable by its owner alone.
            clock: The reactor: seconds since the epoch, and it takes calls from threads.
            max_bytes: What one file holds before it is rotated.
            files: How many files one sender has in all.
            queue_bytes: What waits for the disk at most.
            recorded: The files, where other bounds are wanted.
        """
        self._clock = clock
        self._folder = folder
        self._max_bytes = max_bytes
        self._queue_bytes = queue_bytes
        self._recorded = RecordedFiles(folder, max_bytes, files) if recorded is None else recorded
        self._thread = OwnThread("recorder", IReactorFromThreads(clock))
        self._running = False
        self._queue: list[Entry] = []
        self._queued = 0
        """What the queue and the batch that is being written hold, in bytes."""
        self._timer: IDelayedCall | None = None
        self._writing = False
        self._emptied: Deferred[None] | None = None
        """Fires when all is written, once somebody waits for that."""
        self._lost = 0
        """Entries left out since the trouble began; 0: there is none."""
        self._lost_at = 0.0
        """When the last one was, seconds since the epoch."""

    def start(self) -> None:
        """Begin to take entries; before this they are ignored."""
        self._running = True

    def record(self, sender: str, xml: bytes) -> None:
        """Write down an event.

        Args:
            sender: Who said it, a uid or an address; any text.
            xml: The event.
        """
        self._add(Entry(sender, self._clock.seconds(), xml, None), len(xml))

    def failed(self, sender: str, data: bytes, reason: str) -> None:
        """Write down what could not be understood: its beginning, and why."""
        # A copy, so that 4 KiB do not keep a whole buffer in memory.
        data = bytes(data[: FAILED_BYTES + 1])
        self._add(Entry(sender, self._clock.seconds(), data, reason[:REASON_LENGTH]), len(data))

    def stop(self) -> Deferred[None]:
        """Write what is waiting, close the files and end the thread; gives up after 5 seconds."""
        if not self._running:
            return succeed(None)
        self._running = False
        stopped: Deferred[None] = Deferred()
        giving_up = self._clock.callLater(CLOSE_SECONDS, self._give_up, stopped)

        def done(_: None) -> None:
            self._thread.stop()
            if giving_up.active():
                giving_up.cancel()
                stopped.callback(None)

        closing = self._empty()
        closing.addCallback(lambda _: self._thread.run(self._recorded.close))
        closing.addCallback(done)
        closing.addErrback(logged(self.log, "closing the recorder"))
        return stopped

    def _give_up(self, stopped: Deferred[None]) -> None:
        self.log.warn(
            "the recorder's files in {folder} were not closed within {seconds:.0f} s, the disk does not answer",
            folder=self._folder,
            seconds=CLOSE_SECONDS,
        )
        stopped.callback(None)

    # In the reactor's thread

    def _add(self, entry: Entry, size: int) -> None:
        size += len(entry.sender) + ENTRY_BYTES
        if not self._running:
            return
        if self._queued + size > self._queue_bytes:
            self._lose(1, "the disk is too slow")
            return
        self._queued += size
        self._queue.append(entry)
        if self._timer is None and not self._writing:
            self._timer = self._clock.callLater(WRITE_SECONDS, self._due)

    def _empty(self) -> Deferred[None]:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._queue and not self._writing:
            return succeed(None)
        self._emptied = Deferred()
        if not self._writing:
            self._write()
        return self._emptied

    def _due(self) -> None:
        self._timer = None
        self._write()

    def _write(self) -> None:
        batch, self._queue = self._queue, []
        held, self._writing = self._queued, True
        writing = self._thread.run(self._write_batch, batch)
        writing.addCallback(self._written, held)
        writing.addErrback(logged(self.log, "recording"))

    def _written(self, written: Written, held: int) -> None:
        self._queued -= held
        self._writing = False
        now = self._clock.seconds()
        if written.trouble is not None:
            self._lose(written.lost, written.trouble)
        elif self._lost and (now - self._lost_at >= CALM_SECONDS or self._emptied is not None):
            self.log.info("recording works again; {lost} entries were left out", lost=self._lost)
            self._lost = 0
        if self._emptied is not None:
            if self._queue:
                self._write()
            else:
                self._emptied.callback(None)
        elif self._queue:
            self._timer = self._clock.callLater(WRITE_SECONDS, self._due)

    def _lose(self, entries: int, reason: str) -> None:
        if not self._lost:
            self.log.warn(
                "cannot record all that is heard in {folder}: {reason}. Routing goes on; what does not fit is left out",
                folder=self._folder,
                reason=reason,
            )
        self._lost += entries
        self._lost_at = self._clock.seconds()

    # In our own thread

    def _write_batch(self, batch: list[Entry]) -> Written:
        by_file: defaultdict[str, list[bytes]] = defaultdict(list)
        lost, trouble = 0, None
        try:
            for entry in batch:
                name = self._recorded.name_of(entry.sender)
                by_file[name].append(self._spell(entry, name))
        except OSError as error:
            return Written(len(batch), str(error))
        for name, entries in by_file.items():
            try:
                self._recorded.append(name, entries)
            except OSError as error:
                lost, trouble = lost + len(entries), str(error)
        return Written(lost, trouble)

    def _spell(self, entry: Entry, name: str) -> bytes:
        heard = datetime.fromtimestamp(entry.heard, timezone.utc).isoformat(timespec="milliseconds")
        head = "<!-- " + heard.replace("+00:00", "Z")
        if name == OTHERS:
            head += " " + _in_comment(entry.sender)
        if entry.reason is None:
            spelled = f"{head} -->\n".encode() + entry.data + b"\n"
        else:
            start = _in_comment(entry.data[:FAILED_BYTES].decode("utf-8", "backslashreplace"))
            more = "\n(cut)" if len(entry.data) > FAILED_BYTES else ""
            spelled = f"{head} not understood: {_in_comment(entry.reason)}\n{start}{more}\n-->\n".encode()
        if len(spelled) > self._max_bytes:
            return f"{head} left out: {len(entry.data)} bytes are more than a file holds -->\n".encode()
        return spelled


def _in_comment(text: str) -> str:
    """Make a text printable, and such that it does not end the XML comment that it stands in."""
    printable = _UNPRINTABLE.sub(lambda match: f"\\x{ord(match[0]):02x}", text)
    return printable.replace("--", "-\\x2d")
