"""The certificate register, and what it says of a certificate.

The register is taky's ``cert-db.txt``: one certificate a line, five fields with tabs between them::

    V  2024-03-01T10:00:00  2026-03-01T10:00:00  00000000000000000000000000000000000004d2  ALPHA-1
    R  2024-03-01T10:00:00  2024-04-01T12:30:00  00000000000000000000000000000000000004d3  BRAVO-2

status (V valid, R revoked), issued, expires (or the time of revocation), serial in hex, common name. OpenSSL's
``index.txt`` has status and serial at the same places, so it works too.

Source: taky 0.10, ``taky/util/anc.py``, class ``CertificateDatabase``.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from taky_twisted.identity.errors import EndpointError
from taky_twisted.logs import Logger

if TYPE_CHECKING:
    from taky_twisted.identity.principal import Certificate

_REVOKED = "R"
_STATUSES = frozenset({"V", "R", "E"})  # E: expired, in OpenSSL's index.txt
_FIELDS = (5, 6)  # taky's lines, OpenSSL's lines
_SERIAL = 3


class Register:
    """The serials that a register file says are revoked.

    Several doors may share one. What is asked at run time is a look-up in a set; the file is read by `reload`, which
    may run in a thread.

    Args:
        path: The file.
        must_exist: Whether it is an error that there is no such file. Without a file nothing is revoked; a site that
            never made a client certificate has none.

    Raises:
        EndpointError: The file cannot be read.
    """

    log = Logger()

    def __init__(self, path: str, *, must_exist: bool = True) -> None:
        self.path = os.path.abspath(path)  # twistd changes the directory before the first reload
        self._must_exist = must_exist
        self._revoked: frozenset[int] = frozenset()
        self._warned: set[tuple[int, str]] = set()
        try:
            self._revoked = self._read()
        except FileNotFoundError as error:
            if must_exist:
                raise EndpointError(self._unreadable(error)) from error
        except (OSError, UnicodeError) as error:
            raise EndpointError(self._unreadable(error)) from error

    def __len__(self) -> int:
        """Count the revoked serials."""
        return len(self._revoked)

    def is_revoked(self, certificate: Certificate) -> bool:
        """Whether the register marks the certificate's serial as revoked."""
        return certificate.serial in self._revoked

    def reload(self) -> bool:
        """Read the file again; one that cannot be read leaves everything as it was, and the log says so.

        Returns:
            Whether other serials are revoked now than before.
        """
        try:
            revoked = self._read()
        except (OSError, UnicodeError) as error:
            if self._must_exist or self._revoked or not isinstance(error, FileNotFoundError):
                self.log.warn("{problem}; what it said before still counts", problem=self._unreadable(error))
            return False
        changed = revoked != self._revoked
        self._revoked = revoked
        return changed

    def _read(self) -> frozenset[int]:
        with open(self.path, encoding="utf-8") as lines:
            found = {}
            for number, line in enumerate(lines, 1):
                text = line.rstrip("\r\n")
                if not text.strip() or text.startswith("#"):
                    continue
                try:
                    status, serial = _parse(text)
                except ValueError as error:
                    self._warn(number, text, str(error))
                else:
                    found[serial] = status  # as in taky, the last line about a serial counts
        return frozenset(serial for serial, status in found.items() if status == _REVOKED)

    def _warn(self, number: int, text: str, problem: str) -> None:
        if (number, text) in self._warned:
            return
        self._warned.add((number, text))
        self.log.warn(
            "{path}, line {number}: {problem}; the line is skipped", path=self.path, number=number, problem=problem
        )

    def _unreadable(self, error: OSError | UnicodeError) -> str:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        return f"the certificate register {self.path} cannot be read: {reason}"


def _parse(line: str) -> tuple[str, int]:
    fields = line.split("\t")
    if len(fields) not in _FIELDS:
        raise ValueError(f"{len(fields)} fields instead of 5 (status, issued, expires, serial, name, tabs between)")
    status = fields[0].strip().upper()
    if status not in _STATUSES:
        raise ValueError(f"the status {fields[0][:20]!r} is neither V nor R")
    try:
        return status, int(fields[_SERIAL], 16)
    except ValueError:
        raise ValueError(f"the serial {fields[_SERIAL][:60]!r} is not a hex number") from None
