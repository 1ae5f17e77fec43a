"""The first document of a stream on a door that wants a password: ``<auth><cot username= password=/></auth>``.

ATAK sends it as soon as TLS stands, with events right behind it (ATAK-CIV
``commoncommo/core/impl/streamingsocketmanagement.cpp``). TAK Server takes nothing else first, and throws away what
comes before it has decided (``nio/codec/impls/AbstractAuthCodec.java``); here that is kept.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from lxml import etree

from .errors import RemoteProtocolError
from .framing import Unreadable, XMLFraming

MAX_TEXT_CHARS = 1024
"""Of a name or a password."""
_PARSER = etree.XMLParser(
    resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False, remove_comments=True
)
_NOT_FIRST = "the client did not say a name and a password (<auth>) first, as this port wants"


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who a client says that it is."""

    username: str
    password: str = field(repr=False)
    uid: str = ""
    """The device."""


class LoginReader:
    """Wait for an ``<auth>``, however it is cut, and keep what comes after it."""

    def __init__(self, first_bytes: int) -> None:
        """Start a stream.

        Args:
            first_bytes: how much may come until it is whole.
        """
        self._buffer = bytearray()
        self._framing = XMLFraming(first_bytes, first_bytes)

    def receive(self, data: bytes) -> Credentials | None:
        """Take bytes off the wire; None as long as more are needed.

        Raises:
            RemoteProtocolError: something else comes first, or it cannot be read.
        """
        self._buffer += data
        if self._buffer[:1] == b"\xbf":
            raise RemoteProtocolError(_NOT_FIRST)
        document = self._framing.next_frame(self._buffer)
        if document is None:
            return None
        if isinstance(document, Unreadable) or not document.startswith(b"<auth"):
            raise RemoteProtocolError(_NOT_FIRST)
        return read_login(document)

    def rest(self) -> bytes:
        """Take what came after it."""
        rest, self._buffer = bytes(self._buffer), bytearray()
        return rest


def read_login(document: bytes) -> Credentials:
    """Read an ``<auth>``.

    Raises:
        RemoteProtocolError: no name or no password is in it; the text holds nothing of it.
    """
    try:
        auth = etree.fromstring(document, _PARSER)
    except (etree.XMLSyntaxError, ValueError) as error:
        raise RemoteProtocolError("the client's <auth> is not well-formed XML") from error
    for element in auth.iter("*"):
        # Its child is called <cot>; some clients say it on <auth> itself.
        username, password = element.get("username"), element.get("password")
        if username and password:
            if len(username) > MAX_TEXT_CHARS or len(password) > MAX_TEXT_CHARS:
                raise RemoteProtocolError("the client's <auth> holds a name or a password that is too long")
            return Credentials(username, password, (element.get("uid") or "")[:MAX_TEXT_CHARS])
    raise RemoteProtocolError("the client's <auth> lacks a name or a password")
