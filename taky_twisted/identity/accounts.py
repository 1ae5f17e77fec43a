"""Accounts: who may come with a password, and which groups a name has, whatever proves it.

::

    streaming, marti --check(name, password)--> Accounts --Account--> the site's store
                     --principal(certificate)-->   |
    admin, takyctl   --add, set_groups, ...----->  |  --watch--> live streams and requests

A certificate and a password of one name are one principal. A name without an account is in `ANON_GROUP` both ways, as
on a site that has no accounts.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from taky_twisted.identity.cert_db import name_key
from taky_twisted.identity.delays import Delays
from taky_twisted.identity.errors import AccountError, BadCredentials
from taky_twisted.identity.passwords import Passwords
from taky_twisted.identity.principal import ANON_GROUP, Certificate, Principal
from taky_twisted.identity.records import Account, Groups

if TYPE_CHECKING:
    from taky_twisted.interfaces import EventStore

MAX_ACCOUNTS = 100_000
MAX_NAME_CHARS = 256
"""Of a name that a stranger says; longer ones are nobody's."""
EVERYBODY = frozenset({ANON_GROUP})

Watcher = Callable[["Account | None", "Account | None"], None]
"""Is told what an account was and what it is; None where there is none."""


class Accounts:
    """All accounts of a site, in memory and in its store.

    It knows nothing of connections: whoever has some watches it, and asks it again when an account has changed.
    """

    log = Logger()

    def __init__(self, reactor: Any, store: EventStore, banned: Callable[[str], bool] = lambda name: False) -> None:
        """Start with none.

        Args:
            reactor: tells the time, and takes calls from threads.
            store: where they survive a restart.
            banned: whether the certificate register bans a name.
        """
        self._clock, self._store, self._banned = reactor, store, banned
        self.passwords = Passwords(reactor)
        self._delays = Delays(reactor)
        self._accounts: dict[str, Account] = {}
        self._watchers: list[Watcher] = []

    def __len__(self) -> int:
        return len(self._accounts)

    def __iter__(self) -> Iterator[Account]:
        """Go through all accounts, by name."""
        return iter(sorted(self._accounts.values(), key=lambda account: account.key))

    def restore(self, records: Iterable[Account]) -> None:
        """Take over what a store held."""
        self._accounts = {record.key: record for record in records}

    def stop(self) -> None:
        """End the threads that check passwords."""
        self.passwords.stop()

    def watch(self, watcher: Watcher) -> None:
        """Call somebody whenever an account was added, changed or removed."""
        self._watchers.append(watcher)

    @property
    def any_password(self) -> bool:
        """Whether anybody could come with a password."""
        return any(account.password for account in self._accounts.values())

    # Who is it?

    def find(self, name: str) -> Account | None:
        """Find an account, however its name is spelled."""
        return self._accounts.get(account_key(name)) if self._accounts else None

    def principal(self, name: str, certificate: Certificate | None = None) -> Principal:
        """Say who somebody is that a certificate, or another proof of the name, stands for.

        A disabled account keeps its groups: its certificates count as long as they are not revoked.
        """
        account = self.find(name)
        if account is None:
            return Principal(name=name, certificate=certificate)
        return Principal(
            name=account.name,
            groups_in=account.groups_in,
            groups_out=account.groups_out,
            certificate=certificate,
            admin=account.admin and account.enabled,
        )

    def certified(self, principal: Principal) -> Principal:
        """Say who the owner of a certificate is, with the groups of his account; an anonymous peer stays one."""
        return principal if principal.name is None else self.principal(principal.name, principal.certificate)

    def check(self, name: str, password: str, address: str) -> Deferred[Principal]:
        """Find out whether a password is somebody's.

        It takes as long for a name that nobody has. Who fails waits longer and longer before the next attempt with that
        name from that address is looked at, up to `delays.MAX_SECONDS`.

        Args:
            name: as the peer spells it.
            password: as well.
            address: the peer's, without a port.

        Returns:
            The account's principal; fails with `BadCredentials`, or with `Busy`.
        """
        return Deferred.fromCoroutine(self._check(name, password, address))

    async def _check(self, name: str, password: str, address: str) -> Principal:
        who = (address, account_key(name))
        await self._delays.wait(who)
        hashed = account.password if (account := self.find(name)) is not None else ""
        right = await self.passwords.is_right(hashed, password, address)
        # It may have changed in the meantime.
        account, refusal = self.find(name), self.refusal_of(name)
        if refusal is None and account is not None and account.password != hashed:
            refusal = "the password was changed at that moment"
        if refusal is None and not right:
            refusal = "the password is wrong"
        if refusal is not None or account is None:
            self._delays.failed(who)
            raise BadCredentials(refusal)
        self._delays.succeeded(who)
        return replace(self.principal(account.name), by_password=True)

    def refusal_of(self, name: str) -> str | None:
        """Say why no password of a name counts (any more); None if one does."""
        account = self.find(name)
        if account is None:
            return "there is no such account"
        if not account.password:
            return "the account has no password"
        if not account.enabled:
            return "the account is disabled"
        if self._banned(account.name):
            return "the name is banned"
        return None

    def is_barred(self, name: str) -> bool:
        """Whether a name may not come with an invite: it is banned, or its account is disabled."""
        account = self.find(name)
        return self._banned(name) or (account is not None and not account.enabled)

    def still_good(self, name: str, issued: float) -> Principal:
        """Say who somebody is that has shown his password before.

        Args:
            name: as it was then.
            issued: when that was, in whole seconds since the epoch.

        Raises:
            BadCredentials: the account is gone, disabled or banned, or has had another password since.
        """
        account, refusal = self.find(name), self.refusal_of(name)
        if refusal is not None or account is None:
            raise BadCredentials(refusal)
        if issued <= account.since:
            raise BadCredentials("the account was changed since")
        return replace(self.principal(account.name), by_password=True)

    # For operators

    def add(
        self,
        name: str,
        hashed: str = "",
        groups_in: Iterable[str] = (),
        groups_out: Iterable[str] = (),
        admin: bool = False,
    ) -> Account:
        """Make an account.

        Args:
            name: as it shall be spelled.
            hashed: what `passwords.hash` made of the password; empty for none.
            groups_in: where it may speak; without any groups it is in the one of everybody.
            groups_out: what it may hear.
            admin: whether it may administer the server.

        Raises:
            AccountError: there is one, or there are too many.
        """
        key = account_key(name)
        if (old := self._accounts.get(key)) is not None:
            raise AccountError(f"there is an account {old.name} already")
        if len(self._accounts) >= MAX_ACCOUNTS:
            raise AccountError(f"there are {MAX_ACCOUNTS} accounts already")
        ins, outs = _groups(groups_in, groups_out)
        return self._put(Account(key, name, hashed, ins, outs, admin, True, self._clock.seconds()))

    def set_password(self, name: str, hashed: str) -> Account:
        """Give an account another password, or none; streams and tokens of the old one are void.

        Raises:
            AccountError: there is no such account.
        """
        return self._put(replace(self._named(name), password=hashed, since=self._clock.seconds()))

    def set_groups(
        self, name: str, groups_in: Iterable[str], groups_out: Iterable[str], admin: bool | None = None
    ) -> Account:
        """Give an account other groups; none at all is the one of everybody.

        Args:
            name: of the account.
            groups_in: where it may speak.
            groups_out: what it may hear.
            admin: whether it may administer the server; None: as before.

        Raises:
            AccountError: there is no such account.
        """
        account = self._named(name)
        ins, outs = _groups(groups_in, groups_out)
        admin = account.admin if admin is None else admin
        return self._put(replace(account, groups_in=ins, groups_out=outs, admin=admin))

    def set_admin(self, name: str, admin: bool) -> Account:
        """Say whether an account may administer the server; raises `AccountError` if there is none."""
        return self._put(replace(self._named(name), admin=admin))

    def set_enabled(self, name: str, enabled: bool) -> Account:
        """Let an account's password count, or not; raises `AccountError` if there is no such account."""
        account = self._named(name)
        since = account.since if enabled else self._clock.seconds()
        return self._put(replace(account, enabled=enabled, since=since))

    def remove(self, name: str) -> Account:
        """Forget an account; raises `AccountError` if there is none."""
        account = self._named(name)
        del self._accounts[account.key]
        self._store.remove(Account, account.key)
        self._tell(account, None)
        return account

    def take_in(self, key: str, account: Account | None) -> None:
        """Have an account be what another node says; None: it was removed. The store has it already."""
        before = self._accounts.pop(key, None)
        if account is not None:
            self._accounts[key] = account
        if before != account:
            self._tell(before, account)

    def flush(self) -> Deferred[None]:
        """Fire when all changes are on disk."""
        return self._store.flush()

    def _named(self, name: str) -> Account:
        account = self.find(name)
        if account is None:
            raise AccountError(f"there is no account {name!r}")
        return account

    def _put(self, account: Account) -> Account:
        before = self._accounts.get(account.key)
        self._accounts[account.key] = account
        self._store.put(account)
        self._tell(before, account)
        return account

    def _tell(self, before: Account | None, after: Account | None) -> None:
        for watcher in self._watchers:
            watcher(before, after)


def account_key(name: str) -> str:
    """Spell a name so that two are equal if they are one account's: whatever the case, and however it is composed."""
    return unicodedata.normalize("NFC", name_key(name[:MAX_NAME_CHARS]).casefold())


def ends_passwords(before: Account | None, after: Account | None) -> bool:
    """Whether who came with an account's password has to go, now that it has changed."""
    return before is not None and (after is None or not after.enabled or after.password != before.password)


def _groups(groups_in: Iterable[str], groups_out: Iterable[str]) -> tuple[Groups, Groups]:
    ins, outs = frozenset(groups_in), frozenset(groups_out)
    return (ins, outs) if ins or outs else (EVERYBODY, EVERYBODY)
