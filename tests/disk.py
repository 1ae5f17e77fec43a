"""How long the disk takes: what a kill may cost depends on it."""

from __future__ import annotations

import os
import time
from pathlib import Path
from threading import Thread


class Disk:
    """How long the disk needs for a few bytes, looked at all the time."""

    def __init__(self, folder: Path) -> None:
        self._path, self._begun, self._slowest = folder / "disk", time.monotonic(), 0.0
        self.stopping = False
        self.thread = Thread(target=self._write)
        self.thread.start()

    def slowest(self) -> float:
        """Take the longest time since this was asked last, that which is not over included, in seconds."""
        slowest, self._slowest = max(self._slowest, time.monotonic() - self._begun), 0.0
        return slowest

    def _write(self) -> None:
        with self._path.open("wb") as file:
            while not self.stopping:
                self._begun = time.monotonic()
                file.write(b"0123456789")
                file.flush()
                os.fsync(file.fileno())
                self._slowest = max(self._slowest, time.monotonic() - self._begun)
                time.sleep(0.1)
