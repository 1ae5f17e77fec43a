"""What a request uploads: its content type, and the body as a form or as it is.

An input is the text of the header ``Content-Type``, a line feed, and the body. Holds: only `SyncError` is raised;
however the body is cut, the same file comes of it, with the same name, type and hash; nothing over the limit is
written; what comes out of a form is in it; nothing is left on disk of what was given up.
"""

from __future__ import annotations

import re
from hashlib import sha256
from itertools import islice

import multipart
from multipart import parse_options_header

from taky_twisted.enterprise_sync import bodies, contents
from taky_twisted.enterprise_sync.bodies import Body, FormBody, RawBody
from taky_twisted.enterprise_sync.contents import Incoming
from taky_twisted.enterprise_sync.errors import SyncError
from taky_twisted.enterprise_sync.texts import clean_name, clean_type
from taky_twisted.marti.upload import FORM
from tests.fuzz.cutting import cuttings
from tests.fuzz.inputs import BOUNDARY, FORM_HEADERS, form, memory_folder
from tests.fuzz.target import Target

DISPOSITION = b"--a\r\nContent-Disposition: form-data; "
LINE_FEED = re.compile(rb"(?<!\r)\n")
"""Alone in a part's header: depending on the pieces the library takes it, as it does what is in front of a form."""
LIMIT = 1000
"""Bytes of one file."""
_folder = memory_folder("uploads")

assert bodies and contents and multipart  # to be instrumented


def outcome(kind: str, pieces: list[bytes]) -> object:
    """Take a body; say what file it is, or that it is refused."""
    incoming = Incoming(_folder / "incoming")
    media, options = parse_options_header(kind)
    try:
        form_of = options.get("boundary", "") if media == FORM else None
        body: Body = RawBody(incoming, LIMIT) if form_of is None else FormBody(incoming, LIMIT, form_of)
        for piece in pieces:
            body.take([piece])
            assert incoming.size <= LIMIT
        body.finish()
        content = incoming.path.read_bytes()
        assert incoming.hash == sha256(content).hexdigest() and len(content) == incoming.size
        return content, clean_name(body.file_name), clean_type(body.mime_type)
    except SyncError as error:
        assert len(str(error)) < 500
        return None
    finally:
        incoming.discard()
        assert not incoming.path.exists()


def run(data: bytes) -> None:
    head, _, body = data.partition(b"\n")
    kind = head.decode("latin-1")
    outcomes = [outcome(kind, pieces) for pieces in islice(cuttings(body), 2)]
    boundary = parse_options_header(kind)[1].get("boundary", "").encode("latin-1", "replace")
    if body.startswith(b"--" + boundary + b"\r\n") and not LINE_FEED.search(body):
        assert all(other == outcomes[0] for other in outcomes), outcomes
    if isinstance(outcomes[0], tuple):
        assert outcomes[0][0] in body


def _seeds() -> list[bytes]:
    kind = FORM_HEADERS["Content-Type"].encode() + b"\n"
    short = b"multipart/form-data; boundary=a\n"
    two = form(b"first", "other")[: -len(BOUNDARY) - 6] + form(b"second", "resource", "b.txt")
    return [
        kind + form(b"PK\x03\x04"),
        kind + form(b"", name=""),
        kind + form(b"\r\n--" + BOUNDARY.encode()[:-1] + b"\r\n", "resource", "../x"),
        kind + two,
        kind + form(b"x" * 1001),
        kind + form(b"x")[:-8],
        kind + b"preamble\r\n" + form(b"x") + b"epilogue",
        b'multipart/form-data; boundary="a b"\n--a b\r\n\r\nx\r\n--a b--',
        b"multipart/form-data\n--\r\n",
        b"multipart/form-data; boundary=" + b"a" * 300 + b"\n",
        b"application/zip\nPK",
        b"\n",
        short + DISPOSITION + b"name=assetfile; filename*=UTF-8''%e4\r\n\r\nx\r\n--a--",
        short + (DISPOSITION + b"name=x\r\n\r\n\r\n") * 51 + b"--a--",
    ]


TARGET = Target(
    run,
    seeds=_seeds,
    words=[
        *(b"--" + BOUNDARY.encode(), b"--a\r\n", b"\r\n\r\n", b"--a--", b"; filename=", b"; filename*=UTF-8''"),
        b"name=",
        *(b"Content-Disposition: form-data; ", b"Content-Type: ", b"Content-Transfer-Encoding: base64\r\n"),
        b"charset=",
        *(b"boundary=", b"assetfile", b"resource", b"multipart/form-data", b"Content-Length: 5\r\n", b"_charset_"),
    ],
    repeats=True,
)
