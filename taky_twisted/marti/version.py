"""Which server this is: the first thing ATAK asks on each connection.

Source: TAK Server ``util/VersionApi.java``; ATAK-CIV ``android/http/rest/ServerVersion.java`` (what it must find) and
``android/cot/CotMapServerListener.java`` (it falls back to ``api/version`` only on 404).
"""

from __future__ import annotations

from taky_twisted import __version__
from taky_twisted.marti.replies import Envelope, Reply, as_json, text
from taky_twisted.marti.request import MartiRequest
from taky_twisted.marti.routes import Access, route
from taky_twisted.marti.site import ServerInfo

API = "3"
"""The level of the API: from 2 on ATAK asks for public packages only."""


class VersionArea:
    """``/Marti/api/version`` and what belongs to it."""

    def __init__(self, info: ServerInfo) -> None:
        self._info = info

    @route("/Marti/api/version", access=Access.EVERYBODY)
    @route("/Marti/api/ver")
    def version(self, request: MartiRequest) -> Reply:
        """Say it in words; ATAK looks for the first two."""
        return text(f"TAK Server {__version__} (taky_twisted)")

    @route("/Marti/api/version/config", access=Access.EVERYBODY)
    def config(self, request: MartiRequest) -> Envelope:
        """Say it as ATAK reads it."""
        return Envelope(
            "ServerConfig", {"version": f"{__version__}-RELEASE", "api": API, "hostname": request.host_name}
        )

    @route("/Marti/api/version/info")
    def info(self, request: MartiRequest) -> Reply:
        """Say it in numbers, without an envelope."""
        major, minor, patch = [*__version__.split("."), "0", "0"][:3]
        return as_json({"major": major, "minor": minor, "patch": patch, "branch": "", "variant": "taky_twisted"})

    @route("/Marti/api/node/id")
    def node_id(self, request: MartiRequest) -> Reply:
        """Name the server among servers."""
        return text(self._info.node_id)
