"""TAK protocol 1: where one message begins and ends.

::

    on a stream    BF length  payload        length: an unsigned varint
    in a datagram  BF 01 BF   payload        01: the version, also a varint

Source: ATAK-CIV ``commoncommo/core/impl/protobuf/protocol.txt``. What is no frame is skipped up to the next BF, as ATAK
does; goatak writes a zero byte behind each frame.
"""

from __future__ import annotations

from taky_twisted.cot.errors import MalformedEvent

from .errors import FrameTooLong, RemoteProtocolError
from .framing import Unreadable

MAGIC = 0xBF
VERSION = 1
MAX_VARINT_BYTES = 10
MAX_GARBAGE = 64 << 10
"""Bytes that belong to no frame, since the last frame; over it the stream is given up."""

_MAGIC = bytes((MAGIC,))
_MESH_HEADER = bytes((MAGIC, VERSION, MAGIC))
_SAMPLE = 512
"""Bytes of what is unreadable that are kept for the log."""


def frame(payload: bytes) -> bytes:
    """Put a payload into a stream's frame; an empty one would hold up ATAK's reader."""
    if not payload:
        raise ValueError("an empty payload")
    return b"%b%b%b" % (_MAGIC, _varint(len(payload)), payload)


def mesh_frame(payload: bytes) -> bytes:
    """Put a payload into a datagram."""
    return _MESH_HEADER + payload


def read_mesh(datagram: bytes) -> bytes:
    """Take the payload out of a datagram.

    Raises:
        MalformedEvent: it is in another version, or no TAK protocol at all.
    """
    try:
        found = _read_varint(datagram, 1) if datagram[:1] == _MAGIC else None
    except ValueError:
        found = None
    if found is None or datagram[found[1] : found[1] + 1] != _MAGIC:
        raise MalformedEvent("no datagram of the TAK protocol")
    version, at = found
    if version != VERSION:
        raise MalformedEvent(f"TAK protocol version {version}; only {VERSION} is understood")
    return datagram[at + 1 :]


class ProtobufFraming:
    """Cut payloads off the front of a buffer that the caller owns.

    ``next_frame`` returns a payload, or what was unreadable, or None until more bytes come.
    """

    def __init__(self, limit: int, first_limit: int | None = None) -> None:
        """Start between two frames.

        Args:
            limit: bytes in one payload.
            first_limit: bytes in all until `trust` is called; over it the stream is given up. None: trusted at once.
        """
        self._limit = limit
        self._first_limit = first_limit
        self._first = 0  # bytes taken before the first valid event
        self._garbage = 0  # bytes since the last frame that belong to none
        self._run = 0  # of them, those in one piece up to here
        self._sample = bytearray()  # its beginning
        self._is_foreign = False  # whether it is more than zeros

    def trust(self) -> None:
        """Allow whole-sized messages: the peer has sent a valid event."""
        self._first_limit = None

    def next_frame(self, buffer: bytearray) -> bytes | Unreadable | None:
        """Take one payload off the front; empty ones are passed over.

        Raises:
            RemoteProtocolError: a length over the limit (`FrameTooLong`) or none at all, or too much that is no frame.
        """
        while buffer:
            if buffer[0] != MAGIC:
                self._skip(buffer)
                continue
            if self._run and (garbage := self._end_run()) is not None:
                return garbage
            try:
                found = _read_varint(buffer, 1)
            except ValueError as error:
                raise RemoteProtocolError(f"a frame whose length is no number: {error}") from error
            if found is None:
                return None
            length, at = found
            if length > self._limit:
                raise FrameTooLong(f"a frame of {length} bytes; at most {self._limit} are allowed")
            end = at + length
            if self._first_limit is not None:
                self._count_first(end)
            if len(buffer) < end:
                return None
            payload = bytes(buffer[at:end])
            del buffer[:end]
            self._first += end
            if payload:
                self._garbage = 0
                return payload
        return None

    def _skip(self, buffer: bytearray) -> None:
        found = buffer.find(_MAGIC)
        count = found if found >= 0 else len(buffer)
        self._garbage += count
        self._run += count
        if self._garbage > MAX_GARBAGE:
            raise RemoteProtocolError(f"over {MAX_GARBAGE} bytes that are no frame of the TAK protocol")
        skipped = buffer[:count]
        self._is_foreign = self._is_foreign or skipped.count(0) != count
        self._sample += skipped[: _SAMPLE - len(self._sample)]
        del buffer[:count]
        self._first += count
        if self._first_limit is not None:
            self._count_first(0)

    def _end_run(self) -> Unreadable | None:
        run, sample, is_foreign = self._run, bytes(self._sample), self._is_foreign
        self._run, self._is_foreign = 0, False
        self._sample.clear()
        return Unreadable(f"{run} bytes between frames", sample) if is_foreign else None

    def _count_first(self, more: int) -> None:
        assert self._first_limit is not None
        if self._first + more > self._first_limit:
            raise RemoteProtocolError(f"no valid event within the first {self._first_limit} bytes")


def _varint(value: int) -> bytes:
    groups = bytearray()
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    groups.append(value)
    return bytes(groups)


def _read_varint(data: bytes | bytearray, at: int) -> tuple[int, int] | None:
    """Read an unsigned number.

    Returns:
        The number and where it ends; None if more bytes are needed.

    Raises:
        ValueError: it does not end.
    """
    value = shift = 0
    for group in data[at : at + MAX_VARINT_BYTES]:
        at += 1
        value |= (group & 0x7F) << shift
        if group < 0x80:
            return value, at
        shift += 7
    if shift == 7 * MAX_VARINT_BYTES:
        raise ValueError(f"over {MAX_VARINT_BYTES} bytes long")
    return None
