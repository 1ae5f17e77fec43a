from __future__ import annotations

from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from cryptography.hazmat.primitives.asymmetric import ec
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.enrollment import service as module
from taky_twisted.enrollment.errors import BadRequest, Banned
from taky_twisted.enrollment.invites import GRACE_SECONDS, Invited, Invites
from taky_twisted.enrollment.issuing import Device, Issued, key_hash
from taky_twisted.enrollment.service import HOUR, Enrollment, NoUseLeft, TooOften
from taky_twisted.enrollment.signing_requests import read_request
from taky_twisted.enterprise_sync.disk_thread import DiskThread
from taky_twisted.stores.memory import MemoryStore
from tests.enrollment.site_files import issuing_in
from tests.enrollment.test_signing_requests import request
from tests.threaded_clock import ThreadedClock

T = TypeVar("T")


def serial(issued: Issued) -> int:
    """Make of a certificate what the client gets."""
    return issued.certificate.serial_number


class EnrollmentTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = ThreadedClock()
        self.thread = DiskThread("test", self.reactor)
        self.addCleanup(lambda: self.reactor.wait(self.thread.stop()))
        self.issuing = issuing_in(Path(self.mktemp()))
        self.invites = Invites(MemoryStore(self.reactor), self.reactor)
        self.enrollment = Enrollment(self.reactor, self.thread, self.issuing, self.invites)
        self.body = self.new_body()

    def new_body(self, name: str = "alpha") -> bytes:
        """Make a request of a new key."""
        return request(ec.generate_private_key(ec.SECP256R1()), name)

    def invited(self, uses: int = 1) -> Invited:
        """Invite somebody, who shows the token."""
        found = self.invites.find("alpha", self.invites.invite("alpha", uses))
        assert found is not None
        return found

    def begin(self, body: bytes, invited: Invited | None = None, uid: str = "A") -> Deferred[int]:
        """Ask for a certificate."""
        return Deferred.fromCoroutine(self.enrollment.sign("alpha", body, Device(uid), invited, serial))

    def sign(self, body: bytes, invited: Invited | None = None, uid: str = "A") -> int:
        """Ask for a certificate and wait for it."""
        return self.reactor.wait(self.begin(body, invited, uid))

    def wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Wait for something."""
        return self.reactor.wait(Deferred.fromCoroutine(coroutine))

    def issued(self) -> int:
        """Count certificates."""
        return len(self.issuing.register.records())

    def test_password(self) -> None:
        """Who has a password gets a certificate each time."""
        self.assertNotEqual(self.sign(self.body), self.sign(self.body))
        self.assertEqual(self.issued(), 2)

    def test_invite(self) -> None:
        """An invite is good for one certificate; the same key gets the same one again for 15 minutes, no other does."""
        invited = self.invited()
        first = self.sign(self.body, invited)
        self.assertFalse(self.invites.is_open(invited))
        self.reactor.advance(GRACE_SECONDS - 1)
        self.assertEqual(self.sign(self.body, invited), first)
        self.assertRaises(NoUseLeft, self.sign, self.new_body(), invited)
        self.reactor.advance(1)
        self.assertRaises(NoUseLeft, self.sign, self.body, invited)
        self.assertEqual(self.issued(), 1)

    def test_several_uses(self) -> None:
        """An invite for two devices is good for two keys; asking again takes nothing off."""
        invited = self.invited(2)
        first = self.sign(self.body, invited)
        self.assertEqual(self.sign(self.body, invited), first)
        self.sign(self.new_body(), invited, "B")
        self.assertRaises(NoUseLeft, self.sign, self.new_body(), invited, "C")

    def test_at_once(self) -> None:
        """Of two devices that come at the same moment with one use only one gets a certificate."""
        invited = self.invited()
        bodies = [self.new_body(), self.new_body(), self.body, self.body]
        asked = [self.begin(body, invited) for body in bodies]
        self.reactor.wait(asked[0])
        for refused in asked[1:]:
            self.assertRaises(NoUseLeft, self.reactor.wait, refused)
        self.assertEqual(self.issued(), 1)

    def test_turn(self) -> None:
        """What other nodes do with an invite before it is this one's turn counts."""
        invited, spent = self.invited(2), key_hash(read_request(self.body).key)
        turns: list[str] = []

        @asynccontextmanager
        async def turn(invited: Invited, key_sha256: str) -> AsyncIterator[None]:
            turns.append(key_sha256)
            if len(turns) == 3:
                self.invites.take_in(invited.hash, None)
            yield

        self.enrollment.turn = turn
        first = self.sign(self.body, invited)
        self.assertEqual(self.sign(self.body, invited), first)
        self.assertEqual(turns, [spent, spent])
        self.assertRaises(NoUseLeft, self.sign, self.new_body(), invited)
        self.assertRaises(NoUseLeft, self.sign, self.new_body(), invited)
        self.assertEqual((len(turns), self.issued()), (3, 1))

    def test_same_key_elsewhere(self) -> None:
        """A device that asked another node a moment ago gets the certificate that it got there; no use is taken off."""
        invited = self.invited(2)
        first = self.sign(self.body, invited)
        (use,) = self.invites._all_spent()
        self.invites.take_in_use(use.key, None)

        @asynccontextmanager
        async def turn(invited: Invited, key_sha256: str) -> AsyncIterator[None]:
            self.invites.take_in_use(use.key, use)
            yield

        self.enrollment.turn = turn
        self.assertEqual(self.sign(self.body, invited), first)
        self.assertEqual([invite.uses for invite in self.invites], [1])

    def test_nobody_is_held_up(self) -> None:
        """While somebody waits for his turn others are signed for, and one who has a password needs none."""
        waiting: Deferred[None] = Deferred()

        @asynccontextmanager
        async def turn(invited: Invited, key_sha256: str) -> AsyncIterator[None]:
            await waiting
            yield

        self.enrollment.turn = turn
        held = self.begin(self.body, self.invited())
        self.sign(self.new_body())
        self.assertNoResult(held)
        waiting.callback(None)
        self.reactor.wait(held)

    def test_same_key_at_once(self) -> None:
        """A device that asks twice at the same moment gets the same certificate twice."""
        invited = self.invited()
        asked = [self.begin(self.body, invited) for _ in range(2)]
        self.assertEqual(len({self.reactor.wait(each) for each in asked}), 1)

    def test_not_spent(self) -> None:
        """A request that is refused spends nothing, and neither does one whose client has left."""
        invited = self.invited()
        self.assertRaises(BadRequest, self.sign, b"nonsense", invited)
        left = self.begin(self.body, invited)
        left.cancel()
        self.assertIsNotNone(self.failureResultOf(left))
        self.sign(self.new_body(), invited)

    def test_revoked_in_between(self) -> None:
        """A certificate that was revoked is not given away again."""
        invited = self.invited()
        first = self.sign(self.body, invited)
        self.wait(self.enrollment.revoke([first]))
        self.assertRaises(NoUseLeft, self.sign, self.body, invited)

    def test_banned(self) -> None:
        """A banned name gets nothing, and its invite is not spent."""
        invited = self.invited()
        self.issuing.register.revoke_name("alpha")
        self.assertRaises(Banned, self.sign, self.body, invited)
        self.assertTrue(self.invites.is_open(invited))

    def test_too_often(self) -> None:
        """One name gets only so many certificates an hour; others are not held up."""
        self.patch(module, "MAX_SIGNED", 2)
        for _ in range(2):
            self.sign(self.body)
        self.assertRaises(TooOften, self.sign, self.body)
        other = self.enrollment.sign("bravo", self.new_body("bravo"), Device(), None, serial)
        self.wait(other)
        self.reactor.advance(HOUR)
        self.sign(self.body)
        self.assertEqual(list(self.enrollment._signed), ["alpha"])

    def test_too_many(self) -> None:
        """Only so many wait for their turn."""
        self.patch(module, "MAX_WAITING", 1)
        asked = [self.begin(self.new_body()) for _ in range(3)]
        self.failureResultOf(asked[2], TooOften)
        for each in asked[:2]:
            self.reactor.wait(each)

    def test_register(self) -> None:
        """Certificates are listed, shown and taken away."""
        first = self.sign(self.body)
        records = self.wait(self.enrollment.records())
        self.assertEqual([record.serial for record in records], [first])
        (pem,) = self.wait(self.enrollment.certificates(records))
        self.assertIn(b"BEGIN CERTIFICATE", pem or b"")
