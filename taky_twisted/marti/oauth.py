"""``/oauth/token``: a password for an access token, as CloudTAK logs its users in.

Sources: TAK Server ``oauth/*``; node-tak ``lib/api/oauth.ts`` (any 401 is a wrong name or password to it).
"""

from __future__ import annotations

from taky_twisted.enrollment.access_tokens import TOKEN_SECONDS, AccessTokens
from taky_twisted.enrollment.errors import EnrollmentError
from taky_twisted.identity.accounts import Accounts
from taky_twisted.identity.errors import BadCredentials, Busy
from taky_twisted.logs import Logger
from taky_twisted.marti.connections import host_of
from taky_twisted.marti.errors import BadRequest, MartiError, NoSuchThing, TooMany, WrongCredentials
from taky_twisted.marti.replies import Reply, as_json
from taky_twisted.marti.request import MartiRequest
from taky_twisted.marti.routes import Access, route

FORM_BYTES = 16 << 10


class OAuthArea:
    """Access tokens."""

    log = Logger()

    def __init__(self, accounts: Accounts, tokens: AccessTokens) -> None:
        self._accounts, self._tokens = accounts, tokens

    @route("/oauth/token", "POST", access=Access.EVERYBODY, body=FORM_BYTES)
    async def token(self, request: MartiRequest) -> Reply:
        """Give a token to who shows a password, in a form or in the query."""
        if not request.site.enrolls:
            raise NoSuchThing("access tokens are made on the enrollment port, and count there")
        said = request.form()
        if said.one("grant_type") not in (None, "password"):
            raise BadRequest("grant_type has to be password")
        name, password = said.text("username"), said.text("password")
        try:
            principal = await self._accounts.check(name, password, host_of(request.getClientAddress()))
            token = await self._tokens.make(principal)
        except BadCredentials as error:
            raise WrongCredentials("the name or the password is wrong", str(error), name) from error
        except Busy as error:
            raise TooMany(str(error)) from error
        except EnrollmentError as error:
            self.log.error("nobody gets an access token: {problem}", problem=str(error))
            raise MartiError(503, "the server cannot make access tokens; its log has more") from error
        answer = as_json({"access_token": token, "token_type": "Bearer", "expires_in": TOKEN_SECONDS})
        return Reply(answer.body, answer.content_type, headers={"cache-control": "no-store"})
