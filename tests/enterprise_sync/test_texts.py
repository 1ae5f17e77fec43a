from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.enterprise_sync.texts import MAX_NAME, clean, clean_name, clean_type


class TextsTests(SynchronousTestCase):
    def test_clean(self) -> None:
        """What cannot be shown, or turns text around, is left out."""
        self.assertEqual(clean(" a\x00\r\nb\u202ec\ud800\u200d "), "abc")
        self.assertEqual(clean("Größe 猫 😀"), "Größe 猫 😀")

    def test_name(self) -> None:
        """Whoever saves a file under its name saves it where he wants to."""
        for name, expected in (
            ("a.zip", "a.zip"),
            ("../../etc/passwd", "passwd"),
            ("C:\\x\\y.zip", "y.zip"),
            ("/", ""),
            ("..", ""),
            ("x/.", ""),
            ("", ""),
            ("x" * 300 + ".zip", "x" * (MAX_NAME - 4) + ".zip"),
            ("x" * 300, "x" * MAX_NAME),
            ("x." + "y" * 300, "x." + "y" * (MAX_NAME - 2)),
            ("x" * (MAX_NAME - 1) + " y" * 20, "x" * (MAX_NAME - 1)),
            ("." * MAX_NAME + "x" * 20, ""),
        ):
            self.assertEqual(clean_name(name), expected)

    @given(st.text(max_size=400))
    def test_any_name(self, name: str) -> None:
        """A name is short, has no folder in it, and cleaning it again changes nothing."""
        cleaned = clean_name(name)
        self.assertLessEqual(len(cleaned), MAX_NAME)
        self.assertFalse(set(cleaned) & set("/\\\0\r\n"))
        self.assertNotIn(cleaned, (".", ".."))
        self.assertEqual(clean_name(cleaned), cleaned)

    def test_type(self) -> None:
        """A type is one that can stand in a header, without its parameters."""
        for text, expected in (("text/html; charset=x", "text/html"), (" a/b ", "a/b"), ("a", ""), ("a/b\r\nc", "")):
            self.assertEqual(clean_type(text), expected)
