"""A Redis server of the test's own: on free ports of loopback, in a folder of its own; it ends with the test."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hiredis import Reader, pack_command
from twisted.trial.unittest import SynchronousTestCase

from tests.pki import PKI
from tests.ports import free_port

START_SECONDS = 10.0
"""How long a start may take on a busy machine."""
POLL_SECONDS = 0.01
SHELL_SECONDS = 5.0
"""How long one command of a test may take."""


class RedisServer:
    """A real ``redis-server``. Without one installed every test that wants it fails."""

    def __init__(
        self,
        test: SynchronousTestCase,
        *options: str,
        password: str | None = None,
        acl: Sequence[str] = (),
        tls: PKI | None = None,
        keeps: bool = False,
    ) -> None:
        """Start it and wait until it answers.

        Args:
            test: ends it.
            options: more of its options, such as ``--maxmemory``, ``2mb``.
            password: of its default user; None lets everybody in.
            acl: rules of more users, each as in ``ACL SETUSER``: ``anna on >secret ~* +@all``.
            tls: where its certificate comes from, if it is to speak TLS as well.
            keeps: whether what it holds survives `stop` and `kill`.
        """
        program = shutil.which("redis-server")
        assert program is not None, "there is no redis-server: apt-get install redis-server"
        # Not test.mktemp(): the name of a unix socket must be short.
        self.folder = Path(tempfile.mkdtemp(prefix="redis-"))
        test.addCleanup(shutil.rmtree, self.folder)
        test.addCleanup(self.kill)
        self.password = password
        self.port, self.tls_port = free_port(), free_port() if tls is not None else 0
        self.socket = self.folder / "s"
        self._command = [
            *(program, "--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.folder)),
            *("--unixsocket", str(self.socket), "--save", "", "--daemonize", "no", "--enable-debug-command", "local"),
            *(("--appendonly", "yes", "--appendfsync", "always") if keeps else ()),
            *(("--requirepass", password) if password is not None else ()),
            *(word for rule in acl for word in ("--user", *rule.split())),
            *(self._tls_options(tls) if tls is not None else ()),
            *options,
        ]
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def endpoint(self) -> str:
        """How it is reached over TCP."""
        return f"tcp:127.0.0.1:{self.port}"

    @property
    def unix_endpoint(self) -> str:
        """How it is reached through its unix socket."""
        return f"unix:{self.socket}"

    @property
    def tls_endpoint(self) -> str:
        """How it is reached over TLS; its certificate is checked."""
        return f"tls:127.0.0.1:{self.tls_port}:trustRoots={self.folder / 'ca'}"

    def start(self) -> None:
        """Start it again, and wait until it answers."""
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.wait_until_up()

    def wait_until_up(self) -> None:
        """Wait until it answers."""
        end = time.monotonic() + START_SECONDS
        while True:
            assert self._process is not None
            assert self._process.poll() is None and time.monotonic() < end, (self.folder / "log").read_text()
            try:
                self.shell("PING")
                return
            except (OSError, AssertionError):
                time.sleep(POLL_SECONDS)

    def stop(self) -> None:
        """Tell it to stop (SIGTERM), and wait for that."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it without a warning (SIGKILL)."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Kill it and start it again."""
        self.kill()
        self.start()

    def pause(self) -> None:
        """Make it hang (SIGSTOP): it takes connections and bytes, and does not answer."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on (SIGCONT)."""
        os.kill(self.pid, signal.SIGCONT)

    @property
    def pid(self) -> int:
        """The number of the process."""
        assert self._process is not None
        return self._process.pid

    def shell(self, *command: str | bytes | float) -> Any:
        """Send a command as ``redis-cli`` would; texts come back as bytes.

        Raises:
            AssertionError: it answers with an error.
        """
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(SHELL_SECONDS)
            client.connect(str(self.socket))
            reader = Reader()
            if self.password is not None:
                client.sendall(pack_command(("AUTH", self.password)))  # type: ignore[arg-type]  # of any length
                _reply(client, reader)
            client.sendall(pack_command(command))  # type: ignore[arg-type]  # as well
            return _reply(client, reader)

    def keys(self, pattern: str = "*") -> set[bytes]:
        """List all keys that match."""
        return set(self.shell("KEYS", pattern))

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            self.resume()  # one that is paused does not end
            self._process.send_signal(number)
            self._process.wait()

    def _tls_options(self, pki: PKI) -> Sequence[str]:
        trusted = self.folder / "ca"
        trusted.mkdir()
        shutil.copy(pki.ca_path, trusted / "ca.pem")
        ca, certificate, key = map(os.path.abspath, (pki.ca_path, pki.certificate_path, pki.key_path))
        return (
            *("--tls-port", str(self.tls_port), "--tls-auth-clients", "no", "--tls-ca-cert-file", ca),
            *("--tls-cert-file", certificate, "--tls-key-file", key),
        )


def _reply(client: socket.socket, reader: Reader) -> Any:
    while (reply := reader.gets()) is False:
        data = client.recv(1 << 16)
        if not data:
            raise ConnectionError("it has closed the connection")
        reader.feed(data)
    if isinstance(reply, Exception):
        raise AssertionError(str(reply))
    return reply
