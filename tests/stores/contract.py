"""What every store promises: one set of tests for all backends."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import strategies
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from taky_twisted.enrollment.records import Invite, SpentUse
from taky_twisted.enterprise_sync.records import StoredFile
from taky_twisted.identity.records import Account
from taky_twisted.interfaces import EventStore
from taky_twisted.records import Kept, Record, Synced
from taky_twisted.routing.records import ActiveGroups, Emergency, Item, KnownContact, MissedChat, Tombstone
from taky_twisted.video.records import VideoConnection
from tests.threaded_clock import EPOCH

LATER = EPOCH + 3600.0
HARD_TEXTS = (
    "ANDROID-1234567890",
    "",
    " ",
    "Ünïcödé-猫-😀-\u202e",
    "it's; DROP TABLE item; --",
    'say "hi" \\ %s {uid} ?1 :a',
    "tab\tfeed\nreturn\r\x01\x1f\x7f",
    "x" * 10_000,
)


def item(uid: str = "marker", *, time: float = EPOCH, expires: float = LATER, xml: bytes = b"<event/>") -> Item:
    """Make an item."""
    return Item(uid, "b-m-p-s-m", xml, frozenset({"red", "blue"}), time, expires + 0.25, expires)


def tombstone(uid: str = "marker", *, deleted: float = EPOCH, expires: float = LATER) -> Tombstone:
    """Make a tombstone."""
    return Tombstone(uid, frozenset({"red"}), deleted, expires)


def contact(uid: str = "ANDROID-1", *, seen: float = EPOCH, online: bool = True) -> KnownContact:
    """Make a contact."""
    return KnownContact(
        uid=uid,
        callsign="Ä'LPHA",
        type="a-f-G-U-C",
        team="Dark Green",
        role="Team Lead",
        takv="ATAK-CIV:5.4",
        principal="alpha",
        groups_in=frozenset({"__ANON__"}),
        groups_out=frozenset({"__ANON__", "grün"}),
        seen=seen,
        stale=seen + 375.5,
        xml=b"<event uid='ANDROID-1'/>",
        online=online,
    )


def emergency(uid: str = "ANDROID-1-9-1-1", *, raised: float = EPOCH) -> Emergency:
    """Make an emergency for named people."""
    return Emergency(
        uid, b"<event/>", frozenset({"red"}), "ANDROID-1", "alpha", raised, ("BRAVO", "", 'C"'), ("ANDROID-2",)
    )


def chat(number: int, *, recipient: str = "ANDROID-2", expires: float = LATER) -> MissedChat:
    """Make a chat that waits."""
    return MissedChat(number, recipient, "bravo", b"<event/>", frozenset({"red"}), expires)


def active_groups(principal: str = "alpha", *, uid: str = "") -> ActiveGroups:
    """Make what somebody has switched off."""
    return ActiveGroups(principal, uid, frozenset({"red"}), frozenset({"blue", "grün"}))


def file(number: int, *, name: str = "Fotos.zip", submitter: str | None = "alpha") -> StoredFile:
    """Make a stored file."""
    return StoredFile(
        number=number,
        hash="ab" * 32,
        uid="ab" * 32,
        name=name,
        size=1 << 33,
        mime_type="application/x-zip-compressed",
        tool="private",
        keywords=("missionpackage", ""),
        submitted=EPOCH,
        submitter=submitter,
        creator_uid="ANDROID-1",
        groups=frozenset({"red"}),
        expiration=LATER,
        remarks="it's one",
        latitude=-33.5,
        longitude=151.25,
        altitude=None,
        permissions=("p",),
        contacts=("c", "d"),
    )


def video(uid: str = "cam", *, document: str = '{"alias": "Käm"}') -> VideoConnection:
    """Make a video connection."""
    return VideoConnection(uid, "Käm", True, document, "alpha", frozenset({"red"}), EPOCH)


def invite(token: str = "ab", *, expires: float = LATER) -> Invite:
    """Make an invite."""
    return Invite(token, "Jörg Müller", 3, EPOCH, expires)


def spent_use(token: str = "ab", *, key: str = "cd", expires: float = LATER) -> SpentUse:
    """Make what is remembered of an invite's use."""
    return SpentUse(token, key, "Jörg Müller", "ANDROID-1", "1f", expires)


def account(key: str = "jörg müller") -> Account:
    """Make an account."""
    return Account(
        key, "Jörg Müller", "$argon2id$x", frozenset({"red"}), frozenset({"blue", "grün"}), True, False, EPOCH
    )


def synced(name: str = "jörg müller", *, digest: str = "ab12") -> Synced:
    """Make what nodes agreed on."""
    return Synced("accounts", name, "017723592000000000000000001", digest)


def everything(kept: Kept) -> dict[tuple[type[Record], str], Record]:
    """Spread out what a store held."""
    return {(type(record), record.key): record for record in kept.all()}


