"""Put enrollment together: who is invited, who signs, what phones are given, and the doors for it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, succeed

from taky_twisted.config import Settings
from taky_twisted.data_folder import DataFolder
from taky_twisted.doors import Door
from taky_twisted.endpoints import TLSDefaults, server_endpoint
from taky_twisted.enrollment.authority_files import AuthorityFiles, SiteAuthority
from taky_twisted.enrollment.invites import Invited, Invites
from taky_twisted.enrollment.issuing import Issuing
from taky_twisted.enrollment.profiles import FOLDER, Profiles
from taky_twisted.enrollment.register import CertificateRegister
from taky_twisted.enrollment.service import Enrollment
from taky_twisted.enterprise_sync.disk_thread import DiskThread
from taky_twisted.identity.errors import EndpointError
from taky_twisted.interfaces import EventStore
from taky_twisted.logs import Logger
from taky_twisted.marti.certadmin import CertAdminArea
from taky_twisted.marti.profiles import ProfilesArea
from taky_twisted.marti.tls import EnrollmentArea
from taky_twisted.streaming.transport import write_eagerly

if TYPE_CHECKING:
    from taky_twisted.api import Api
    from taky_twisted.records import Kept

log = Logger()


class Enrolling:
    """Enrollment in a running server."""

    def __init__(
        self,
        reactor: Any,
        settings: Settings,
        folder: DataFolder,
        store: EventStore,
        was_banned: Callable[[str, float], bool],
    ) -> None:
        """Touch nothing yet.

        Args:
            reactor: tells the time, and takes calls from threads.
            settings: name the files.
            folder: has the profiles.
            store: keeps invites.
            was_banned: whether a name is banned, or was since a moment.
        """
        self._reactor, self._was_banned = reactor, was_banned
        self._thread = DiskThread("enrollment", reactor)
        self._profiles = Profiles(folder.shared / FOLDER)
        self.invites = Invites(store, reactor)
        self.reload: Callable[[], Awaitable[object]] = lambda: succeed(None)
        """Makes the server act on the certificate register, at once."""
        issuing = issuing_of(settings)
        self.enrollment = Enrollment(reactor, self._thread, issuing, self.invites) if issuing is not None else None

    def areas(self) -> list[object]:
        """Make the areas for whoever has a certificate."""
        return [ProfilesArea(self._reactor, self._thread, self._profiles), *self._administration()]

    def areas_without_certificate(self) -> list[object]:
        """Make the areas for whoever has none yet, and for administrators who come with a password."""
        if self.enrollment is None:
            return []
        return [EnrollmentArea(self.enrollment, self._thread, self._profiles), *self._administration()]

    def invited(self, name: str, token: str) -> Invited | None:
        """Find the invite of a name and a token; one that is older than a ban of the name is void."""
        found = self.invites.find(name, token)
        return None if found is None or self._was_banned(found.name, found.since) else found

    def restore(self, kept: Kept) -> None:
        """Take over what a store held."""
        self.invites.restore(kept.invites, kept.spent_uses)

    def stop(self) -> Deferred[None]:
        """End the thread, when all is done that was begun."""
        return self._thread.stop()

    def _administration(self) -> list[object]:
        if self.enrollment is None:
            return []
        return [CertAdminArea(self._reactor, self.enrollment, lambda: self.reload())]


def issuing_of(settings: Settings) -> Issuing | None:
    """Find who signs for a site; None if its configuration names no authority or no register."""
    ssl = settings.ssl
    if ssl.ca is None or ssl.ca_key is None or ssl.cert_db is None:
        return None
    files = AuthorityFiles(ssl.ca, ssl.ca_key, ssl.server_p12, ssl.server_p12_pw)
    return Issuing(SiteAuthority(files), CertificateRegister(ssl.cert_db))


def enroll_names(settings: Settings) -> tuple[str, ...]:
    """Name the endpoints of enrollment that can be served.

    Raises:
        EndpointError: the operator wants one, and there is no authority that could sign.
    """
    names, ssl = settings.enroll_doors(), settings.ssl
    missing = [
        f"[ssl] {key} {path}" if path is not None else f"[ssl] {key} (not set)"
        for key, path in (("ca", ssl.ca), ("ca_key", ssl.ca_key), ("cert_db", ssl.cert_db))
        if path is None or (key != "cert_db" and not Path(path).exists())
    ]
    if not names or not missing:
        return names
    problem = f"nobody can enroll here, because {' and '.join(missing)} is missing"
    if settings.enroll_endpoints:
        raise EndpointError(f"endpoint {names[0].partition(':')[0]}: {problem}; take the enrollment endpoint out")
    log.info("{problem}; the enrollment port stays closed", problem=problem)
    return ()


def enroll_doors(
    reactor: Any, names: tuple[str, ...], defaults: TLSDefaults, api: Api, shown: Callable[[str], str]
) -> Iterator[Door]:
    """Make the doors of enrollment.

    Args:
        reactor: listens.
        names: the endpoints as the operator wrote them.
        defaults: what their strings leave out.
        api: answers.
        shown: names a door in the log, without secrets.

    Raises:
        EndpointError: one cannot be used; without TLS a password would be there for everybody to read.
    """
    defaults = replace(defaults, client_cert="none", alpn=(b"http/1.1",), tells_refused=True)
    for name in names:
        endpoint = server_endpoint(reactor, name, defaults)
        if getattr(endpoint, "tls", None) is None:
            raise EndpointError(
                f"endpoint {shown(name)}: enrollment needs TLS, because passwords are sent there; write ssl:PORT"
            )
        yield Door(shown(name), "enroll", endpoint, api.enroll_site(shown(name)), write_eagerly)
