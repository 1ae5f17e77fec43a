"""What can be asked of a running server, whatever the words."""

from __future__ import annotations

import resource
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ParamSpec, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.threads import deferToThreadPool

from taky_twisted import __version__
from taky_twisted.admin.status import Seen, connected, nodes, ours, takys
from taky_twisted.enrollment import invite_requests
from taky_twisted.enrollment.account_requests import answer
from taky_twisted.enrollment.errors import EnrollmentError
from taky_twisted.enrollment.invites import Invites
from taky_twisted.identity.accounts import Accounts
from taky_twisted.identity.errors import AccountError, Busy
from taky_twisted.identity.failures import FailedAttempt, Failures
from taky_twisted.identity.passwords import check_password
from taky_twisted.logs import Logger
from taky_twisted.routing.router import Router
from taky_twisted.routing.tracing import Traced, Tracing

P = ParamSpec("P")
T = TypeVar("T")

KICKED = "an operator closed it (kickban)"


class AdminError(Exception):
    """A request cannot be done; the text is for whoever asked."""


def _nobody(_name: str) -> Sequence[int]:
    return ()


@dataclass
class Running:
    """The parts of a running server that operators look at and touch."""

    reactor: Any
    router: Router
    failures: Failures
    reload: Callable[[], Awaitable[None]]
    """Reads certificates and register again, then closes whom they refuse."""
    kick: Callable[[str, str], int]
    """Closes all connections of a certificate's or account's name for a reason; tells how many."""
    ban: Callable[[str], Sequence[int]] = _nobody
    """Marks a name's certificates as revoked in the register; tells their serials. It may wait for a disk."""
    counts: Callable[[], Mapping[str, int]] = dict
    """What else is counted: connections, handshakes."""
    doors: Callable[[], Sequence[Mapping[str, Any]]] = list
    """What is open."""
    accounts: Accounts | None = None
    invites: Invites | None = None
    """Who comes with a password, and who is in which groups."""
    steady: Callable[[], float] = time.monotonic
    """A clock that nobody sets; it tells how long the server runs."""
    started: float = field(init=False)

    def __post_init__(self) -> None:
        self.started = self.steady()


class Admin:
    """Answer operators."""

    log = Logger()

    def __init__(self, running: Running) -> None:
        self._running = running
        self._clock: IReactorTime = running.reactor
        self._tracing = Tracing(running.router, self._clock)

    def ping(self) -> dict[str, Any]:
        """Say that there is a server."""
        return {"pong": "taky_twisted", "version": __version__}

    async def status(self) -> dict[str, Any]:
        """Say who is connected."""
        found = await self._spelled(ours)
        doors = [dict(door) for door in self._running.doors()]
        return {**found, "version": __version__, "doors": doors, **self.joined()}

    def joined(self) -> dict[str, Any]:
        """Name the other nodes, if this is one of several."""
        others = nodes(self._running.router)
        return {} if others is None else {"nodes": others}

    async def takys_status(self) -> dict[str, Any]:
        """Say who is connected, as taky does."""
        return await self._spelled(takys)

    def stats(self) -> dict[str, Any]:
        """Count what there is."""
        running, router = self._running, self._running.router
        return {
            "uptime": self._uptime(),
            **running.counts(),
            "subscriptions": len(router.subscriptions),
            "audiences": len(router.audiences),
            "contacts": sum(1 for _ in router.contacts),
            "present": sum(1 for contact in router.contacts if contact.present),
            "retained": len(router.retained),
            "emergencies": len(router.emergencies),
            "oversize": router.offers.oversize,
            "failures": running.failures.total,
            "suppressed_lines": router.notices.suppressed,
            "peak_memory_kib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        }

    async def reload(self) -> None:
        """Read certificates and register again, and close whom they refuse."""
        await self._running.reload()

    async def users(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Look at accounts, or change one; it is on the disk when this is answered."""
        accounts, password = self._running.accounts, asked.get("password")
        if accounts is None:
            raise AdminError("this server has no accounts")
        try:
            hashed = None
            if password is not None:
                if not isinstance(password, str):
                    raise AdminError("password is a text")
                hashed = await accounts.passwords.hash(check_password(password))
            said = answer(accounts, asked, hashed)
        except (AccountError, Busy) as error:
            raise AdminError(str(error)) from error
        await accounts.flush()
        return said

    async def invites(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Invite somebody, list invites or withdraw them; it is on the disk when this is answered."""
        invites, accounts = self._running.invites, self._running.accounts
        if invites is None or accounts is None:
            raise AdminError("nobody can enroll at this server: it has no enrollment port")
        try:
            said = invite_requests.answer(invites, accounts, asked, self._clock.seconds())
        except AccountError as error:
            raise AdminError(str(error)) from error
        await accounts.flush()
        return said

    async def kickban(self, name: str | None) -> dict[str, Any]:
        """Revoke what belongs to a name, and close its connections.

        Args:
            name: a certificate's or account's; None where somebody else has changed the register already.
        """
        running = self._running
        if name is None:
            await running.reload()
            return {"revoked_sns": [], "dropped": 0}
        # At once: whoever comes back before the register is read is closed a moment later.
        dropped = running.kick(name, KICKED)
        accounts = running.accounts
        if accounts is not None and (account := accounts.find(name)) is not None:
            accounts.set_enabled(account.name, False)
            if running.invites is not None:
                running.invites.withdraw(account.name)
            await accounts.flush()
        revoked: Sequence[int] = ()
        problem = None
        try:
            revoked = await self._in_thread(running.ban, name)
        except EnrollmentError as error:
            problem = error
        await running.reload()
        dropped += running.kick(name, KICKED)
        self.log.info(
            "kickban {name}: {revoked} certificates revoked, {dropped} connections closed",
            name=repr(name),
            revoked=len(revoked),
            dropped=dropped,
        )
        if problem is not None:
            raise AdminError(f"{problem}; {dropped} connections were closed, but nothing keeps them away") from problem
        return {"revoked_sns": list(revoked), "dropped": dropped}

    def failed(self) -> list[dict[str, Any]]:
        """List failed attempts, oldest first."""
        return [asdict(attempt) for attempt in self._running.failures]

    def watch_failures(self, say: Callable[[dict[str, Any]], None]) -> Callable[[], None]:
        """Tell of each failed attempt from now on, until what is returned is called."""

        def told(attempt: FailedAttempt) -> None:
            say(asdict(attempt))

        return self._running.failures.watch(told)

    def trace(self, whom: str, say: Callable[[dict[str, Any]], None]) -> Callable[[], None]:
        """Tell what becomes of each event of a uid or callsign, until what is returned is called."""

        def told(traced: Traced) -> None:
            say(asdict(traced))

        return self._tracing.watch(whom, told)

    def _uptime(self) -> float:
        return self._running.steady() - self._running.started

    async def _spelled(self, spell: Callable[[list[Seen], float], dict[str, Any]]) -> dict[str, Any]:
        # Ten thousand reports take a while to be read.
        return await self._in_thread(spell, list(connected(self._running.router)), self._uptime())

    def _in_thread(self, call: Callable[P, T], *arguments: P.args, **more: P.kwargs) -> Deferred[T]:
        reactor = self._running.reactor
        return deferToThreadPool(reactor, reactor.getThreadPool(), call, *arguments, **more)