def records() -> strategies.SearchStrategy[Record]:
    """Draw records of all kinds that share a few keys."""
    texts = strategies.text(strategies.characters(codec="utf-8"), max_size=20)
    uids = strategies.sampled_from(["", "a", "A", "1", "ä", "'"])
    groups = strategies.frozensets(texts, max_size=3)
    times = strategies.floats(0, 1e11, allow_nan=False)
    later = strategies.floats(EPOCH + 1, 1e11)
    xml = strategies.binary(max_size=50)
    lists = strategies.lists(texts, max_size=3).map(tuple)
    who = strategies.none() | texts
    return strategies.one_of(
        strategies.builds(Item, uids, texts, xml, groups, times, times, later),
        strategies.builds(Tombstone, uids, groups, times, later),
        strategies.builds(
            KnownContact,
            *(uids, texts, texts, texts, texts, texts, who),
            *(groups, groups, times, times, xml, strategies.booleans()),
        ),
        strategies.builds(Emergency, uids, xml, groups, texts, who, times, lists, lists),
        strategies.builds(MissedChat, strategies.integers(0, 3), texts, who, xml, groups, later),
        strategies.builds(ActiveGroups, uids, uids, groups, groups),
        strategies.builds(
            StoredFile,
            *(strategies.integers(0, 3), texts, texts, texts, strategies.integers(0, 1 << 40), texts, texts, lists),
            *(times, who, texts, groups, times, texts, strategies.none() | times, strategies.none() | times),
            *(strategies.none() | times, lists, lists),
        ),
        strategies.builds(VideoConnection, uids, texts, strategies.booleans(), texts, who, groups, times),
        strategies.builds(Invite, uids, texts, strategies.integers(1, 9), times, later),
        strategies.builds(SpentUse, uids, uids, texts, texts, texts, later),
        strategies.builds(
            Account, uids, texts, texts, groups, groups, strategies.booleans(), strategies.booleans(), times
        ),
        strategies.builds(Synced, strategies.sampled_from(["accounts", "files"]), uids, texts, texts),
    )


def changes() -> strategies.SearchStrategy[list[tuple[Record, bool]]]:
    """Draw a sequence of changes: a record, and whether it is put or the one with its key is removed."""
    return strategies.lists(strategies.tuples(records(), strategies.booleans()), max_size=30)


