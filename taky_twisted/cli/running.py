"""The running server, as verbs speak to it: through its unix socket."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from taky_twisted.cli.commands import CommandError
from taky_twisted.config import Settings
from taky_twisted.config.workers import worker_folders
from taky_twisted.data_folder import ADMIN_SOCKET, SOCKET_PATH_BYTES, TAKY_SOCKET
from taky_twisted.endpoints.strings import split
from taky_twisted.identity.errors import EndpointError

VERSION = 1
"""Of the protocol (``doc/reference/admin-api.rst``)."""
ANSWER_SECONDS = 10.0
"""How long an answer may take; what is said live takes as long as it takes."""
MAX_ANSWER_BYTES = 256 << 20
_PIECE_BYTES = 1 << 16

Said = dict[str, Any]


class NotRunning(CommandError):
    """No server answers at the socket."""


class RunningServer:
    """A server that runs, or should."""

    def __init__(self, path: Path, others: Sequence[Path] = ()) -> None:
        """Connect to nothing yet.

        Args:
            path: of its socket.
            others: sockets of its further workers, which are asked when the first is away.
        """
        self.path = path
        self._others = [other for other in others if len(os.fsencode(other)) <= SOCKET_PATH_BYTES]

    @classmethod
    def of(cls, settings: Settings, named: Path | None) -> RunningServer:
        """Find the socket of a site: the one that the operator named, else what its configuration says."""
        if named is not None:
            return cls(named)
        data_dir = settings.data_dir.absolute()
        others = [folder / ADMIN_SOCKET for folder in worker_folders(data_dir)]
        for description in settings.admin_endpoints:
            return cls(_path_in(description, settings), others)
        return cls(data_dir / ADMIN_SOCKET, others)

    @property
    def further(self) -> list[RunningServer]:
        """The further workers of a server that has several, each by itself."""
        return [RunningServer(other) for other in self._others]

    @property
    def is_takys(self) -> bool:
        """Whether taky's protocol is spoken there."""
        return self.path.name == TAKY_SOCKET

    def ask(self, do: str, **more: object) -> Said:
        """Ask something that has one answer.

        Raises:
            NotRunning: nobody answers.
            CommandError: the server cannot do it; the text is its own.
        """
        *_, answer = self.stream(do, more)
        return answer

    def stream(self, do: str, more: Mapping[str, object], live: bool = False) -> Iterator[Said]:
        """Ask something that has several answers, and go through them; raises as `ask`.

        Args:
            do: the verb.
            more: what else the request says.
            live: whether answers may take any time after the first.
        """
        request = json.dumps({"v": VERSION, "do": do, **more}).encode() + b"\n"
        for line in self._lines(request, b"\n", live):
            answer = _read(line)
            if answer.get("ok") is not True:
                raise CommandError(str(answer.get("error", "the server refuses, and does not say why")))
            yield answer
            if not answer.get("more"):
                return

    def ask_taky(self, request: Mapping[str, object]) -> Said:
        """Ask in taky's protocol; raises as `ask`."""
        answer = _read(next(self._lines(json.dumps(request).encode() + b"\0", b"\0", live=False)))
        if "error" in answer:
            raise CommandError(str(answer["error"]))
        return answer

    def _lines(self, request: bytes, end: bytes, live: bool) -> Iterator[bytes]:
        if len(os.fsencode(self.path)) > SOCKET_PATH_BYTES:
            raise NotRunning(f"no server can answer at {self.path}: the path is too long for a socket")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
            server.settimeout(ANSWER_SECONDS)
            try:
                self._connect(server)
                server.sendall(request)
            except (FileNotFoundError, ConnectionRefusedError) as error:
                raise NotRunning(f"no server answers at {self.path}; does it run, and is this its site?") from error
            except PermissionError as error:
                raise CommandError(
                    f"{self.path} belongs to the user that the server runs as; be that user, or root"
                ) from error
            except OSError as error:
                raise CommandError(f"{self.path}: {error.strerror or error}") from error
            buffer = bytearray()
            while True:
                at = buffer.find(end)
                if (at if at >= 0 else len(buffer)) > MAX_ANSWER_BYTES:
                    raise CommandError(f"the server at {self.path} answers more than {MAX_ANSWER_BYTES} bytes at once")
                if at >= 0:
                    yield bytes(buffer[:at])
                    del buffer[: at + len(end)]
                    server.settimeout(None if live else ANSWER_SECONDS)
                    continue
                try:
                    data = server.recv(_PIECE_BYTES)
                except TimeoutError as error:
                    raise CommandError(
                        f"the server at {self.path} did not answer within {ANSWER_SECONDS:g} seconds"
                    ) from error
                except ConnectionError:
                    data = b""
                if not data:
                    raise CommandError(f"the server at {self.path} has ended the connection")
                buffer += data

    def _connect(self, server: socket.socket) -> None:
        *first, last = (self.path, *self._others)
        for path in first:
            with suppress(FileNotFoundError, ConnectionRefusedError):
                server.connect(str(path))
                return
        server.connect(str(last))


def _path_in(description: str, settings: Settings) -> Path:
    words, keys = split(description)
    name = keys.get("address") or (words[1] if len(words) > 1 else "")
    if not name:
        raise EndpointError(f"endpoint {description}: write unix:PATH")
    # Where the server was started is not known here; where its configuration is, is likely.
    base = settings.path.parent if settings.path is not None else Path()
    return base / name


def _read(answer: bytes) -> Said:
    try:
        said = json.loads(answer)
    except ValueError as error:
        raise CommandError("what answers there does not speak our protocol") from error
    if not isinstance(said, dict):
        raise CommandError("what answers there does not speak our protocol")
    return said
