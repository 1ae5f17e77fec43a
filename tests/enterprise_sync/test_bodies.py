from __future__ import annotations

import contextlib
from hashlib import sha256
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.enterprise_sync.bodies import MAX_BOUNDARY, MAX_PARTS, FormBody, RawBody
from taky_twisted.enterprise_sync.contents import Incoming
from taky_twisted.enterprise_sync.errors import BadUpload, SyncError, UploadTooLarge


def part(name: str, data: bytes, file_name: str | None = None, more: str = "") -> bytes:
    """Spell a part of a form."""
    file = "" if file_name is None else f'; filename="{file_name}"'
    return f'--B\r\nContent-Disposition: form-data; name="{name}"{file}\r\n{more}\r\n'.encode() + data + b"\r\n"


END = b"--B--\r\n"


class BodiesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.count = 0

    def incoming(self) -> Incoming:
        self.count += 1
        return Incoming(self.folder / str(self.count))

    def form(self, *pieces: bytes, limit: int = 1000) -> FormBody:
        body = FormBody(self.incoming(), limit, "B")
        for piece in pieces:
            body.take([piece])
        body.finish()
        return body

    def test_raw(self) -> None:
        """The body as it is, up to the limit."""
        body = RawBody(self.incoming(), 6)
        body.take([b"abc", b"def"])
        body.finish()
        self.assertEqual((body.incoming.hash, body.incoming.size), (sha256(b"abcdef").hexdigest(), 6))
        body = RawBody(self.incoming(), 6)
        body.take([b"abc"])
        self.assertRaises(UploadTooLarge, body.take, [b"defg"])

    def test_form(self) -> None:
        """The file of a form is found, with its name and type."""
        body = self.form(part("assetfile", b"data", "ä b.zip", "Content-Type: a/b; x=y\r\n"), END)
        self.assertEqual((body.incoming.hash, body.file_name, body.mime_type), (_hash(b"data"), "ä b.zip", "a/b"))

    def test_which_part(self) -> None:
        """The part with the right name wins, wherever it stands; else the first that is a file."""
        right, other, text = part("assetfile", b"right"), part("x", b"other", "o.zip"), part("y", b"text")
        resource = part("resource", b"resource", "r.zip")
        for parts, expected in (
            ((text, right, other), b"right"),
            ((other, text, right), b"right"),
            ((right, other, resource), b"right"),
            ((resource, right), b"resource"),
            ((text, other, part("z", b"last", "l.zip")), b"other"),
            ((part("x", b"", "e"), text), b""),
        ):
            for cut in (1000, 5, 1):
                wire = b"".join(parts) + END
                body = self.form(*(wire[at : at + cut] for at in range(0, len(wire), cut)))
                self.assertEqual(body.incoming.hash, _hash(expected), (parts, cut))

    def test_no_file(self) -> None:
        """A form that is none, is not whole, or has no file is refused."""
        for pieces in ((part("y", b"text"), END), (END,), (part("assetfile", b"data"),), (), (b"x" * 500,)):
            self.assertRaises(BadUpload, self.form, *pieces)
        many = part("y", b"") * (MAX_PARTS + 1)
        self.assertRaises(BadUpload, self.form, many)
        self.assertRaises(BadUpload, self.form, part("y", b"", more="X: " + "x" * 10_000 + "\r\n"))
        for boundary in ("", "x" * (MAX_BOUNDARY + 1), "a\nb"):
            self.assertRaises(BadUpload, FormBody, self.incoming(), 10, boundary)

    def test_empty_piece(self) -> None:
        """A piece of nothing is not the end."""
        whole = part("assetfile", b"content", "a.zip") + END
        body = self.form(b"", whole[:20], b"", whole[20:], b"")
        self.assertEqual((body.incoming.size, body.file_name), (7, "a.zip"))

    def test_limit(self) -> None:
        """The limit is the file's, not the form's."""
        self.assertEqual(self.form(part("assetfile", b"x" * 1000), END).incoming.size, 1000)
        self.assertRaises(UploadTooLarge, self.form, part("assetfile", b"x" * 1001), END)

    @settings(deadline=None)
    @given(
        st.lists(
            st.sampled_from([part("assetfile", b"d"), END, b"--B", b"\r\n", b"\xff", b":", b"x: y\r\n"]), max_size=8
        )
    )
    def test_hostile(self, pieces: list[bytes]) -> None:
        """Whatever comes, it is taken or refused."""
        with contextlib.suppress(SyncError):
            self.form(*pieces)


def _hash(data: bytes) -> str:
    return sha256(data).hexdigest()
