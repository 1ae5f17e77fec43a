"""A server in a process of its own, as an operator runs it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import taky_twisted

ROOT = Path(taky_twisted.__file__).parent.parent
TWISTD = "from twisted.scripts.twistd import run; run()"
START_SECONDS = 20
"""How long a start may take on a busy machine."""
POLL_SECONDS = 0.01

Option = str


class ServerProcess:
    """``twistd taky`` with a data folder and ports of its own; it ends with the test at the latest."""

    def __init__(self, test: SynchronousTestCase, *options: Option, folder: Path | None = None) -> None:
        """Start nothing yet.

        Args:
            test: ends the process.
            options: what ``twistd taky`` takes; a CoT endpoint on a free port of loopback if no door is among them.
            folder: where the data folder and the log are; a new one by default.
        """
        if not any("endpoint" in option for option in options):
            options = ("--cot-endpoint=tcp:0:interface=127.0.0.1", *options)
        self._options = options
        self.folder = folder or Path(test.mktemp()).absolute()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.data_dir = self.folder / "data"
        self.command: tuple[str, ...] = (sys.executable, "-c", TWISTD)
        """What runs ``twistd``."""
        self._starts = 0
        self._process: subprocess.Popen[bytes] | None = None
        test.addCleanup(self.kill)

    def start(self) -> ServerProcess:
        """Start it and wait until it serves."""
        self.launch()
        doors = sum("endpoint" in option for option in self._options)
        self.wait_for_log(rf"(?s)(door .* is open on .*){{{doors}}}", START_SECONDS)
        self.wait_until_served()
        return self

    def wait_until_served(self) -> None:
        """Wait until its doors hold nobody any more: they are open before everything that was kept is there."""
        self.wait_for_log(r"taky-mgmt\.sock", START_SECONDS)

    def launch(self, *twistd_options: str) -> None:
        """Start it and do not wait; by default in the foreground."""
        self._starts += 1
        configuration = self.folder / "taky.conf"
        configuration.touch()
        command = [
            *self.command,
            *(twistd_options or ("-n", "--pidfile=")),
            *("taky", f"--config={configuration}", f"--data-dir={self.data_dir}"),
            *self._options,
        ]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )

    @property
    def _log(self) -> Path:
        return self.folder / f"log-{self._starts}"

    @property
    def log(self) -> str:
        """What it has said since its last start."""
        return self._log.read_text("utf-8", "replace")

    def lines(self, word: str) -> list[str]:
        """Read the lines of the log that have a word in them, without time and origin."""
        return [line.partition("] ")[2] for line in self.log.splitlines() if word in line]

    def port(self, door: int = 0) -> int:
        """Tell the TCP port of a door, in the order in which they were opened."""
        return int(re.findall(r"door .* is open on 127\.0\.0\.1 port (\d+)", self.log)[door])

    @property
    def pid(self) -> int:
        """The number of the process."""
        assert self._process is not None
        return self._process.pid

    def memory(self) -> int:
        """Tell how much memory it has, in bytes (Linux)."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text("ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def wait_for_log(self, pattern: str, seconds: float = 10) -> str:
        """Wait until the log matches; return what matched."""
        end = time.monotonic() + seconds
        while (match := re.search(pattern, self.log)) is None:
            if time.monotonic() > end or (self.exit_status() is not None and not re.search(pattern, self.log)):
                raise AssertionError(f"no {pattern!r} in the log:\n{self.log}")
            time.sleep(POLL_SECONDS)
        return match[0]

    def exit_status(self) -> int | None:
        """Tell how it ended; None while it runs."""
        return self._process.poll() if self._process is not None else None

    def wait(self, seconds: float = START_SECONDS) -> int:
        """Wait for its end; return its exit status."""
        assert self._process is not None
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it does not end:\n{self.log}") from None

    def hang_up(self) -> None:
        """Let it read its certificates again (SIGHUP)."""
        os.kill(self.pid, signal.SIGHUP)

    def terminate(self) -> None:
        """Tell it to stop (SIGTERM)."""
        os.kill(self.pid, signal.SIGTERM)

    def kill(self) -> None:
        """End it without a warning (SIGKILL)."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
