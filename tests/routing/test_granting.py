from __future__ import annotations

from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.identity.accounts import Accounts
from taky_twisted.identity.principal import Principal
from taky_twisted.routing.granting import CHANGED, regrant
from taky_twisted.routing.switching import switch
from tests.fakes import Client, Site, principal
from tests.samples import marker


class GrantingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.site = Site()
        self.accounts = Accounts(self.site.clock, self.site.store)
        self.accounts.watch(
            lambda before, after: regrant(self.site.router, self.accounts, before, after, self.site.clock.seconds())
        )

    def join(self, uid: str, proved: Principal) -> Client:
        """Connect somebody as the door does: with the groups of the account."""
        certified = self.accounts.certified(proved)
        return self.site.join(uid, proved=replace(certified, by_password=proved.by_password))

    def test_groups(self) -> None:
        """Other groups count at once, in both directions, without anybody having to connect anew."""
        self.accounts.add("fox", "", ["Red"], ["Red"])
        self.accounts.add("wolf", "", ["Blue"], ["Blue"])
        fox, wolf = self.join("FOX", principal("fox")), self.join("WOLF", principal("wolf"))
        fox.heard(), wolf.heard()
        fox.say(marker("M-1"))
        self.assertEqual(wolf.uids(), [])
        self.accounts.set_groups("fox", ["Blue"], ["Blue"])
        self.site.turn()
        self.assertIn("FOX", wolf.uids())
        self.assertIn("WOLF", fox.uids())
        fox.say(marker("M-2"))
        self.assertEqual(wolf.uids(), ["M-2"])
        self.accounts.set_groups("fox", ["Red"], ["Red"])
        self.site.turn()
        self.assertEqual(wolf.types(), ["t-x-d-d"])
        wolf.say(marker("M-3"))
        self.assertNotIn("M-3", fox.uids())
        self.assertIsNone(fox.transport.lost)

    def test_not_felt(self) -> None:
        """A client is not told of what makes no difference to it: a group that it has switched off, or other rights."""
        self.accounts.add("fox", "", ["Red", "Blue"], ["Red", "Blue"])
        fox = self.join("FOX", principal("fox"))
        red = frozenset({"Red"})
        (stream,) = self.site.router.subscriptions
        switch(self.site.router, stream.granted, "", red, red, self.site.clock.seconds())
        self.site.turn()
        fox.heard()
        self.accounts.set_groups("fox", red, red)
        self.accounts.set_admin("fox", True)
        self.site.turn()
        self.assertEqual(fox.heard(), [])
        self.assertEqual((stream.granted.groups_in, stream.principal.groups_in), (red, red))
        self.assertTrue(stream.principal.admin)

    def test_new_account(self) -> None:
        """An account that is made for somebody who is connected takes him out of the group of everybody."""
        fox, wolf = self.join("FOX", principal("fox")), self.join("WOLF", principal("wolf"))
        self.accounts.add("fox", "", ["Red"], ["Red"])
        self.site.turn()
        fox.heard(), wolf.heard()
        fox.say(marker("M-1"))
        self.assertEqual(wolf.uids(), [])
        self.accounts.remove("fox")
        self.site.turn()
        wolf.heard()
        fox.say(marker("M-2"))
        self.assertEqual(wolf.uids(), ["M-2"])

    def test_password_ends(self) -> None:
        """A stream that a password let in ends when that does not count any more; those of certificates stay."""
        changes = (
            lambda: self.accounts.set_enabled("fox", False),
            lambda: self.accounts.set_password("fox", "h2"),
            lambda: self.accounts.remove("fox"),
        )
        for number, change in enumerate(changes):
            if self.accounts.find("fox") is None or number:
                if self.accounts.find("fox") is not None:
                    self.accounts.remove("fox")
                self.accounts.add("fox", "h1")
            by_password = self.join(f"P{number}", Principal("fox", by_password=True))
            by_certificate = self.join(f"C{number}", principal("fox"))
            by_certificate.heard()
            change()
            self.site.turn()
            self.assertEqual(by_password.transport.lost, "lose")
            by_password.say(marker(f"M-{number}"))
            self.assertNotIn(f"M-{number}", by_certificate.uids())
            self.assertIsNone(by_certificate.transport.lost)

    def test_password_stays(self) -> None:
        """Other groups do not end it."""
        self.accounts.add("fox", "h1")
        fox = self.join("FOX", Principal("fox", by_password=True))
        self.accounts.set_groups("fox", ["Red"], ["Red"])
        self.assertIsNone(fox.transport.lost)
        (stream,) = self.site.router.subscriptions
        self.assertEqual((stream.granted.by_password, stream.principal.groups_in), (True, frozenset({"Red"})))

    def test_spelled_otherwise(self) -> None:
        """Who is called otherwise from now on has to come anew: what is remembered of him goes by his name."""
        fox = self.join("FOX", principal("fox"))
        self.accounts.add("Fox")
        self.assertEqual(fox.transport.lost, "lose")
        self.assertEqual(fox.protocol._why, CHANGED)
        fox = self.join("FOX", principal("fox"))
        self.accounts.remove("FOX")
        self.assertEqual(fox.transport.lost, "lose")

    def test_others(self) -> None:
        """It is nobody else's business, nor that of who is anonymous; nor is what changes nothing."""
        wolf, nobody = self.join("WOLF", principal("wolf")), self.site.join("X")
        self.accounts.add("fox", "h1", ["Red"], ["Red"])
        self.accounts.add("wolf")
        self.accounts.add("anonymous", "", ["Red"], ["Red"])
        wolf.heard(), nobody.heard()
        wolf.say(marker("M-1"))
        self.assertEqual(nobody.uids(), ["M-1"])
        regrant(self.site.router, self.accounts, None, None, 0)
