from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.config.conf_file import MAX_FILE_BYTES, ConfFile
from taky_twisted.config.values import ConfigError, parse_port


class ConfFileTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Each test has its own file."""
        self.path = Path(self.mktemp()).absolute()

    def conf(self, text: str | bytes) -> ConfFile:
        """Read a file with a text."""
        self.path.write_bytes(text.encode() if isinstance(text, str) else text)
        return ConfFile.read(self.path)

    def wrong(self, text: str | bytes) -> str:
        """Return how a text is refused, without the file's name."""
        message = str(self.assertRaises(ConfigError, self.conf, text))
        start, words = message[: len(str(self.path)) + 2], message[len(str(self.path)) + 2 :]
        self.assertEqual(start, f"{self.path}: ")
        self.assertNotIn("\n", words)
        return words

    def test_values(self) -> None:
        """Spaces around, the letter case of keys, either separator, comments and line ends do not matter."""
        conf = self.conf("\ufeff# one\r\n[a]\r\n; two\r\nKEY = x = y ; z\r\nother: 1\r\nnone\r\nempty =\r\n")
        self.assertEqual(conf.text("a", "key"), "x = y ; z")
        self.assertEqual(conf.value("a", "other", parse_port, None), 1)
        self.assertEqual(conf.text("a", "none"), "")
        self.assertEqual(conf.text("a", "empty"), "")
        self.assertIsNone(conf.text("a", "absent"))
        self.assertIsNone(conf.text("b", "absent"))

    def test_not_set(self) -> None:
        """A key without a value has its default, except where that says "none"."""
        conf = self.conf("[a]\nnone\nempty =\n")
        for key in ("none", "empty", "absent"):
            self.assertEqual(conf.value("a", key, parse_port, 7), 7)
        self.assertIsNone(conf.optional("a", "none", parse_port, 7))
        self.assertIsNone(conf.optional("a", "empty", parse_port, 7))
        self.assertEqual(conf.optional("a", "absent", parse_port, 7), 7)

    def test_nothing_is_replaced(self) -> None:
        """A percent sign is a percent sign."""
        conf = self.conf("[a]\none = 100%\ntwo = 1%%\nthree = %(one)s\nfour\n")
        self.assertEqual([conf.text("a", key) for key in ("one", "two", "three")], ["100%", "1%%", "%(one)s"])
        self.assertEqual(list(conf.interpolated()), ["[a] two", "[a] three"])

    def test_lines(self) -> None:
        """A list has one entry a line; empty lines and comments between do not count."""
        conf = self.conf("[a]\nlist =\n  1\n\n  # no\n    2\nbeside = 3\n  4\nnone\n")
        self.assertEqual(conf.lines("a", "list", parse_port), (1, 2))
        self.assertEqual(conf.lines("a", "beside", parse_port), (3, 4))
        self.assertEqual(conf.lines("a", "none", parse_port), ())
        self.assertEqual(conf.lines("a", "absent", parse_port), ())

    def test_bad_line(self) -> None:
        """Of a list the entry that is wrong is shown."""
        conf = self.conf("[a]\nlist = 1\n  x\n")
        error = self.assertRaises(ConfigError, conf.lines, "a", "list", parse_port)
        self.assertIn(f"{self.path}: [a] list = 'x': not a port; allowed: ", str(error))

    def test_value_on_next_line(self) -> None:
        """One value may stand below its key; two may not, and the reason is said."""
        self.assertEqual(self.conf("[a]\nkey =\n  5\n").value("a", "key", parse_port, None), 5)
        conf = self.conf("[a]\nkey = 5\n  other = 6\n")
        error = self.assertRaises(ConfigError, conf.value, "a", "key", parse_port, None)
        self.assertIn(r"[a] key = '5\nother = 6': more than one line; an indented line continues", str(error))

    def test_paths(self) -> None:
        """Relative paths start at the folder of the file."""
        conf = self.conf("")
        self.assertEqual(conf.path_of("ssl/../a"), self.path.parent / "a")
        self.assertEqual(conf.path_of("/a"), Path("/a"))

    def test_control_characters(self) -> None:
        """What no path, name or address can hold is refused, and shown so that no terminal obeys it."""
        conf = self.conf("[a]\nkey = x\x1b[2Jy\n")
        self.assertEqual(
            str(self.assertRaises(ConfigError, conf.text, "a", "key")),
            rf"{self.path}: [a] key = 'x\x1b[2Jy': holds the control character '\x1b'; allowed: printable text",
        )

    def test_long_values(self) -> None:
        """An error stays one line, however long the value is."""
        conf = self.conf(f"[a]\nkey = {'9' * 5000}\n")
        error = self.assertRaises(ConfigError, conf.value, "a", "key", parse_port, None)
        self.assertIn("999...'", str(error))
        self.assertLess(len(str(error)), len(str(self.path)) + 200)

    def test_passwords(self) -> None:
        """Errors do not show passwords, also not under a misspelled key."""
        conf = self.conf("[a]\nkey_pw = hush\n  hush\nserver_p12_pwd = hush\n")
        first = self.assertRaises(ConfigError, conf.value, "a", "key_pw", str, None)
        self.assertIn("[a] key_pw = (not shown): more than one line", str(first))
        second = self.assertRaises(ConfigError, conf.check_unknown)
        self.assertIn("[a] server_p12_pwd = (not shown): unknown key", str(second))
        self.assertNotIn("hush", f"{first}{second}")

    def test_unknown_key(self) -> None:
        """A key that nobody reads is refused with the one that was meant, and with all that are allowed."""
        conf = self.conf("[a]\nhostnam = x\n")
        conf.text("a", "hostname")
        conf.text("a", "port")
        self.assertEqual(
            str(self.assertRaises(ConfigError, conf.check_unknown)),
            f"{self.path}: [a] hostnam = 'x': unknown key; did you mean hostname?; allowed: hostname, port"
            " (a line that continues the one above is indented)",
        )

    def test_key_without_value(self) -> None:
        """A stray word is a key without a value, and refused like every other unknown key."""
        conf = self.conf("[a]\nunix:/a\nword\n")
        conf.text("a", "unix")
        self.assertIn(
            "[a] word = '': unknown key; allowed: unix", str(self.assertRaises(ConfigError, conf.check_unknown))
        )

    def test_key_in_wrong_section(self) -> None:
        """A key in the wrong section is refused with its right one."""
        conf = self.conf("[a]\nport = 1\n")
        conf.text("a", "hostname")
        conf.text("b", "port")
        error = self.assertRaises(ConfigError, conf.check_unknown)
        self.assertIn("[a] port = '1': unknown key here; it belongs into [b]", str(error))

    def test_unknown_section(self) -> None:
        """A section that nobody reads is refused, also an empty one and one in other letter case."""
        for section, words in {
            "Taky": "unknown section [Taky]; did you mean taky?; allowed: taky, ssl",
            "DEFAULT": "unknown section [DEFAULT]; allowed: taky, ssl",
            "ss\x1bl": r"unknown section [ss\x1bl]",
        }.items():
            conf = self.conf(f"[taky]\nport=1\n[{section}]\n")
            conf.text("taky", "port")
            conf.text("ssl", "key")
            self.assertIn(words, str(self.assertRaises(ConfigError, conf.check_unknown)))

    def test_all_known(self) -> None:
        """A file of which every key was read is fine."""
        conf = self.conf("[a]\nport = 1\n")
        conf.text("a", "port")
        conf.check_unknown()

    def test_broken(self) -> None:
        """What is not an INI file is refused with the line and the reason."""
        broken: dict[str | bytes, str] = {
            "port = 1": "line 1: stands before the first [section]",
            "\n\n[a]\n[b]\n[a]\n": "line 5: section [a] is there twice",
            "[a]\nx=1\nX=2\n": "line 3: [a] x is there twice",
            "[a]\n\n = 1\n": "line 3: has no key before '='",
            "[a]\nx\n  y\n": "line 3: is indented, so it continues the line above, which has no '='",
            "[a]\r\nx = ä\r\ny=\xff".encode("latin-1"): "line 2: byte 0xe4 is not UTF-8",
        }
        for text, words in broken.items():
            self.assertTrue(self.wrong(text).startswith(words), self.wrong(text))

    def test_size(self) -> None:
        """A file larger than any configuration is not read to its end."""
        full = "#" * MAX_FILE_BYTES
        self.assertIsNone(self.conf(full).text("a", "key"))
        self.assertIn("too large", self.wrong(full + "#"))

    def test_unreadable(self) -> None:
        """A folder in place of a file, or a name that is none, is said to be so; an absent file is told apart."""
        self.assertRaises(FileNotFoundError, ConfFile.read, self.path)
        self.path.mkdir()
        error = self.assertRaises(ConfigError, ConfFile.read, self.path)
        self.assertEqual(str(error), f"{self.path}: cannot be read: Is a directory")
        error = self.assertRaises(ConfigError, ConfFile.read, Path("a\0b"))
        self.assertIn(r"'a\x00b': not a file name", str(error))
