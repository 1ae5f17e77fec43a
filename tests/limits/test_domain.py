"""Limits of what is said and kept that have no test at their edge beside their module."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from threading import Event

from cryptography.hazmat.primitives.asymmetric import rsa
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.cot.errors import MalformedEvent
from taky_twisted.cot.xmlcodec import MAX_LATITUDE, MAX_LONGITUDE, decode
from taky_twisted.enrollment import access_tokens, account_requests, keystores, signing_requests
from taky_twisted.enrollment.errors import BadRequest, EnrollmentError
from taky_twisted.enterprise_sync.bodies import FormBody
from taky_twisted.enterprise_sync.contents import Incoming
from taky_twisted.enterprise_sync.disk_thread import STOP_SECONDS
from taky_twisted.enterprise_sync.errors import BadUpload, NoRoom, UploadTooLarge
from taky_twisted.enterprise_sync.files import Words
from taky_twisted.enterprise_sync.texts import clean_name
from taky_twisted.enterprise_sync.upload import PAUSE_BYTES, Order, Uploads
from taky_twisted.history import keeper, packing
from taky_twisted.history.records import Written
from taky_twisted.history.tracks import BadTrack, read_tracks
from taky_twisted.identity.accounts import Accounts, account_key
from taky_twisted.identity.certificates import printable
from taky_twisted.identity.errors import AccountError, BadCredentials
from taky_twisted.identity.principal import Principal
from taky_twisted.routing import tracing
from taky_twisted.routing.filters import BadFilter, xpath_filter
from taky_twisted.stores.memory import MemoryStore
from taky_twisted.takproto.connection import MAX_FRAME_ERRORS
from taky_twisted.takproto.framing import XMLFraming
from taky_twisted.takproto.protobuf_framing import frame
from taky_twisted.takproto.typed_detail import field_of
from taky_twisted.video import connections, feed_xml
from taky_twisted.video.errors import BadVideo
from taky_twisted.video.errors import NoRoom as NoRoomForVideo
from tests.enterprise_sync.stored_files import ALICE, StoredFiles
from tests.enterprise_sync.test_bodies import END, part
from tests.history.test_keeper import HistoryTests
from tests.history.test_tracks import WHEN, document, track
from tests.limits.edges import Edges, value_of
from tests.routing.test_contacts import ContactsCase
from tests.routing.test_filters import xpath_request
from tests.routing.test_recorder import RecorderTestCase
from tests.routing.test_tracing import TracingTestCase
from tests.samples import NOW, marker, sa, to, xml
from tests.takproto.test_websocket import trusted
from tests.threaded_clock import ThreadedClock
from tests.video.test_connections import FEED, SAID


class EventTests(Edges, SynchronousTestCase):
    def test_place(self) -> None:
        """An event is on Earth, with half a degree to spare."""

        def fits(lat: float, lon: float) -> bool:
            try:
                decode(xml(point=f'<point lat="{lat:.7f}" lon="{lon:.7f}" hae="0" ce="0" le="0"/>'))
            except MalformedEvent as error:
                self.assertIn("not on Earth", str(error))
                return False
            return True

        for sign in (1, -1):
            steps = (-1e-6, 0.0, 1e-6)
            self.assertEqual([fits(sign * (MAX_LATITUDE + step), 0) for step in steps], [True, True, False])
            self.assertEqual([fits(0, sign * (MAX_LONGITUDE + step)) for step in steps], [True, True, False])

    def test_tag(self) -> None:
        """An element may have a name of so many bytes, and is skipped with all in it; a longer one is no element."""

        def skipped(size: int) -> bool:
            framing, name = XMLFraming(1 << 20, 1 << 20), b"n" * size
            framing.trust()
            buffer = bytearray(b"<" + name + b">" + marker("INSIDE") + b"</" + name + b">" + marker("AFTER"))
            frames = [each for each in iter(lambda: framing.next_frame(buffer), None) if isinstance(each, bytes)]
            self.assertIn(b"AFTER", frames[-1])
            return len(frames) == 1

        self.assert_edge("takproto.framing._NAME_LIMIT", skipped)

    def test_frame_errors(self) -> None:
        """Protobuf messages that cannot be read end the stream when they are so many one after the other."""
        for more, alive in ((-1, True), (0, False), (1, False)):
            pair = trusted()
            pair.message(frame(b"\xff\xff") * (MAX_FRAME_ERRORS + more))
            self.assertEqual(pair.error is None, alive, more)

    def test_battery(self) -> None:
        """A number that fits the message's field is in it; a larger one stays XML."""
        self.assert_edge(
            "takproto.typed_detail.MAX_COUNT", lambda level: field_of("status", {"battery": str(level)}) is not None
        )

    def test_xpath_steps(self) -> None:
        """An XPath may have a few of the constructs that multiply work, of each kind."""

        def fits(expression: str) -> bool:
            try:
                xpath_filter(xpath_request(expression))
            except BadFilter:
                return False
            return True

        self.assert_edge("routing.filters.MAX_XPATH_STEPS", lambda count: fits("//a" * count))
        self.assert_edge("routing.filters.MAX_XPATH_STEPS", lambda count: fits("/*" * count))
        self.assert_edge("routing.filters.MAX_XPATH_STEPS", lambda count: fits("/a[b]" * count))


