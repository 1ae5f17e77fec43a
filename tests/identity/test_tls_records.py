"""What `Records` believes of pyOpenSSL, and that nothing is lost, doubled or invented on the short way."""

from __future__ import annotations

from OpenSSL import SSL
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.identity.tls import MutualTLS
from taky_twisted.identity.tls_records import KEPT_BYTES, RECORD_BYTES, Records
from tests.identity.pairs import Pair
from tests.identity.test_tls import settings
from tests.pki import PKI, ClientTLS

SIZES = (0, 1, 766, RECORD_BYTES - 1, RECORD_BYTES, RECORD_BYTES + 1, 5 * RECORD_BYTES, 1_000_001)


class RecordsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.pki = PKI(self.mktemp())
        self.tls = MutualTLS(settings(self.pki))
        self.pair = Pair(self.tls, ClientTLS(self.pki.ca, self.pki.client))
        assert self.pair.server.transport is not None
        assert self.pair.client.transport is not None
        self.server, self.client = self.pair.server.transport, self.pair.client.transport

    def below(self) -> list[bytes]:
        """Watch what the server's TLS hands to the socket."""
        sent: list[bytes] = []
        transport = self.pair.tls.transport
        assert transport is not None
        write = transport.write

        def watched(data: bytes) -> None:
            sent.append(data)
            write(data)

        transport.write = watched  # type: ignore[method-assign]
        return sent

    def test_private_names(self) -> None:
        """There is in pyOpenSSL what `tls_records` uses of it.

        If this fails, pyOpenSSL has changed: then `Records` must look elsewhere, or be left out of `TLSProtocol`.
        """
        connection = SSL.Connection(SSL.Context(SSL.TLS_SERVER_METHOD), None)
        for name in ("_ssl", "_into_ssl", "_from_ssl"):
            self.assertTrue(hasattr(connection, name), name)
        functions = (
            "SSL_write",
            "SSL_read",
            "SSL_get_error",
            "SSL_set_bio",
            "BIO_new",
            "BIO_s_mem",
            "BIO_read",
            "BIO_write",
        )
        for name in (*functions, "SSL_ERROR_WANT_READ"):
            self.assertTrue(hasattr(SSL._lib, name), name)  # type: ignore[attr-defined]
        connection.set_accept_state()
        records = Records(connection)
        self.assertEqual(records.pending(), b"")
        with self.assertRaises(SSL.WantReadError):
            connection.bio_read(1)

    def test_sizes(self) -> None:
        """Whatever its size, what is written arrives whole and once, in both directions."""
        wanted = b"hello"
        said = b""
        for size in SIZES:
            data = bytes(size % 251 for size in range(size))
            self.server.write(data)
            self.client.write(data)
            self.pair.flush()
            wanted += data
            said += data
            self.assertTrue(self.pair.client.received == wanted, f"{size} bytes to the client")
            self.assertTrue(self.pair.server.received == said, f"{size} bytes to the server")

    def test_one_write_each(self) -> None:
        """What is written at once leaves at once, also if it needs several records."""
        sent = self.below()
        self.server.write(b"x" * 5 * RECORD_BYTES)
        self.assertEqual(len(sent), 1)
        self.assertGreater(len(sent[0]), 5 * RECORD_BYTES)

    def test_memory(self) -> None:
        """The buffer of a large write is given back, that of small ones is kept; neither loses anything."""
        connection = self.pair.tls.getHandle()
        before = connection._from_ssl
        self.server.write(b"s" * KEPT_BYTES)
        self.assertIs(connection._from_ssl, before)
        self.server.write(b"l" * (KEPT_BYTES + 1))
        self.assertIsNot(connection._from_ssl, before)
        self.server.write(b"!")
        self.pair.flush()
        self.assertEqual(self.pair.client.received, b"hello" + b"s" * KEPT_BYTES + b"l" * (KEPT_BYTES + 1) + b"!")

    def test_pieces(self) -> None:
        """However the network cuts a record, it is read once and whole."""
        received = self.pair.server.received
        handle = self.client.getHandle()  # type: ignore[attr-defined]
        for cut in (1, 4, 5, 6, 100, 820):
            handle.send(b"y" * 800)
            record = handle.bio_read(4096)
            for piece in (record[:cut], record[cut:]):
                if piece:
                    self.pair.tls.dataReceived(piece)
            received += b"y" * 800
            self.assertEqual(self.pair.server.received, received, f"cut at {cut}")

    def test_damaged(self) -> None:
        """A record that was changed on the way ends the connection, and what came before it was heard."""
        handle = self.client.getHandle()  # type: ignore[attr-defined]
        handle.send(b"good")
        good = handle.bio_read(4096)
        handle.send(b"changed")
        changed = bytearray(handle.bio_read(4096))
        changed[-1] ^= 1
        self.pair.tls.dataReceived(good + bytes(changed))
        self.pair.flush()
        self.assertEqual(self.pair.server.received, b"good")
        reason = self.pair.server.reason
        assert reason is not None
        self.assertTrue(reason.check(SSL.Error), reason)

    def test_goodbye(self) -> None:
        """A peer that says goodbye behind its last words is heard, and the connection ends in order."""
        self.client.write(b"last words")
        self.client.loseConnection()
        self.pair.flush()
        self.assertEqual(self.pair.server.received, b"last words")
        assert self.pair.server.reason is not None
        self.assertTrue(self.pair.server.reason.check(ConnectionDone))

    def test_after_the_end(self) -> None:
        """What is written after our goodbye goes nowhere, and nothing breaks."""
        self.server.loseConnection()
        self.server.write(b"too late")
        self.pair.flush()
        self.server.write(b"far too late")
        self.assertEqual(self.pair.client.received, b"hello")

    def test_after_their_goodbye(self) -> None:
        """What is still written to a peer that said goodbye, or sent what is no TLS, is no other connection's failure.

        OpenSSL has one list of errors for all connections, and before version 4 it looks there after every read.
        """
        for damage in (False, True):
            leaving, other = (Pair(self.tls, ClientTLS(self.pki.ca, self.pki.client)) for _ in range(2))
            for pair in (leaving, other):
                assert pair.client.transport is not None
                pair.client.transport.write(b"here")
                pair.flush()
                self.assertIsNotNone(pair.tls._records)
            assert leaving.client.transport is not None and leaving.server.transport is not None
            handle = leaving.client.transport.getHandle()  # type: ignore[attr-defined]
            handle.shutdown()
            last = b"\x17\x03\x03\x00\x20" + bytes(32) if damage else handle.bio_read(4096)
            leaving.tls.dataReceived(last)
            self.assertTrue(leaving.tls._lostTLSConnection)
            leaving.server.transport.write(b"in the same turn")
            leaving.tls.dataReceived(last)
            leaving.server.transport.write(b"and later")
            self.assertEqual(SSL._lib.ERR_peek_error(), 0)  # type: ignore[attr-defined]
            assert other.client.transport is not None
            other.client.transport.write(b" and there")
            other.flush()
            self.assertEqual((other.server.received, other.server.reason), (b"here and there", None))

    def test_aborted(self) -> None:
        """After an abort nothing more is heard."""
        handle = self.client.getHandle()  # type: ignore[attr-defined]
        handle.send(b"unheard")
        record = handle.bio_read(4096)
        self.pair.tls.abortConnection()
        self.pair.tls.dataReceived(record)
        self.pair.flush()
        self.assertEqual(self.pair.server.received, b"")
        assert self.pair.server.reason is not None
        self.assertTrue(self.pair.server.reason.check(ConnectionLost, ConnectionDone))

    def test_what_cannot_be_sealed(self) -> None:
        """What OpenSSL does not take is given back, for Twisted to find out why."""
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        connection = SSL.Connection(context, None)
        connection.set_accept_state()
        self.assertEqual(Records(connection).seal(b"no handshake yet"), (b"", b"no handshake yet"))
        self.assertEqual(Records(connection).seal(b""), (b"", b""))

    def test_what_openssl_says_when_it_does_not_go_on(self) -> None:
        """What OpenSSL wants to be sent before it takes anything is not thrown away, however much was to be written."""
        for size in (1, KEPT_BYTES + 1):
            connection = SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD), None)
            connection.set_connect_state()
            records, data = Records(connection), bytes(size)
            self.assertEqual(records.seal(data), (b"", data))
            self.assertEqual(records.pending()[:1], b"\x16", f"{size} bytes")  # the first of a handshake

    def test_twisted_takes_over(self) -> None:
        """A write that does not go on is Twisted's from then on: it is sent when the peer lets it, and in order."""

        class Stuck(Records):
            def seal(self, data: bytes) -> tuple[bytes, bytes]:
                return b"", data

        self.pair.tls._records = Stuck(self.pair.tls.getHandle())
        self.server.write(b"one ")
        self.server.write(b"two")
        self.pair.flush()
        self.assertEqual(self.pair.client.received, b"helloone two")
        self.assertIsNone(self.pair.tls._records)

    def test_much_is_pending(self) -> None:
        """However much OpenSSL has to say at once, all of it is taken, in order."""
        handle = self.pair.tls.getHandle()
        for letter in b"abcdefgh":
            handle.send(bytes((letter,)) * 8000)
        self.pair.tls.transport.write(Records(handle).pending())
        self.pair.flush()
        self.assertEqual(self.pair.client.received, b"hello" + b"".join(bytes((each,)) * 8000 for each in b"abcdefgh"))

    def test_what_is_owed_to_the_peer(self) -> None:
        """What OpenSSL itself has to say after a read is sent."""

        class Owing(Records):
            def pending(self) -> bytes:
                return b"" if taken else (taken.append(1) or b"owed")  # type: ignore[func-returns-value]

        taken: list[int] = []
        self.pair.tls._records = Owing(self.pair.tls.getHandle())
        sent = self.below()
        handle = self.client.getHandle()  # type: ignore[attr-defined]
        handle.send(b"text")
        self.pair.tls.dataReceived(handle.bio_read(4096))
        self.assertEqual(sent, [b"owed"])

    def test_handshake_is_twisteds(self) -> None:
        """Before the handshake is done, and after the end, Twisted's own ways are gone."""
        tls = self.pair.tls
        self.assertIsNotNone(tls._records)
        self.client.loseConnection()
        self.pair.flush()
        self.assertIsNone(tls._records)
        for name in (
            "_appSendBuffer",
            "_lostTLSConnection",
            "_handshakeDone",
            "_flushReceiveBIO",
            "_tlsShutdownFinished",
        ):
            self.assertTrue(hasattr(TLSMemoryBIOProtocol, name) or hasattr(tls, name), name)
