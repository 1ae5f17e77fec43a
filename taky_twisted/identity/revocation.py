"""The certificate register, and what it says of a certificate that a client shows.

`taky_twisted.identity.cert_db` has the form of its two files; `taky_twisted.enrollment.register` writes them.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from taky_twisted.identity.cert_db import Ban, CertDb, ban_key, beside, same_issuer
from taky_twisted.identity.errors import EndpointError
from taky_twisted.logs import Logger

if TYPE_CHECKING:
    from taky_twisted.identity.principal import Certificate


class _State(NamedTuple):
    """What the files say, ready to be asked."""

    revoked: dict[int, frozenset[str] | None]
    """Serial to issuers; None: whoever issued it."""
    valid: frozenset[int] = frozenset()
    bans: dict[str, Ban] = {}
    """By `ban_key`."""


class Register:
    """What a register file refuses: serials of certificates, and names.

    Several doors may share one. What is asked at run time is a look-up; the files are read by `reload`, which may run
    in a thread.

    Args:
        path: taky's file; ours is beside it.
        must_exist: Whether it is an error that there is no such file. Without a file nothing is revoked; a site that
            never made a client certificate has none.

    Raises:
        EndpointError: The file cannot be read.
    """

    log = Logger()

    def __init__(self, path: str, *, must_exist: bool = True) -> None:
        self.path = os.path.abspath(path)  # twistd changes the directory before the first reload
        self._must_exist = must_exist
        self._state = _State({})
        self._warned: set[tuple[str, int, str]] = set()
        try:
            self._state = self._read()
        except FileNotFoundError as error:
            if must_exist:
                raise EndpointError(self._unreadable(error)) from error
        except (OSError, UnicodeError) as error:
            raise EndpointError(self._unreadable(error)) from error

    @property
    def paths(self) -> list[str]:
        """The files that matter."""
        return [self.path, str(beside(Path(self.path)))]

    def __len__(self) -> int:
        """Count the revoked serials."""
        return len(self._state.revoked)

    def is_revoked(self, certificate: Certificate) -> bool:
        """Whether the register refuses a certificate: it is marked as revoked, or its name is banned.

        A name that no longer is banned has back what was entered since; a certificate that the register does not know
        is refused if it is as old as the ban.
        """
        revoked, valid, _ = self._state
        if certificate.serial in revoked:
            issuers = revoked[certificate.serial]
            if issuers is None or any(same_issuer(certificate.issuer, each) for each in issuers):
                return True
        ban = self._ban_of(certificate.common_name)
        if ban is None:
            return False
        if ban.until is None:
            return True
        return certificate.serial not in valid and certificate.begins <= ban.until.timestamp()

    def is_banned(self, name: str) -> bool:
        """Whether a name is banned, in whatever case it is written: accounts do not tell that apart."""
        ban = self._ban_of(name)
        return ban is not None and ban.until is None

    def was_banned(self, name: str, since: float) -> bool:
        """Whether a name is banned, or was so after a moment, in seconds since the epoch: older invites are void."""
        ban = self._ban_of(name)
        return ban is not None and (ban.until is None or ban.until.timestamp() >= since)

    def reload(self) -> bool:
        """Read the files again; if they cannot be read, everything stays as it was, and the log says so.

        Returns:
            Whether others are refused now than before.
        """
        try:
            state = self._read()
        except (OSError, UnicodeError) as error:
            if self._must_exist or self._state.revoked or not isinstance(error, FileNotFoundError):
                self.log.warn("{problem}; what it said before still counts", problem=self._unreadable(error))
            return False
        before, self._state = self._state, state
        return (state.revoked, state.bans) != (before.revoked, before.bans)

    def _read(self) -> _State:
        found = CertDb.read(Path(self.path))
        for path, number, text, problem in found.problems:
            self._warn(path, number, text, problem)
        revoked: dict[int, frozenset[str] | None] = {}
        valid = set()
        for record in found.records():
            if record.revoked is None:
                valid.add(record.serial)
                continue
            issuers = revoked.get(record.serial, frozenset())
            whole = record.issuer is None or issuers is None
            revoked[record.serial] = None if whole else frozenset({*(issuers or ()), record.issuer or ""})
        return _State(revoked, frozenset(valid), found.bans)

    def _ban_of(self, name: str) -> Ban | None:
        bans = self._state.bans
        return bans.get(ban_key(name)) if bans else None

    def _warn(self, path: str, number: int, text: str, problem: str) -> None:
        if (path, number, text) in self._warned:
            return
        self._warned.add((path, number, text))
        self.log.warn(
            "{path}, line {number}: {problem}; the line is skipped", path=path, number=number, problem=problem
        )

    def _unreadable(self, error: OSError | UnicodeError) -> str:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        return f"the certificate register {self.path} cannot be read: {reason}"