class ReportTests(Edges, ContactsCase):
    def test_size(self) -> None:
        """A self-report up to a size is shown to newcomers, to the byte; a larger one is not, and the log says so."""

        def shown(size: int) -> bool:
            uid = f"A{size}"
            peer = self.connect()
            spelled = sa(uid, "FOX").replace(b"</detail>", b"<remarks></remarks></detail>")
            extra = size - len(decode(spelled).xml)
            peer.say(spelled.replace(b"<remarks>", b"<remarks>" + b"x" * extra))
            return uid in [each for each, _ in self.visible()]

        self.assert_edge("routing.contacts.MAX_REPORT_BYTES", shown)
        self.assertEqual(len([line for line in self.log() if "the report of FOX is too large to be shown" in line]), 1)


class TracedTests(Edges, TracingTestCase):
    def test_destinations(self) -> None:
        """A trace lists so many destinations of each kind."""

        def all_listed(count: int) -> bool:
            self.traced.clear()
            names = [f"N{number}" for number in range(count)]
            self.a.say(marker(f"M-{count}", marti=to(*names)))
            return len(self.traced[-1].destinations) == count

        self.assert_edge("routing.tracing.MAX_NAMED", all_listed)

    def test_receivers(self) -> None:
        """A trace lists so many receivers, the sender among them, and counts the others."""
        self.patch(tracing, "MAX_OUTCOMES", 4)
        self.join("X")  # and there are A and B
        for more, listed in ((-1, 3), (0, 4), (1, 4)):
            self.a.say(marker(f"M{more}"))
            self.assertEqual(len(self.traced[-1].outcomes), listed)
            self.assertEqual(sum(self.traced[-1].rules.values()), 4 + more)
            self.join(f"X{more}")


class RecordTests(Edges, RecorderTestCase):
    def test_reason(self) -> None:
        """Of why something could not be understood so many characters are kept."""

        def whole(size: int) -> bool:
            recorder = self.recorder()
            recorder.failed(f"s{size}", b"x", "r" * size)
            self.stop(recorder)
            return "r" * size in self.text(f"s{size}")

        self.assert_edge("routing.recorder.REASON_LENGTH", whole)


class KeepingTests(Edges, HistoryTests):
    def test_positions(self) -> None:
        """Of one uid a position is kept that is so many seconds later than the last one, and none earlier."""
        self.start()
        for step, kept in ((-0.1, 1), (0, 2), (0.1, 2)):
            uid = f"A{step}"
            for _ in range(2):
                self.site.join(uid).say(sa(uid, uid))
                self.clock.advance(keeper.POSITION_SECONDS + step)
            self.clock.advance(keeper.WRITE_SECONDS)
            self.assertEqual([heard.event.uid for heard in self.store.kept].count(uid), kept, step)

    def test_closing(self) -> None:
        """A disk that does not answer is waited for so many seconds, and not longer."""
        self.start()
        writing: Deferred[Written] = Deferred()
        self.store.answer = lambda: writing
        self.site.join("A").say(sa("A", "A"))
        stopping = self.history.stop()
        self.clock.advance(keeper.CLOSE_SECONDS - 0.1)
        self.assertNoResult(stopping)
        self.clock.advance(0.1)
        self.successResultOf(stopping)
        writing.callback(Written())


