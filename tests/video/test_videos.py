from __future__ import annotations

import json
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.identity.principal import ANON_GROUP, ANONYMOUS, Principal
from taky_twisted.stores.memory import MemoryStore
from taky_twisted.video import videos as module
from taky_twisted.video.connections import Connection, Feed
from taky_twisted.video.errors import NoRoom, NoSuchVideo, NotYours, VideoError
from taky_twisted.video.records import VideoConnection
from taky_twisted.video.videos import UNKNOWN, Videos
from tests.fakes import LogLines, principal
from tests.samples import NOW

ALICE = principal("alice", ["red", "blue"], ["red"])
BOB = principal("bob", ["red"], ["red"])
CAROL = principal("carol", ["green"], ["green"])


def feed(uid: str = "f", alias: str = "Gate", url: str = "rtsp://h:554/x", **keys: Any) -> Feed:
    """Make a feed."""
    return Feed(uid, alias, url, **keys)


def connection(uid: str = "c", *feeds: Feed, **keys: Any) -> Connection:
    """Make a connection."""
    return Connection(uid, f"alias of {uid}", feeds or (feed(f"{uid}-f"),), **keys)


class LateStore(MemoryStore):
    """A store that says when something is on disk only if it is told so."""

    late = False

    def flush(self) -> Deferred[None]:
        self.flushing: Deferred[None] = Deferred()
        return self.flushing if self.late else super().flush()


class VideosCase(SynchronousTestCase):
    """Video connections on a store in memory."""

    most = 5

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.rightNow = NOW
        self.store = LateStore(self.clock)
        self.log = LogLines(self)
        self.videos = self.restarted()

    def restarted(self) -> Videos:
        """Start on what the store has."""
        videos = Videos(self.store, self.clock, self.most)
        videos.restore(self.kept())
        return videos

    def kept(self) -> list[VideoConnection]:
        """Tell what would survive a restart."""
        return self.successResultOf(self.store.open()).videos

    def do(self, change: Coroutine[Any, Any, Any]) -> Any:
        """Do something that ends at once."""
        return self.successResultOf(Deferred.fromCoroutine(change))

    def refused(self, change: Coroutine[Any, Any, Any], error: type[VideoError]) -> str:
        """Do something that is refused; nothing has changed."""
        before, shown = self.kept(), self.uids(ALICE, BOB, CAROL, ANONYMOUS)
        failure = self.failureResultOf(Deferred.fromCoroutine(change), error)
        self.assertEqual((self.kept(), self.uids(ALICE, BOB, CAROL, ANONYMOUS)), (before, shown))
        return str(failure.value)

    def put(self, *connections: Connection, who: Principal = ALICE, **keys: Any) -> None:
        """Make connections."""
        self.do(self.videos.put(connections, who, **keys))

    def uids(self, *who: Principal) -> list[list[str]]:
        """Tell what each of these sees."""
        return [[each.uid for each in self.videos.visible(one.groups_out)] for one in who]


