"""A file that is encrypted with a passphrase, written and read piece by piece.

::

    "TAKYBAK" 0x01   8 bytes: what it is, and version 1 of it
    salt            16 bytes, random
    prefix           7 bytes, random
    pieces           each 65536 bytes (the last one: 0 to 65536) and 16 bytes of tag

The key is scrypt(passphrase in UTF-8 and NFC, salt, N = 65536, r = 8, p = 1), 32 bytes. A piece is sealed with
ChaCha20-Poly1305 (RFC 8439); its nonce is the prefix, the number of the piece in 4 bytes, big-endian, from 0 on, and
one byte that is 1 for the last piece and 0 for others; the associated data is the first 31 bytes of the file. So
nothing can be changed, moved, left out or cut off without being noticed (Hoang, Reyhanitabar, Rogaway, Vizár 2015,
"STREAM").
"""

from __future__ import annotations

import io
import os
import unicodedata
from typing import BinaryIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

MAGIC = b"TAKYBAK\x01"
PIECE = 1 << 16  # bytes
TAG = 16  # bytes
SALT, PREFIX = 16, 7  # bytes
_HEADER = len(MAGIC) + SALT + PREFIX
_ROUNDS = 1 << 16  # with r = 8 this takes 64 MiB of memory, and a fraction of a second


class Unsealable(Exception):
    """The passphrase is wrong, or the file is not what was written."""


class SealedWriter(io.RawIOBase):
    """Encrypt what is written to another file; only `close` makes it whole."""

    def __init__(self, file: BinaryIO, passphrase: str) -> None:
        super().__init__()
        self._file = file
        self._header = MAGIC + os.urandom(SALT) + os.urandom(PREFIX)
        self._cipher = _cipher(self._header, passphrase)
        self._waiting = bytearray()
        self._number = 0
        file.write(self._header)

    def writable(self) -> bool:
        return True

    def write(self, data: bytes | bytearray | memoryview) -> int:  # type: ignore[override] # what callers give
        self._waiting += data
        # The last piece is only known at the end: one is always held back.
        while len(self._waiting) > PIECE:
            self._seal(bytes(self._waiting[:PIECE]), last=False)
            del self._waiting[:PIECE]
        return len(data)

    def finish(self) -> None:
        """Write what is left; without this the file cannot be read."""
        self._seal(bytes(self._waiting), last=True)
        self._waiting.clear()

    def _seal(self, piece: bytes, *, last: bool) -> None:
        self._file.write(self._cipher.encrypt(_nonce(self._header, self._number, last), piece, self._header))
        self._number += 1


class SealedReader(io.RawIOBase):
    """Decrypt another file; what is handed out has been checked."""

    def __init__(self, file: BinaryIO, passphrase: str) -> None:
        super().__init__()
        self._file = file
        self._header = file.read(_HEADER)
        if len(self._header) < _HEADER or not self._header.startswith(MAGIC):
            raise Unsealable("it is not an encrypted backup of this version")
        self._cipher = _cipher(self._header, passphrase)
        self._number = 0
        self._ahead = file.read(PIECE + TAG)
        self._ended = False
        self._open = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override] # what callers give
        while not self._open and not self._ended:
            self._open = self._next()
        size = min(len(buffer), len(self._open))
        buffer[:size], self._open = self._open[:size], self._open[size:]
        return size

    def check_end(self) -> None:
        """Read what is left, to be sure that nothing was cut off.

        Raises:
            Unsealable: something was.
        """
        while not self._ended:
            self._next()

    def _next(self) -> bytes:
        sealed, self._ahead = self._ahead, self._file.read(PIECE + TAG)
        self._ended = not self._ahead
        try:
            piece = self._cipher.decrypt(_nonce(self._header, self._number, self._ended), sealed, self._header)
        except InvalidTag:
            problem = "the passphrase is wrong, or the file is damaged" if self._number == 0 else "the file is damaged"
            raise Unsealable(problem) from None
        self._number += 1
        return piece


def _cipher(header: bytes, passphrase: str) -> ChaCha20Poly1305:
    salt = header[len(MAGIC) : len(MAGIC) + SALT]
    key = Scrypt(salt=salt, length=32, n=_ROUNDS, r=8, p=1).derive(unicodedata.normalize("NFC", passphrase).encode())
    return ChaCha20Poly1305(key)


def _nonce(header: bytes, number: int, last: bool) -> bytes:
    return header[-PREFIX:] + number.to_bytes(4, "big") + bytes([last])
