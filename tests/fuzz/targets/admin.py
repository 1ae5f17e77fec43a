"""Both protocols on the operators' sockets.

The first byte chooses: ours (0), taky's (1). Holds: however the bytes are cut, the same answers come, each of them
JSON in one piece; the log tells of no mistake; what is not answered yet is bounded; a name or a password of an account
is only taken if it is one, and no password is in an answer or in the log.
"""

from __future__ import annotations

import json
from itertools import islice

from taky_twisted.admin import commands, protocol, requests, status, taky_protocol
from taky_twisted.admin.protocol import AdminProtocol
from taky_twisted.admin.requests import MAX_REQUEST_BYTES, RequestProtocol
from taky_twisted.admin.taky_protocol import TakyProtocol
from taky_twisted.enrollment import account_requests, invite_requests
from taky_twisted.enrollment.invites import Invites
from taky_twisted.identity import accounts
from taky_twisted.identity.accounts import Accounts
from tests.admin.running import Server, Wire
from tests.fuzz.cutting import cuttings
from tests.fuzz.target import Target
from tests.fuzz.threads import without_threads
from tests.fuzz.watching import no_mistakes

PASSWORD = "s3cret-w0rd"
CHANGING = ("uptime", "started", "peak_memory_kib", "token", "created", "expires", "until", "at", "time")
"""What differs from one answer to the next."""

assert account_requests and accounts and commands and invite_requests and protocol and requests and status
assert taky_protocol  # to be instrumented


def made() -> Server:
    """Make a server that has accounts, and somebody connected."""
    server = Server()
    running = server.admin._running
    running.accounts = Accounts(server.reactor, server.site.store)
    running.invites = Invites(server.site.store, server.reactor)
    running.accounts.add("alpha", "", groups_in=("Blue",))
    server.site.join("A")
    return server


def outcome(kind: bytes, pieces: list[bytes]) -> list[object]:
    """Say what comes of requests."""
    server = made()
    speaks: RequestProtocol = AdminProtocol(server.admin) if kind == b"0" else TakyProtocol(server.admin)
    wire = Wire(speaks)
    for piece in pieces:
        if wire.lost is None:
            speaks.dataReceived(piece)
            assert len(speaks._buffer) <= MAX_REQUEST_BYTES
    answers = wire.heard(speaks.delimiter)
    said = b"".join(pieces)
    if said.count(PASSWORD.encode()) == said.count(f'"password": "{PASSWORD}"'.encode()):
        assert not any(PASSWORD in str(answer) for answer in answers)
    wire.hang_up()
    running = server.admin._running
    assert running.accounts is not None
    for account in running.accounts:
        assert 0 < len(account.name) <= 256 and account.name.strip() == account.name
    names = sorted(account.name for account in running.accounts)
    return [*map(stable, answers), names, wire.lost]


def stable(said: object) -> object:
    """Leave out what differs from one answer to the next."""
    if isinstance(said, dict):
        return {key: stable(value) for key, value in said.items() if key not in CHANGING}
    return [stable(each) for each in said] if isinstance(said, list) else said


def run(data: bytes) -> None:
    kind, data = data[:1], data[1:]
    if kind not in (b"0", b"1"):
        return
    with without_threads(), no_mistakes():
        whole, *others = (outcome(kind, pieces) for pieces in islice(cuttings(data), 2))
    assert all(other == whole for other in others), (whole, others)


def _seeds() -> list[bytes]:
    verbs = ("ping", "status", "stats", "reload", "users", "invites", "doctor", "trace", "x")
    ours: list[dict[str, object]] = [
        {"do": "kickban", "name": "alpha"},
        {"do": "doctor", "follow": True},
        {"do": "trace", "whom": "A"},
        {"do": "users", "action": "list"},
        {"do": "users", "action": "add", "name": "bravo", "password": PASSWORD, "in": ["Blue"], "out": ["Blue"]},
        {"do": "users", "action": "passwd", "name": "alpha", "password": PASSWORD},
        {"do": "users", "action": "groups", "name": "alpha", "in": ["Blue"], "out": [], "admin": True, "make": True},
        {"do": "users", "action": "disable", "name": "alpha", "if_there": True},
        {"do": "users", "action": "remove", "name": "alpha"},
        {"do": "invites", "action": "invite", "name": "charlie", "uses": 1, "seconds": 60.0, "in": ["Blue"]},
        {"do": "invites", "action": "list"},
        {"do": "invites", "action": "withdraw", "name": "alpha"},
    ]
    ours += [{"do": verb} for verb in verbs]
    lines = [json.dumps({"v": 1, **each}).encode() + b"\n" for each in ours]
    return [
        *(b"0" + line for line in lines),
        b"0" + b"".join(lines),
        *(b"0" + one for one in (b"[]\n", b"{}\n", b'{"v":2}\n', b"\n\n", b"[" * 200 + b"\n", b"x" * 17000)),
        b'0{"v":1,"do":["x"]}\n',
        *(
            b"1" + each + b"\0"
            for each in (
                b'{"cmd":"ping"}',
                b'{"cmd":"status"}',
                b'{"cmd":"kickban","user":"alpha"}',
                b'{"cmd":0}',
                b"[]",
            )
        ),
        b"1" + b'{"cmd":"ping"}\0' * 5 + b"\xff\0" + b"9" * 5000 + b"\0",
    ]


TARGET = Target(
    run,
    seeds=_seeds,
    words=[
        *(b'"do": "', b'"v": 1', b'"name": ', b'"action": "', b'"password": "', b'"whom": ', b'"cmd": "', b'"user": '),
        *(b"kickban", b"users", b"invites", b"trace", b"doctor", b"\\ud800", b"\\u0000", b"null", b"1e999", b"NaN"),
        b"[[[[",
        *(b'"in": [', b'"out": [', b'"uses": ', b'"seconds": ', b'"admin": ', b'"enabled": ', b"remove", b"invite"),
        b"list",
        b"\n",
        b"\0",
    ],
    seconds=1.0,
    memory=160 << 20,
)
