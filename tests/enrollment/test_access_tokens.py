from __future__ import annotations

import base64
import json
import stat
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted import files
from taky_twisted.enrollment import access_tokens
from taky_twisted.enrollment.access_tokens import AUDIENCE, TOKEN_SECONDS, AccessTokens, _encoded
from taky_twisted.enrollment.errors import EnrollmentError
from taky_twisted.identity.accounts import Accounts
from taky_twisted.identity.errors import BadCredentials
from taky_twisted.identity.principal import Principal
from taky_twisted.stores.memory import MemoryStore
from tests.threaded_clock import ThreadedClock

HEADER = '{"alg":"RS256","typ":"JWT"}'
NOT_OURS = "the access token is not one of ours"


def cloudtak_parse(token: str) -> Any:
    """Read a token as CloudTAK does: all of it decoded as one base64 text, which ends at each brace."""
    letters = "".join(letter for letter in token.translate(str.maketrans("-_", "+/")) if letter != ".")
    decoded = base64.b64decode(letters + "=" * (-len(letters) % 4)).decode("ascii", "replace")
    parts = [part + "}" for part in decoded.split("}")]
    assert len(parts) >= 2
    return json.loads(parts[1])


class AccessTokensTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = ThreadedClock()
        self.accounts = Accounts(self.clock, MemoryStore(self.clock))
        self.accounts.add("fox", "hash", ["Red"], ["Red"], admin=True)
        self.clock.advance(1)
        self.path = Path(self.mktemp()).absolute()
        self.tokens = self.again()

    def test_key_of_another_node(self) -> None:
        """The key can be made before the first token, and replaced by that of another node."""
        content = self.clock.wait(self.tokens.ensure_key())
        self.assertEqual(self.path.read_bytes(), content)
        self.assertEqual(self.clock.wait(self.tokens.ensure_key()), content)
        token = self.make()
        other = AccessTokens(self.clock, self.path.with_name("other"), self.accounts)
        self.addCleanup(other.stop)
        self.path.write_bytes(self.clock.wait(other.ensure_key()))
        self.assertEqual(self.check(token).name, "fox")
        self.tokens.forget_key()
        with self.assertRaises(BadCredentials):
            self.check(token)
        self.assertEqual(self.check(self.make(), other).name, "fox")
        self.path.unlink()
        with self.assertRaises(EnrollmentError):
            self.clock.wait(self.tokens.ensure_key())

    def again(self) -> AccessTokens:
        """Make the same anew, as a restart does."""
        tokens = AccessTokens(self.clock, self.path, self.accounts)
        self.addCleanup(tokens.stop)
        return tokens

    def make(self, name: str = "fox") -> str:
        """Make a token."""
        return self.clock.wait(Deferred.fromCoroutine(self.tokens.make(Principal(name, by_password=True))))

    def check(self, token: str, tokens: AccessTokens | None = None) -> Principal:
        """Say whose a token is."""
        return self.clock.wait(Deferred.fromCoroutine((tokens or self.tokens).check(token)))

    def refused(self, token: str) -> str:
        """Say why a token does not count."""
        return str(self.assertRaises(BadCredentials, self.check, token))

    def signed(self, payload: object, header: str = HEADER) -> str:
        """Sign something with the server's own key."""
        self.make()
        key = self.tokens._key
        assert key is not None
        text = f"{_encoded(header.encode())}.{_encoded(json.dumps(payload).encode())}"
        return f"{text}.{_encoded(key.sign(text.encode(), PKCS1v15(), SHA256()))}"

    def claims(self, **changed: object) -> dict[str, object]:
        """Spell claims that are good, but for what is changed."""
        now = self.clock.seconds()
        good = {"sub": "fox", "aud": AUDIENCE, "nbf": now, "iat": now, "exp": now + 9}
        return {key: value for key, value in {**good, **changed}.items() if value is not None}

    def test_good(self) -> None:
        """Who shows a token is who has shown the password, with what the account says now."""
        token = self.make()
        self.accounts.set_groups("fox", ["Blue"], ["Blue"])
        blue = frozenset({"Blue"})
        self.assertEqual(self.check(token), Principal("fox", blue, blue, admin=True, by_password=True))

    def test_row24_cloudtak(self) -> None:
        """CloudTAK, which decodes a token in a way of its own, finds who it is for and until when."""
        self.accounts.add('{Jörg} "}" Mü\\ller', "hash")
        for name in ("fox", '{Jörg} "}" Mü\\ller'):
            said = cloudtak_parse(self.make(name))
            self.assertEqual(said["sub"], name)
            self.assertEqual(said["exp"] - said["nbf"], TOKEN_SECONDS)
            self.assertEqual(set(said), {"sub", "aud", "nbf", "iat", "exp", "jti"})
            self.assertTrue(all(isinstance(value, str | int) for value in said.values()))

    def test_shape(self) -> None:
        """The header is to the letter what CloudTAK's way of reading wants; no two tokens are the same."""
        token = self.make()
        self.assertEqual(base64.b64decode(token.split(".")[0]).decode(), HEADER)
        self.assertNotEqual(token, self.make())

    def test_expired(self) -> None:
        """A token ends."""
        token = self.make()
        self.clock.advance(TOKEN_SECONDS - 1)
        self.check(token)
        self.clock.advance(1)
        self.assertEqual(self.refused(token), "the access token has expired")

    def test_account(self) -> None:
        """A token is void as soon as its account is disabled, has another password, or is gone."""
        self.clock.advance(10)
        token = self.make()
        self.accounts.set_enabled("fox", False)
        self.assertEqual(self.refused(token), "the account is disabled")
        self.accounts.set_enabled("fox", True)
        self.assertEqual(self.refused(token), "the account was changed since")
        token = self.make()
        self.check(token)
        self.clock.advance(5)
        self.accounts.set_password("fox", "other")
        self.assertEqual(self.refused(token), "the account was changed since")
        self.check(self.make())
        token = self.make()
        self.accounts.remove("fox")
        self.assertEqual(self.refused(token), "there is no such account")

    def test_no_other_algorithm(self) -> None:
        """Only our own header is looked at: no token can choose how it is checked."""
        self.check(self.signed(self.claims()))
        for header in (
            '{"alg":"none","typ":"JWT"}',
            '{"alg":"HS256","typ":"JWT"}',
            '{"typ":"JWT","alg":"RS256"}',
            '{"alg":"RS256","typ":"JWT","kid":"x"}',
        ):
            self.assertEqual(self.refused(self.signed(self.claims(), header)), NOT_OURS)

    def test_forged(self) -> None:
        """What is not signed by us, in any of its parts, does not count; neither does rubbish."""
        token = self.make()
        head, payload, signature = token.split(".")
        other = _encoded(json.dumps(self.claims(sub="wolf")).encode())
        for forged in (
            f"{head}.{other}.{signature}",
            f"{head}.{payload}.",
            f"{head}.{payload}.{signature[:-4]}AAAA",
            f"{head}.{payload}.!!!!",
            f"{head}.{payload}.ä",
            f"{head}.ä.{signature}",
            f"{head}.{payload}",
            "",
            "...",
            head + "." * 5000,
        ):
            self.assertEqual(self.refused(forged), NOT_OURS, forged)

    def test_claims(self) -> None:
        """What is signed by us and is no token for this is refused, and never an error."""
        changes: tuple[dict[str, Any], ...] = (
            {"aud": "other"},
            {"aud": None},
            {"sub": None},
            {"exp": None},
            {"exp": "soon"},
            {"nbf": self.clock.seconds() + 60},
            {"iat": []},
        )
        for changed in changes:
            self.assertEqual(self.refused(self.signed(self.claims(**changed))), NOT_OURS)
        payloads: tuple[Any, ...] = ([], "x", None)
        for payload in payloads:
            self.assertEqual(self.refused(self.signed(payload)), NOT_OURS)

    def test_restart(self) -> None:
        """Tokens survive a restart; the key is for the server's eyes only."""
        token = self.make()
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o600)
        self.assertEqual(self.check(token, self.again()).name, "fox")

    def test_made_at_once(self) -> None:
        """When two processes of one server make the key at once both use the same one."""
        write = files.write_new

        def slow(path: Path, content: bytes) -> None:
            self.patch(access_tokens, "write_new", write)
            other = self.again()
            other._make()
            write(path, content)

        self.patch(access_tokens, "write_new", slow)
        self.check(self.make(), self.again())

    def test_no_key(self) -> None:
        """Without its key no token counts, and none is made for the sake of checking one."""
        token = self.make()
        self.path.unlink()
        self.tokens = self.again()
        self.assertEqual(self.refused(token), NOT_OURS)
        self.assertFalse(self.path.exists())
        self.check(self.make())

    def test_broken_key(self) -> None:
        """A key that cannot be used is told of in one line, and never replaced silently."""
        curve = ec.generate_private_key(ec.SECP256R1())
        pem = curve.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        for content, words in ((b"rubbish", "cannot be read"), (pem, "is no RSA key")):
            self.path.write_bytes(content)
            self.tokens = self.again()
            self.assertIn(words, str(self.assertRaises(EnrollmentError, self.make)))
        self.path.unlink()
        self.path = self.path / "nowhere" / "jwt.key"
        self.tokens = self.again()
        self.assertIn("cannot be written", str(self.assertRaises(EnrollmentError, self.make)))
