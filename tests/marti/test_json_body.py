from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.marti.errors import BadRequest
from taky_twisted.marti.json_body import read_json, read_list


def body(data: bytes) -> Any:
    """Make a request of which only the body counts."""
    return SimpleNamespace(data=data)


class JsonBodyTests(SynchronousTestCase):
    def test_json(self) -> None:
        """JSON is read, in any of the encodings that it may have."""
        self.assertEqual(read_json(body(b' {"a": [1, null]} ')), {"a": [1, None]})
        self.assertEqual(read_json(body('["ü"]'.encode("utf-16"))), ["ü"])

    def test_not_json(self) -> None:
        """What cannot be read, or only with effort, is refused in words."""
        for data in (b"", b"{", b"\xff\xfe\xff", b"[" * 100_000, b"9" * 10_000, b"'a'"):
            with self.assertRaises(BadRequest, msg=data[:20]) as raised:
                read_json(body(data))
            self.assertIn("JSON", str(raised.exception))

    def test_list(self) -> None:
        """A list has so many entries at most."""
        self.assertEqual(read_list(body(b"[1,2]"), 2), [1, 2])
        for data in (b"[1,2,3]", b"{}", b"null", b'"ab"'):
            self.assertRaises(BadRequest, read_list, body(data), 2)
