"""Accounts whose passwords are checked when a test says so, without computing anything."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from twisted.internet.defer import Deferred

from taky_twisted.identity.accounts import Accounts
from taky_twisted.identity.errors import BadCredentials
from taky_twisted.identity.principal import Principal
from taky_twisted.stores.memory import MemoryStore


@dataclass
class Check:
    """A password that is to be checked."""

    name: str
    password: str
    address: str
    result: Deferred[Principal]


class HeldAccounts(Accounts):
    """The password of every account is ``secret12``."""

    def __init__(self, clock: Any, *, held: bool = False) -> None:
        super().__init__(clock, MemoryStore(clock))
        self.held = held
        """Whether checks wait for `decide`."""
        self.checks: list[Check] = []

    def check(self, name: str, password: str, address: str) -> Deferred[Principal]:
        self.checks.append(Check(name, password, address, Deferred()))
        result = self.checks[-1].result
        if not self.held:
            self.decide()
        return result

    def decide(self, error: Exception | None = None) -> None:
        """Finish the oldest check that is pending, as it has to be or with an error."""
        check = next(each for each in self.checks if not each.result.called)
        account = self.find(check.name)
        if error is None and (account is None or not account.enabled or check.password != "secret12"):
            error = BadCredentials("the password is wrong")
        if error is not None:
            check.result.errback(error)
        else:
            check.result.callback(replace(self.principal(check.name), by_password=True))
