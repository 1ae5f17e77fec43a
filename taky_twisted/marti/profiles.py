"""Device profiles: what a phone is given when it has enrolled, and each time it connects.

ATAK takes any body with status 200 for a profile and imports it, and does not connect after any status but 200, 204,
304 and 403: whatever happens here, the answer is a profile or 204.

Sources: TAK Server ``device/profile/api/ProfileAPI.java``; ATAK-CIV ``net/DeviceProfileOperation.java``.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from taky_twisted.enrollment.profiles import Kind, Profiles
from taky_twisted.enterprise_sync.disk_thread import DiskThread, Stopped
from taky_twisted.marti.download import Download
from taky_twisted.marti.errors import BadRequest
from taky_twisted.marti.replies import Reply
from taky_twisted.marti.request import MartiRequest
from taky_twisted.marti.routes import route

NO_PROFILE = Reply(status=204)
ZIP = "application/zip"
AT_ONCE_BYTES = 256 << 10
"""A package that is not larger is sent in one piece."""


class ProfilesArea:
    """Profiles for clients that have a certificate."""

    def __init__(self, clock: IReactorTime, thread: DiskThread, profiles: Profiles) -> None:
        self._clock, self._thread, self._profiles = clock, thread, profiles

    @route("/Marti/api/device/profile/connection")
    async def connection(self, request: MartiRequest) -> Reply:
        """Send the profile for connecting, or what is new in it since the client has asked last."""
        try:
            seconds = request.arguments.number("syncSecago", -1, -1e12, 1e12)
        except BadRequest:
            seconds = -1
        since = None if seconds is None or seconds < 0 else self._clock.seconds() - seconds
        return await send_profile(request, self._thread, self._profiles, "connection", since)

    @route("/Marti/api/device/profile/enrollment")
    async def enrollment(self, request: MartiRequest) -> Reply:
        """Send the profile for enrolling to who has enrolled already."""
        return await send_profile(request, self._thread, self._profiles, "enrollment")

    @route("/Marti/api/device/profile/tool/<tool>")
    def tool(self, request: MartiRequest, tool: str) -> Reply:
        """Have no profile for a plugin."""
        return NO_PROFILE


async def send_profile(
    request: MartiRequest, thread: DiskThread, profiles: Profiles, kind: Kind, since: float | None = None
) -> Reply:
    """Reply with a profile, or with nothing if there is none."""
    try:
        package = await thread.run(profiles.package, kind, since)
    except Stopped:
        package = None
    if package is None:
        return NO_PROFILE
    headers = {"content-disposition": "attachment; filename=profile.zip", "content-length": str(len(package))}
    if request.method == b"HEAD" or len(package) <= AT_ONCE_BYTES:
        return Reply(package, ZIP, headers=headers)
    request.site.send(request, Reply(b"", ZIP, headers=headers))
    await Download(request, _InMemory(package, thread), 0, len(package)).run()
    return Reply(written=True)


class _InMemory:
    """A package that all who download it share, in pieces: who reads slowly costs no more memory than that."""

    def __init__(self, package: bytes, thread: DiskThread) -> None:
        self._package, self._thread = package, thread

    def read(self, at: int, count: int) -> Deferred[bytes]:
        return self._thread.run(lambda: self._package[at : at + count])

    def close(self) -> None:
        """Have nothing to let go of."""
