from __future__ import annotations

import contextlib
from urllib.parse import quote, urlencode

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.marti.arguments import MAX_ARGUMENTS, Arguments, read_time
from taky_twisted.marti.errors import BadRequest

HASH = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"


class ArgumentsTests(SynchronousTestCase):
    def test_names(self) -> None:
        """Names are found in any case and under any of several spellings."""
        said = Arguments(b"UID=a&creatorUid=b&CREATORUID=c")
        self.assertEqual(said.one("uid"), "a")
        self.assertEqual(said.all("CreatorUid"), ["b", "c"])
        self.assertEqual(said.one("none", "Uid"), "a")
        self.assertIsNone(said.one("none"))
        self.assertIn("uId", said)
        self.assertNotIn("none", said)
        self.assertEqual(list(said), ["uid", "creatoruid"])

    def test_words(self) -> None:
        """Lists are repeated parameters, or commas, or both."""
        said = Arguments(b"keywords=a,b&keyword=%20c%20&keywords=,,d")
        self.assertEqual(said.words("keyword", "keywords"), ["c", "a", "b", "d"])

    def test_encoding(self) -> None:
        """Values are percent-decoded once, plus signs are spaces, and all is UTF-8."""
        self.assertEqual(Arguments(b"name=a+b%2Bc%C3%BC%2525").one("name"), "a b+cü%25")
        for query in (b"name=%ff", b"name=\xff"):
            self.assertRaises(BadRequest, Arguments, query)

    def test_many(self) -> None:
        """There may be so many parameters and no more."""
        self.assertEqual(len(Arguments(b"&".join([b"a=1"] * MAX_ARGUMENTS)).all("a")), MAX_ARGUMENTS)
        self.assertRaises(BadRequest, Arguments, b"&".join([b"a=1"] * (MAX_ARGUMENTS + 1)))

    def test_add(self) -> None:
        """The fields of a form come after the parameters."""
        said = Arguments(b"a=1")
        said.add(b"a=2&b=")
        self.assertEqual((said.all("a"), said.one("b")), (["1", "2"], ""))

    def test_text(self) -> None:
        """What must be there is asked for by name if it is not."""
        self.assertEqual(Arguments(b"uid=a").text("UID"), "a")
        for query in (b"", b"uid=", b"other=a"):
            self.assertIn("uid is missing", str(self.assertRaises(BadRequest, Arguments(query).text, "uid")))

    def test_hash(self) -> None:
        """A hash is a SHA-256 in any case, and nothing else: it names files."""
        self.assertEqual(Arguments(f"Hash={HASH.upper()}".encode()).hash(), HASH)
        for text in (
            "",
            "zz",
            "../../etc/passwd",
            HASH[1:],
            HASH + "0",
            HASH[:-1] + "\n",
            HASH[:-1] + "g",
            HASH + "\0",
        ):
            self.assertRaises(BadRequest, Arguments(f"hash={quote(text)}".encode()).hash)

    def test_number(self) -> None:
        """A number is finite and in range, or the default if there is none."""
        self.assertEqual(Arguments(b"lat=-12.5").number("lat", low=-90, high=90), -12.5)
        self.assertEqual(Arguments(b"lat=").number("lat", 7), 7)
        self.assertIsNone(Arguments(b"").number("lat"))
        for text in ("nan", "inf", "-inf", "1e400", "x", "91", "-90.1", "1,5"):
            self.assertRaises(BadRequest, Arguments(f"lat={text}".encode()).number, "lat", None, -90, 90)

    def test_count(self) -> None:
        """A whole number is in range, or the default."""
        self.assertEqual(Arguments(b"n=12").count("n"), 12)
        self.assertEqual(Arguments(b"n=-1").count("n", low=-1), -1)
        self.assertEqual(Arguments(b"n=").count("n", 5), 5)
        for text in ("-1", "1.0", "x", "0x1", "9" * 30, "11", "1_0", "٣"):
            self.assertRaises(BadRequest, Arguments(f"n={text}".encode()).count, "n", 0, 0, 10)

    def test_flag(self) -> None:
        """Yes has four spellings; anything else that is said is no."""
        for text in ("true", "YES", "on", "1", "+true+"):
            self.assertIs(Arguments(f"f={text}".encode()).flag("f"), True)
        for text in ("false", "", "2", "ja"):
            self.assertIs(Arguments(f"f={text}".encode()).flag("f", True), False)
        self.assertIs(Arguments(b"").flag("f", True), True)

    def test_time(self) -> None:
        """A time is found under its names, or is none."""
        self.assertEqual(Arguments(b"start=1970-01-01T00:00:10Z").time("begin", "start"), 10)
        self.assertIsNone(Arguments(b"start=").time("start"))
        self.assertRaises(BadRequest, Arguments(b"start=now").time, "start")

    @given(st.binary())
    def test_any_query(self, query: bytes) -> None:
        """Whatever stands behind the question mark, it is read or refused."""
        try:
            said = Arguments(query)
        except BadRequest:
            return
        for name in said:
            for ask in (said.count, said.number, said.time, said.hash, said.text):
                with contextlib.suppress(BadRequest):
                    ask(name)
            said.flag(name)
            said.words(name)

    @given(st.lists(st.tuples(st.text(min_size=1), st.text()), max_size=10))
    def test_any_values(self, pairs: list[tuple[str, str]]) -> None:
        """Whatever a client encodes is what the server reads."""
        said = Arguments(urlencode(pairs).encode())
        for name, _ in pairs:
            same = [value for other, value in pairs if other.lower() == name.lower()]
            self.assertEqual(said.all(name), same)


class TimeTests(SynchronousTestCase):
    def test_spellings(self) -> None:
        """Zero to nine digits of a second, Z, an offset or nothing: all of them are the same moment."""
        for text in (
            "2026-01-31T12:00:00Z",
            "2026-01-31t12:00:00.0z",
            "2026-01-31 12:00:00",
            " 2026-01-31T13:30:00.000000+01:30 ",
            "2026-01-31T11:00:00.000000000-0100",
        ):
            self.assertEqual(read_time("start", text), 1769860800, text)
        self.assertAlmostEqual(read_time("start", "2026-01-31T12:00:00.25Z"), 1769860800.25)

    def test_refused(self) -> None:
        """What is no time is refused with the parameter's name and an example."""
        for text in ("", "x", "2026-01-31", "2026-13-31T12:00:00Z", "2026-01-31T25:00:00Z", "٢026-01-31T12:00:00Z"):
            self.assertIn("start", str(self.assertRaises(BadRequest, read_time, "start", text)))

    @given(st.text())
    def test_any(self, text: str) -> None:
        """Any other text is refused, too, and never anything else."""
        with contextlib.suppress(BadRequest):
            read_time("start", text)
