"""The invites of a site, as verbs change them: in the running server, or in its store if none runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from taky_twisted.cli.commands import CommandError
from taky_twisted.cli.running import NotRunning, RunningServer, Said
from taky_twisted.cli.site_accounts import at_rest
from taky_twisted.config import Settings
from taky_twisted.enrollment.invite_requests import answer
from taky_twisted.enrollment.invites import Invites
from taky_twisted.identity.accounts import Accounts
from taky_twisted.identity.errors import AccountError


def ask(settings: Settings, requests: Iterable[Mapping[str, Any]], socket: Path | None = None) -> list[Said]:
    """Ask the running server, else the store; of the store it is all or nothing.

    Args:
        settings: those of the site.
        requests: each as `enrollment.invite_requests.answer` takes it.
        socket: the running server's, if the operator named it.

    Raises:
        CommandError: it cannot be done.
    """
    requests = list(requests)
    server = RunningServer.of(settings, socket)
    if server.is_takys:
        raise CommandError(f"{socket}: invites are not known to taky's protocol; leave -U out, or name our socket")
    try:
        return [server.ask("invites", **request) for request in requests]
    except NotRunning:
        if socket is not None:
            raise
    try:
        with at_rest(settings) as (store, kept, clock):
            accounts = Accounts(clock, store)  # type: ignore[arg-type]  # it is never opened, as a server does
            accounts.restore(kept.accounts)
            invites = Invites(store, clock)  # type: ignore[arg-type]  # as well
            invites.restore(kept.invites, kept.spent_uses)
            return [answer(invites, accounts, request, clock.seconds()) for request in requests]
    except AccountError as error:
        raise CommandError(str(error)) from error
