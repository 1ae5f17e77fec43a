"""taky's own key ``redis``: a truth value or an address; and what it means beside the keys that are new here."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from taky_twisted.config.conf_file import ConfFile
from taky_twisted.config.values import RedisSettings, parse_boolean, parse_host, parse_port, parse_redis_db

REDIS_PORT = 6379

_ALLOWED = "allowed: true, false, HOST, HOST:PORT, or redis://[[USER]:PASSWORD@]HOST[:PORT][/DB] (rediss:// with TLS)"
_HOST = re.compile(r"([^:\[\]]+)(?::([0-9]+))?")


def parse_redis(text: str) -> RedisSettings | None:
    """Read where taky keeps its items; None if not in Redis.

    Source: taky 0.10, ``cot/persistence.py``, ``build_persistence``; addresses are redis-py's (``ConnectionPool``'s
    ``from_url``), of which the options but ``db`` are left out.
    """
    text = text.strip()
    try:
        return RedisSettings(_tcp("localhost", REDIS_PORT)) if parse_boolean(text) else None
    except ValueError:
        pass
    if "://" not in text:
        match = _HOST.fullmatch(text)
        if match is None:
            raise ValueError(f"not a Redis server; {_ALLOWED}")
        return RedisSettings(_tcp(parse_host(match[1]), parse_port(match[2]) if match[2] else REDIS_PORT))
    try:
        url = urlsplit(text)
        return _of_url(url, url.port or REDIS_PORT)
    except ValueError:
        # Its own words might show a piece of the password.
        raise ValueError(f"not the address of a Redis server; {_ALLOWED}") from None


def _of_url(url: SplitResult, port: int) -> RedisSettings:
    options = parse_qs(url.query, strict_parsing=True) if url.query else {}
    db = options.pop("db", ["0"])[-1]
    user = unquote(url.username) if url.username else None
    password = unquote(url.password) if url.password else None
    if options or url.fragment:
        raise ValueError("options")
    if url.scheme == "unix" and url.path and not url.hostname:
        return RedisSettings(f"unix:{_quoted(unquote(url.path))}", user, db=parse_redis_db(db), password=password)
    host = parse_host(url.hostname or "localhost")
    if url.path.strip("/"):
        db = url.path.strip("/")
    where = {"redis": _tcp, "rediss": _tls}.get(url.scheme)
    if where is None:
        raise ValueError("scheme")
    return RedisSettings(where(host, port), user, db=parse_redis_db(db), password=password)


def read_redis(conf: ConfFile) -> RedisSettings:
    """Read user, password and database for every Redis that is named; the endpoint is that of taky's key.

    Returns:
        What `Settings.redis` is; its endpoint is empty if taky's key asks for none.

    Raises:
        ConfigError: a key is wrong, or two contradict each other.
    """
    of_taky = conf.value("taky", "redis", parse_redis, None) or RedisSettings("")
    user = conf.value("taky", "redis_user", str, None)
    password_file: Path | None = conf.value("taky", "redis_password_file", conf.path_of, None)
    db = conf.value("taky", "redis_db", parse_redis_db, None)
    for key, new, old in (("redis_user", user, of_taky.user), ("redis_db", db, of_taky.db or None)):
        if new is not None and old is not None and new != old:
            raise conf.bad("taky", key, "redis names another one; allowed: one of the two")
    if password_file is not None and of_taky.password is not None:
        raise conf.wrong("[taky] redis_password_file: redis has a password too; allowed: one of the two")
    return replace(
        of_taky,
        user=of_taky.user if user is None else user,
        password_file=password_file,
        db=of_taky.db if db is None else db,
    )


def _tcp(host: str, port: int) -> str:
    return f"tcp:{_quoted(host)}:{port}"


def _tls(host: str, port: int) -> str:
    return f"tls:{_quoted(host)}:{port}"


def _quoted(text: str) -> str:
    r"""Write a text so that it stands for itself in an endpoint string: ``\``, ``:`` and ``=`` escaped."""
    return text.replace("\\", "\\\\").replace(":", "\\:").replace("=", "\\=")