class SeeingTests(VideosCase):
    """Who sees what."""

    def test_groups(self) -> None:
        """A connection is seen by who hears a group that its maker speaks to."""
        self.put(connection())
        self.assertEqual(self.uids(ALICE, BOB, CAROL), [["c"], ["c"], []])
        self.assertEqual(self.videos.find("c", BOB.groups_out), connection())
        self.assertRaises(NoSuchVideo, self.videos.find, "c", CAROL.groups_out)
        self.assertRaises(NoSuchVideo, self.videos.find, "x", BOB.groups_out)
        self.assertEqual(list(self.videos.documents(BOB.groups_out)), [connection().document])
        self.assertEqual(list(self.videos.documents(CAROL.groups_out)), [])

    def test_other_node(self) -> None:
        """What another node says of connections counts here, and is not written again."""
        self.put(connection("c", feed("f")))
        (record,) = self.kept()
        changed = replace(record, alias="x", document=connection("c", feed("g")).document)
        self.videos.take_in("c", changed)
        self.assertEqual(self.uids(BOB), [["c"]])
        self.assertEqual([each.uid for each in self.videos.find("c", BOB.groups_out).feeds], ["g"])
        self.assertEqual(self.kept(), [record])
        self.videos.take_in("c", replace(record, document="{"))
        self.assertEqual(len(self.videos), 0)
        self.assertIn("cannot be read", self.log()[0])
        self.videos.take_in("c", record)
        self.videos.take_in("c", None)
        self.videos.take_in("c", None)
        self.assertEqual(len(self.videos), 0)
        self.put(connection("d", feed("f")))

    def test_groups_that_are_named(self) -> None:
        """Its maker may choose some of the groups, but only those that it may speak to."""
        self.put(connection(), groups=frozenset({"blue"}))
        self.assertEqual(self.uids(ALICE, BOB), [[], []])
        for groups in ({"green"}, {"red", "green"}):
            self.refused(self.videos.put([connection("d")], ALICE, frozenset(groups)), NotYours)

    def test_no_groups(self) -> None:
        """Who speaks to nobody shows nobody anything."""
        self.refused(self.videos.put([connection()], principal("x", [], ["red"])), NotYours)

    def test_restart(self) -> None:
        """All of it is there after a restart, also whose it is; what cannot be read is left out and told of."""
        self.put(connection("a"), connection("b", feed("1"), feed("2"), active=False))
        (record, _) = self.kept()
        self.assertEqual((record.owner, record.groups, record.changed), ("alice", ALICE.groups_in, NOW))
        for uid, document in (("bad", "{"), ("worse", "[]")):
            self.store.put(replace(record, uid=uid, document=document))
        self.videos = self.restarted()
        self.assertEqual(self.uids(BOB), [["a", "b"]])
        self.assertEqual(
            [each.document for each in self.videos.visible(BOB.groups_out)],
            [connection("a").document, connection("b", feed("1"), feed("2"), active=False).document],
        )
        self.assertEqual(len([line for line in self.log() if "left out" in line]), 2)
        self.refused(self.videos.remove("a", BOB), NotYours)
        self.do(self.videos.remove("a", ALICE))

    def test_while_it_changes(self) -> None:
        """A list that is being sent is of the moment at which it was asked for."""
        self.put(connection("a"), connection("b"))
        seen = self.videos.visible(BOB.groups_out)
        self.do(self.videos.remove("b", ALICE))
        self.assertEqual([each.uid for each in seen], ["a", "b"])


