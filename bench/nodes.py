"""A server of several nodes: as many processes, and a Redis of their own that joins them."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from dataclasses import replace
from pathlib import Path

from .channels import HOST
from .servers import START_SECONDS, Server, ServerFailed, Side, end, free_port

NODE_ID = "BENCH"


class Redis:
    """A ``redis-server`` that keeps nothing on the disk."""

    def __init__(self, folder: Path) -> None:
        """Start none yet; it runs in a folder that is there."""
        self._folder = folder
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process; 0 if it does not run."""
        return self._process.pid if self._process is not None and self._process.poll() is None else 0

    def start(self) -> None:
        """Start it and wait until it answers.

        Raises:
            ServerFailed: there is none, or it does not start.
        """
        program = shutil.which("redis-server")
        if program is None:
            raise ServerFailed("nodes need a redis-server, and there is none (Debian: redis-server)")
        self.port = free_port()
        command = [program, "--bind", HOST, "--port", str(self.port), "--dir", str(self._folder), "--save", ""]
        with (self._folder / "redis.txt").open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + START_SECONDS
        while self.pid and time.monotonic() < deadline:
            if self._answers():
                return
            time.sleep(0.01)
        self.stop()
        raise ServerFailed(f"redis-server does not start: {(self._folder / 'redis.txt').read_text('utf-8', 'replace')}")

    def stop(self) -> None:
        """End it."""
        process, self._process = self._process, None
        if process is not None:
            end(process)

    def _answers(self) -> bool:
        try:
            with socket.create_connection((HOST, self.port), 1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(7) == b"+PONG\r\n"
        except OSError:
            return False


class Site(Server):
    """The nodes of one server. What can be asked of one of them alone is asked of the first."""

    def __init__(self, side: Side, folder: Path, certificates: Path | None = None) -> None:
        """Start nothing yet.

        Args:
            side: what is started, and how many of it.
            folder: for everybody's data.
            certificates: for TLS.
        """
        super().__init__(side, folder, certificates)
        self._redis = Redis(folder)
        self._nodes: list[Server] = []

    @property
    def pid(self) -> int:
        """The process of the first node; 0 if one of the nodes, or Redis, does not run."""
        return self.pids[0] if self.pids and all(self.pids) and self._redis.pid else 0

    @property
    def pids(self) -> list[int]:
        return [node.pid for node in self._nodes]

    @property
    def ports(self) -> list[int]:
        return [node.port for node in self._nodes]

    def launch(self) -> None:
        """Start Redis, and then all nodes at the same time.

        Raises:
            ServerFailed: there is no Redis.
        """
        self.folder.mkdir(exist_ok=True)
        self._redis.start()
        self.redis_pid = self._redis.pid
        joined = (f"--bus=redis:tcp:{HOST}:{self._redis.port}", f"--node-id={NODE_ID}")
        side = replace(self.side, options=(*self.side.options, *joined))
        self._nodes = [Server(side, self.folder / f"node-{n}", self.certificates) for n in range(side.nodes)]
        for node in self._nodes:
            node.launch()

    def wait(self) -> None:
        """Wait until all of them accept connections; that they hear each other is the clients' to see.

        Raises:
            ServerFailed: one of them ended, or did not listen in time.
        """
        try:
            for node in self._nodes:
                node.wait()
        except ServerFailed:
            self.stop()
            raise
        self.http_port = self._nodes[0].http_port
        self.startup_seconds = max(node.startup_seconds for node in self._nodes)

    def stop(self) -> None:
        """End the nodes, and then Redis."""
        for node in self._nodes:
            node.stop()
        self._redis.stop()

    def log(self) -> str:
        """Read the last lines that each node logged."""
        return "\n".join(node.log() for node in self._nodes)


def make_server(side: Side, folder: Path, certificates: Path | None, counting: bool) -> Server:
    """Make what is to be started for a side; it counts if that is wanted and it can."""
    return Site(side, folder, certificates) if side.nodes else Server(side, folder, certificates, counting)
