"""Everybody who may come to a door of the Marti API, and what he shows there."""

from __future__ import annotations

import json
from base64 import b64encode, urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from twisted.internet.defer import Deferred

from taky_twisted.enrollment.access_tokens import TOKEN_SECONDS, AccessTokens
from taky_twisted.identity.principal import Principal
from tests.pki import Credentials
from tests.security.world import PASSWORD, World, rsa_key, signing_request

RED, BLUE = "RED", "BLUE"
DEVICE = "PHONE-1"
"""The device that all requests name."""


@dataclass(frozen=True)
class Proof:
    """What somebody shows."""

    credentials: Credentials | None = None
    headers: dict[str, str] = field(default_factory=dict)


class People:
    """Make accounts, certificates, tokens and invites in a world, and what is wrong with some of them."""

    def __init__(self, world: World) -> None:
        self._world = world
        accounts, hashed = world.accounts, f"hash of {PASSWORD}"
        for name, group, admin in (
            ("fox", RED, False),
            ("wolf", BLUE, False),
            ("root", RED, True),
            ("disabled", RED, True),
            ("banned", RED, True),
            ("changed", RED, True),
            ("gone", RED, True),
        ):
            accounts.add(name, hashed, [group], [group], admin)
        accounts.add("hearer", hashed, [], [RED])
        for name in ("newcomer", "pardoned"):
            accounts.add(name, "", [RED], [RED])
        self.key = ec.generate_private_key(ec.SECP256R1())
        """Of the phone that asks for certificates."""
        self.certificates = {
            name: world.pki.ca.issue(name)
            for name in (
                "fox",
                "wolf",
                "root",
                "hearer",
                "disabled",
                "banned",
                "pardoned",
                "newcomer",
                "nobody in particular",
            )
        }
        self.certificates |= {
            "revoked": world.pki.revoked,
            "expired": world.pki.expired,
            "not yet": world.pki.early,
            "foreign": world.pki.foreign,
            "namesake": world.pki.namesake,
        }
        self.tokens = self._tokens() if world.api.enroll_marti.callers.tokens is not None else {}
        self.invites = self._invites()
        accounts.set_enabled("disabled", False)
        accounts.set_password("changed", "hash of another password")
        accounts.remove("gone")
        world.ban("banned")
        world.ban("pardoned")
        world.unban("pardoned")
        world.clock.advance(60)
        self.proofs = dict(self._proofs())

    def _tokens(self) -> dict[str, str]:
        world = self._world
        tokens = {"expired": world.token("root")}
        world.clock.rightNow += TOKEN_SECONDS
        tokens |= {name: world.token(name) for name in ("fox", "root", "disabled", "banned", "changed", "gone")}
        header, payload, signature = tokens["fox"].split(".")
        said = json.loads(b64url_decoded(payload)) | {"sub": "root"}
        forged = b64url(json.dumps(said).encode())
        tokens["forged"] = f"{header}.{forged}.{signature}"
        tokens["unsigned"] = f"{b64url(json.dumps({'alg': 'none', 'typ': 'JWT'}).encode())}.{forged}."
        stranger = AccessTokens(world.clock, Path(world.pki.write("other.key", rsa_key(1))), world.accounts)
        made = stranger.make(Principal("root", by_password=True))
        tokens["another server's"] = world.clock.wait(Deferred.fromCoroutine(made))
        stranger.stop()
        tokens["for another audience"] = self._for_another_audience()
        return tokens

    def _for_another_audience(self) -> str:
        """Make what our key might have signed for somebody else."""
        world = self._world
        ours = world.api.enroll_marti.callers.tokens
        assert ours is not None
        now = int(world.now())
        said = {"sub": "root", "aud": "OTHER", "nbf": now, "iat": now, "exp": now + 1000, "jti": "0"}
        return ours._sign(said)

    def _invites(self) -> dict[str, tuple[str, str]]:
        world = self._world
        invites = world.api.enrolling.invites
        found = {
            "good": ("newcomer", invites.invite("newcomer", uses=100)),
            "used here": ("newcomer", invites.invite("newcomer")),
            "used elsewhere": ("newcomer", invites.invite("newcomer")),
            "expired": ("newcomer", invites.invite("newcomer", seconds=30)),
            "disabled": ("disabled", invites.invite("disabled")),
            "banned": ("banned", invites.invite("banned")),
            "unknown": ("unknown", invites.invite("unknown")),
            "another's": ("fox", invites.invite("newcomer")),
            "withdrawn": ("gone", invites.invite("gone")),
            "older than a ban": ("pardoned", invites.invite("pardoned")),
        }
        invites.withdraw("gone")
        elsewhere = ec.generate_private_key(ec.SECP256R1())
        for which, key, device in (("used here", self.key, DEVICE), ("used elsewhere", elsewhere, "PHONE-2")):
            target = f"/Marti/api/tls/signClient?clientUid={device}"
            if world.accounts is world.api.enroll_marti.callers.accounts:
                reply = world.ask("enroll", "POST", target, signing_request(key), basic(*found[which]))
                assert reply is not None and reply.status == 200, reply
        return found

    def _proofs(self) -> list[tuple[str, Proof]]:
        proofs = [
            ("nothing", Proof()),
            ("headers that name somebody", Proof(None, {"X-USER": "root", "X-SSL-Client-CN": "root"})),
        ]
        proofs += [(f"certificate: {name}", Proof(credentials)) for name, credentials in self.certificates.items()]
        for name in ("fox", "wolf", "root", "hearer", "disabled", "banned", "changed", "gone", "newcomer"):
            proofs.append((f"password: {name}", Proof(None, basic(name, PASSWORD))))
        proofs.append(("password: wrong", Proof(None, basic("root", "wrong password"))))
        proofs.append(("password: empty", Proof(None, basic("newcomer", ""))))
        for said in ("Basic", "Basic !", "Bearer", "Digest username=root"):
            proofs.append((f"authorization: {said}", Proof(None, {"Authorization": said})))
        for name, with_ in (("fox", "fox"), ("fox", "root"), ("root", "root"), ("revoked", "fox"), ("fox", "wrong")):
            headers = basic(with_, PASSWORD) if with_ != "wrong" else basic("fox", "wrong password")
            proofs.append((f"certificate: {name}, password: {with_}", Proof(self.certificates[name], headers)))
        for name, token in self.tokens.items():
            proofs.append((f"token: {name}", Proof(None, {"Authorization": f"Bearer {token}"})))
        if self.tokens:
            proofs.append(("token in place of a password", Proof(None, basic("root", self.tokens["root"]))))
        for which, (name, token) in self.invites.items():
            proofs.append((f"invite: {which}", Proof(None, basic(name, token))))
        return proofs


def basic(name: str, password: str) -> dict[str, str]:
    """Spell a name and a password as HTTP does."""
    return {"Authorization": "Basic " + b64encode(f"{name}:{password}".encode()).decode()}


def b64url(data: bytes) -> str:
    """Spell bytes as tokens do."""
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def b64url_decoded(text: str) -> bytes:
    """Read what tokens spell."""
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))
