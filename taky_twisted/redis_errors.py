"""What can go wrong with Redis, and what an operator can do about it."""

from __future__ import annotations

from typing import Union

Argument = Union[bytes, str, int, float]
"""A word of a command; texts are sent as UTF-8."""

_ADVICE = {
    "NOAUTH": "Redis wants a password: put it into a file that only the server's user can read, and name that with "
    "redis_password_file (and the user with redis_user, unless it is Redis' default user).",
    "WRONGPASS": "Compare redis_user and the password in redis_password_file with the users of Redis (ACL LIST).",
    "NOPERM": "Give the Redis user the rights that doc/how-to/redis.rst lists (ACL SETUSER).",
    "OOM": "Redis is full: raise its maxmemory.",
    "READONLY": "This Redis is a replica that takes no writes: name its master.",
    "MASTERDOWN": "This Redis is a replica without its master: name the master.",
    "LOADING": "Redis is reading its data from the disk: wait until it has.",
    "BUSY": "A script keeps Redis busy: end it with SCRIPT KILL.",
    "MISCONF": "Redis cannot save to its disk: look into its log, and make room.",
    "MOVED": "Redis Cluster is not supported: name a Redis that is not part of one.",
    "CLUSTERDOWN": "Redis Cluster is not supported: name a Redis that is not part of one.",
    "DENIED": "Redis answers on this machine only (protected-mode): give it a password, then name that.",
    "NOREPLICAS": "Redis waits for its replicas (min-replicas-to-write): bring them back.",
}
"""What an operator can do, by the first word of what Redis says."""
_NO_RIGHT_IN_SCRIPT = ("The user executing the script", "ACL failure in script")
"""How it begins what it says of a right that is missing within a script; depends on its version."""
_PASSING = frozenset({"LOADING", "BUSY", "MASTERDOWN"})
"""What Redis says while it is not ready yet."""


class RedisError(Exception):
    """Redis did not do what it was asked to; the text says why."""

    advice = ""
    """What the operator can do, as a sentence."""


class RedisAway(RedisError):
    """Redis is not there, or does not answer; whether it did what it was asked to is not known."""

    def __init__(self, why: str, advice: str = "Start Redis, or look after the network to it.") -> None:
        super().__init__(why)
        self.advice = advice


class RedisRefused(RedisError):
    """Redis answered with an error."""

    @property
    def code(self) -> str:
        """The error's first word, such as ``WRONGPASS`` or ``OOM``; ``ERR`` for those without a name."""
        return str(self).partition(" ")[0]

    @property
    def advice(self) -> str:  # type: ignore[override]  # depends on the code
        """What the operator can do, as a sentence."""
        if str(self).removeprefix("ERR ").startswith(_NO_RIGHT_IN_SCRIPT):
            return _ADVICE["NOPERM"]
        return _ADVICE.get(self.code, "Look up this error in Redis' manual, and into its log.")


def may_pass(error: RedisError) -> bool:
    """Tell whether Redis may be there a moment later without anybody's help."""
    return not isinstance(error, RedisRefused) or error.code in _PASSING
