"""What goes wrong with a request, and how a client is told: one place for all of the API.

Source: TAK Server ``groups/CustomExceptionHandler.java`` and ``ErrorResponse.java`` (the body and its codes).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from http import HTTPStatus

from taky_twisted.marti.replies import JSON, Reply, as_json

REVOKED_TEXT = "org.springframework.security.authentication.BadCredentialsException"
"""By this text CloudTAK knows that a certificate is no good any more (node-tak ``lib/api.ts``)."""

_CODES = {404: 1, 400: 2, 501: 3, 409: 4, 500: 6, 304: 7, 410: 8, 401: 9, 403: 10}
_INVALID, _BROKEN = 2, 6  # the codes of other errors: theirs, ours
# Python 3.13 names these otherwise; what clients read does not depend on the server's Python.
_NAMES = {
    413: "REQUEST_ENTITY_TOO_LARGE",
    414: "REQUEST_URI_TOO_LONG",
    416: "REQUESTED_RANGE_NOT_SATISFIABLE",
    422: "UNPROCESSABLE_ENTITY",
}


class MartiError(Exception):
    """A request is refused; the text is for whoever made it."""

    headers: Mapping[str, str] = {}
    """What the answer says beside its body."""
    closes = False
    """Whether the connection is closed after the answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class BadRequest(MartiError):
    """A parameter or a body means nothing."""

    def __init__(self, message: str) -> None:
        super().__init__(400, message)


class NoSuchThing(MartiError):
    """There is nothing of that name, or not for this caller."""

    def __init__(self, message: str) -> None:
        super().__init__(404, message)


class WrongMethod(MartiError):
    """There is something of that name, but nobody can do that with it."""

    def __init__(self, method: str, allowed: Iterable[str]) -> None:
        self.headers = {"allow": ", ".join(sorted(allowed))}
        super().__init__(405, f"{method} is not done here; allowed: {self.headers['allow']}")


class NotAllowed(MartiError):
    """The caller may not do that."""

    def __init__(self, message: str) -> None:
        super().__init__(403, message)


class TooLarge(MartiError):
    """A body is larger than what is taken."""

    def __init__(self, limit: int) -> None:
        super().__init__(413, f"the body is too large; up to {limit} bytes are taken")


class TooMany(MartiError):
    """The caller has too much of something already."""

    def __init__(self, message: str) -> None:
        super().__init__(429, message)


class TooSlow(MartiError):
    """The request does not get on."""

    def __init__(self, message: str) -> None:
        super().__init__(408, message)


class NotIdentified(MartiError):
    """It is not known who the caller is, or it is not believed any more."""

    def __init__(self, message: str) -> None:
        super().__init__(401, message)


class WrongCredentials(NotIdentified):
    """A password, an access token or an invite is needed, and none was said that counts."""

    headers = {"www-authenticate": 'Basic realm="Marti"'}

    def __init__(self, message: str, reason: str = "", name: str = "") -> None:
        """Describe it.

        Args:
            message: for the client.
            reason: for the operator, if that is more.
            name: who it said that it is.
        """
        super().__init__(message)
        self.reason, self.name = reason, name


class Revoked(NotIdentified):
    """The caller's certificate is revoked: it is told so, and that is the last that it hears."""

    closes = True

    def __init__(self, refusal: str) -> None:
        self.refusal = refusal
        super().__init__(f"{refusal} ({REVOKED_TEXT})")


def reply_of(error: MartiError) -> Reply:
    """Spell an error for a client."""
    return error_reply(error.status, str(error), error.headers)


def error_reply(status: int, message: str, headers: Mapping[str, str] | None = None) -> Reply:
    """Spell an error's status and text for a client."""
    code = _CODES.get(status, _BROKEN if status >= 500 else _INVALID)
    name = _NAMES.get(status) or HTTPStatus(status).name
    body = as_json({"status": name, "code": code, "message": message}).body
    return Reply(body, JSON, status, headers or {})
