from __future__ import annotations

import io

from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.cli import sealed
from taky_twisted.cli.sealed import MAGIC, PIECE, TAG, SealedReader, SealedWriter, Unsealable

HEADER = 31
SECRET = "correct horse"


def seal(content: bytes, *sizes: int, passphrase: str = SECRET) -> bytes:
    """Write something in pieces of some sizes, and the rest at once."""
    file = io.BytesIO()
    writer = SealedWriter(file, passphrase)
    for size in sizes:
        writer.write(content[:size])
        content = content[size:]
    writer.write(content)
    writer.finish()
    return file.getvalue()


def unseal(content: bytes, passphrase: str = SECRET) -> bytes:
    """Read everything."""
    reader = SealedReader(io.BytesIO(content), passphrase)
    found = reader.read()
    reader.check_end()
    return found or b""


class SealedTests(SynchronousTestCase):
    def setUp(self) -> None:
        # What makes guessing slow makes tests slow.
        self.rounds = sealed._ROUNDS
        self.patch(sealed, "_ROUNDS", 2)

    def test_round_trip(self) -> None:
        """What was written is read, whatever its size."""
        for size in (0, 1, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, 3 * PIECE + 5):
            content = bytes(range(256)) * (size // 256 + 1)
            written = seal(content[:size])
            self.assertEqual(unseal(written), content[:size])
            pieces = max(1, -(-size // PIECE))
            self.assertEqual(len(written), HEADER + size + pieces * TAG)

    def test_cut_anywhere(self) -> None:
        """However it is written and read in pieces, the same comes out."""
        content = b"0123456789" * 20_000
        for size in (1, 7, PIECE, PIECE + 1, 150_000):
            reader = SealedReader(io.BytesIO(seal(content, size, size)), SECRET)
            found = b"".join(iter(lambda r=reader, n=size: r.read(n), b""))  # type: ignore[misc]
            self.assertEqual(found, content)

    def test_documented(self) -> None:
        """The file is what the description says: anybody can write a program that reads it."""
        written = seal(b"x" * (PIECE + 3))
        header, body = written[:HEADER], written[HEADER:]
        self.assertEqual(header[:8], b"TAKYBAK\x01")
        key = Scrypt(salt=header[8:24], length=32, n=2, r=8, p=1).derive(SECRET.encode())
        cipher = ChaCha20Poly1305(key)
        first = cipher.decrypt(header[24:] + b"\0\0\0\0\0", body[: PIECE + 16], header)
        second = cipher.decrypt(header[24:] + b"\0\0\0\1\1", body[PIECE + 16 :], header)
        self.assertEqual(first + second, b"x" * (PIECE + 3))
        self.assertEqual(self.rounds, 65536)

    def test_passphrase(self) -> None:
        """Another passphrase opens nothing; umlauts are the same however they are typed."""
        written = seal(b"x", passphrase="grün wie Gras")
        self.assertEqual(unseal(written, "gru\u0308n wie Gras"), b"x")
        error = self.assertRaises(Unsealable, unseal, written, "grün")
        self.assertEqual(str(error), "the passphrase is wrong, or the file is damaged")

    def test_changed(self) -> None:
        """No byte can be changed, no piece cut off, left out, moved or added without being noticed."""
        content = b"y" * (2 * PIECE + 10)
        written = seal(content)
        pieces = [written[at : at + PIECE + TAG] for at in range(HEADER, len(written), PIECE + TAG)]
        header = written[:HEADER]
        wrong = [
            header + pieces[0] + pieces[1],
            header + pieces[0] + pieces[1] + pieces[2][:-1],
            header + pieces[1] + pieces[2],
            header + pieces[1] + pieces[0] + pieces[2],
            header + b"".join(pieces) + pieces[2],
            header + b"".join(pieces) + b"more",
            header,
            header + pieces[2],
        ]
        for at in (9, 25, HEADER, HEADER + PIECE, len(written) - 1):
            changed = bytearray(written)
            changed[at] ^= 1
            wrong.append(bytes(changed))
        for each in wrong:
            self.assertRaises(Unsealable, unseal, each)

    def test_cut_is_noticed(self) -> None:
        """Also who stops reading early can be sure that the whole is there."""
        written = seal(b"y" * (PIECE + 10))
        reader = SealedReader(io.BytesIO(written[: HEADER + PIECE + TAG + 5]), SECRET)
        self.assertEqual(reader.read(4), b"yyyy")
        self.assertEqual(str(self.assertRaises(Unsealable, reader.check_end)), "the file is damaged")

    def test_other_files(self) -> None:
        """What is no such file is told."""
        for content in (b"", MAGIC, b"x" * 100, b"TAKYBAK\x02" + b"x" * 100):
            self.assertIn("not an encrypted backup", str(self.assertRaises(Unsealable, unseal, content)))

    def test_nothing_twice(self) -> None:
        """Writing the same twice never gives the same file."""
        self.assertNotEqual(seal(b"x")[HEADER:], seal(b"x")[HEADER:])

    def test_kinds(self) -> None:
        """They are files to Python."""
        self.assertTrue(SealedWriter(io.BytesIO(), "x").writable())
        self.assertTrue(SealedReader(io.BytesIO(seal(b"")), SECRET).readable())
