from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.enterprise_sync.search import Search
from taky_twisted.marti.arguments import Arguments
from taky_twisted.marti.errors import BadRequest
from taky_twisted.marti.file_words import checked_words, expiration_of, search_of
from tests.marti.file_server import FileServer


class WordsTests(SynchronousTestCase):
    def test_too_much(self) -> None:
        """What is said of a file is bounded before its body is read, and refused in words."""
        ask = FileServer(self)
        for query in (
            f"creatorUid={'x' * 256}",
            f"tool={'x' * 256}",
            f"remarks={'x' * 2001}",
            f"uid={'x' * 256}",
            "creatorUid=a%0Ab",
            "&".join(f"keywords={number}" for number in range(51)),
            f"keywords={'x' * 256}",
            "&".join(f"keywords={'x' * 200}{number}" for number in range(20)),
            "latitude=91",
            "longitude=x",
            "altitude=nan",
            "mimetype=x",
            "expiration=x",
        ):
            answer = ask("POST", f"/Marti/sync/upload?{query}", b"data")
            self.assertEqual(answer.status, 400, query)
            self.assertGreater(len(answer.json["message"]), 10)
        self.assertEqual((ask.records(), ask.incoming()), ([], []))
        most = "&".join(f"keywords={'x' * 60}{number}" for number in range(50))
        self.assertEqual(ask("POST", f"/Marti/sync/upload?{most}&name={'n' * 300}.zip", b"data").status, 200)

    def test_lists(self) -> None:
        """Words come once each, in their order, without what cannot be shown."""
        self.assertEqual(checked_words("k", ["b", "a", "b", "\x00", "a\x01"]), ("b", "a"))

    def test_expiration(self) -> None:
        """A negative expiration, or none, is never."""
        for text, expected in ((b"", -1), (b"expiration=-5", -1), (b"EXPIRATION=5.5", 5.5), (b"Expiration=", -1)):
            self.assertEqual(expiration_of(Arguments(text)), expected)

    def test_search(self) -> None:
        """All parameters of a search are understood, in any case; unknown ones are left aside."""
        self.assertEqual(search_of(Arguments(b"foo=1")), Search())
        query = (
            b"keywords=a,b&keyword=c&Tool=t&hash=" + b"A" * 64 + b"&NAME=n&Uid=u&mimeType=m&submissionUser=s&remarks=r"
            b"&permissions=p&PrimaryKey=7&startTime=1970-01-01T00:00:01.5Z&stopTime=1970-01-01T00:00:02Z"
            b"&minAltitude=-1&maxAltitude=1e3&bbox=-1,-2.5,%203,4"
        )
        expected = Search(
            *(("a", "b", "c"), "t", "a" * 64, "n", "u", "m", "s", "r", "p", 7, 1.5, 2.0, -1.0, 1000.0),
            box=(-1.0, -2.5, 3.0, 4.0),
        )
        self.assertEqual(search_of(Arguments(query)), expected)
        self.assertEqual(search_of(Arguments(b"circle=1,2,3&endTime=1970-01-01T00:00:02Z")).circle, (1, 2, 3))
        moment = search_of(Arguments(b"filename=f&submissionDateTime=1970-01-01T00:00:02.005Z"))
        self.assertEqual((moment.name, moment.start, moment.stop), ("f", 2.005, 2.006))

    def test_search_refused(self) -> None:
        """A value that makes no sense is refused."""
        for query in (b"bbox=1,2,3", b"bbox=1,2,3,x", b"circle=1,2,nan", b"bbox=1,2,3,4&circle=1,2,3", b"hash=x"):
            self.assertRaises(BadRequest, search_of, Arguments(query))
        for query in (b"primarykey=x", b"starttime=now", b"minaltitude=x", b"circle=" + b"9" * 400 + b",1,1"):
            self.assertRaises(BadRequest, search_of, Arguments(query))
