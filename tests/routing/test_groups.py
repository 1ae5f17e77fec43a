from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.identity.principal import ANONYMOUS, Principal
from taky_twisted.routing import groups
from taky_twisted.routing.groups import GroupChoices, NoGroupLeft
from taky_twisted.routing.records import ActiveGroups
from taky_twisted.routing.subscription import Subscription
from taky_twisted.stores.memory import MemoryStore
from tests.fakes import MemorySink, Site, principal
from tests.samples import NOW, event, sa

BLUE, RED, BOTH = frozenset({"Blue"}), frozenset({"Red"}), frozenset({"Blue", "Red"})


def alice(name: str = "alice") -> Principal:
    """Make somebody with two groups both ways."""
    return principal(name, BOTH, BOTH)


class GroupChoicesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.site = Site()
        self.store = self.site.store
        self.choices = self.site.router.groups

    def connect(self, uid: str = "", name: str = "alice", host: str = "10.0.0.1") -> Subscription:
        """Connect somebody, who reports itself if it has a uid."""
        stream = self.site.router.subscribe(alice(name), MemorySink(), f"{host}:4711 at ssl:8089")
        if uid:
            stream.publish(event(sa(uid, uid)))
        return stream

    def choose(self, uid: str, names: frozenset[str], name: str = "alice", now: float = NOW) -> None:
        """Switch on these groups and no others."""
        self.choices.choose(alice(name), uid, names, names, now)

    def active(self, uid: str = "", host: str = "", name: str = "alice") -> frozenset[str]:
        """Tell what somebody hears, which is where it speaks here."""
        found = self.choices.granted(alice(name), uid, host)
        self.assertEqual(found.groups_in, found.groups_out)
        return found.groups_out

    def kept(self) -> list[str]:
        """Tell the keys of what would survive a restart."""
        return sorted(record.key for record in self.successResultOf(self.store.open()).active_groups)

    def test_other_node(self) -> None:
        """A choice that was made on another node counts here, and whose connections it concerns is told."""
        stream, _ = self.connect("A"), self.connect("B", "bob")
        record = ActiveGroups("alice", "A", BLUE, BLUE, NOW)
        self.assertEqual(self.choices.take_in(record.key, record), [stream])
        self.assertEqual(self.active("A"), RED)
        self.assertEqual(self.kept(), [])
        self.assertEqual(self.choices.take_in("nobody\nA", None), [])
        self.assertEqual(self.choices.take_in("no key", None), [])
        self.assertEqual(self.choices.take_in(record.key, None), [stream])
        self.assertEqual((self.active("A"), len(self.choices)), (BOTH, 0))
        strange = ActiveGroups("al\nice", "A\nB", BLUE, BLUE, NOW)
        self.assertEqual(self.choices.take_in(strange.key, strange), [])
        self.assertEqual(self.choices.take_in(strange.key, None), [])
        self.assertEqual(len(self.choices), 0)

    def test_everything_is_on(self) -> None:
        """Who has never chosen has all its groups; so has who has proved nothing."""
        self.assertEqual(self.active(), BOTH)
        self.assertIs(self.choices.granted(ANONYMOUS, "A", "10.0.0.1"), ANONYMOUS)

    def test_choice(self) -> None:
        """What is switched off is off, what is granted later is on, and whose it is stays the same."""
        self.choose("", BLUE)
        self.assertEqual(self.active(), BLUE)
        more = principal("alice", BOTH | {"Green"}, {"Red"})
        found = self.choices.granted(more)
        self.assertEqual((found.groups_in, found.groups_out), (frozenset({"Blue", "Green"}), frozenset()))
        self.assertEqual((found.name, found.certificate), (more.name, more.certificate))
        self.assertEqual(self.active(name="bob"), BOTH)

    def test_directions(self) -> None:
        """One may hear where one does not speak."""
        self.choices.choose(alice(), "", BLUE, BOTH, NOW)
        found = self.choices.granted(alice())
        self.assertEqual((found.groups_in, found.groups_out), (BLUE, BOTH))

    def test_one_must_stay(self) -> None:
        """Nobody can switch off everything, nor by naming groups of others; then the choice is as it was."""
        self.choose("", BLUE)
        for names in (frozenset[str](), frozenset({"Green"})):
            with self.assertRaises(NoGroupLeft):
                self.choose("", names)
        self.assertEqual(self.active(), BLUE)
        self.choices.choose(alice(), "", frozenset(), RED, NOW)
        self.assertEqual(self.choices.granted(alice()).groups_in, frozenset())

    def test_nothing_left(self) -> None:
        """Whose only active group is taken away has all the others: nobody is cut off by an old choice."""
        self.choose("", BLUE)
        less = principal("alice", RED, RED)
        self.assertEqual(self.choices.granted(less), less)

    def test_devices(self) -> None:
        """A device has its own choice, else that of all; a choice for all replaces those of the devices."""
        self.choose("A", BLUE)
        self.assertEqual((self.active("A"), self.active("B")), (BLUE, BOTH))
        self.choose("", RED)
        self.assertEqual((self.active("A"), self.active("B")), (RED, RED))
        self.choose("A", BOTH)
        self.assertEqual((self.active("A"), self.active("B")), (BOTH, RED))
        self.assertEqual(self.kept(), ["alice\n", "alice\nA"])

    def test_back_to_all(self) -> None:
        """Who has switched on everything again is as if it had never chosen, and nothing is kept of it."""
        self.choose("A", BLUE)
        self.choose("A", BOTH)
        self.choose("", BLUE)
        self.choose("", BOTH)
        self.assertEqual((len(self.choices), self.kept()), (0, []))

    def test_restart(self) -> None:
        """Choices survive a restart, and so does which one was the last."""
        self.choose("B", RED, now=NOW)
        self.choose("A", BLUE, now=NOW + 1)
        records = self.successResultOf(self.store.open()).active_groups
        for order in (1, -1):
            again = GroupChoices(MemoryStore(Clock()))
            again.restore(records[::order])
            self.assertEqual(len(again), 2)
            self.assertEqual([again.granted(alice(), uid).groups_out for uid in ("A", "B", "")], [BLUE, RED, BLUE])

    def test_which_device_asks(self) -> None:
        """Over HTTP nobody says which device asks: it is the one that is connected from there, else the only one."""
        self.choose("A", BLUE)
        self.choose("B", RED)
        self.assertEqual(self.active(), RED, "nobody is connected: what was chosen last")
        a = self.connect("A", host="10.0.0.1")
        self.assertEqual(self.active(host="10.9.9.9"), BLUE, "the only one")
        self.connect("B", host="[2001:db8::1]")
        self.assertEqual(self.active(host="10.0.0.1"), BLUE)
        self.assertEqual(self.active(host="2001:db8::1"), RED)
        self.assertEqual(self.active(host="10.9.9.9"), RED, "either: what was chosen last")
        self.connect("", host="10.0.0.1")
        self.assertEqual(self.active(host="10.0.0.1"), BLUE, "who has not said which device it is says nothing")
        self.connect("C", host="10.0.0.1")
        self.assertEqual(self.active("C"), BOTH)
        self.assertEqual(self.active(host="10.0.0.1"), RED, "two behind one address: what was chosen last")
        a.close()

    def test_streams(self) -> None:
        """Somebody's connections are found, and no longer when they are gone; those of nobody in particular are not."""
        a, b = self.connect("A"), self.connect("B", host="10.0.0.2")
        self.connect("C", name="bob")
        anonymous, _ = self.site.subscribe(ANONYMOUS)
        self.assertEqual(self.choices.streams(alice()), [a, b])
        self.assertEqual(self.choices.streams(alice(), "10.0.0.2"), [b])
        self.assertEqual(self.choices.streams(alice(), "10.9.9.9"), [a, b])
        self.assertEqual(self.choices.streams(ANONYMOUS), [])
        for stream in (a, b, anonymous):
            stream.close()
        self.assertEqual(self.choices.streams(alice()), [])
        self.assertEqual(len(self.choices.streams(alice("bob"))), 1)

    def test_speakers_are_not_counted(self) -> None:
        """Who speaks without hearing comes and goes without a trace."""
        speaker = self.site.router.speaker(alice(), MemorySink(), "udp:8087")
        speaker.close()
        self.assertEqual(self.choices.streams(alice()), [])

    def test_many_devices(self) -> None:
        """However many devices somebody invents, only so many are remembered; those that are connected stay longest."""
        self.patch(groups, "MAX_DEVICES", 3)
        self.choose("", BLUE)
        self.connect("A")
        for uid in ("A", "B", "C", "D"):
            self.choose(uid, RED)
        self.assertEqual(self.kept(), ["alice\n", "alice\nA", "alice\nD"])
        self.connect("D")
        self.choose("E", RED)
        self.assertEqual(self.kept(), ["alice\n", "alice\nD", "alice\nE"])
        self.assertEqual(len(self.choices), 3)

    def test_many_principals(self) -> None:
        """There is room for so many choices; the oldest of somebody who is away goes, else the oldest at all."""
        self.patch(groups, "MAX_CHOICES", 2)
        self.connect("A", name="a")
        for name in ("a", "b", "c"):
            self.choose("", RED, name)
        self.assertEqual(self.kept(), ["a\n", "c\n"])
        self.connect("C", name="c")
        self.choose("", RED, "d")
        self.assertEqual(self.kept(), ["c\n", "d\n"])
        self.assertEqual(len(self.choices), 2)
        self.assertEqual((self.active(name="a"), self.active(name="c")), (BOTH, RED))

    def test_only_what_is_granted_is_kept(self) -> None:
        """Nobody fills the store with names of groups that it does not have."""
        self.choices.choose(alice(), "", BLUE | {"x" * 1000}, BLUE, NOW)
        (record,) = self.successResultOf(self.store.open()).active_groups
        self.assertEqual(record, ActiveGroups("alice", "", RED, RED, NOW))
