"""What this server does not have: clients that ask for it are told so in the way that does not alarm their users.

Sources: TAK Server ``citrap/CITrapReportAPI.java``, ``logs/LogServlet.java``, ``kml/icon/api/IconsetIconApi.java``,
``repeater/RepeaterApi.java``, ``device/profile/api/ProfileAPI.java``, ``tak/server/plugins/PluginManagerApi.java`` and
``security-context.xml`` (what is for administrators).
"""

from __future__ import annotations

from taky_twisted.marti.connections import host_of
from taky_twisted.marti.errors import MartiError
from taky_twisted.marti.replies import EMPTY, Envelope, Reply, as_json
from taky_twisted.marti.request import MartiRequest
from taky_twisted.marti.routes import Access, route
from taky_twisted.notices import Notices

LOG_BYTES = 1 << 20
"""Of a log that a client sends."""
MAX_SENDERS = 1000
"""Clients that are remembered because they sent a log."""


class StubsArea:
    """Parts of the API of which there is nothing to show."""

    def __init__(self, notices: Notices) -> None:
        self._notices = notices
        self._senders: dict[str, None] = {}

    @route("/Marti/api/citrap")
    @route("/Marti/api/plugins/info/all")
    def nothing(self, request: MartiRequest) -> Reply:
        """List no reports, no plugins."""
        return as_json([])

    @route("/Marti/api/cops")
    def no_cops(self, request: MartiRequest) -> Envelope:
        """List no common operational pictures."""
        return Envelope("Mission", [])

    @route("/Marti/api/cops/hierarchy")
    def no_hierarchy(self, request: MartiRequest) -> Envelope:
        """Show how none of them are arranged; ATAK's Data Sync asks again and again."""
        return Envelope("CopHierarchyNode", [])

    @route("/Marti/api/iconset/all/uid")
    def no_icons(self, request: MartiRequest) -> Envelope:
        """List no icon sets."""
        return Envelope("String", [])

    @route("/Marti/api/repeater/list")
    def nothing_repeated(self, request: MartiRequest) -> Reply:
        """List no repeated messages; emergencies come to everybody whom they concern anyway."""
        return as_json({"version": "1.0.0", "type": "Repeatable", "data": []})

    @route("/Marti/ErrorLog", "POST", body=LOG_BYTES)
    def error_log(self, request: MartiRequest) -> Reply:
        """Take a client's log of how it crashed, and throw it away; the operator hears of it once per client."""
        who = request.principal.name or host_of(request.getClientAddress())
        if who not in self._senders:
            if len(self._senders) >= MAX_SENDERS:
                del self._senders[next(iter(self._senders))]
            self._senders[who] = None
            self._notices.say(
                "{who} ({callsign}) sent an error log of {platform}; it is not kept",
                who=who,
                callsign=request.arguments.one("callsign") or "no callsign",
                platform=request.arguments.one("platform") or "an unknown client",
            )
        return EMPTY

    @route("/Marti/ErrorLog", "GET", "DELETE", access=Access.ADMIN)
    @route("/Marti/api/authentication/config", access=Access.ADMIN)
    @route("/Marti/api/config", access=Access.ADMIN)
    @route("/Marti/api/iconset", "POST", access=Access.ADMIN)
    @route("/Marti/api/inputs", access=Access.ADMIN)
    @route("/Marti/api/plugins/info/archive", "POST", access=Access.ADMIN)
    @route("/Marti/api/plugins/info/enabled", "POST", access=Access.ADMIN)
    @route("/Marti/api/plugins/info/started", "POST", access=Access.ADMIN)
    @route("/Marti/api/repeater/period", "GET", "POST", access=Access.ADMIN)
    @route("/Marti/api/repeater/remove/<path:uid>", access=Access.ADMIN)
    @route("/Marti/api/security/config", "GET", "PUT", access=Access.ADMIN)
    @route("/Marti/api/security/isSecure", access=Access.ADMIN)
    @route("/Marti/api/security/verifyConfig", access=Access.ADMIN)
    def administer(self, request: MartiRequest, **found: str) -> Reply:
        """Look after the server."""
        raise MartiError(501, "this server is not administered over HTTP")