class EventStoreContract(TestCase):
    """Mixed into one test class per backend; times are those of ``self.clock``."""

    clock: Clock

    def make_store(self) -> EventStore:
        """Make a store on an empty place, or on what the store before left there."""
        raise NotImplementedError

    async def open_store(self) -> Kept:
        """Open a new store as ``self.store``; it is closed in the end."""
        self.store = self.make_store()
        kept = await self.store.open()
        self.is_open = True
        return kept

    async def close_store(self) -> None:
        self.is_open = False
        await self.store.close()

    async def reopen(self) -> Kept:
        """Close the store and open it again, as a restart does."""
        await self.close_store()
        return await self.open_store()

    async def found_again(self, *put: Record) -> None:
        """Exactly these are found after a restart."""
        kept = everything(await self.reopen())
        self.assertEqual(kept, {(type(record), record.key): record for record in put})
        for record in put:
            self.assertIs(type(kept[type(record), record.key]), type(record))

    async def setUp(self) -> None:  # type: ignore[override]  # trial takes a coroutine
        self.is_open = False
        self.assertEqual(await self.open_store(), Kept())

    async def tearDown(self) -> None:  # type: ignore[override]  # as well
        if self.is_open:
            await self.close_store()

    async def test_put(self) -> None:
        """Each kind of record is found again as it was, with all its fields."""
        put: list[Record] = [item(), tombstone(), contact(), emergency(), chat(1), active_groups(), file(1), video()]
        put += [invite(), spent_use(), account(), synced()]
        for record in put:
            self.store.put(record)
        await self.found_again(*put)

    async def test_hard_texts(self) -> None:
        """Whatever a client puts into a uid, a callsign or a group is found again unchanged."""
        put: list[Record] = []
        for number, text in enumerate(HARD_TEXTS):
            put += [
                replace(item(text), type=text, groups=frozenset({text})),
                replace(tombstone(text), groups=frozenset({text, "b"})),
                replace(contact(text), callsign=text, team=text, role=text, takv=text, principal=text),
                replace(emergency(text), raiser=text, callsigns=(text, text), uids=(text,)),
                chat(number, recipient=text),
                active_groups(text, uid=str(number)),
                file(number, name=text, submitter=text),
                video(text, document=text),
                replace(invite(text), name=text),
                replace(spent_use(text, key=text), name=text, client_uid=text, serial=text),
                replace(account(text), name=text, password=text),
                replace(synced(text), version=text, digest=text),
            ]
        for record in put:
            self.store.put(record)
        await self.found_again(*put)
        for record in put:
            self.store.remove(type(record), record.key)
        await self.found_again()

    async def test_empty_fields(self) -> None:
        """No groups, no principal, no destinations, no bytes: all of it is found again as nothing."""
        none: frozenset[str] = frozenset()
        put = (
            replace(item(xml=b""), groups=none),
            replace(contact(), principal=None, groups_in=none, groups_out=none, callsign="", online=False),
            replace(emergency(), principal=None, callsigns=(), uids=(), raiser=""),
        )
        for record in put:
            self.store.put(record)
        await self.found_again(*put)

    async def test_large(self) -> None:
        """A large event with all byte values comes back byte for byte."""
        large = item(xml=bytes(range(256)) * 400)
        self.store.put(large)
        await self.found_again(large)

    async def test_times_are_exact(self) -> None:
        """Times keep their fractions, also far away ones."""
        put = (item("a", time=EPOCH + 0.123456, expires=4_294_967_295.999), item("b", time=0.0), item("c", time=-1.5))
        for record in put:
            self.store.put(record)
        await self.found_again(*put)

    async def test_replace(self) -> None:
        """The newest record with a key takes the place of the older one, before and after a restart."""
        self.store.put(item(xml=b"1"))
        self.store.put(item(xml=b"2"))
        await self.found_again(item(xml=b"2"))
        self.store.put(item(xml=b"3"))
        self.store.put(contact(online=True))
        await self.found_again(item(xml=b"3"), contact(online=True))
        self.store.put(contact(online=False))
        await self.found_again(item(xml=b"3"), contact(online=False))

    async def test_newest_call_wins(self) -> None:
        """Put, remove and put of one key in one breath leave what the last call says."""
        for record in (item(), tombstone(), contact(), emergency(), chat(7)):
            self.store.put(record)
            self.store.remove(type(record), record.key)
        self.store.remove(Item, "other")
        self.store.put(item("other"))
        await self.found_again(item("other"))
        self.store.put(item("other", xml=b"new"))
        self.store.remove(Item, "other")
        await self.found_again()

    async def test_remove(self) -> None:
        """A removed record is gone; those of other kinds or keys stay."""
        put: list[Record] = [item("a"), tombstone("a"), contact("a"), emergency("a"), item("A"), chat(12), chat(2)]
        for record in put:
            self.store.put(record)
        await self.found_again(*put)
        self.store.remove(Item, "a")
        self.store.remove(MissedChat, "12")
        await self.found_again(*(record for record in put if record not in (item("a"), chat(12))))
        for record in put:
            self.store.remove(type(record), record.key)
        await self.found_again()

    async def test_remove_unknown(self) -> None:
        """To remove what is not there is no error."""
        self.store.put(item())
        self.store.remove(Item, "nobody")
        self.store.remove(Emergency, "")
        self.store.remove(MissedChat, "99")
        await self.store.flush()
        await self.found_again(item())

    async def test_expired(self) -> None:
        """What has expired is gone when the store is opened, up to and including this moment; the rest stays."""
        put: list[Record] = []
        for uid, expires in (("past", EPOCH + 9.9), ("now", EPOCH + 10), ("future", EPOCH + 10.1)):
            put += [item(uid, expires=expires), tombstone(uid, expires=expires)]
            put += [invite(uid, expires=expires), spent_use(uid, expires=expires)]
        put += [chat(1, expires=EPOCH + 9), chat(2, expires=EPOCH + 11), contact(), emergency(raised=0)]
        for record in put:
            self.store.put(record)
        await self.found_again(*put)
        self.clock.advance(10)
        future: list[Record] = [item("future", expires=EPOCH + 10.1), tombstone("future", expires=EPOCH + 10.1)]
        future += [invite("future", expires=EPOCH + 10.1), spent_use("future", expires=EPOCH + 10.1)]
        future += [chat(2, expires=EPOCH + 11), contact(), emergency(raised=0)]
        await self.found_again(*future)
        self.clock.rightNow = EPOCH  # what was dropped does not come back when the clock is set back
        await self.found_again(*future)

    async def test_chats_in_order(self) -> None:
        """Chats come back in the order in which they were said."""
        numbers = [10, 9, 2, 100, 1, 2**40]
        for number in numbers:
            self.store.put(chat(number))
        kept = await self.reopen()
        self.assertEqual([chat.number for chat in kept.chats], sorted(numbers))

    async def test_flush_order(self) -> None:
        """Flushes fire in the order in which they were asked for, those with nothing to do as well."""
        fired: list[str] = []
        await self.store.flush()
        self.store.put(item("a"))
        first = self.store.flush()
        first.addCallback(lambda _: fired.append("first"))
        self.store.put(item("b"))
        second = self.store.flush()
        second.addCallback(lambda _: fired.append("second"))
        third = self.store.flush()
        third.addCallback(lambda _: fired.append("third"))
        await third
        self.assertEqual(fired, ["first", "second", "third"])
        await self.found_again(item("a"), item("b"))

    async def test_close_flushes(self) -> None:
        """What was put a moment before the end is there after the restart."""
        self.store.put(item("a"))
        flushing = self.store.flush()
        self.store.put(item("b"))
        await self.found_again(item("a"), item("b"))
        await flushing
