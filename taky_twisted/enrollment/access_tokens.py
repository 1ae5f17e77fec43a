"""Access tokens: who has shown a password gets one, and shows that for two hours in its place.

They are JSON Web Tokens with RS256, and a key of their own that never leaves the server. CloudTAK decodes a whole token
as if it were one base64 text and cuts it at each ``}`` (node-tak ``lib/api/oauth.ts``). So the header's length is a
multiple of three bytes, the payload has no objects inside, and no text in it holds a brace.
"""

from __future__ import annotations

import json
import secrets
from base64 import b64decode, urlsafe_b64encode
from binascii import Error as NotBase64
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads

from taky_twisted.enrollment.errors import EnrollmentError
from taky_twisted.files import write_new
from taky_twisted.identity.errors import BadCredentials
from taky_twisted.own_thread import OwnThread

if TYPE_CHECKING:
    from taky_twisted.identity.accounts import Accounts
    from taky_twisted.identity.principal import Principal

KEY_NAME = "jwt.key"
"""The key's file in the data folder; without it, all tokens are void and a new one is made."""
TOKEN_SECONDS = 130 * 60
"""How long a token is good (TAK Server's default)."""
AUDIENCE = "TAK"
MAX_TOKEN_CHARS = 4096
_KEY_BITS = 2048
_CLOCK_SECONDS = 1  # a token made within the second of a change is good from the next one on


class AccessTokens:
    """Make tokens, and say whose they are; what needs the key's file or the private key happens in a thread."""

    def __init__(self, reactor: Any, path: Path, accounts: Accounts) -> None:
        """Touch nothing yet.

        Args:
            reactor: tells the time, and takes calls from threads.
            path: the key's file; it is made with the first token.
            accounts: knows whose tokens still count.
        """
        self._clock, self._path, self._accounts = reactor, path, accounts
        self._thread = OwnThread("access tokens", IReactorFromThreads(reactor))
        self._key: RSAPrivateKey | None = None

    def stop(self) -> None:
        """End the thread."""
        self._thread.stop()

    def ensure_key(self) -> Deferred[bytes]:
        """Make the key, if there is none; fires with what its file holds, or fails with `EnrollmentError`."""
        return self._thread.run(self._key_file)

    def forget_key(self) -> None:
        """Use what the key's file holds from now on."""
        self._key = None

    async def make(self, principal: Principal) -> str:
        """Make a token for somebody who has just shown a password.

        Raises:
            EnrollmentError: the key cannot be read or written.
        """
        now = int(self._clock.seconds())
        account = self._accounts.find(principal.name or "")
        since = account.since if account is not None else 0.0
        payload: dict[str, object] = {
            "sub": principal.name,
            "aud": AUDIENCE,
            "nbf": now,
            "iat": max(now, int(since) + 1),  # later than the change before which tokens are void
            "exp": now + TOKEN_SECONDS,
            "jti": secrets.token_hex(16),
        }
        return await self._thread.run(self._sign, payload)

    async def check(self, token: str) -> Principal:
        """Say whose a token is.

        Raises:
            BadCredentials: nobody's, or not any more.
        """
        parts = token.split(".")
        # The header is what we make, to the letter: no other algorithm can be asked for.
        if len(token) > MAX_TOKEN_CHARS or len(parts) != 3 or parts[0] != _HEADER:
            raise BadCredentials("the access token is not one of ours")
        key = self._key or await self._thread.run(self._load)
        if key is None:
            raise BadCredentials("the access token is not one of ours")
        try:
            signed = ".".join(parts[:2]).encode("ascii")
            key.public_key().verify(_decoded(parts[2]), signed, PKCS1v15(), SHA256())
            said = json.loads(_decoded(parts[1]))
            name, audience = str(said["sub"]), said["aud"]
            begins, issued, ends = (float(said[claim]) for claim in ("nbf", "iat", "exp"))
        except (InvalidSignature, NotBase64, ValueError, TypeError, KeyError) as error:
            raise BadCredentials("the access token is not one of ours") from error
        now = self._clock.seconds()
        if audience != AUDIENCE or now < begins - _CLOCK_SECONDS:
            raise BadCredentials("the access token is not one of ours")
        if now >= ends:
            raise BadCredentials("the access token has expired")
        return self._accounts.still_good(name, issued)

    # In the thread

    def _key_file(self) -> bytes:
        if self._load() is None:
            self._make()
        try:
            return self._path.read_bytes()
        except OSError as error:
            raise EnrollmentError(f"the key for access tokens, {self._path}, cannot be read: {error}") from error

    def _sign(self, payload: dict[str, object]) -> str:
        key = self._load() or self._make()
        text = json.dumps(payload, separators=(",", ":"))
        inside = text[1:-1].replace("{", "\\u007b").replace("}", "\\u007d")  # only texts can hold one
        signed = f"{_HEADER}.{_encoded(f'{{{inside}}}'.encode('ascii'))}"
        return f"{signed}.{_encoded(key.sign(signed.encode('ascii'), PKCS1v15(), SHA256()))}"

    def _load(self) -> RSAPrivateKey | None:
        if self._key is None:
            try:
                found = load_pem_private_key(self._path.read_bytes(), None)
            except FileNotFoundError:
                return None
            except (OSError, ValueError, TypeError) as error:
                raise EnrollmentError(f"the key for access tokens, {self._path}, cannot be read: {error}") from error
            if not isinstance(found, RSAPrivateKey):
                raise EnrollmentError(f"the key for access tokens, {self._path}, is no RSA key; delete it")
            self._key = found
        return self._key

    def _make(self) -> RSAPrivateKey:
        key = generate_private_key(65537, _KEY_BITS)
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        try:
            write_new(self._path, pem)
        except FileExistsError:
            return self._load() or self._make()  # another worker of this server was faster
        except OSError as error:
            raise EnrollmentError(
                f"the key for access tokens, {self._path}, cannot be written: {error.strerror}"
            ) from error
        self._key = key
        return key


def _encoded(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _decoded(text: str) -> bytes:
    return b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)


_HEADER = _encoded(b'{"alg":"RS256","typ":"JWT"}')