class PuttingTests(VideosCase):
    """Who may make and change what."""

    def test_anew(self) -> None:
        """Its maker may make it anew, nobody else; also not who does not see it."""
        self.put(connection())
        changed = connection("c", feed("other"))
        for who in (BOB, CAROL, ANONYMOUS):
            self.refused(self.videos.put([changed], who), NotYours)
        self.put(changed)
        self.assertEqual((self.videos.find("c", BOB.groups_out), len(self.videos)), (changed, 1))
        self.assertEqual([record.document for record in self.kept()], [changed.document])

    def test_all_or_none(self) -> None:
        """Of several none is made if one cannot be."""
        self.put(connection("b"), who=BOB)
        self.refused(self.videos.put([connection("a"), connection("b")], ALICE), NotYours)

    def test_anonymous(self) -> None:
        """What was made without a name may be changed without one, and by nobody with one."""
        self.put(connection(), who=ANONYMOUS)
        self.assertEqual(self.kept()[0].owner, None)
        named = principal("dave", [ANON_GROUP], [ANON_GROUP])
        self.refused(self.videos.put([connection()], named), NotYours)
        self.refused(self.videos.remove("c", named), NotYours)
        self.do(self.videos.remove("c", ANONYMOUS))
        self.assertEqual((len(self.videos), self.kept()), (0, []))

    def test_on_disk(self) -> None:
        """Whoever changes something is told so when it is on disk."""
        self.store.late = True
        self.put_later = Deferred.fromCoroutine(self.videos.put([connection()], ALICE))
        self.assertNoResult(self.put_later)
        self.store.flushing.callback(None)
        self.successResultOf(self.put_later)
        removing = Deferred.fromCoroutine(self.videos.remove("c", ALICE))
        self.assertNoResult(removing)
        self.store.flushing.callback(None)
        self.successResultOf(removing)

    def test_number(self) -> None:
        """There is room for so many; what is made anew takes no more."""
        self.put(*(connection(str(number)) for number in range(self.most)))
        text = self.refused(self.videos.put([connection("new")], ALICE), NoRoom)
        self.assertIn("video_connections", text)
        self.refused(self.videos.put_feeds([feed("new")], ALICE), NoRoom)
        self.put(*(connection(str(number), feed(f"{number}-2")) for number in range(self.most)))
        self.do(self.videos.remove("0", ALICE))
        self.put(connection("new"))

    def test_size(self) -> None:
        """All of them together have room for so many bytes, exactly."""
        size = len(connection("1").document.encode())
        self.patch(module, "MAX_BYTES", 2 * size)
        self.put(connection("1"), connection("2"))
        self.put(connection("1"))
        self.refused(self.videos.put([connection("3")], ALICE), NoRoom)
        self.refused(self.videos.put([connection("1", feed("1-f", "Gates"))], ALICE), NoRoom)
        self.do(self.videos.remove("1", ALICE))
        self.put(connection("3"))

    def test_feed_of_another(self) -> None:
        """A feed belongs to one connection, so that it is clear which one the older API means."""
        self.put(connection("c", feed("f")))
        self.refused(self.videos.put([connection("d", feed("f"))], BOB), NotYours)
        self.refused(self.videos.put([connection("d", feed("g")), connection("e", feed("g"))], BOB), NotYours)
        self.do(self.videos.remove("c", ALICE))
        self.put(connection("d", feed("f")), who=BOB)

    def test_replace(self) -> None:
        """Changing a connection leaves who sees it; it must be there, and one's own."""
        self.put(connection(), groups=frozenset({"red"}))
        changed = connection("whatever", feed("other"))
        self.do(self.videos.replace("c", changed, ALICE))
        self.assertEqual(self.videos.find("c", BOB.groups_out), replace(changed, uid="c"))
        self.assertEqual(self.kept()[0].groups, frozenset({"red"}))
        self.refused(self.videos.replace("c", changed, BOB), NotYours)
        self.refused(self.videos.replace("c", changed, CAROL), NoSuchVideo)
        self.refused(self.videos.replace("d", changed, ALICE), NoSuchVideo)


