"""Short texts of strangers: times, places, numbers, names, addresses, hashes.

Every input goes to every reader. Holds: each reader raises its own error and nothing else, in time that grows no faster
than the text; what a name is made into is no path and splits no header or line; what was read and spelled again is read
as the same.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from taky_twisted.cot import times, xmlcodec
from taky_twisted.cot.errors import MalformedEvent
from taky_twisted.enrollment import names
from taky_twisted.enrollment.errors import EnrollmentError
from taky_twisted.enterprise_sync import search, texts
from taky_twisted.identity import accounts, cert_db, certificates, passwords
from taky_twisted.identity.errors import AccountError
from taky_twisted.marti import arguments, file_forms, origins
from taky_twisted.marti import request as marti_request
from taky_twisted.marti.arguments import Arguments
from taky_twisted.marti.errors import MartiError
from taky_twisted.video import urls
from tests.fuzz.target import Target

assert accounts and marti_request and origins  # to be instrumented
READERS: tuple[tuple[Callable[[str], object], type[Exception]], ...] = (
    (lambda text: arguments.read_time("start", text), MartiError),
    (lambda text: xmlcodec.position(*(text.split() * 5)[:5]) if text.split() else None, MalformedEvent),
    (names.check_name, EnrollmentError),
    (passwords.check_password, AccountError),
    (lambda text: certificates.printable(text), ValueError),
    (lambda text: cert_db.same_issuer(text, "CN=a,O=b"), ValueError),
    (lambda text: cert_db.name_key(text) and cert_db.ban_key(text), ValueError),
    (lambda text: origins.is_same_place(text.encode("utf-8", "surrogatepass"), b"tak.example", None), ValueError),
    (lambda text: search.occurs(text, text), ValueError),
)


def run(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    for read, refusal in READERS:
        with suppress(refusal):
            read(text)
    check_time(text)
    check_file_name(text)
    check_certificate_name(text)
    check_url(text)
    check_arguments(data)
    with suppress(MartiError):
        path, _ = marti_request.normal_path(data)
        assert path.startswith("/") and "//" not in path and "\0" not in path


def check_time(text: str) -> None:
    """See that a time that is read can be spelled."""
    with suppress(MalformedEvent):
        seconds, _ = times.parse_time(text)
        again, kept = times.parse_time(times.format_time(seconds))
        assert kept and abs(again - min(seconds, times.LATEST)) < 0.001, (seconds, again)


def check_file_name(text: str) -> None:
    """See that a file's name is one, and fit for a header."""
    name = texts.clean_name(text)
    assert not set("/\\\0\r\n") & set(name) and name not in (".", "..") and len(name) <= texts.MAX_NAME
    assert texts.clean_name(name) == name, "cleaning it again changes it"
    header = file_forms.disposition("attachment", name)
    assert header.isascii() and header.isprintable() and header.count('"') == 2, header
    mime_type = texts.clean_type(text)
    assert mime_type.isascii() and mime_type.isprintable()


def check_certificate_name(text: str) -> None:
    """See that a name that somebody may have is one line, and one part of a path."""
    with suppress(EnrollmentError):
        name = names.check_name(text)
        assert not set("/\\\0\r\n\t") & set(name) and name[0] not in ".-" and len(name.encode()) <= names.MAX_BYTES
        assert names.check_name(name) == name
    assert set(names.plain(text)) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-")


def check_url(text: str) -> None:
    """See that an address that was taken apart can be put together."""
    place = urls.split(text)
    assert -1 <= place.port < 65536
    if place.protocol != urls.RAW:
        assert urls.is_protocol(place.protocol)
        # Once joined, as others spell it, it stays the same.
        again = urls.split(urls.join(place.protocol, place.address, place.port, place.path))
        assert again.protocol == place.protocol or "://" in place.address, (text, place, again)
        if again.protocol != urls.RAW:
            assert urls.split(urls.join(again.protocol, again.address, again.port, again.path)) == again, (text, again)


def check_arguments(data: bytes) -> None:
    """Read a query in all ways."""
    with suppress(MartiError):
        query = Arguments(data)
        for name in list(query)[:8]:
            for read in (query.words, query.one, query.flag, query.all):
                read(name)
            for strict in (query.text, query.hash, query.number, query.count, query.time):
                with suppress(MartiError):
                    strict(name)


TARGET = Target(
    run,
    seeds=lambda: [
        *(b"2026-03-01T10:00:00.000Z", b"2026-03-01T10:00:00+02:00", b"0001-01-01T00:00:00+23:59"),
        b"9999-12-31T23:59:59Z",
        *(b"52.1 4.3 101.5 4.9 9999999", b"90.5 180.5 NaN NaN NaN", b"1e-4000 1 1 1 1", b"+.5 -5. 1E5 0 0"),
        *("Fotos Käse.zip".encode(), b"../../etc/passwd", b"C:\\x\\y.txt", b"...", b"a" * 300 + b".zip"),
        b"\xe2\x80\xaea.zip",
        *(b"rtsp://user:pw@host:554/path?x#y", b"udp://:1234", b"http://[::1]:80/", b"raw:thing", b"srt://h:99999"),
        *(b"a=1&b=%C3%A9&c=%ff&A=2&hash=" + b"0" * 64, b"x=" + b"1," * 300, b"a=1;b=2", b"text/plain; charset=x"),
        *(b"https://tak.example", b"null", b"CN=a\\,b,O=b", b"//a//b/../c?x", b"http://x/y", b"%2e%2e%2f%00"),
    ],
    words=[b"://", b"@", b"[", b"]", b"%00", b"..", b"\\", b"T00:00:00", b"+14:00", b"\xef\xbf\xbf", b"e400"],
    max_bytes=1024,
    seconds_per_kib=0.02,
)
