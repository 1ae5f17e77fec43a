"""Whom the doors believe: accounts in a running server, and what each door takes as proof."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IStreamServerEndpoint

from taky_twisted.identity.accounts import Accounts, ends_passwords
from taky_twisted.identity.proofs import Auth
from taky_twisted.identity.records import Account
from taky_twisted.interfaces import EventStore
from taky_twisted.routing.granting import CHANGED, regrant
from taky_twisted.routing.router import Router

if TYPE_CHECKING:
    from taky_twisted.api import Api
    from taky_twisted.identity.revocation import Register

_WITHOUT_A_WORD: dict[str, Auth] = {"required": "cert", "optional": "open", "none": "none"}


def make_accounts(reactor: Any, store: EventStore, router: Router, register: Register | None) -> Accounts:
    """Make the accounts of a server; what changes in them reaches the streams at once."""
    banned: Callable[[str], bool] = register.is_banned if register is not None else lambda name: False
    accounts = Accounts(reactor, store, banned)
    accounts.watch(lambda before, after: regrant(router, accounts, before, after, reactor.seconds()))
    return accounts


def watch_requests(accounts: Accounts, api: Api) -> None:
    """End the HTTP connections of whoever has shown a password that does not count any more."""

    def changed(before: Account | None, after: Account | None) -> None:
        if before is not None and ends_passwords(before, after):
            api.connections.close_account(before.key, CHANGED)

    accounts.watch(changed)


def auth_of_streams(endpoint: IStreamServerEndpoint) -> Auth:
    """Say what a door for streams takes as proof; one that does not say goes by what it asks for in the handshake."""
    said: Auth | None = getattr(endpoint, "auth", None)
    tls = getattr(endpoint, "tls", None)
    if said is not None or tls is None:
        return said or "none"
    return _WITHOUT_A_WORD[tls.settings.client_cert]


def auth_of_requests(endpoint: IStreamServerEndpoint) -> Auth:
    """Say what a door of the Marti API takes as proof; a certificate, unless it says otherwise."""
    return getattr(endpoint, "auth", None) or "cert"


def asks(endpoint: IStreamServerEndpoint) -> bool:
    """Whether clients are asked for certificates or passwords there."""
    tls = getattr(endpoint, "tls", None)
    return tls is not None and (tls.settings.client_cert != "none" or auth_of_requests(endpoint) == "password")


def was_banned(register: Register | None) -> Callable[[str, float], bool]:
    """Make what says whether a name is banned, or was since a moment."""
    return register.was_banned if register is not None else lambda name, since: False
