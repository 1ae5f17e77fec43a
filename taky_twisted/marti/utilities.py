"""Small questions: who am I here, where do I go, what time is it?

Source: TAK Server ``network/HomeApi.java`` and ``security-context.xml`` (``isAdmin`` is answered 403 to all others).
"""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime

from taky_twisted.marti.replies import Reply, as_json, text
from taky_twisted.marti.request import MartiRequest
from taky_twisted.marti.routes import Access, route


class UtilitiesArea:
    """``/Marti/api/util`` and what belongs to it."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock

    @route("/Marti/api/util/isAdmin", access=Access.ADMIN)
    def is_admin(self, request: MartiRequest) -> Reply:
        """Say yes; whoever is no administrator is refused."""
        return as_json(True)

    @route("/Marti/api/util/user/roles")
    def roles(self, request: MartiRequest) -> Reply:
        """List what the caller may do here."""
        roles = ["ROLE_ANONYMOUS", "ROLE_WEBTAK"]
        if not request.principal.groups_in:
            roles.append("ROLE_READONLY")
        if request.principal.admin:
            roles.append("ROLE_ADMIN")
        return as_json(roles)

    @route("/Marti/api/home")
    def home(self, request: MartiRequest) -> Reply:
        """Name the page that a browser goes to after its login."""
        return text("/webtak/index.html")

    @route("/Marti/GetTime")
    def time(self, request: MartiRequest) -> Reply:
        """Tell the time, in milliseconds since the epoch."""
        return as_json({"time": str(int(self._clock.seconds() * 1000))})
