"""What a door of one process becomes when several processes serve it."""

from __future__ import annotations

from taky_twisted.endpoints.sockets import TLS_PREFIXES
from taky_twisted.endpoints.strings import joined, split
from taky_twisted.identity.errors import EndpointError


def worker_door(description: str, worker: int) -> str | None:
    """Say where a worker listens for a door; None where only the first one can.

    Raises:
        EndpointError: several processes cannot have such a door.
    """
    words, keys = split(description)
    kinds = [word.lower() for word in words]
    if kinds[0] in TLS_PREFIXES and "inner" in keys:
        inner = worker_door(keys["inner"], worker)
        return None if inner is None else joined(words, {**keys, "inner": inner})
    socket_words = kinds[1:] if kinds[0] == "haproxy" else kinds
    if socket_words[:1] == ["unix"]:
        return description if worker == 1 else None
    if socket_words[:1] not in [[kind] for kind in ("tcp", "tcp6", *TLS_PREFIXES)]:
        raise EndpointError(
            f"endpoint {kinds[0]}: several processes cannot share such a door; write tcp:, tcp6: or ssl:, or start one"
        )
    if keys.get("port", (*socket_words, "")[1]) == "0":
        raise EndpointError(f"endpoint {kinds[0]}: with port 0 each process would have another port; name one")
    return joined(words, {**keys, "reusePort": "yes"})


def worker_doors(descriptions: tuple[str, ...], worker: int | None) -> tuple[str, ...]:
    """Say where a process listens; all stays as it is for the only process of a server.

    Raises:
        EndpointError: several processes cannot have such doors.
    """
    if worker is None:
        return descriptions
    return tuple(door for each in descriptions if (door := worker_door(each, worker)) is not None)