class FeedTests(VideosCase):
    """What the older API does, which knows feeds alone."""

    def test_new(self) -> None:
        """A new feed is a connection of its own; said again it is changed."""
        self.do(self.videos.put_feeds([feed("f"), feed("g")], ALICE))
        self.assertEqual(self.uids(BOB), [["f", "g"]])
        self.do(self.videos.put_feeds([feed("f", "Yard", "udp://x")], ALICE))
        found = self.videos.find("f", BOB.groups_out)
        self.assertEqual((found.alias, [each.url for each in found.feeds]), ("Yard", ["udp://x"]))
        self.refused(self.videos.put_feeds([feed("h"), feed("f")], BOB), NotYours)

    def test_within_a_connection(self) -> None:
        """A feed of a connection with several is changed there, several times in one request too."""
        self.put(connection("c", feed("1"), feed("2")))
        self.do(self.videos.put_feeds([feed("1", "One"), feed("2", "Zwei"), feed("2", "Two"), feed("3")], ALICE))
        self.assertEqual(self.uids(BOB), [["c", "3"]])
        self.assertEqual([each.alias for each in self.videos.find("c", BOB.groups_out).feeds], ["One", "Two"])

    def test_with_the_uid_of_a_connection(self) -> None:
        """A feed with the uid of a connection goes into it."""
        self.put(connection("c", feed("1")))
        self.do(self.videos.put_feeds([feed("c")], ALICE))
        self.assertEqual([each.uid for each in self.videos.find("c", BOB.groups_out).feeds], ["1", "c"])
        self.do(self.videos.put_feeds([feed("c", "again")], ALICE))
        self.assertEqual([each.alias for each in self.videos.find("c", BOB.groups_out).feeds], ["Gate", "again"])

    def test_active(self) -> None:
        """A feed, or a whole connection, is switched off and on by its owner."""
        self.put(connection("c", feed("1"), feed("2")), connection("d"))
        self.do(self.videos.set_active("1", False, ALICE))
        self.do(self.videos.set_active("d-f", False, ALICE))
        found = self.videos.find("c", BOB.groups_out)
        self.assertEqual((found.active, [each.active for each in found.feeds]), (True, [False, True]))
        found = self.videos.find("d", BOB.groups_out)
        self.assertEqual((found.active, [each.active for each in found.feeds]), (False, [False]))
        self.do(self.videos.set_active("c", False, ALICE))
        self.assertFalse(self.videos.find("c", BOB.groups_out).active)
        self.do(self.videos.set_active("c", True, ALICE))
        self.assertTrue(json.loads(self.kept()[0].document)["active"])
        self.refused(self.videos.set_active("1", True, BOB), NotYours)
        self.refused(self.videos.set_active("1", True, CAROL), NoSuchVideo)
        self.refused(self.videos.set_active("x", True, ALICE), NoSuchVideo)

    def test_remove(self) -> None:
        """Deleting feeds one by one deletes the connection with the last; by its own uid it goes at once."""
        self.put(connection("c", feed("1"), feed("2")), connection("d", feed("3"), feed("4")))
        for uid in ("1", "d"):
            self.refused(self.videos.remove_feed(uid, BOB), NotYours)
        self.do(self.videos.remove_feed("1", ALICE))
        self.assertEqual([each.uid for each in self.videos.find("c", BOB.groups_out).feeds], ["2"])
        self.do(self.videos.remove_feed("2", ALICE))
        self.do(self.videos.remove_feed("d", ALICE))
        self.assertEqual((self.uids(BOB), self.kept(), self.videos._homes, self.videos._bytes), ([[]], [], {}, 0))
        self.refused(self.videos.remove_feed("1", ALICE), NoSuchVideo)


class AdoptingTests(VideosCase):
    """Feeds that were here before."""

    def test_whose_it_is(self) -> None:
        """Nobody knows whose it is: who sees it and changes it first owns it from then on."""
        self.assertEqual(self.do(self.videos.adopt([feed("f"), feed("g")], frozenset({"red"}))), 2)
        self.assertEqual([record.owner for record in self.kept()], [UNKNOWN, UNKNOWN])
        self.refused(self.videos.put_feeds([feed("f")], CAROL), NotYours)
        self.do(self.videos.put_feeds([feed("f", "mine")], BOB))
        self.refused(self.videos.put_feeds([feed("f")], ALICE), NotYours)
        self.do(self.videos.remove("g", ALICE))

    def test_what_is_here_stays(self) -> None:
        """What is here already is newer; what there is no room for is left out, and the log says so."""
        self.put(connection("c", feed("f")))
        self.assertEqual(self.do(self.videos.adopt([feed("f"), feed("c")], frozenset({"red"}))), 0)
        self.assertEqual(self.do(self.videos.adopt([feed(str(n)) for n in range(6)], frozenset({"red"}))), 4)
        self.assertEqual(len(self.videos), self.most)
        self.assertEqual(len([line for line in self.log() if "was not taken over" in line]), 2)

    def test_two_in_the_store_with_one_feed(self) -> None:
        """Should the store name one feed twice, deleting either leaves the other in order."""
        self.put(connection("a", feed("f")))
        self.store.put(replace(self.kept()[0], uid="b"))
        self.videos = self.restarted()
        self.do(self.videos.remove("b", ALICE))
        self.do(self.videos.set_active("f", False, ALICE))
        self.assertFalse(self.videos.find("a", BOB.groups_out).active)
