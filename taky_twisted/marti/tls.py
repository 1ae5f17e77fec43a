"""``/Marti/api/tls``: how a phone gets its certificate, with a password or an invite.

::

    GET tls/config --> POST tls/signClient (ATAK) or tls/signClient/v2 (the others) --> GET tls/profile/enrollment

Sources: TAK Server ``tak/tls/CertManagerApi.java``; ATAK-CIV ``net/CertificateConfigOperation.java`` and
``net/CertificateSigningOperation.java`` (what is made of the answers); node-tak ``lib/api/credentials.ts`` (CloudTAK
wants the prefix ``ns2:``, and never one name entry alone); TAK Aware (it reads ``text/plain``).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from taky_twisted.enrollment.errors import BadRequest as BadSigningRequest
from taky_twisted.enrollment.errors import Banned, EnrollmentError
from taky_twisted.enrollment.issuing import Device, Issued, NotTheirName
from taky_twisted.enrollment.keystores import PASSWORD, enrollment_keystore
from taky_twisted.enrollment.profiles import Profiles
from taky_twisted.enrollment.service import SPENT, Enrollment, NoUseLeft, TooOften
from taky_twisted.enrollment.signing_requests import MAX_BYTES
from taky_twisted.enterprise_sync.disk_thread import DiskThread, Stopped
from taky_twisted.logs import Logger
from taky_twisted.marti.connections import host_of
from taky_twisted.marti.errors import BadRequest, MartiError, WrongCredentials
from taky_twisted.marti.profiles import NO_PROFILE, send_profile
from taky_twisted.marti.replies import JSON, TEXT, XML, Reply, text
from taky_twisted.marti.request import MartiRequest
from taky_twisted.marti.routes import Access, route

T = TypeVar("T")

CONFIG = (
    '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>'
    '<ns2:certificateConfig xmlns="http://bbn.com/marti/xml/config" xmlns:ns2="com.bbn.marti.config">'
    '<nameEntries><nameEntry name="O" value="TAK"/><nameEntry name="OU" value="TAK"/></nameEntries>'
    "</ns2:certificateConfig>"
)
"""To the letter as all clients read it."""
PKCS12 = "application/octet-stream"
MAX_UID_CHARS = 256
MAX_VERSION_CHARS = 100
NO_STORE = {"Cache-Control": "no-store"}

_STATUS: dict[type[EnrollmentError], int] = {
    BadSigningRequest: 400,
    NoUseLeft: 401,
    Banned: 403,
    NotTheirName: 403,
    TooOften: 429,
}


class EnrollmentArea:
    """What a client without a certificate asks to get one."""

    log = Logger()

    def __init__(self, enrollment: Enrollment, thread: DiskThread, profiles: Profiles) -> None:
        self._enrollment, self._thread, self._profiles = enrollment, thread, profiles

    @route("/Marti/api/tls/config", access=Access.ENROLLING)
    def config(self, request: MartiRequest) -> Reply:
        """Say what belongs into the name of a request; of the request only the key is taken, whatever else is there."""
        self._check(request, must_say="clientUid" in request.arguments)
        return text(CONFIG)

    @route("/Marti/api/tls/signClient", "POST", access=Access.ENROLLING, body=MAX_BYTES)
    async def sign_client(self, request: MartiRequest) -> Reply:
        """Sign a request for ATAK: the certificate and its authorities as PKCS#12, without a key."""
        return Reply(await self._sign(request, _pkcs12), PKCS12, headers=NO_STORE)

    @route("/Marti/api/tls/signClient/v2", "POST", access=Access.ENROLLING, body=MAX_BYTES)
    async def sign_client_v2(self, request: MartiRequest) -> Reply:
        """Sign a request for everybody else: JSON or XML with certificates in base64."""
        spelled, content_type = _form_of(request)  # first: who cannot read the answer shall not spend an invite on it
        return Reply(await self._sign(request, spelled), content_type, headers=NO_STORE)

    @route("/Marti/api/tls/profile/enrollment", access=Access.ENROLLING)
    async def profile(self, request: MartiRequest) -> Reply:
        """Send the profile for enrolling; ATAK asks right after it has got its certificate."""
        self._check(request)
        return await send_profile(request, self._thread, self._profiles, "enrollment")

    @route("/Marti/api/tls/profile/tool/<tool>", access=Access.ENROLLING)
    def tool(self, request: MartiRequest, tool: str) -> Reply:
        """Have no profile for a plugin."""
        self._check(request)
        return NO_PROFILE

    def _check(self, request: MartiRequest, must_say: bool = True) -> None:
        """Refuse an invite that another device has spent.

        Args:
            request: who asks.
            must_say: whether it has to say which device it is.

        Raises:
            WrongCredentials: it is refused.
        """
        invited = request.invited
        if invited is None or self._enrollment.invites.is_open(invited) or not must_say:
            return
        if not self._enrollment.invites.was_spent_by(invited, device_of(request).client_uid):
            raise WrongCredentials(SPENT, name=invited.name)

    async def _sign(self, request: MartiRequest, pack: Callable[[Issued], T]) -> T:
        name = request.principal.name
        assert name is not None, "the route is for somebody"
        accounts = request.site.marti.callers.accounts
        if accounts is not None and accounts.is_barred(name):  # the body may have taken minutes
            raise WrongCredentials("this does not count any more", "the account is disabled, or the name banned", name)
        try:
            return await self._enrollment.sign(name, request.data, device_of(request), request.invited, pack)
        except Stopped as error:
            raise MartiError(503, "the server stops") from error
        except EnrollmentError as error:
            status = next((status for kind, status in _STATUS.items() if isinstance(error, kind)), 503)
            if status == 503:
                self.log.error("nobody can enroll: {problem}", problem=str(error))
                raise MartiError(status, "the server cannot sign at the moment; its log has more") from error
            if status not in (401, 403):  # of these the door tells
                reason = f"a certificate request was refused ({status}): {error}"
                site = request.site
                site.connections.failures.tell(host_of(request.channel.address), site.door, reason, name)
            if status == 401:
                raise WrongCredentials(str(error), name=name) from error
            raise MartiError(status, str(error)) from error