class HistoryLimitTests(Edges, SynchronousTestCase):
    def test_packed(self) -> None:
        """However large an event became when it was spelled as XML, it is there to the byte."""
        self.patch(packing, "MAX_BYTES", 1000)
        for size in (999, 1000, 1001, 5000):
            document = b"<event>" + b"x" * (size - 7)
            how, packed = packing.pack(document)
            self.assertEqual(packing.unpack(how, packed), document)
            self.assertEqual(how, packing.PACKED if size <= 1000 else packing.PLAIN)

    def test_unpacked(self) -> None:
        """A file that somebody changed does not fill the memory: what is larger when it is unpacked is damaged."""

        def fits(size: int) -> bool:
            self.patch(packing, "MAX_BYTES", 10_000)
            how, packed = packing.pack(b"x" * size)
            self.patch(packing, "MAX_BYTES", 1000)
            try:
                return len(packing.unpack(how, packed)) == size
            except ValueError:
                return False

        self.assert_edge("history.packing.MAX_BYTES", fits, small=1000)

    def test_texts_of_tracks(self) -> None:
        """A place may be so many characters long."""

        def fits(size: int) -> bool:
            place = "1 2 3"
            try:
                return bool(read_tracks(document(track((WHEN, place + " " * (size - len(place))))), NOW))
            except BadTrack:
                return False

        self.assert_edge("history.tracks.MAX_TEXT", fits)

    def test_future_of_tracks(self) -> None:
        """A position may be of tomorrow, and not of later."""

        def fits(seconds: int) -> bool:
            # `WHEN` is NOW; asking earlier makes it the future.
            try:
                return bool(read_tracks(document(track((WHEN, "1 2 3"))), NOW - seconds))
            except BadTrack:
                return False

        self.assert_edge("history.tracks.FUTURE_SECONDS", fits)


