"""An event that is too large for ATAK reaches it all the same, as a file that it fetches."""

from __future__ import annotations

import hashlib
import ssl
import time
from pathlib import Path
from urllib.parse import urlsplit
from xml.etree.ElementTree import Element

from twisted.trial.unittest import SynchronousTestCase

from tests.end_to_end.server_process import ServerProcess
from tests.end_to_end.stream_client import PROLOG, StreamClient, tls_context
from tests.end_to_end.test_transfer import Atak
from tests.pki import PKI
from tests.samples import marker, sa, to, xml

LARGE = f'<shape v="{"x" * 70_000}"/>'


class LargeEventTests(SynchronousTestCase):
    def fetched(self, atak: Atak, offer: Element, scheme: str) -> bytes:
        """Do what ATAK does with an offer: fetch it at the address that it names, and check it."""
        share = offer.find("detail/fileshare")
        assert share is not None
        url = urlsplit(share.attrib["senderUrl"])
        self.assertEqual((url.scheme, url.hostname, url.port), (scheme, "127.0.0.1", atak._port))
        status, headers, content = atak.ask("GET", f"{url.path}?receiver={atak.callsign}")
        self.assertEqual((status, headers["Content-Type"]), (200, "application/xml"))
        self.assertEqual(share.attrib["sizeInBytes"], str(len(content)))
        self.assertEqual(share.attrib["sha256"], hashlib.sha256(content).hexdigest())
        return content

    def carry_out(self, server: ServerProcess, scheme: str, *contexts: ssl.SSLContext | None) -> None:
        """Say large events of all kinds; who is there and who comes later gets each of them, as it was said."""
        names = ("ALICE", "BOB", "LATE")
        alice, bob = (Atak(self, server, name, context) for name, context in zip(names[:2], contexts[:2], strict=True))
        alice.stream.wait_for_uid(bob.uid)
        item, other = marker("ITEM/1", extra=LARGE, now=time.time()), xml("OTHER", "b-x-y", LARGE)
        directed = xml("SECRET", "b-x-y", LARGE, marti=to("BOB"))
        for document in (item, other, directed):
            alice.stream.say(document)
            content = self.fetched(bob, bob.stream.wait_for_type("b-f-t-r"), scheme)
            self.assertEqual(content, PROLOG + document.replace(b'<marti><dest callsign="BOB"/></marti>', b""))
        self.assertEqual(alice.stream.so_far(), [])
        late = Atak(self, server, names[2], contexts[2])
        self.assertEqual(late.ask("GET", "/Marti/api/cot/xml/SECRET")[0], 404)
        self.assertEqual(self.fetched(late, late.stream.wait_for_type("b-f-t-r"), scheme), PROLOG + item)
        self.assertEqual([line.split()[0] for line in server.lines("is offered")], ["ITEM/1", "OTHER", "SECRET"])

    def test_plain(self) -> None:
        """Over plain TCP the file is fetched at the plain door, at the address of the stream."""
        doors = (f"--{kind}-endpoint=tcp:0:interface=127.0.0.1" for kind in ("cot", "marti"))
        self.carry_out(ServerProcess(self, *doors).start(), "http", None, None, None)

    def test_tls(self) -> None:
        """Over TLS it is fetched over TLS, with one's own certificate."""
        pki = PKI(Path(self.mktemp()).absolute())
        server = ServerProcess(
            self, f"--cot-endpoint={pki.endpoint()}", f"--marti-endpoint={pki.endpoint(clientCert='optional')}"
        ).start()
        self.carry_out(server, "https", *(tls_context(pki, pki.ca.issue(name)) for name in ("a", "b", "c")))

    def test_without_the_api(self) -> None:
        """Without the Marti API nothing is offered, and the operator is told that clients do not get it."""
        server = ServerProcess(self, "--cot-endpoint=tcp:0:interface=127.0.0.1").start()
        alice, bob = (StreamClient(self, server.port()) for _ in range(2))
        alice.say(sa("ALICE", "ALICE"))
        bob.wait_for_uid("ALICE")
        alice.say(marker("ITEM", extra=LARGE), marker("SMALL"))
        self.assertEqual(bob.hear().get("uid"), "SMALL")
        self.assertEqual(len(server.lines("is not sent to clients")), 1)