def device_of(request: MartiRequest) -> Device:
    """Read what a client says about itself."""
    uid, version = request.arguments.one("clientUid") or "", request.arguments.one("version")
    if len(uid) > MAX_UID_CHARS or len(version or "") > MAX_VERSION_CHARS:
        raise BadRequest(f"clientUid has up to {MAX_UID_CHARS} characters, version up to {MAX_VERSION_CHARS}")
    return Device(uid, version)


def _form_of(request: MartiRequest) -> tuple[Callable[[Issued], bytes], str]:
    """Choose how the certificates are spelled."""
    accepted = ",".join(request.requestHeaders.getRawHeaders("accept", [])).lower()
    if not accepted.strip() or "*/*" in accepted or JSON in accepted:
        return _json, JSON
    if XML in accepted:
        return _xml, XML
    if TEXT in accepted:
        return _json, TEXT  # iTAK reads JSON, and says that it wants text
    raise BadRequest(f"Accept names neither {JSON} nor {XML}")


def _pkcs12(issued: Issued) -> bytes:
    return enrollment_keystore(issued.certificate, issued.trusted, PASSWORD)


def _json(issued: Issued) -> bytes:
    # CloudTAK wants ca1 also where one authority is all there is.
    trusted = issued.trusted if len(issued.trusted) > 1 else issued.trusted * 2
    told = {"signedCert": issued.certificate, **{f"ca{number}": each for number, each in enumerate(trusted)}}
    return json.dumps({name: _base64(each) for name, each in told.items()}).encode()


def _xml(issued: Issued) -> bytes:
    authorities = "".join(f"<ca>{_base64(each)}</ca>" for each in issued.trusted)
    return (
        '<?xml version="1.0" encoding="UTF-8"?>'
        f"<enrollment><signedCert>{_base64(issued.certificate)}</signedCert>{authorities}</enrollment>"
    ).encode()


def _base64(certificate: x509.Certificate) -> str:
    """Spell a certificate as PEM does, without the lines around it."""
    _, *lines, _ = certificate.public_bytes(Encoding.PEM).decode("ascii").splitlines()
    return "\n".join(lines)
