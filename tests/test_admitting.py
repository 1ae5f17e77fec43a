from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.admitting import (
    asks,
    auth_of_requests,
    auth_of_streams,
    make_accounts,
    was_banned,
    watch_requests,
)
from taky_twisted.endpoints import TLSDefaults, server_endpoint
from taky_twisted.identity.accounts import Accounts
from taky_twisted.identity.revocation import Register
from tests.fakes import Site, principal
from tests.pki import PKI


@dataclass
class Closing:
    """Notes which accounts' connections are closed."""

    closed: list[tuple[str, str]] = field(default_factory=list)

    def close_account(self, key: str, reason: str) -> None:
        self.closed.append((key, reason))


class AccountsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.site = Site()

    def make(self, register: Register | None = None) -> Accounts:
        """Make the accounts of the site."""
        return make_accounts(self.site.clock, self.site.store, self.site.router, register)

    def test_streams(self) -> None:
        """What changes in an account changes its streams."""
        accounts = self.make()
        self.site.join("FOX", proved=principal("fox"))
        accounts.add("fox", "", ["Red"], ["Red"])
        (stream,) = self.site.router.subscriptions
        self.assertEqual(stream.principal.groups_in, frozenset({"Red"}))
        self.assertFalse(accounts.is_barred("fox"))

    def test_banned(self) -> None:
        """Names that the register bans are banned here, in whatever case, as soon as it is read again."""
        path = Path(self.mktemp())
        path.write_text("")
        register = Register(str(path))
        accounts = self.make(register)
        path.with_suffix(".jsonl").write_text('{"ban": "Fox", "since": "2026-03-01T10:00:00Z"}\n')
        self.assertFalse(accounts.is_barred("FOX"))
        register.reload()
        self.assertTrue(accounts.is_barred("FOX"))
        self.assertFalse(accounts.is_barred("wolf"))

    def test_requests(self) -> None:
        """HTTP connections of a password that does not count any more are closed, for nothing else."""
        accounts, connections = self.make(), Closing()
        api: Any = SimpleNamespace(connections=connections)
        watch_requests(accounts, api)
        accounts.add("Fox", "h1")
        accounts.set_groups("fox", ["Red"], ["Red"])
        self.assertEqual(connections.closed, [])
        accounts.set_password("fox", "h2")
        accounts.remove("fox")
        self.assertEqual([key for key, _ in connections.closed], ["fox", "fox"])


class DoorsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.pki = PKI(self.mktemp())

    def test_streams(self) -> None:
        """A door says what it takes as proof, else it follows from what it asks for in the handshake."""
        for keys, expected in (
            ({}, "cert"),
            ({"clientCert": "optional"}, "open"),
            ({"clientCert": "none"}, "none"),
            ({"auth": "password"}, "password"),
            ({"auth": "cert+password"}, "cert+password"),
            ({"auth": "none", "clientCert": "optional"}, "none"),
        ):
            endpoint = server_endpoint(Clock(), self.pki.endpoint(**keys))
            self.assertEqual(auth_of_streams(endpoint), expected, keys)
        self.assertEqual(auth_of_streams(server_endpoint(Clock(), "tcp:0")), "none")
        self.assertEqual(auth_of_streams(server_endpoint(Clock(), "tcp:0:auth=none")), "none")

    def test_client_cert_required(self) -> None:
        """``client_cert_required = false`` is open to all only as long as nobody has a password."""
        defaults = TLSDefaults(client_cert="optional")
        self.assertEqual(auth_of_streams(server_endpoint(Clock(), self.pki.endpoint(), defaults)), "open")

    def test_asks(self) -> None:
        """Where certificates or passwords are asked for, callers without TLS are not let in unasked."""
        for keys, expected in (
            ({}, True),
            ({"clientCert": "optional"}, True),
            ({"clientCert": "none"}, False),
            ({"auth": "none"}, False),
            ({"auth": "password", "clientCert": "none"}, True),
        ):
            self.assertEqual(asks(server_endpoint(Clock(), self.pki.endpoint(**keys))), expected, keys)
        self.assertFalse(asks(server_endpoint(Clock(), "tcp:0")))

    def test_was_banned(self) -> None:
        """Without a register nobody ever was; with one, it is asked."""
        self.assertFalse(was_banned(None)("fox", 0.0))
        self.assertFalse(was_banned(Register(self.pki.register_path))("fox", 0.0))

    def test_requests(self) -> None:
        """A door of the Marti API wants certificates, unless it says otherwise."""
        for keys, expected in (({}, "cert"), ({"clientCert": "optional"}, "cert"), ({"auth": "password"}, "password")):
            endpoint = server_endpoint(Clock(), self.pki.endpoint(**keys))
            self.assertEqual(auth_of_requests(endpoint), expected)
        self.assertEqual(auth_of_requests(server_endpoint(Clock(), "tcp:0")), "cert")