class FileTests(Edges, SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()

    def incoming(self) -> Incoming:
        """Begin a content."""
        return Incoming(self.folder / str(len(list(self.folder.iterdir()))))

    def test_name(self) -> None:
        """A name of a file may be so long; a longer one keeps its ending."""
        self.assert_edge("enterprise_sync.texts.MAX_NAME", lambda size: clean_name("x" * size) == "x" * size)
        self.assert_edge(
            "enterprise_sync.texts.MAX_NAME", lambda size: len(clean_name("x" * (size - 4) + ".zip")) == size
        )

    def test_pause(self) -> None:
        """A client is paused as soon as so much of its upload waits for the disk, to the byte."""
        stored = StoredFiles(self)
        uploads = Uploads(stored.files, stored.blobs, stored.clock, 1 << 30)
        go_on = Event()
        stored.clock.wait(stored.blobs.aside(lambda: None))
        hanging = stored.blobs.write(go_on.wait, 30)
        for more, flow in ((-1, []), (0, ["pause"]), (1, ["pause"])):
            said: list[str] = []
            order = Order(ALICE, Words(name="a"))
            upload = uploads.begin(order, partial(said.append, "pause"), partial(said.append, "resume"))
            upload.write(b"x" * (PAUSE_BYTES + more))
            self.assertEqual(said, flow, more)
            upload.abort()
        go_on.set()
        stored.clock.wait(hanging)
        stored.clock.wait(Deferred.fromCoroutine(uploads.stop()))

    def test_parts(self) -> None:
        """A form may have so many parts."""

        def fits(count: int) -> bool:
            body = FormBody(self.incoming(), 100, "B")
            try:
                body.take([part("x", b"") * (count - 1) + part("assetfile", b"data", "a") + END])
                body.finish()
            except BadUpload:
                return False
            return True

        self.assert_edge("enterprise_sync.bodies.MAX_PARTS", fits)

    def test_boundary(self) -> None:
        """A boundary may be so long, and has no control characters."""

        def fits(size: int) -> bool:
            try:
                FormBody(self.incoming(), 100, "B" * size)
            except BadUpload:
                return False
            return True

        self.assert_edge("enterprise_sync.bodies.MAX_BOUNDARY", fits)
        for bad in ("a\nb", "a\x7f", "\0", "\udcff"):
            self.assertRaises(BadUpload, FormBody, self.incoming(), 100, bad)
        for good in ("a b", "--", "ü", "日"):
            FormBody(self.incoming(), 100, good)

    def test_frame(self) -> None:
        """A form may have so much around a file of the largest size, announced or not."""
        stored = StoredFiles(self)
        uploads = Uploads(stored.files, stored.blobs, stored.clock, 1000)

        def announced(size: int) -> bool:
            try:
                order = Order(ALICE, Words(name="a"), boundary="B", length=1000 + size)
                uploads.begin(order, lambda: None, lambda: None).abort()
            except UploadTooLarge:
                return False
            return True

        def sent(size: int) -> bool:
            upload = uploads.begin(Order(ALICE, Words(name="a"), boundary="B"), lambda: None, lambda: None)
            try:
                upload.write(b"x" * (1000 + size))
            except UploadTooLarge:
                return False
            finally:
                upload.abort()
            return True

        self.assert_edge("enterprise_sync.bodies.FRAME_BYTES", announced)
        self.assert_edge("enterprise_sync.bodies.FRAME_BYTES", sent)
        stored.clock.wait(Deferred.fromCoroutine(uploads.stop()))

    def test_stopping(self) -> None:
        """A disk that does not answer is waited for so many seconds when the server stops, and not longer."""
        stored = StoredFiles(self)
        uploads = Uploads(stored.files, stored.blobs, stored.clock, 1000)
        go_on = Event()
        hanging = stored.blobs.write(go_on.wait, 30)
        upload = uploads.begin(Order(ALICE, Words(name="a")), lambda: None, lambda: None)
        upload.write(b"data")
        finishing = upload.finish()
        stopping = Deferred.fromCoroutine(uploads.stop())
        stored.clock.advance(STOP_SECONDS - 0.1)
        self.assertNoResult(stopping)
        stored.clock.advance(0.1)
        self.successResultOf(stopping)
        go_on.set()
        stored.clock.wait(hanging)
        stored.clock.wait(finishing)

    def test_reserve(self) -> None:
        """So much of the disk stays free."""
        free = 0

        class Usage:
            @staticmethod
            def disk_usage(path: Path) -> Usage:
                return Usage()

            @property
            def free(self) -> int:
                return free

        self.patch(__import__("taky_twisted.enterprise_sync.contents", fromlist=["x"]), "shutil", Usage)

        def fits(left: int) -> bool:
            nonlocal free
            free = left + 5
            incoming = self.incoming()
            try:
                incoming.write(b"12345")
                incoming.seal()
            except NoRoom:
                return False
            finally:
                incoming.discard()
            return True

        self.assert_edge("enterprise_sync.contents.RESERVE_BYTES", fits, least=True)


class VideoTests(Edges, SynchronousTestCase):
    def read(self, **changes: object) -> bool:
        """Whether a connection whose one feed has these members is taken."""
        try:
            connections.read_connection(SAID | {"feeds": [FEED | changes]})
        except BadVideo:
            return False
        return True

    def test_texts(self) -> None:
        """Names and other texts may be so long."""
        self.assert_edge("video.connections.MAX_NAME", lambda size: self.read(alias="x" * size))
        self.assert_edge("video.connections.MAX_NAME", lambda size: self.read(uuid="x" * size))
        self.assert_edge("video.connections.MAX_TEXT", lambda size: self.read(thumbnail="x" * size))

    def test_numbers(self) -> None:
        """Numbers fit into 32 bits, on either side of zero."""
        self.assert_edge("video.connections.MAX_NUMBER", lambda number: self.read(width=number))
        self.assert_edge("video.connections.MAX_NUMBER", lambda number: self.read(width=-number))

    def test_feeds(self) -> None:
        """A connection has so many feeds, at once or one by one."""

        def at_once(count: int) -> bool:
            try:
                connections.read_connection(SAID | {"feeds": [FEED | {"uuid": str(one)} for one in range(count)]})
            except BadVideo:
                return False
            return True

        def one_by_one(count: int) -> bool:
            made = connections.Connection("c", "a", ())
            try:
                for number in range(count):
                    made = made.with_feed(connections.Feed(str(number), "a", "u"))
            except NoRoomForVideo:
                return False
            return len(made.feeds) == count

        self.assert_edge("video.connections.MAX_FEEDS", at_once)
        self.assert_edge("video.connections.MAX_FEEDS", one_by_one)

    def test_depth(self) -> None:
        """Elements of a document stand in each other so deep."""

        def fits(depth: int) -> bool:
            inner = b"<x>" * (depth - 1) + b"</x>" * (depth - 1)
            try:
                feed_xml.read_feeds(b"<videoConnections>" + inner + b"</videoConnections>")
            except BadVideo as error:
                self.assertIn("inside each other", str(error))
                return False
            return True

        self.assert_edge("video.feed_xml.MAX_DEPTH", fits)


class IdentityTests(Edges, SynchronousTestCase):
    def test_names_of_certificates(self) -> None:
        """A name in a certificate is shown with so many characters."""
        self.assert_edge("identity.certificates.NAME_LIMIT", lambda size: printable("x" * size) == "x" * size)

    def test_names_of_strangers(self) -> None:
        """Of a name that a stranger says so many characters are told apart."""
        self.assert_edge(
            "identity.accounts.MAX_NAME_CHARS",
            lambda size: account_key("x" * (size - 1) + "a") != account_key("x" * (size - 1) + "b"),
        )

    def test_rsa(self) -> None:
        """RSA keys have 2048 to 8192 bits, and an exponent of up to 32 bits."""

        def fits(bits: int, exponent: int = 65537) -> bool:
            modulus = (1 << bits) - 1  # nobody's key, but one of that size
            try:
                signing_requests._checked(rsa.RSAPublicNumbers(exponent, modulus).public_key())
            except BadRequest:
                return False
            return True

        self.assert_edge("enrollment.signing_requests.MIN_RSA_BITS", fits, least=True)
        self.assert_edge("enrollment.signing_requests.MAX_RSA_BITS", fits)
        self.assert_edge("enrollment.signing_requests.MAX_EXPONENT_BITS", lambda bits: fits(2048, (1 << bits) - 1))

    def test_passwords_of_keystores(self) -> None:
        """The password of a ``.p12`` file may be so long."""

        def fits(size: int) -> bool:
            try:
                return keystores.check_password("x" * size) == "x" * size
            except EnrollmentError as error:
                self.assertIn("allowed: 1 to 64", str(error))
                return False

        self.assert_edge("enrollment.keystores.MAX_PASSWORD", fits)

    def test_groups_of_accounts(self) -> None:
        """The name of a group may be so long, and there may be so many of them."""

        def long(size: int) -> bool:
            try:
                return account_requests.check_group("x" * size) == "x" * size
            except AccountError:
                return False

        def many(count: int) -> bool:
            try:
                groups = account_requests._groups({"in": [f"G{number}" for number in range(count)]}, "in")
            except AccountError:
                return False
            return groups is not None and len(groups) == count

        self.assert_edge("enrollment.account_requests.MAX_GROUP_CHARS", long)
        self.assert_edge("enrollment.account_requests.MAX_GROUPS", many)

    def test_tokens(self) -> None:
        """A token may be so long; nothing is computed for a longer one."""
        clock = ThreadedClock()
        accounts = Accounts(clock, MemoryStore(clock))
        self.addCleanup(accounts.stop)
        accounts.add("x" * 63, "hash")
        clock.advance(5)
        tokens = access_tokens.AccessTokens(clock, Path(self.mktemp()).absolute(), accounts)
        self.addCleanup(tokens.stop)
        token = clock.wait(Deferred.fromCoroutine(tokens.make(Principal("x" * 63, by_password=True))))
        self.assertGreater(value_of("enrollment.access_tokens.MAX_TOKEN_CHARS"), 2 * len(token))

        def good(size: int) -> bool:
            self.patch(access_tokens, "MAX_TOKEN_CHARS", len(token) + size)
            try:
                clock.wait(Deferred.fromCoroutine(tokens.check(token)))
            except BadCredentials:
                return False
            return True

        self.assertEqual([good(size) for size in (1, 0, -1)], [True, True, False])
