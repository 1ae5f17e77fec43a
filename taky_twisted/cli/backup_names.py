"""What is in a backup, and nothing else: the names, how large they may be, and who may read them afterwards."""

from __future__ import annotations

import re
from dataclasses import dataclass
from re import Pattern

CONF = "taky.conf"
SMALL = 64 << 20
"""Bytes of a file that is not the picture, the history or shared by clients."""


@dataclass(frozen=True, slots=True)
class Kind:
    """Files that are treated alike."""

    names: Pattern[str]
    limit: int | None = SMALL
    """Bytes; None: what the disk has."""
    mode: int = 0o600


SSL = {
    "ca": "ssl/ca.crt",
    "ca_key": "ssl/ca.key",
    "cert": "ssl/server.crt",
    "key": "ssl/server.key",
    "server_p12": "ssl/server.p12",
    "cert_db": "ssl/cert-db.txt",
}
"""Keys of ``[ssl]``, and what the file that they name is called in a backup."""
REGISTER_BESIDE = "ssl/cert-db.jsonl"
CRL = "ssl/ca.crl"
ISSUED = "ssl/issued/"
DATA = "data/"
BLOBS = "data/dp-user/blobs/"
STORE = "data/taky.sqlite"
HISTORY = "data/history.sqlite"
PROFILES = "data/profiles/"
PROFILE_BYTES = 100
"""Of the name of a file in a profile: longer ones have no place in a plain header."""
DATA_FILES = ("server-id", "taky-files-taken-over", "taky-videos-taken-over")

KINDS = (
    Kind(re.compile(r"taky\.conf|ssl/(ca|server)\.key|ssl/server\.crt|data/server-id")),
    Kind(re.compile(r"ssl/(ca\.crt|ca\.crl|server\.p12|cert-db\.(txt|jsonl)|issued/[0-9a-f]{40,64}\.pem)"), mode=0o644),
    Kind(re.compile(r"data/(taky|history)\.sqlite"), None),
    Kind(re.compile(r"data/taky-(files|videos)-taken-over|data/dp-user/blobs/owner")),
    Kind(re.compile(r"data/dp-user/blobs/[0-9a-f]{2}/[0-9a-f]{64}"), None),
    Kind(re.compile(r"data/profiles/(enrollment|connection)(/[^/\\\0.][^/\\\0]*){1,8}")),
)


def kind_of(name: str) -> Kind | None:
    """Find how a file is treated; None for one that has no place in a backup."""
    return next((kind for kind in KINDS if kind.names.fullmatch(name)), None)
