"""Ports for servers of tests that must know theirs before they listen, or come back to it after a stop."""

from __future__ import annotations

import random
import socket

PORTS = range(10_000, 20_000)
"""Below those that a kernel gives to connections (Linux 32768-60999, macOS and BSD from 49152).

A port that was asked of the kernel is one of these: until the server listens, or while it is down, any connection of
any program can be given it, even one that is being made to that very port.
"""


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """Find a port of loopback that nobody has, mostly another one each time."""
    while True:
        with socket.socket(socket.AF_INET, kind) as probe:
            try:
                probe.bind(("127.0.0.1", port := random.choice(PORTS)))
            except OSError:
                continue
            return port
