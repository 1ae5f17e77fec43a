from __future__ import annotations

from dataclasses import replace
from hashlib import sha256

from twisted.internet.defer import Deferred, fail
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.enterprise_sync.errors import NoRoom, NoSuchFile, NotYours
from taky_twisted.enterprise_sync.files import Caller, Words
from taky_twisted.enterprise_sync.records import HIGH, StoredFile
from tests.enterprise_sync.stored_files import ALICE, BOB, NOBODY, StoredFiles
from tests.fakes import principal
from tests.threaded_clock import EPOCH

HASH = sha256(b"data").hexdigest()


class FilesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.stored = StoredFiles(self, limit=5)
        self.files = self.stored.files

    def kept(self) -> list[StoredFile]:
        """List what the store has."""
        return self.stored.clock.wait(self.stored.store.open()).files

    def test_add(self) -> None:
        """What is stored is in the store when the uploader is told so."""
        record = self.stored.add(creator_uid="A", keywords=("k",))
        self.assertEqual(self.kept(), [record])
        self.assertEqual((record.number, record.hash, record.size), (1, HASH, 4))
        self.assertEqual((record.submitter, record.submitted, record.tool), ("alice", EPOCH, "public"))
        self.assertEqual(self.files.find(BOB, hash=HASH), record)
        self.assertEqual(self.files.all(BOB), [record])

    def test_other_node(self) -> None:
        """What another node says of files counts here; a content goes when no file on any node refers to it."""
        record = self.stored.add()
        elsewhere = replace(record, number=7, name="b.zip", submitted=EPOCH + 1)
        self.files.take_in("7", elsewhere)
        self.assertEqual(self.files.find(BOB, hash=HASH), elsewhere)
        self.files.take_in("7", replace(elsewhere, name="c.zip"))
        self.assertEqual([file.name for file in self.files.all(BOB)], ["a.zip", "c.zip"])
        self.files.take_in("1", None)
        self.assertEqual([file.number for file in self.files.all(BOB)], [7])
        self.assertEqual(self.stored.contents(), {HASH})
        self.files.take_in("7", None)
        self.files.take_in("7", None)
        self.files.take_in("x", None)
        self.assertEqual((self.files.all(BOB), self.stored.contents()), ([], set()))
        self.assertEqual(self.kept(), [record])

    def test_deleted_while_uploaded(self) -> None:
        """What another node deletes while the same is uploaded here is there afterwards."""
        record = self.stored.add()
        with self.files.claimed(HASH):
            self.files.take_in("1", None)
            self.files.insert(Words(name="b"), HASH, 4, ALICE, EPOCH)
        self.assertEqual(self.stored.contents(), {HASH})
        self.assertEqual(self.files.find(BOB, hash=HASH).name, "b")
        self.assertEqual(record.number, 1)

    def test_fetched(self) -> None:
        """The content of what was stored elsewhere is fetched: of all that is known, and of all that comes."""
        fetched: list[str] = []

        def fetch(digest: str, size: int) -> Deferred[None]:
            fetched.append(digest)
            return fail(NoSuchFile("nobody has it"))

        self.stored.blobs.fetch = fetch
        record = self.stored.add()
        self.files.take_in("2", replace(record, number=2, hash="2" * 64))
        self.assertEqual(fetched, [])
        self.files.expect_contents()
        self.files.take_in("3", replace(record, number=3, hash="3" * 64))
        while len(fetched) < 2:
            self.stored.clock.run_one()
        self.assertEqual(fetched, ["2" * 64, "3" * 64])

    def test_numbers(self) -> None:
        """Numbers come from all nodes together, if there are several; random ones do not change how one counts on."""
        given = iter([5, 5, 9, HIGH + 3])
        self.files.numbers = lambda: next(given)
        records = [self.stored.add(name=str(number)) for number in range(3)]
        self.assertEqual([record.number for record in records], [5, 9, HIGH + 3])
        self.assertEqual(self.files.highest, 9)
        self.files.numbers = None
        self.assertEqual(self.stored.add().number, 10)

    def test_same_number(self) -> None:
        """A file whose number another node had given away first keeps everything but the number."""
        record = self.stored.add()
        theirs = replace(record, hash="1" * 64, submitter="bob")
        self.files.lost(record, theirs)
        self.files.take_in("1", theirs)
        self.assertEqual(self.files.find(BOB, hash=HASH), replace(record, number=2))
        self.assertEqual(self.stored.contents(), {HASH})
        self.files.lost(replace(record, number=2), None)
        self.files.take_in("2", None)
        self.assertEqual(self.files.find(BOB, hash=HASH).number, 3)
        self.files.lost(replace(record, number=3), replace(record, number=3, name="renamed"))
        self.assertEqual(self.files.highest, 3)

    def test_repeated(self) -> None:
        """An upload that is repeated changes its record; what it does not say stays, and so does who could get it."""
        red, blue = principal("alice", {"red"}), principal("alice", {"blue"})
        first = self.stored.add(Caller(red), tool="private", uid="U", remarks="r")
        second = self.stored.add(Caller(blue), keywords=("k",))
        expected = replace(first, groups=frozenset({"red", "blue"}), keywords=("k",), remarks="")
        self.assertEqual((second, self.kept()), (expected, [expected]))
        third = self.stored.add(Caller(red), tool="x", uid="V", groups=frozenset({"red"}))
        self.assertEqual((third.number, third.tool, third.uid, third.groups), (1, "x", "V", {"red"}))
        self.stored.add(name="b.zip")
        self.stored.add(creator_uid="B")
        self.stored.add(BOB)
        self.assertEqual([record.number for record in self.kept()], [1, 2, 3, 4])

    def test_restore(self) -> None:
        """After a restart all is there, numbers go on, and what lost its content is not shown until it is back."""
        record = self.stored.add()
        self.files.restore([replace(record, number=7), replace(record, number=9, hash="0" * 64)])
        self.assertEqual(self.files.hashes(), {HASH, "0" * 64})
        self.assertEqual([file.number for file in self.files.all(ALICE)], [1, 7])
        with self.assertRaises(NoSuchFile):
            self.files.find(ALICE, hash="0" * 64)
        self.assertEqual(self.stored.add(BOB).number, 10)

    def test_find(self) -> None:
        """The newest of several is found, and only by who hears one of its groups."""
        red = Caller(principal("r", {"red"}, {"red"}))
        first = self.stored.add(BOB, uid="U")
        self.stored.clock.rightNow += 1
        second = self.stored.add(ALICE, uid="U")
        self.files._put(replace(first, remarks="changed"))
        self.assertEqual(self.files.find(BOB, hash=HASH), second)
        self.assertEqual(self.files.find(BOB, uid="U"), second)
        for wanted in ({"hash": HASH}, {"uid": "U"}, {"uid": "V"}, {"hash": "1" * 64}):
            with self.assertRaises(NoSuchFile):
                self.files.find(red, **wanted)
        self.assertEqual(self.files.all(red), [])

    def test_groups(self) -> None:
        """A file is for the groups that its uploader names, and may speak to."""
        red = Caller(principal("r", {"red", "blue"}, set()))
        self.assertEqual(self.stored.add(red).groups, {"red", "blue"})
        self.assertEqual(self.stored.add(red, name="b", groups=frozenset({"red"})).groups, {"red"})
        for groups in ({"green"}, {"red", "green"}):
            with self.assertRaises(NotYours):
                self.stored.add(red, name="c", groups=frozenset(groups))
        with self.assertRaises(NotYours):
            self.stored.add(Caller(principal("n", set())))

    def test_limit(self) -> None:
        """At the limit nothing is stored and nothing is lost; a content that nobody wants goes again."""
        for number in range(4):
            self.stored.add(name=f"{number}")
        self.files.check_room(ALICE, Words())
        self.stored.add(name="last")
        self.assertRaises(NoRoom, self.files.check_room, ALICE, Words())
        with self.assertRaises(NoRoom):
            self.stored.add(data=b"more", name="more")
        self.assertEqual((len(self.kept()), self.stored.contents()), (5, {HASH}))
        self.assertEqual(self.stored.add(name="last", remarks="again").remarks, "again")

    def change(self, caller: Caller, **what: object) -> None:
        self.stored.run(self.files.change(caller, HASH, lambda file: replace(file, **what)))  # type: ignore[arg-type]

    def test_change(self) -> None:
        """What is said of a file changes for its owner's files alone, and is in the store."""
        self.stored.add(ALICE)
        self.stored.add(BOB)
        self.change(ALICE, tool="private")
        self.assertEqual([record.tool for record in self.kept()], ["private", "public"])
        stranger = Caller(principal("s", set(), set()))
        with self.assertRaises(NoSuchFile):
            self.change(stranger, tool="x")
        with self.assertRaises(NoSuchFile):
            self.stored.run(self.files.change(ALICE, "0" * 64, lambda file: file))

    def test_change_unseen(self) -> None:
        """An owner may change what it cannot read, because it speaks to a group that it does not hear."""
        alice = Caller(principal("alice", {"red"}, set()))
        self.stored.add(alice)
        self.change(alice, tool="private")
        self.assertEqual(self.kept()[0].tool, "private")

    def test_change_anonymous(self) -> None:
        """An anonymous file is changed from where it was uploaded; by nobody after a restart, or if it was taky's."""
        self.stored.add(NOBODY)
        for caller in (Caller(address="192.0.2.2"), Caller(), ALICE):
            self.change(caller, tool="private")
            self.assertEqual(self.kept()[0].tool, "public")
        self.change(NOBODY, tool="c")
        self.assertEqual(self.kept()[0].tool, "c")
        self.files._addresses.clear()
        self.change(NOBODY, tool="d")
        self.files.insert(Words(name="taky's"), HASH, 4, Caller(), EPOCH)
        for caller in (NOBODY, Caller(address="")):
            self.change(caller, tool="d")
        self.assertEqual([record.tool for record in self.kept()], ["c", "public"])

    def test_local_process(self) -> None:
        """What came over a unix socket, where nobody has an address, is changed from there."""
        local = Caller(address="")
        self.stored.add(local)
        self.change(local, tool="private")
        self.assertEqual(self.kept()[0].tool, "private")

    def test_repeated_anonymous(self) -> None:
        """Who is anonymous repeats an upload of its own; with somebody else's words it is an upload of its own, too."""
        first = self.stored.add(NOBODY, creator_uid="A")
        second = self.stored.add(Caller(address="192.0.2.2"), creator_uid="A", tool="private", expiration=EPOCH)
        self.stored.add(NOBODY, creator_uid="A", tool="private")
        self.assertEqual(self.kept(), [replace(first, tool="private"), second])

    def test_expiration_anonymous(self) -> None:
        """Who is anonymous says when a file goes only with its first upload: what is there it cannot end."""
        first = self.stored.add(NOBODY, expiration=EPOCH + 9)
        self.change(NOBODY, expiration=EPOCH)
        self.stored.add(NOBODY, expiration=EPOCH)
        self.assertEqual(self.kept(), [first])
        self.stored.add(ALICE)
        self.change(ALICE, expiration=EPOCH + 1)
        self.stored.add(ALICE, expiration=EPOCH + 2)
        self.assertEqual([record.expiration for record in self.kept()], [EPOCH + 9, EPOCH + 2])

    def delete(self, caller: Caller, digest: str = HASH) -> int:
        return self.stored.run(self.files.delete(caller, lambda file: file.hash == digest))

    def test_delete(self) -> None:
        """Owners delete their files; the content goes with the last one that refers to it."""
        self.stored.add(ALICE)
        self.stored.add(BOB)
        self.assertEqual(self.delete(ALICE), 1)
        self.assertEqual((len(self.kept()), self.stored.contents()), (1, {HASH}))
        with self.assertRaises(NotYours):
            self.delete(ALICE)
        self.assertEqual(self.delete(BOB), 1)
        self.assertEqual((self.kept(), self.stored.contents()), ([], set()))
        with self.assertRaises(NoSuchFile):
            self.delete(BOB)

    def test_delete_anonymous(self) -> None:
        """Who is anonymous deletes nothing, not even its own; an administrator deletes everything."""
        self.stored.add(NOBODY)
        self.stored.add(ALICE)
        with self.assertRaises(NotYours):
            self.delete(NOBODY)
        self.assertEqual(self.delete(replace(BOB, admin=True)), 2)

    def test_delete_several(self) -> None:
        """Of several files those go that are the caller's; the others stay, and are not counted."""
        self.stored.add(ALICE)
        self.stored.add(BOB, name="b")
        self.assertEqual(self.stored.run(self.files.delete(ALICE, lambda file: True)), 1)
        self.assertEqual([record.submitter for record in self.kept()], ["bob"])

    def test_delete_unseen(self) -> None:
        """Somebody else's file in a group that one does not hear is not there."""
        self.stored.add(Caller(principal("r", {"red"}, {"red"})))
        with self.assertRaises(NoSuchFile):
            self.delete(ALICE)

    def test_delete_while_uploaded(self) -> None:
        """A content that is deleted while the same is uploaded again is there afterwards."""
        self.stored.add(ALICE)
        incoming = self.stored.blobs.begin()
        self.stored.clock.wait(self.stored.blobs.write(incoming.write, b"data"))
        self.stored.clock.wait(self.stored.blobs.write(incoming.seal))
        adding = Deferred.fromCoroutine(self.files.add(incoming, Words(name="b"), BOB))
        self.assertEqual(self.delete(ALICE), 1)
        record = self.stored.clock.wait(adding)
        self.assertEqual(self.stored.contents(), {HASH})
        self.assertEqual(self.files.find(BOB, hash=HASH), record)

    def test_at_once(self) -> None:
        """Two who upload the same at once have both stored it, with one content."""
        uploads = [(self.stored.blobs.begin(), caller) for caller in (ALICE, BOB)]
        for incoming, _ in uploads:
            self.stored.clock.wait(self.stored.blobs.write(incoming.write, b"data"))
            self.stored.clock.wait(self.stored.blobs.write(incoming.seal))
        adding = [self.files.add(incoming, Words(name="a"), caller) for incoming, caller in uploads]
        for one in [Deferred.fromCoroutine(coroutine) for coroutine in adding]:
            self.stored.clock.wait(one)
        self.assertEqual((len(self.kept()), self.stored.contents()), (2, {HASH}))

    def test_expire(self) -> None:
        """A file whose time is over is not shown any more, and soon gone, with its content."""
        self.stored.add(expiration=EPOCH + 10)
        self.stored.add(BOB, data=b"other")
        self.stored.clock.rightNow += 9.9
        self.files.expire()
        self.assertEqual(len(self.files.all(BOB)), 2)
        self.stored.clock.rightNow += 0.1
        with self.assertRaises(NoSuchFile):
            self.files.find(BOB, hash=HASH)
        self.assertEqual(len(self.files.all(BOB)), 1)
        self.files.expire()
        self.assertEqual([record.submitter for record in self.kept()], ["bob"])
        self.assertEqual(self.stored.contents(), {sha256(b"other").hexdigest()})

    def test_completed(self) -> None:
        """What nobody said is filled in, so that every list has something to show."""
        words = Words().completed(HASH, "", "")
        self.assertEqual((words.name, words.mime_type, words.uid), (HASH, "application/octet-stream", None))
        words = Words(keywords=("missionpackage",)).completed(HASH, "x/y.zip", "no type")
        self.assertEqual((words.name, words.mime_type, words.uid), ("y.zip", "application/x-zip-compressed", HASH))
        said = Words("n", "u", "a/b", keywords=("missionpackage",))
        self.assertEqual(said.completed(HASH, "other", "c/d"), said)
