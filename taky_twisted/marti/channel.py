"""One HTTP connection: Twisted's parser, and the deadlines that it has not.

Twisted's time-outs begin anew with every byte, so that who sends one now and then holds a connection for ever. Here
the headers of a request have an absolute deadline, a body must bring a minimum, and an answer must be read. Who does
not read is not read from either, and what it has asked for already waits: Twisted would gather it all in memory.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Protocol

from twisted.internet.error import TimeoutError as HandshakeTimeout
from twisted.internet.interfaces import IAddress, IHandshakeListener, IPushProducer, ISSLTransport, ITransport
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel
from zope.interface import implementer

from taky_twisted.identity.certificates import principal_of
from taky_twisted.identity.principal import ANONYMOUS, Principal
from taky_twisted.identity.refusals import explain, explain_silence, looks_like_tls
from taky_twisted.identity.transport import refusal_of, tls_of
from taky_twisted.marti.connections import host_of
from taky_twisted.marti.errors import BadRequest, MartiError, TooSlow, reply_of
from taky_twisted.marti.replies import Reply
from taky_twisted.marti.timer import Timer

if TYPE_CHECKING:
    from twisted.web.http import Request

    from taky_twisted.marti.site import MartiSite

MIN_BODY_BYTES = 600
"""What a body must bring in `http_stall_seconds`: radio links are slow, but not slower."""
LINGER_SECONDS = 5.0
"""How long a client that was refused may go on sending before it is cut off; it needs time to read the answer."""
SMALL_BYTES = 64 << 10
"""Up to this size a body or an answer does not count: as many as there may be connections do no harm."""
_LOOKS = 4  # at the outflow, per `http_stall_seconds`


class Successor(Protocol):
    """What is spoken on a connection after an upgrade."""

    def makeConnection(self, transport: ITransport) -> None: ...
    def dataReceived(self, data: bytes) -> None: ...
    def connectionLost(self, reason: Failure) -> None: ...
    def finish(self) -> None:
        """Close as soon as what is under way is sent: the server stops."""


@implementer(IHandshakeListener)
class MartiChannel(HTTPChannel):
    """A client's connection, from its first byte to its last."""

    site: MartiSite
    transport: Any  # TCP and TLS have more in common than an interface of Twisted's says
    _networkProducer: Any  # the same, or Twisted's stand-in
    address: IAddress | None = None
    """Where it comes from; behind a load balancer the balancer."""

    def __init__(self) -> None:
        super().__init__()
        self.principal: Principal = ANONYMOUS
        """Whom the certificate proves, whether or not it is revoked."""
        self.account: str | None = None
        """Whose password the last request has shown."""
        self._shaking_hands = False
        self._spoke = False  # at least one byte has come
        self._idle = False  # no byte of the next request has come
        self._in_body = False
        self._brought = 0  # bytes, since we looked last
        self._body_paused = False  # whoever takes the body wants no more for now
        self._full = False  # the transport takes no more of our answer
        self._held: Request | None = None  # it is answered, and the next waits until the client has read more
        self._unread = 0  # bytes of the body or the answer, if that is a long one
        self._closing = False
        self._complained = self._lingering = False
        self._successor: Successor | None = None

    @property
    def peer(self) -> str:
        """The address and the door, for people."""
        address = self.getPeer()
        host, port = getattr(address, "host", None), getattr(address, "port", None)
        where = "a local process" if host is None else f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        return f"{where} at {self.site.door}"

    # The transport

    def connectionMade(self) -> None:
        connections = self._connections = self.site.connections
        self._limits, self._clock = connections.limits, connections.clock
        self._deadline, self._outflow = Timer(self._clock), Timer(self._clock)
        connections.opened(self)
        super().connectionMade()
        if ISSLTransport.providedBy(self.transport):
            self._shaking_hands = True
            self._deadline.start(self._limits.handshake_seconds, self._handshake_too_slow)
        else:
            self._await_headers()

    def handshakeCompleted(self) -> None:
        self._shaking_hands = False
        self._connections.handshaken += 1
        self.principal = principal_of(self.transport)
        self._await_headers()

    def dataReceived(self, data: bytes) -> None:
        if self._successor is not None:
            self._successor.dataReceived(data)
            return
        if self._closing:
            return
        if not self._spoke:
            self._spoke = True
            if looks_like_tls(data) and not ISSLTransport.providedBy(self.transport):
                self.complain("the client speaks TLS (https); this port is plain HTTP")
                self.abort("")
                return
        if self._idle:
            self._await_headers()
        if self._in_body:
            self._brought += len(data)
        super().dataReceived(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._deadline.stop()
        self._outflow.stop()
        self._release()
        if self._shaking_hands:
            self.complain(explain(reason, self.transport))
        elif not self._spoke and not self._closing:
            silence = explain_silence(self.transport)
            if silence is not None:
                self._tell(silence)
        self._closing = True
        self._connections.closed(self)
        super().connectionLost(reason)
        if self._successor is not None:
            self._successor.connectionLost(reason)

    def rawDataReceived(self, data: bytes) -> None:
        if self._successor is not None:  # it came in one piece with the request
            self._successor.dataReceived(data)
            return
        super().rawDataReceived(data)
        if self._full:
            self._networkProducer.pauseProducing()

    def loseConnection(self) -> None:
        """Close when everything is sent, for which the client must go on reading."""
        self._closing = True
        self._deadline.stop()
        self._watch_outflow()
        super().loseConnection()

    def pauseProducing(self) -> None:
        self._full = True
        self._watch_outflow()
        super().pauseProducing()

    def resumeProducing(self) -> None:
        self._full = False
        self._release()
        self._outflow.stop()
        super().resumeProducing()
        if self._body_paused:
            self._networkProducer.pauseProducing()
        held, self._held = self._held, None
        if held is not None:
            self.requestDone(held)

    def registerProducer(self, producer: IPushProducer, streaming: bool) -> None:
        super().registerProducer(producer, streaming)
        if self._full:
            producer.pauseProducing()

    # What HTTPChannel does at each step of a request

    def headerReceived(self, line: bytes) -> bool:
        try:
            line.decode("utf-8")
        except UnicodeDecodeError:
            # As HTTP once had it; Twisted fails when such a header is asked for.
            line = line.decode("latin-1").encode("utf-8")
        try:
            received: bool = super().headerReceived(line)
        except ValueError:  # a length with more digits than Python reads
            self._respondToBadRequestAndDisconnect()
            return False
        return received

    def allHeadersReceived(self) -> None:
        self._idle = False
        super().allHeadersReceived()  # here the request is judged
        if self.length != 0 and not (self._lingering or self._closing):
            self._in_body = True
            if self.requests[-1].waits:
                self._body_paused = True
                self._deadline.stop()
            else:
                self._watch_body()

    def allContentReceived(self) -> None:
        self._in_body = self._body_paused = False
        self._deadline.stop()
        super().allContentReceived()

    def requestDone(self, request: Request) -> None:
        if self._full and self.persistent:
            self._held = request
            return
        if not self._full:
            self._release()
        if self.persistent:
            self._idle = True
            seconds = self._limits.http_idle_seconds
            self._deadline.start(seconds, self.loseConnection)
        super().requestDone(request)

    def lineLengthExceeded(self, line: bytes) -> None:
        self._respondToBadRequestAndDisconnect()

    def _respondToBadRequestAndDisconnect(self) -> None:  # Twisted's says nothing; pinned by a test
        self._reject(BadRequest("this is no HTTP request that can be read"))

    # For the request

    def hold(self, size: int) -> None:
        """Count a body or its answer with its size so far, until the client has read the answer.

        Raises:
            MartiError: all of them together would be too much.
        """
        if size > max(self._unread, SMALL_BYTES):
            self._connections.hold(size - self._unread)
            self._unread = size

    def pause_body(self) -> None:
        """Take no more of the body for a while; that time does not count as the client's."""
        if self._closing:
            return
        if self._in_body:
            self._body_paused = True
            self._deadline.stop()
        self._networkProducer.pauseProducing()

    def resume_body(self) -> None:
        """Go on taking the body."""
        if self._closing:
            return
        if self._body_paused:
            self._body_paused = False
            self._watch_body()
        self._networkProducer.resumeProducing()

    def ask_for_body(self) -> None:
        """Tell a client that waits for it to send the body."""
        self._send100Continue()

    def linger(self) -> None:
        """Give a client time to read why it was refused, while what it still sends is thrown away."""
        self._lingering = True
        self._in_body = self._body_paused = False
        self._networkProducer.resumeProducing()
        self._deadline.start(LINGER_SECONDS, lambda: self.abort(""))

    def complain(self, why: str) -> None:
        """Write down why somebody is refused, once for each connection."""
        if not self._complained:
            self._complained = True
            self._connections.notices.say("{peer} refused: {why}", peer=self.peer, why=why)
            self._tell(why)

    def hand_over(self, successor: Successor) -> None:
        """Give the connection to another protocol after an upgrade: the request ends with the connection.

        It stays counted, and is aborted when its certificate is revoked; deadlines are the successor's business now.
        """
        self._successor = successor
        self._deadline.stop()
        self._outflow.stop()
        self._networkProducer.unregisterProducer()
        self._networkProducer.resumeProducing()
        waiting, self._dataBuffer = b"".join(self._dataBuffer), []
        successor.makeConnection(self.transport)
        if waiting:
            successor.dataReceived(waiting)

    # For the server

    def check_certificate(self) -> None:
        """Cut the connection if its certificate is revoked by now, or the name banned whose password it has shown."""
        refusal, accounts = refusal_of(self.transport, self.principal), self.site.marti.callers.accounts
        if refusal is None and self.account is not None and accounts is not None:
            refusal = accounts.refusal_of(self.account)
        if refusal is not None and not self._closing:
            self.complain(refusal)
            self.abort("")

    @property
    def is_unused(self) -> bool:
        """Whether no request is under way, or none that is complete so far."""
        return not (self.requests or self._successor or self._closing)

    def close_when_done(self) -> None:
        """Close as soon as no answer is under way."""
        if self._successor is not None:
            self._successor.finish()
        elif not self.requests:
            self.loseConnection()
        self.persistent = False

    def abort(self, why: str) -> None:
        """Cut the connection; the reason is logged if there is one."""
        self._closing = True
        if why:
            self._connections.notices.say("{peer} closed: {why}", peer=self.peer, why=why)
        self.transport.abortConnection()

    def _tell(self, why: str) -> None:
        """Remember for the operator why somebody did not come in."""
        tls = tls_of(self.transport)
        shown = tls.handshake.certificate if tls is not None else None
        name = shown.common_name if shown is not None else self.principal.name or ""
        self._connections.failures.tell(host_of(self.address), self.site.door, why, name)

    def _release(self) -> None:
        unread, self._unread = self._unread, 0
        self._connections.release(unread)

    # Deadlines

    def _await_headers(self) -> None:
        self._idle = False
        self._deadline.start(self._limits.http_header_seconds, self._headers_too_slow)

    def _handshake_too_slow(self) -> None:
        self.complain(explain(Failure(HandshakeTimeout()), self.transport))
        self._shaking_hands = False
        self.abort("")

    def _headers_too_slow(self) -> None:
        seconds = self._limits.http_header_seconds
        if self._spoke:
            self._reject(TooSlow(f"the headers were not complete within {seconds:g} seconds"))
        else:
            self._close_soon()

    def _watch_body(self) -> None:
        self._brought = 0
        self._deadline.start(self._limits.http_stall_seconds, self._look_at_body)

    def _look_at_body(self) -> None:
        # While the transport is full, Twisted does not read.
        if self._brought >= MIN_BODY_BYTES or self._full:
            self._watch_body()
            return
        seconds = self._limits.http_stall_seconds
        self.requests[-1].refuse(TooSlow(f"the body brought less than {MIN_BODY_BYTES} bytes in {seconds:g} seconds"))

    def _watch_outflow(self) -> None:
        self._sent, self._sent_at = self._bytes_sent(), self._clock.seconds()
        self._outflow.start(self._limits.http_stall_seconds / _LOOKS, self._look_at_outflow)

    def _look_at_outflow(self) -> None:
        sent, now = self._bytes_sent(), self._clock.seconds()
        seconds = self._limits.http_stall_seconds
        if sent != self._sent:
            self._sent, self._sent_at = sent, now
        elif now - self._sent_at >= seconds:
            self.abort(f"no byte of an answer could be sent for {seconds:g} seconds")
            return
        self._outflow.start(seconds / _LOOKS, self._look_at_outflow)

    def _bytes_sent(self) -> int | None:
        # TCP ports that write eagerly count (taky_twisted.streaming.transport); others only say when all has left.
        sent = getattr(self.transport, "sent", None)
        return sent if isinstance(sent, int) else None

    def _reject(self, error: MartiError) -> None:
        """Answer where there is no request that could."""
        if not (self.requests and self.requests[-1].startedWriting):
            self.transport.write(_spelled(reply_of(error)))
        self._close_soon()

    def _close_soon(self) -> None:
        # TLS waits for the client's goodbye.
        self.loseConnection()
        self._deadline.start(LINGER_SECONDS, lambda: self.abort(""))


def _spelled(reply: Reply) -> bytes:
    head = (
        f"HTTP/1.1 {reply.status} {HTTPStatus(reply.status).phrase}\r\nContent-Type: {reply.content_type}\r\n"
        f"Content-Length: {len(reply.body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + reply.body
