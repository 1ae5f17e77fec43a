"""TLS records on an open connection, sealed and opened through one buffer that all connections share.

pyOpenSSL's ``send`` and ``bio_read`` cost 1.4 microseconds before any encryption, half of what a small event costs in
all, and allocate 32 KiB each time; its ``bio_write`` and ``recv`` are no better. Here are the same OpenSSL functions,
called on pyOpenSSL's own objects without that. What fails is left to Twisted, which calls again and is told again.

This leans on private names of pyOpenSSL; they have not changed in years, and ``tests/identity/test_tls_records.py``
pins them.
"""

from __future__ import annotations

from typing import Any

from OpenSSL import SSL

RECORD_BYTES = 1 << 14
"""What one TLS record holds at most (RFC 8446, 5.1)."""
KEPT_BYTES = 1 << 12
"""Up to what was written at once, OpenSSL's buffer stays with a connection; a larger one is given back."""

_ffi: Any = SSL._ffi  # type: ignore[attr-defined]  # private
_lib: Any = SSL._lib  # type: ignore[attr-defined]  # private
_SIZE = RECORD_BYTES + 1024  # a record and what encryption adds
_scratch: Any = _ffi.new("char[]", _SIZE)  # the reactor has one thread
_view: Any = _ffi.buffer(_scratch, _SIZE)


class Records:
    """The two directions of a connection whose handshake is done."""

    __slots__ = ("_connection", "_incoming", "_outgoing", "_ssl")

    def __init__(self, connection: SSL.Connection) -> None:
        self._connection: Any = connection  # owns the others
        self._ssl = self._connection._ssl
        self._incoming, self._outgoing = self._connection._into_ssl, self._connection._from_ssl

    def seal(self, data: bytes) -> tuple[bytes, bytes]:
        """Encrypt.

        Returns:
            What to send, and what is left of ``data``: nothing, unless OpenSSL does not go on.
        """
        length = len(data)
        taken = _lib.SSL_write(self._ssl, data, length) if length else 0
        if taken == length and 0 < length <= KEPT_BYTES:
            return _view[: _lib.BIO_read(self._outgoing, _scratch, _SIZE)], b""
        sealed, done = [], 0
        while taken > 0:
            sealed.append(self.pending())
            done += taken
            record = data[done : done + RECORD_BYTES]
            taken = _lib.SSL_write(self._ssl, record, len(record)) if record else 0
        if length > KEPT_BYTES and done == length:  # else OpenSSL may have put there why it does not go on
            self._give_back()
        return b"".join(sealed), data[done:]

    def open(self, data: bytes) -> tuple[bytes, bool]:
        """Decrypt.

        Returns:
            All that could be read, and whether nothing but more data is missing to read on.
        """
        _lib.BIO_write(self._incoming, data, len(data))
        pieces = []
        while (taken := _lib.SSL_read(self._ssl, _scratch, _SIZE)) > 0:
            pieces.append(_view[:taken])
        more: bool = _lib.SSL_get_error(self._ssl, taken) == _lib.SSL_ERROR_WANT_READ
        return pieces[0] if len(pieces) == 1 else b"".join(pieces), more

    def pending(self) -> bytes:
        """Take what OpenSSL wants to be sent."""
        taken = _lib.BIO_read(self._outgoing, _scratch, _SIZE)
        if taken < _SIZE:
            return bytes(_view[: max(taken, 0)])
        return bytes(_view[:taken]) + self.pending()

    def _give_back(self) -> None:
        """Take a new buffer, empty as the old one is: OpenSSL's do not shrink, and most clients are idle mostly."""
        outgoing = _lib.BIO_new(_lib.BIO_s_mem())
        _lib.SSL_set_bio(self._ssl, self._incoming, outgoing)  # takes it over, and frees the old one
        self._outgoing = self._connection._from_ssl = outgoing
