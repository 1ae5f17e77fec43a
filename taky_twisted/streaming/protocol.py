"""One CoT stream: when it may begin, and how it is counted. What happens on it is `TAKStream`'s."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IDelayedCall, IHandshakeListener, ISSLTransport
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from taky_twisted.background import logged
from taky_twisted.identity.accounts import account_key
from taky_twisted.identity.cert_db import ban_key
from taky_twisted.identity.certificates import principal_of, printable
from taky_twisted.identity.errors import BadCredentials, Busy
from taky_twisted.identity.principal import ANONYMOUS, Principal
from taky_twisted.identity.refusals import explain, explain_silence, looks_like_tls
from taky_twisted.identity.transport import refusal_of, tls_of
from taky_twisted.logs import Logger
from taky_twisted.routing.tak_stream import CLOSE_SECONDS, TAKStream
from taky_twisted.takproto.connection import TAKConnection
from taky_twisted.takproto.errors import RemoteProtocolError
from taky_twisted.takproto.login import Credentials, LoginReader

from .connections import host_of

if TYPE_CHECKING:
    from .factory import CoTFactory


LOGIN_SECONDS = 30.0
"""Time from the handshake until the password is known to be right, where one is wanted."""


@dataclass(slots=True)
class _Login:
    """A password is wanted before anything else counts."""

    reader: LoginReader
    checking: bool = False
    """It was said, and is being checked."""
    held: bytearray = field(default_factory=bytearray)
    """What came since."""


@implementer(IHandshakeListener)
class CoTProtocol(TAKStream):
    """A client's (or a bot's, or the monitor's) connection to a CoT door."""

    log = Logger()
    factory: CoTFactory
    _tak: TAKConnection

    def __init__(self, factory: CoTFactory, address: IAddress) -> None:
        limits, connections = factory.limits, factory.connections
        tak = TAKConnection(limits.max_event_bytes, limits.max_unidentified_bytes, connections.shapes.decode)
        super().__init__(
            factory.clock, limits, tak, address, factory.door, connections.notices, factory.recorder, factory.tally
        )
        self.factory = factory
        self._handshake: IDelayedCall | None = None
        self._from = host_of(address)
        self._unidentified = False
        self._shown = ANONYMOUS  # whom the certificate proves
        self._login: _Login | None = None  # as long as a password is wanted

    # The transport

    def connectionMade(self) -> None:
        connections = self.factory.connections
        connections.opened(self, self._address)
        if not self.factory.monitor:
            self._unidentified = True
            connections.unidentified.add(self, self._from)
        if ISSLTransport.providedBy(self.transport):
            connections.handshakes.add(self, self._from)
            self._handshake = self._clock.callLater(self._limits.handshake_seconds, self._handshake_too_slow)
        else:
            self._open(ANONYMOUS)

    def handshakeCompleted(self) -> None:
        # Not connectionMade: there the peer has not shown its certificate yet.
        self._end_handshake()
        principal = principal_of(self.transport)
        refusal = refusal_of(self.transport, principal)
        if refusal is not None:
            self._refused(refusal)
            self.abort("")
            return
        self.factory.connections.handshaken += 1
        self._shown = principal
        if self.factory.wants_password(principal):
            self._login = _Login(LoginReader(self._limits.max_unidentified_bytes))
            self._later("login", LOGIN_SECONDS, self._login_too_slow)
        else:
            self._open(principal)

    def dataReceived(self, data: bytes) -> None:
        if self._login is not None:
            self._receive_login(self._login, data)
            return
        if not self._tak.spoke and self._subscription is not None and looks_like_tls(data) and not self._bytes:
            self._refused("the client speaks TLS; this port is plain TCP")
            self.abort("")
            return
        super().dataReceived(data)
        if self._unidentified and self._subscription is not None and self._subscription.primary is not None:
            self._forget_unidentified()
            self.factory.connections.expiry.joined(self._subscription, self._clock.seconds())

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._login = None
        if self._handshake is not None:
            self._end_handshake()
            self._refused(explain(reason, self.transport))
        elif not self._bytes and self._subscription is not None and not self._why:
            silence = explain_silence(self.transport)
            if silence is not None:
                self._tell(silence)
        super().connectionLost(reason)
        if self._unidentified:
            self._forget_unidentified()
        self.factory.connections.closed(self, self._address)

    # The server

    @property
    def principal_name(self) -> str | None:
        """The certificate's or account's name; None for nobody in particular."""
        return self._subscription.principal.name if self._subscription is not None else self._shown.name

    def is_called(self, key: str) -> bool:
        """Whether its account or its certificate has a name, as `ban_key` spells it."""
        return any(name is not None and ban_key(name) == key for name in (self.principal_name, self._shown.name))

    def give_way(self, limit: str) -> None:
        """Make room for somebody else: it has not said who it is, and there are many such from its address."""
        why = f"others need its place, and many from there have not said who they are ({limit})"
        if self._handshake is not None:
            self._refused(why)
            self._end_handshake()
        else:
            self._tell(why)
        if self._unidentified:
            self._forget_unidentified()
        self.abort(why)

    def check_certificate(self) -> None:
        """Close the connection if its certificate is refused by now: resumed or live, revoked is revoked.

        A ban of the name ends one that a password let in, too.
        """
        if self._subscription is not None:
            principal, accounts = self._subscription.principal, self.factory.accounts
            refusal = refusal_of(self.transport, principal)
            if refusal is None and principal.by_password and accounts is not None:
                refusal = accounts.refusal_of(principal.name or "")
            if refusal is not None:
                self._tell(refusal)
                self.abort(refusal)

    def _open(self, principal: Principal) -> None:
        accounts = self.factory.accounts
        if accounts is not None and not principal.by_password:
            principal = accounts.certified(principal)
        self._start()
        if self.factory.offers_protobuf(principal):
            self.transport.write(self._tak.offer(self._clock.seconds()))
        self._subscription = self.factory.subscribe(principal, self)

    # A password, where one is wanted

    def _receive_login(self, login: _Login, data: bytes) -> None:
        if login.checking:
            # Reading is paused, so that this is not much.
            login.held += data
            if len(login.held) > self._limits.max_unidentified_bytes:
                self._refuse_login("it said too much before its password was checked (max_unidentified_bytes)")
            return
        try:
            said = login.reader.receive(data)
        except RemoteProtocolError as error:
            self._refuse_login(str(error))
            return
        if said is not None:
            login.checking = True
            login.held += login.reader.rest()
            self.transport.pauseProducing()
            checking = Deferred.fromCoroutine(self._log_in(login, said))
            checking.addErrback(logged(self.log, "checking a password"))

    async def _log_in(self, login: _Login, said: Credentials) -> None:
        accounts, certificate = self.factory.accounts, self._shown.certificate
        assert accounts is not None, "a password is wanted"
        try:
            if certificate is not None and account_key(certificate.common_name) != account_key(said.username):
                raise BadCredentials("the client's certificate is of another name than its account")
            principal = await accounts.check(said.username, said.password, self._from)
            # Some time has passed.
            if (refusal := refusal_of(self.transport, self._shown)) is not None:
                raise BadCredentials(refusal)
        except (BadCredentials, Busy) as error:
            self._refuse_login(str(error), said.username)
            return
        if self._login is None:
            return  # it is gone, or took too long
        self._end_login()
        self._open(replace(principal, certificate=certificate))
        self.transport.resumeProducing()
        if login.held:
            self.dataReceived(bytes(login.held))

    def _refuse_login(self, why: str, name: str = "") -> None:
        if self._login is not None:
            self._end_login()
            self._refused(why, name)
            # Not a word to the peer, as with TAK Server; what it still says is nobody's.
            self.transport.resumeProducing()
            self.transport.loseConnection()
            self._later("lose", CLOSE_SECONDS, self.transport.abortConnection)

    def _login_too_slow(self) -> None:
        self._refuse_login(f"no right password came within {LOGIN_SECONDS:g} seconds")

    def _end_login(self) -> None:
        self._login = None
        timer = self._timers.pop("login")
        if timer.active():
            timer.cancel()

    def _refused(self, why: str, name: str = "") -> None:
        who = f" as {printable(name)!r}" if name else ""
        self._notices.say("{peer} refused{who}: {why}", peer=self.peer, who=who, why=why)
        self._tell(why, name)

    def _tell(self, why: str, name: str = "") -> None:
        """Remember for the operator why somebody did not come in."""
        tls = tls_of(self.transport)
        shown = tls.handshake.certificate if tls is not None else None
        name = name or (shown.common_name if shown is not None else self.principal_name or "")
        self.factory.connections.failures.tell(self._from, self.factory.door, why, name)

    def _forget_unidentified(self) -> None:
        self._unidentified = False
        self.factory.connections.unidentified.remove(self, self._from)

    def _end_handshake(self) -> None:
        timer, self._handshake = self._handshake, None
        assert timer is not None, "a TLS connection begins with a handshake"
        if timer.active():
            timer.cancel()
        self.factory.connections.handshakes.remove(self, self._from)

    def _handshake_too_slow(self) -> None:
        self._refused(explain(Failure(TimeoutError()), self.transport))
        self._end_handshake()
        self.abort("")
