"""An account changes while people are connected: what that means for each of their streams."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from taky_twisted.identity.accounts import Accounts, account_key, ends_passwords
from taky_twisted.identity.records import Account

from . import switching

if TYPE_CHECKING:
    from .router import Router

CHANGED = "its account was changed"


def regrant(router: Router, accounts: Accounts, before: Account | None, after: Account | None, now: float) -> None:
    """Let the streams of a name have what its account says now.

    Other groups are switched to at once. A stream that a password let in ends when that password does not count any
    more, and any stream when its name is spelled otherwise from now on: everything else that is remembered of it goes
    by its name.

    Args:
        router: where they are connected.
        accounts: all accounts.
        before: what the account was.
        after: what it is.
        now: seconds since the epoch.
    """
    account = after or before
    if account is None:
        return
    for stream in list(router.subscriptions):
        had = stream.granted
        if had.name is None or account_key(had.name) != account.key:
            continue
        proved = had.certificate.common_name if had.certificate is not None else had.name
        granted = replace(accounts.principal(proved, had.certificate), by_password=had.by_password)
        if (had.by_password and ends_passwords(before, after)) or granted.name != had.name:
            stream.close_peer(CHANGED)
        elif granted != had:
            switching.grant(router, stream, granted, now)
