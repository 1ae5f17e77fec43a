"""Who is at the other end of a request: what its connection and its ``Authorization`` prove.

A certificate is known as soon as the connection is; a password takes a moment, and so may a token.

Source: TAK Server ``oauth/AccessTokenResolver.java`` (on the port for certificates a bearer token is a mission's, and
nobody's login).
"""

from __future__ import annotations

from base64 import b64decode
from binascii import Error as NotBase64
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred

from taky_twisted.enrollment.errors import EnrollmentError
from taky_twisted.identity.accounts import account_key
from taky_twisted.identity.errors import BadCredentials, Busy
from taky_twisted.identity.principal import ANONYMOUS, Principal
from taky_twisted.identity.transport import refusal_of
from taky_twisted.marti.connections import host_of
from taky_twisted.marti.errors import MartiError, Revoked, TooMany, WrongCredentials

if TYPE_CHECKING:
    from taky_twisted.enrollment.access_tokens import AccessTokens
    from taky_twisted.enrollment.invites import Invited
    from taky_twisted.identity.accounts import Accounts
    from taky_twisted.marti.request import MartiRequest

MAX_CREDENTIALS_CHARS = 4096
"""Of what ``Basic`` is followed by."""
_WRONG = "the name or the password is wrong"


class Callers:
    """Find out who asks, for all doors of the Marti API."""

    def __init__(
        self,
        accounts: Accounts | None = None,
        tokens: AccessTokens | None = None,
        invited: Callable[[str, str], Invited | None] = lambda name, token: None,
    ) -> None:
        """Describe what counts.

        Args:
            accounts: knows passwords and groups; without them only certificates count.
            tokens: knows access tokens.
            invited: finds the invite of a name and a token, which may stand in place of a password.
        """
        self.accounts, self.tokens, self.invited = accounts, tokens, invited

    def find(self, request: MartiRequest) -> Principal | Deferred[Principal]:
        """Say who a request on a TLS door is from, at once or in a moment.

        Raises:
            Revoked: its certificate is, perhaps only since the last request.
            WrongCredentials: what it says is not proved; in the Deferred, too.
            TooMany: the password cannot be checked just now; in the Deferred, too.
        """
        site, channel = request.site, request.channel
        shown, refusal = channel.principal, refusal_of(channel.transport, channel.principal)
        if refusal is not None:
            if not site.enrolls:
                raise Revoked(refusal)
            shown = ANONYMOUS  # who has a new one made shows the old one, sometimes
        if self.accounts is None:
            return shown
        certified = self.accounts.certified(shown)
        scheme, said = _authorization(request)
        if site.enrolls:
            if scheme == "bearer" and self.tokens is not None:
                return Deferred.fromCoroutine(self._by_token(self.tokens, request, said))
            if scheme == "basic":
                return self._by_invite(request, said) or self._by_password(self.accounts, request, said)
            return replace(certified, admin=False)
        if site.auth == "cert+password":
            # Half a proof is none.
            return self._both(self.accounts, request, said) if scheme == "basic" else ANONYMOUS
        if site.auth == "password" and shown.anonymous and scheme == "basic":
            return self._by_password(self.accounts, request, said, admin=False)
        return certified

    def _by_invite(self, request: MartiRequest, said: str) -> Principal | None:
        assert self.accounts is not None
        name, password = _name_and_password(said)
        invited = self.invited(name, password)
        if invited is None or self.accounts.find(invited.name) is None or self.accounts.is_barred(invited.name):
            return None  # nobody is let in for whom no groups are known (any more)
        request.invited = invited
        return replace(self.accounts.principal(invited.name), admin=False)

    def _by_password(
        self, accounts: Accounts, request: MartiRequest, said: str, admin: bool = True
    ) -> Deferred[Principal]:
        return Deferred.fromCoroutine(self._checked(accounts, request, *_name_and_password(said), admin=admin))

    def _both(self, accounts: Accounts, request: MartiRequest, said: str) -> Deferred[Principal]:
        name, password = _name_and_password(said)
        certificate = request.channel.principal.certificate
        if certificate is None or account_key(certificate.common_name) != account_key(name):
            raise WrongCredentials(_WRONG, "the client's certificate is of another name than its account", name)
        return Deferred.fromCoroutine(self._checked(accounts, request, name, password, admin=True))

    async def _checked(
        self, accounts: Accounts, request: MartiRequest, name: str, password: str, *, admin: bool
    ) -> Principal:
        try:
            principal = await accounts.check(name, password, host_of(request.getClientAddress()))
        except BadCredentials as error:
            raise WrongCredentials(_WRONG, str(error), name) from error
        except Busy as error:
            raise TooMany(str(error)) from error
        certificate = None if request.site.enrolls else request.channel.principal.certificate
        return replace(principal, certificate=certificate, admin=principal.admin and admin)

    async def _by_token(self, tokens: AccessTokens, request: MartiRequest, said: str) -> Principal:
        try:
            return await tokens.check(said)
        except BadCredentials as error:
            raise WrongCredentials("the access token does not count (any more)", str(error)) from error
        except EnrollmentError as error:
            request.site.journal.error("no access token counts: {problem}", problem=str(error))
            raise MartiError(503, "the server cannot check access tokens; its log has more") from error


def _authorization(request: MartiRequest) -> tuple[str, str]:
    """Split the header into its scheme, in lower case, and the rest."""
    scheme, _, said = (request.getHeader("authorization") or "").strip().partition(" ")
    return scheme.lower(), said.strip()


def _name_and_password(said: str) -> tuple[str, str]:
    """Read what stands behind ``Basic``.

    Raises:
        WrongCredentials: it cannot be read.
    """
    try:
        if len(said) > MAX_CREDENTIALS_CHARS:
            raise ValueError("too long")
        name, found, password = b64decode(said, validate=True).decode("utf-8").partition(":")
    except (NotBase64, ValueError) as error:
        raise WrongCredentials(_WRONG, "what it says in place of a name and a password cannot be read") from error
    if not found or not name:
        raise WrongCredentials(_WRONG, "it says no name and no password")
    return name, password
