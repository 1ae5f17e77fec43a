"""Small files that all nodes of a server have alike, such as the key for access tokens: the first one made counts."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads

from taky_twisted.bus.shared_copy import Kind, Payloads
from taky_twisted.bus.shared_log import SharedLog
from taky_twisted.files import PRIVATE, replace_file
from taky_twisted.logs import Logger
from taky_twisted.own_thread import OwnThread

KIND = "secrets"


@dataclass(frozen=True, slots=True)
class Secret:
    """One of these files."""

    path: Path
    good: Callable[[bytes], bool]
    """Whether a content can be that of the file."""
    taken: Callable[[bytes], object]
    """Called when the file has the content that another node has made."""


class SharedSecrets:
    """The files, and which of them all nodes have."""

    log = Logger()

    def __init__(self, reactor: Any, shared: SharedLog, secrets: Mapping[str, Secret]) -> None:
        """Touch nothing yet.

        Args:
            reactor: takes calls from threads.
            shared: not started yet.
            secrets: the files, by the names that they have for all nodes.
        """
        self._shared, self._secrets = shared, secrets
        self._thread = OwnThread("shared secrets", IReactorFromThreads(reactor))
        self._held: dict[str, bytes] = {}
        shared.share(Kind(KIND, self._take_in, lambda: self._held, first_wins=True))

    async def begin(self) -> None:
        """Read what there is; after this the log may be started."""
        self._held = await self._thread.run(self._read)

    def made(self, name: str, content: bytes) -> None:
        """Offer a file that this node has made; if another node was faster, its own is taken in."""
        if self._held.setdefault(name, content) == content:
            self._shared.put(KIND, name, content)
        else:
            # The other node's arrived while this one was being made.
            self._secrets[name].taken(self._held[name])

    def end(self) -> None:
        """End the thread."""
        self._thread.stop()

    def _read(self) -> dict[str, bytes]:
        found = {}
        for name, secret in self._secrets.items():
            try:
                content = secret.path.read_bytes()
            except FileNotFoundError:
                continue
            except OSError as error:
                self.log.warn("{path} cannot be read: {reason}", path=str(secret.path), reason=error.strerror)
                continue
            if secret.good(content):
                found[name] = content
        return found

    def _take_in(self, payloads: Payloads) -> Deferred[Collection[str]]:
        return self._thread.run(self._write, payloads).addCallback(self._written)

    def _write(self, payloads: Payloads) -> dict[str, bytes]:
        written = {}
        for name, content in payloads.items():
            secret = self._secrets.get(name)
            if secret is None or content is None or not secret.good(content):
                continue
            try:
                replace_file(secret.path, content, PRIVATE)
            except OSError as error:
                self.log.warn(
                    "{path} cannot be written: {reason}; it is another one than on the other nodes. Make room, or make "
                    "it writable, and start this node anew.",
                    path=str(secret.path),
                    reason=error.strerror,
                )
            else:
                written[name] = content
        return written

    def _written(self, written: dict[str, bytes]) -> Collection[str]:
        for name, content in written.items():
            self._held[name] = content
            self._secrets[name].taken(content)
        return list(written)
