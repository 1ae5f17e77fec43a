"""The servers that are measured: start them on a free loopback port with data of their own, and stop them again."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from .channels import HOST

TAKY = ("setuptools<80", "taky==0.10")  # taky's Flask wants a pkg_resources that later ones have no more
START_SECONDS = 30.0
STOP_SECONDS = 20.0
PORTS = range(20_000, 30_000)
"""Below those that the kernel gives to clients."""
LOG_LINES = 15


class ServerFailed(Exception):
    """A server could not be had; the text says why."""


@dataclass(frozen=True)
class Side:
    """A server that can be started: this one, another checkout of it, or taky."""

    name: str
    checkout: Path | None = None
    """Where ours is; None for taky."""
    taky: Path | None = None
    """Where taky's program is."""
    limit: Path | None = None
    """Where the program is that only copies bytes (``limit.c``)."""
    options: tuple[str, ...] = ()
    """More of our command line."""
    nodes: int = 0
    """How many nodes it has, joined by a Redis; 0 for a single process that needs none."""

    @property
    def is_taky(self) -> bool:
        """Whether it is taky."""
        return self.taky is not None

    @property
    def has_metrics(self) -> bool:
        """Whether it can say what it counts."""
        return self.checkout is not None and (self.checkout / "taky_twisted" / "metrics").exists()

    def command(
        self, folder: Path, port: int, http_port: int, certificates: Path | None, metrics_port: int = 0
    ) -> list[str]:
        """Make the command line for one door; writes a configuration file if that takes one."""
        if self.limit is not None:
            shown = ("server.crt", "server.key", "ca.crt") if certificates is not None else ()
            return [str(self.limit), str(port), *(f"{certificates}/{name}" for name in shown)]
        if self.taky is not None:
            return [str(self.taky), "-c", str(_taky_conf(folder, port, certificates))]
        kind, files = "tcp", ""
        if certificates is not None:
            keys = (("privateKey", "server.key"), ("certKey", "server.crt"), ("caCerts", "ca.crt"))
            kind, files = "ssl", "".join(f":{key}={_escaped(certificates / file)}" for key, file in keys)
        doors = [f"--cot-endpoint={kind}:{port}:interface={HOST}{files}"]
        if self.checkout is None or (self.checkout / "taky_twisted" / "marti").exists():  # older ones have no HTTP
            doors.append(f"--marti-endpoint={kind}:{http_port}:interface={HOST}{files}")
        if metrics_port:
            doors.append(f"--metrics-endpoint=tcp:{metrics_port}:interface={HOST}")
        return [sys.executable, "-m", "taky_twisted.cli.taky", f"--data-dir={folder / 'data'}", *doors, *self.options]

    def environment(self) -> dict[str, str]:
        """Make the environment in which Python finds the right checkout first."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COVERAGE"))}
        if self.checkout is not None:
            environment["PYTHONPATH"] = str(self.checkout)
        return environment


@dataclass
class Server:
    """A process that we started."""

    side: Side
    folder: Path
    certificates: Path | None = None
    counting: bool = False
    """Whether it must say what it counts, if it can."""
    port: int = 0
    http_port: int = 0
    metrics_port: int = 0
    redis_pid: int = 0
    startup_seconds: float = 0.0
    _begun: float = 0.0
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def pid(self) -> int:
        """The process; 0 if it does not run."""
        return self._process.pid if self._process is not None and self._process.poll() is None else 0

    @property
    def pids(self) -> list[int]:
        """All its processes."""
        return [self.pid]

    @property
    def ports(self) -> list[int]:
        """Where clients connect."""
        return [self.port]

    def start(self) -> None:
        """Start it and wait until it accepts a connection.

        Raises:
            ServerFailed: it ended, or did not listen in time.
        """
        self.launch()
        self.wait()

    def launch(self) -> None:
        """Start it."""
        self.folder.mkdir(exist_ok=True)
        self.port, self.http_port = free_port(), free_port()
        self.metrics_port = free_port() if self.counting and self.side.has_metrics else 0
        self._begun = time.monotonic()
        with (self.folder / "log.txt").open("ab") as log:
            self._process = subprocess.Popen(
                self.side.command(self.folder, self.port, self.http_port, self.certificates, self.metrics_port),
                cwd=self.folder,
                env=self.side.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def wait(self) -> None:
        """Wait until it accepts a connection.

        Raises:
            ServerFailed: it ended, or did not listen in time.
        """
        while time.monotonic() - self._begun < START_SECONDS:
            if not self.pid:
                raise ServerFailed(f"{self.side.name} has ended:\n{self.log()}")
            try:
                socket.create_connection((HOST, self.port), 1).close()
            except OSError:
                time.sleep(0.005)
                continue
            self.startup_seconds = time.monotonic() - self._begun
            return
        self.stop()
        raise ServerFailed(f"{self.side.name} did not listen within {START_SECONDS:g} s:\n{self.log()}")

    def stop(self) -> None:
        """End it, at last by force."""
        process, self._process = self._process, None
        if process is not None:
            end(process)

    def log(self) -> str:
        """Read the last lines that it logged."""
        lines = (self.folder / "log.txt").read_text("utf-8", "replace").splitlines()
        return "\n".join(f"    {line}" for line in lines[-LOG_LINES:])


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process of ours, at last by force."""
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def free_port() -> int:
    """Find a loopback port that nobody has."""
    for port in random.sample(PORTS, 100):
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port
    raise ServerFailed("no free port on the loopback address")


def install_taky(cache: Path) -> Path:
    """Install taky into an environment of its own, unless it is there; where its program is.

    Raises:
        ServerFailed: pip cannot.
    """
    program = cache / "taky-0.10" / "bin" / "taky"
    if not program.exists():
        folder = program.parent.parent
        python = folder / "bin" / "python"
        install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *TAKY]
        for command in ([sys.executable, "-m", "venv", str(folder)], install):
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
            if done.returncode:
                raise ServerFailed(f"taky cannot be installed: {' '.join(command)} says\n{done.stdout}")
    return program


def build_limit(folder: Path) -> Path:
    """Compile the program that only copies bytes; where it is.

    Raises:
        ServerFailed: it cannot be compiled here.
    """
    program = folder / "limit"
    command = ["cc", "-O2", "-o", str(program), str(Path(__file__).with_name("limit.c")), "-lssl", "-lcrypto"]
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    except FileNotFoundError as error:
        raise ServerFailed("limit.c needs a C compiler (Debian: gcc), and there is no cc") from error
    if done.returncode:
        raise ServerFailed(
            f"limit.c cannot be compiled; it needs OpenSSL's headers (Debian: libssl-dev)\n{done.stdout}"
        )
    return program


def _taky_conf(folder: Path, port: int, certificates: Path | None) -> Path:
    ssl = f"""
enabled = true
client_cert_required = true
ca = {certificates}/ca.crt
cert = {certificates}/server.crt
key = {certificates}/server.key
cert_db = {folder}/cert-db.txt"""
    path = folder / "taky.conf"
    path.write_text(
        f"""[taky]
bind_ip = {HOST}
root_dir = {folder}
[cot_server]
port = {port}
[ssl]{ssl if certificates is not None else ""}
"""
    )
    return path


def _escaped(path: Path) -> str:
    """Spell a file name for an endpoint string."""
    return str(path).replace("\\", "\\\\").replace(":", "\\:")
