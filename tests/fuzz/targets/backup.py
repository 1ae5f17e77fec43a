"""Archives that somebody gives to ``takyctl restore``.

The first byte chooses: a tar archive that is to be packed (0), a packed one (1), or pieces that are to be sealed with
the right passphrase (2). Holds: only `CommandError` and `OSError` are raised, and then nothing is left; every file that
is written has a name and a size that a backup allows, lies in the folder, is no link, and only its owner may write it.
"""

from __future__ import annotations

import gzip
import io
import shutil
import tarfile

from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from taky_twisted.cli import backup_names, restore, sealed
from taky_twisted.cli.backup_names import kind_of
from taky_twisted.cli.commands import CommandError
from taky_twisted.cli.sealed import MAGIC, SealedReader, SealedWriter
from tests.fuzz.inputs import memory_folder
from tests.fuzz.target import Target

MAX_WRITTEN = 64 << 20
"""Bytes; what is packed in an input of ours cannot become more."""
_folder = memory_folder("backup")
_target = _folder / "site"
_outside = _folder / "outside"
_outside.write_bytes(b"secret")


def unpacked(packed: object) -> None:
    """Restore an archive, and look at what came of it."""
    try:
        count = restore._restore(packed, _target)
    except (CommandError, OSError) as error:
        assert str(error).isprintable() or "\n" in str(error), error
        assert not _target.exists(), "something was left"
        return
    try:
        found = [path for path in _target.rglob("*") if not path.is_dir() or path.is_symlink()]
        assert len(found) == count and (_target / backup_names.CONF).is_file()
        for path in found:
            kind = kind_of(str(path.relative_to(_target)))
            assert kind is not None and path.is_file() and not path.is_symlink(), path
            assert path.resolve().is_relative_to(_target.resolve())
            assert not path.stat().st_mode & 0o022 and path.stat().st_size <= MAX_WRITTEN
        assert all(not path.stat().st_mode & 0o077 for path in _target.rglob("*") if path.is_dir())
        assert _outside.read_bytes() == b"secret"
    finally:
        shutil.rmtree(_target)


def run(data: bytes) -> None:
    kind, data = data[:1], data[1:]
    if kind == b"0":
        unpacked(io.BytesIO(gzip.compress(data, 1)))
    elif kind == b"1":
        unpacked(io.BytesIO(data))
    elif kind == b"2":
        opened(data)


def opened(data: bytes) -> None:
    """Restore from a sealed file that somebody has damaged; its length says where."""
    file = io.BytesIO()
    writer = _Quick(file)
    writer.write(gzip.compress(data, 1))
    writer.finish()
    whole = file.getvalue()
    at = len(data) * 7 % (len(whole) - len(MAGIC)) + len(MAGIC)
    for spoilt in (whole, whole[:at], whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :], whole + b"x"):
        try:
            reader = _QuickReader(io.BytesIO(spoilt))
        except sealed.Unsealable:
            continue
        if spoilt != whole:
            try:
                while reader.read(1 << 16):
                    pass
                reader.check_end()
            except sealed.Unsealable:
                continue
            raise AssertionError("a damaged backup was opened")
        unpacked(reader)


_KEY = ChaCha20Poly1305(bytes(32))


class _Quick(SealedWriter):
    """Seals with a key that costs nothing; how it is made of a passphrase is no parser."""

    def __init__(self, file: io.BytesIO) -> None:
        io.RawIOBase.__init__(self)
        self._file, self._header, self._cipher = file, MAGIC + bytes(sealed._HEADER - len(MAGIC)), _KEY
        self._waiting, self._number = bytearray(), 0
        file.write(self._header)


class _QuickReader(SealedReader):
    def __init__(self, file: io.BytesIO) -> None:
        io.RawIOBase.__init__(self)
        self._file, self._header, self._cipher = file, file.read(sealed._HEADER), _KEY
        if len(self._header) < sealed._HEADER or not self._header.startswith(MAGIC):
            raise sealed.Unsealable("no backup")
        self._number, self._ahead = 0, file.read(sealed.PIECE + sealed.TAG)
        self._ended, self._open = False, b""


CONF = b"[taky]\nhostname = tak.example\nroot_dir = x\n[ssl]\nca = /old/ca.crt\n"


def archive(*files: tuple[str, bytes], kind: bytes = tarfile.REGTYPE, format_: int = tarfile.USTAR_FORMAT) -> bytes:
    """Make a tar archive."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=format_) as tar:
        for name, content in files:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "../outside" if kind != tarfile.REGTYPE else ""
            info.size = len(content) if kind == tarfile.REGTYPE else 0
            tar.addfile(info, io.BytesIO(content))
    return file.getvalue().rstrip(b"\0") + bytes(1024)


def _seeds() -> list[bytes]:
    good = {
        "taky.conf": CONF,
        "ssl/ca.crt": b"x",
        f"ssl/issued/{'0' * 40}.pem": b"x",
        "data/server-id": b"x",
        f"data/dp-user/blobs/00/{'0' * 64}": b"PK",
        "data/profiles/enrollment/a/b": b"x",
        "data/taky.sqlite": b"",
    }
    whole = archive(*good.items())
    bad = [
        archive(("taky.conf", CONF), (name, b"x"))
        for name in ("../x", "/etc/passwd", "data/../../x", "taky.conf", "data/profiles/enrollment/../x", "data/", "é")
    ]
    kinds = (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, b"g")
    links = [archive(("taky.conf", CONF), kind=kind) for kind in kinds]
    deep = "data/profiles/enrollment/" + "a/" * 80 + "b"
    long = archive(("taky.conf", CONF), (deep, b"x"), format_=tarfile.GNU_FORMAT)
    return [
        *(b"0" + one for one in (whole, *bad, *links, long, whole[:1000], archive(("taky.conf", b"[taky")))),
        b"1" + gzip.compress(whole, mtime=0),
        b"1" + gzip.compress(whole, mtime=0)[:-4],
        b"1" + gzip.compress(archive(("taky.conf", CONF)), mtime=0) * 2,
        b"2" + archive(("taky.conf", CONF)),
    ]


TARGET = Target(
    run,
    seeds=_seeds,
    words=[
        *(b"taky.conf", b"../", b"data/", b"ssl/ca.key", b"data/profiles/enrollment/", b"\0" * 512, b"0000644\0"),
        b"ustar",
        *(b"77777777777\0", b"\x80\0\0\0\0\0\0\1", b"\xff" * 12, b"-0000000001\0", b"./", b"//", b"\xc3\xa9", b"\n"),
    ],
    max_bytes=8192,
    memory=160 << 20,
)
