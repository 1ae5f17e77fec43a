"""The accounts of a site, as verbs change them: in the running server, or in its store if none runs."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from twisted.internet.task import Clock

from taky_twisted.cli.commands import CommandError
from taky_twisted.cli.running import NotRunning, RunningServer, Said
from taky_twisted.config import Settings
from taky_twisted.data_folder import DataFolder, DataFolderError, SocketError, checked_socket
from taky_twisted.enrollment.account_requests import answer
from taky_twisted.identity.accounts import Accounts
from taky_twisted.identity.errors import AccountError
from taky_twisted.identity.passwords import check_password, hash_of
from taky_twisted.interfaces import StoreError
from taky_twisted.records import Kept
from taky_twisted.stores.at_rest import StoreAtRest


class SiteAccounts:
    """Ask the running server, else the store."""

    def __init__(self, settings: Settings, socket: Path | None = None) -> None:
        """Ask nothing yet.

        Args:
            settings: those of the site.
            socket: the running server's, if the operator named it.
        """
        self._settings, self._socket = settings, socket
        self._server = RunningServer.of(settings, socket)
        if self._server.is_takys:
            raise CommandError(f"{socket}: accounts are not known to taky's protocol; leave -U out, or name our socket")

    def ask(self, action: str, **more: Any) -> Said:
        """Ask one thing, as `enrollment.account_requests.answer` takes it, with the ``password`` in clear.

        Raises:
            CommandError: it cannot be done.
        """
        (said,) = self.ask_all([{"action": action, **more}])
        return said

    def ask_all(self, requests: Iterable[Mapping[str, Any]]) -> list[Said]:
        """Ask several things; with no server running it is all or nothing. Raises as `ask`."""
        requests = list(requests)
        try:
            checked_socket(self._server.path)
            return [self._server.ask("users", **request) for request in requests]
        except (NotRunning, SocketError):
            # A server whose socket has a path that is too long runs without one; it has locked its store.
            if self._socket is not None:
                raise
            if all(request.get("if_there") for request in requests) and not self._store_is_there():
                return [{} for _ in requests]
        return self._ask_store(requests)

    def _ask_store(self, requests: list[Mapping[str, Any]]) -> list[Said]:
        try:
            with at_rest(self._settings) as (store, kept, clock):
                accounts = Accounts(clock, store)  # type: ignore[arg-type]  # it is never opened, as a server does
                accounts.restore(kept.accounts)
                return [answer(accounts, request, _hashed(request)) for request in requests]
        except AccountError as error:
            raise CommandError(str(error)) from error

    def _store_is_there(self) -> bool:
        try:
            return StoreAtRest(self._settings.store, self._settings.data_dir.absolute()).path.exists()
        except StoreError:
            return False


def give_groups(settings: Settings, groups_of: Mapping[str, Iterable[str]], socket: Path | None = None) -> None:
    """Put names into groups, both ways; who has no account gets one without a password.

    Raises:
        CommandError: it cannot be done.
    """
    if groups_of:
        SiteAccounts(settings, socket).ask_all(
            {"action": "groups", "name": name, "in": list(groups), "out": list(groups), "make": True}
            for name, groups in groups_of.items()
        )


def set_enabled(settings: Settings, name: str, enabled: bool, socket: Path | None = None) -> bool:
    """Let the password of a name's account count, or not; False if there is no such account.

    Raises:
        CommandError: it cannot be done.
    """
    if socket is not None and RunningServer(socket).is_takys:
        socket = None
    said = SiteAccounts(settings, socket).ask("enable" if enabled else "disable", name=name, if_there=True)
    return "name" in said


def _hashed(request: Mapping[str, Any]) -> str | None:
    return hash_of(check_password(request["password"])) if request.get("password") is not None else None


@contextmanager
def at_rest(settings: Settings) -> Iterator[tuple[StoreAtRest, Kept, Clock]]:
    """Work on a site's store while no server runs, and keep servers from starting meanwhile.

    What was put is written in the end, all at once; nothing of it if something goes wrong.

    Raises:
        CommandError: a server runs all the same, or the store cannot be used.
    """
    folder = DataFolder(settings.data_dir)
    clock = Clock()
    clock.rightNow = time.time()
    try:
        folder.open()
        try:
            store = StoreAtRest(settings.store, folder.path)
            yield store, store.read(clock.rightNow), clock
            store.save()
            _give_to_owner(folder.path, store.path)
        finally:
            folder.close()
    except (StoreError, DataFolderError) as error:
        raise CommandError(str(error)) from error


def _give_to_owner(folder: Path, store: Path) -> None:
    """Let the user that the server runs as have what root has made."""
    if os.geteuid() == 0:
        owner = folder.stat()
        for path in (*folder.glob("taky.lock"), *store.parent.glob(f"{store.name}*")):
            os.chown(path, owner.st_uid, owner.st_gid)
