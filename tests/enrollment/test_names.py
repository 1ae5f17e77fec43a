from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.enrollment.errors import BadName
from taky_twisted.enrollment.names import MAX_BYTES, MAX_CHARACTERS, check_name, plain


class CheckNameTests(SynchronousTestCase):
    def test_good(self) -> None:
        """Names of people and devices are allowed as they are, with spaces and umlauts."""
        for name in ("A", "ALPHA-1", "Jörg Müller", "O'Brien, Pat", "日本", "a.b-c_d", "x" * MAX_CHARACTERS, "Fox:1*?"):
            self.assertEqual(check_name(name), name)

    def test_one_spelling(self) -> None:
        """Umlauts in two characters become one, and spaces around a name go."""
        self.assertEqual(check_name("  Jo\u0308rg "), "Jörg")

    def test_length(self) -> None:
        """63 characters are allowed, none and 64 are not; bytes count too, for the name becomes a file's."""
        self.assertEqual(len(check_name("ü" * 63)), 63)
        self.assertEqual(len(check_name("日" * 63)), 63)
        for name, words in (
            ("", "empty"),
            ("  ", "empty"),
            ("x" * 64, "64 characters"),
            ("🦊" * 51, f"{MAX_BYTES} bytes"),
        ):
            self.assertIn(words, str(self.assertRaises(BadName, check_name, name)))
        self.assertEqual(check_name("🦊" * 50), "🦊" * 50)

    def test_bad_characters(self) -> None:
        """What separates folders, or cannot be seen, is refused; the message shows it without doing harm."""
        for character in ("/", "\\", "\n", "\t", "\0", "\x7f", "\x9b", "\u202e", "\u200b", "\ud800", "\u2028"):
            error = str(self.assertRaises(BadName, check_name, f"A{character}B"))
            self.assertTrue(error.isprintable(), repr(error))
            self.assertIn("holds the character", error)

    def test_first(self) -> None:
        """A name that would be a hidden file or an option is refused."""
        for name in (".", "..", ".ssh", "-f", "--help"):
            self.assertIn("begins with", str(self.assertRaises(BadName, check_name, name)))

    @given(st.text())
    def test_any(self, text: str) -> None:
        """Whatever is typed, the result is a file's name in this folder, or an error of one line."""
        try:
            name = check_name(text)
        except BadName as error:
            self.assertEqual(len(str(error).splitlines()), 1)
        else:
            self.assertNotIn("/", name)
            self.assertLessEqual(len(name.encode()), MAX_BYTES)
            self.assertEqual(check_name(name), name)


class PlainTests(SynchronousTestCase):
    def test_plain(self) -> None:
        """On a phone files have names of plain letters, whatever the person is called."""
        for name, expected in (
            ("Jörg Müller", "Jorg-Muller"),
            ("ALPHA-1", "ALPHA-1"),
            ("日本", "client"),
            ("..", "client"),
        ):
            self.assertEqual(plain(name), expected)
