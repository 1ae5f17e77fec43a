"""What operators ask of invites, in JSON: of a running server through its socket, else of its store's file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from taky_twisted.enrollment import account_requests
from taky_twisted.enrollment.errors import EnrollmentError
from taky_twisted.enrollment.invites import DEFAULT_SECONDS, Invites, new_invite
from taky_twisted.identity.accounts import Accounts
from taky_twisted.identity.errors import AccountError

Asked = Mapping[str, Any]


def answer(invites: Invites, accounts: Accounts, asked: Asked, now: float) -> dict[str, Any]:
    """Do what is asked.

    Args:
        invites: those of the site.
        accounts: as well: whoever is invited has one, perhaps without a password.
        asked: ``action``, and what belongs to it.
        now: seconds since the epoch.

    Returns:
        For ``invite`` the token, which nobody is told a second time; for ``list`` the open invites; for ``withdraw``
        how many there were.

    Raises:
        AccountError: it cannot be done; the text says why.
    """
    action = asked.get("action")
    try:
        if action == "list":
            found = sorted(invites, key=lambda invite: (invite.name, invite.expires))
            return {"invites": [{"name": each.name, "uses": each.uses, "expires": each.expires} for each in found]}
        if action == "withdraw":
            return {"withdrawn": invites.withdraw(_name(asked))}
        if action == "invite":
            return _invite(invites, accounts, asked, now)
    except EnrollmentError as error:
        raise AccountError(str(error)) from error
    raise AccountError("action is one of invite, list, withdraw")


def _invite(invites: Invites, accounts: Accounts, asked: Asked, now: float) -> dict[str, Any]:
    name, uses, seconds = _name(asked), asked.get("uses", 1), asked.get("seconds", DEFAULT_SECONDS)
    if type(uses) is not int or type(seconds) not in (int, float):
        raise AccountError("uses and seconds are numbers")
    new_invite("", name, uses, seconds, now)  # before anything is changed
    if accounts.is_barred(name):
        raise AccountError(
            f"{name} is banned, or its account is disabled; 'takyctl unban' or 'takyctl users' lets it in again"
        )
    if accounts.find(name) is None or "in" in asked or "out" in asked:
        groups = {"in": asked.get("in", []), "out": asked.get("out", [])}
        account_requests.answer(accounts, {"action": "groups", "name": name, "make": True, **groups}, None)
    account = accounts.find(name)
    assert account is not None, "it was made just now"
    token = invites.invite(account.name, uses, seconds)
    return {"name": account.name, "token": token, "uses": uses, "expires": now + seconds}


def _name(asked: Asked) -> str:
    name = asked.get("name")
    if not isinstance(name, str):
        raise AccountError("name is a text")
    return name
