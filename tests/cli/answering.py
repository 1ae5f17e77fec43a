"""A server's socket that answers what a test tells it to."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.cli.takyctl import main
from taky_twisted.data_folder import ADMIN_SOCKET


class AnsweringTestCase(SynchronousTestCase):
    """A site with a socket at which somebody answers, and takyctl."""

    def setUp(self) -> None:
        # Not mktemp(): a socket's path must be short.
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.conf = self.folder / "taky.conf"
        self.data = self.folder / "data"
        self.data.mkdir(mode=0o700)
        self.configure()
        self.requests: list[bytes] = []

    def configure(self, *lines: str) -> None:
        """Write the configuration."""
        text = "\n".join(["[taky]", "hostname = localhost", "root_dir = data", *lines, ""])
        self.conf.write_text(text, "utf-8")

    def answer(self, *answers: dict[str, Any] | bytes, name: str = ADMIN_SOCKET, end: bytes = b"\n") -> Path:
        """Answer one connection with some objects or bytes, and end it."""
        path = self.data / name
        listener = socket.socket(socket.AF_UNIX)
        path.unlink(missing_ok=True)
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            with listener, contextlib.suppress(OSError):
                caller, _ = listener.accept()
                with caller:
                    request = b""
                    while not request.endswith(end):
                        request += caller.recv(1 << 16)
                    self.requests.append(request[:-1])
                    for each in answers:
                        said = each if isinstance(each, bytes) else json.dumps(each).encode() + end
                        caller.sendall(said)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        self.addCleanup(thread.join, 10)
        self.addCleanup(lambda: self._knock(path))
        return path

    def _knock(self, path: Path) -> None:
        """Let a thread that nobody has asked come to its end."""
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as caller:
            caller.settimeout(1)
            caller.connect(str(path))

    def takyctl(self, *arguments: str) -> str:
        """Run a verb that works, and read what it prints."""
        said, _ = self.run_verb(*arguments)
        return said

    def refused(self, *arguments: str) -> str:
        """Run a verb that does not work, and read why."""
        with self.assertRaises(SystemExit) as caught:
            self.run_verb(*arguments)
        return str(caught.exception)

    def run_verb(self, *arguments: str, call: Callable[..., None] = main) -> tuple[str, str]:
        """Run a verb; read what it prints, and its notes."""
        out, notes = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(notes):
            call(["-c", str(self.conf), *arguments])
        return out.getvalue(), notes.getvalue()
