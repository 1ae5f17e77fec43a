"""The first document of a stream on a door that wants a password: ``<auth><cot username= password=/></auth>``.

ATAK sends it as soon as TLS stands, with events right behind it (ATAK-CIV
``commoncommo/core/impl/streamingsocketmanagement.cpp``). TAK Server takes nothing else first, and throws away what
comes before it has decided (``nio/codec/impls/AbstractAuthCodec.java``); here that is kept.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from xml.parsers import expat

from .errors import RemoteProtocolError
from .framing import Unreadable, XMLFraming

_MAGIC = 0xBF
MAX_TEXT_CHARS = 1024
"""Of a name or a password."""
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
        self._begun = False

    def receive(self, data: bytes) -> Credentials | None:
        """Take bytes off the wire; None as long as more are needed.

        Raises:
            RemoteProtocolError: something else comes first, or it cannot be read.
        """
        self._buffer += data
        if not self._begun and data:
            self._begun = True
            if data[0] == _MAGIC:  # only here: it is also the last byte of a byte order mark
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
    found: list[dict[str, str]] = []

    def start(_name: str, attributes: dict[str, str]) -> None:
        # Its child is called <cot>; some clients say it on <auth> itself.
        if not found and attributes.get("username") and attributes.get("password"):
            found.append(attributes)

    # Expat and not lxml: libxml2 keeps every name that it has ever read until the process ends, and these are those of
    # strangers. It stands inside of an element here, where no document type can be declared.
    parser = expat.ParserCreate("UTF-8")
    parser.StartElementHandler = start
    try:
        parser.Parse(document, True)
    except expat.ExpatError as error:
        raise RemoteProtocolError("the client's <auth> is not well-formed XML") from error
    if not found:
        raise RemoteProtocolError("the client's <auth> lacks a name or a password")
    username, password = found[0]["username"], found[0]["password"]
    if len(username) > MAX_TEXT_CHARS or len(password) > MAX_TEXT_CHARS:
        raise RemoteProtocolError("the client's <auth> holds a name or a password that is too long")
    return Credentials(username, password, found[0].get("uid", "")[:MAX_TEXT_CHARS])
