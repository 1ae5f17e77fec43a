"""What operators ask of accounts, in JSON: of a running server through its socket, else of its store's file.

::

    takyctl users --{"action": "add", "name": ..., ...}--> admin, if the server runs --+--> answer --> Accounts
                 `---------------------------------------> the store's file ----------'
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from taky_twisted.enrollment.errors import BadName
from taky_twisted.enrollment.names import check_name
from taky_twisted.identity.accounts import Accounts
from taky_twisted.identity.errors import AccountError
from taky_twisted.identity.records import Account

MAX_GROUPS = 1000
"""Of one account, in each direction."""
MAX_GROUP_CHARS = 255

Asked = Mapping[str, Any]


def answer(accounts: Accounts, asked: Asked, hashed: str | None) -> dict[str, Any]:
    """Do what is asked.

    Args:
        accounts: those of the site.
        asked: ``action``, and what belongs to it.
        hashed: what is kept of the password, if the request has one.

    Returns:
        The account as it is then; for ``list`` all of them.

    Raises:
        AccountError: it cannot be done; the text says why.
    """
    action = asked.get("action")
    if action == "list":
        return {"accounts": [spelled(account) for account in accounts]}
    name = _name(asked)
    if action == "add":
        groups = _groups(asked, "in"), _groups(asked, "out")
        return spelled(accounts.add(_checked(name), hashed or "", *groups, admin=_flag(asked, "admin") is True))
    if action == "passwd":
        return spelled(accounts.set_password(name, hashed or ""))
    if action == "groups":
        return spelled(_regroup(accounts, name, asked))
    if action in ("enable", "disable"):
        if asked.get("if_there") is True and accounts.find(name) is None:
            return {}
        return spelled(accounts.set_enabled(name, action == "enable"))
    if action == "remove":
        return spelled(accounts.remove(name))
    raise AccountError("action is one of list, add, passwd, groups, enable, disable, remove")


def spelled(account: Account) -> dict[str, Any]:
    """Spell an account for operators, without what is kept of its password."""
    return {
        "name": account.name,
        "in": sorted(account.groups_in),
        "out": sorted(account.groups_out),
        "admin": account.admin,
        "enabled": account.enabled,
        "password": bool(account.password),
    }


def check_group(text: str) -> str:
    """Return the name of a group.

    Raises:
        AccountError: no group can have it.
    """
    name = text.strip()
    if not 0 < len(name) <= MAX_GROUP_CHARS or not name.isprintable():
        raise AccountError(
            f"the group {text[:MAX_GROUP_CHARS]!r}; allowed: 1 to {MAX_GROUP_CHARS} printable characters"
        )
    return name


def _regroup(accounts: Accounts, name: str, asked: Asked) -> Account:
    admin = _flag(asked, "admin")
    if accounts.find(name) is None and asked.get("make") is True:
        return accounts.add(_checked(name), "", _groups(asked, "in"), _groups(asked, "out"), admin is True)
    if "in" in asked or "out" in asked:
        return accounts.set_groups(name, _groups(asked, "in"), _groups(asked, "out"), admin)
    if admin is None:
        raise AccountError("say which groups, or whether it is an administrator")
    return accounts.set_admin(name, admin)


def _name(asked: Asked) -> str:
    name = asked.get("name")
    if not isinstance(name, str) or not name.strip():
        raise AccountError("name is a text")
    return name


def _checked(name: str) -> str:
    try:
        return check_name(name)
    except BadName as error:
        raise AccountError(str(error)) from error


def _groups(asked: Asked, key: str) -> list[str]:
    groups = asked.get(key, [])
    if not isinstance(groups, list) or len(groups) > MAX_GROUPS or not all(isinstance(each, str) for each in groups):
        raise AccountError(f"{key} is a list of up to {MAX_GROUPS} names of groups")
    return [check_group(each) for each in groups]


def _flag(asked: Asked, key: str) -> bool | None:
    flag = asked.get(key)
    if flag is not None and not isinstance(flag, bool):
        raise AccountError(f"{key} is true or false")
    return flag
