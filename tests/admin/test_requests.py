from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.admin.requests import MAX_REQUEST_BYTES, RequestProtocol
from tests.admin.running import Wire


class Echo(RequestProtocol):
    """Answers when it is let, with what was asked."""

    delimiter = b"\n"

    def __init__(self) -> None:
        super().__init__()
        self.waiting: Deferred[None] | None = None

    async def answer(self, request: bytes) -> None:
        if request == b"wait":
            self.waiting = Deferred()
            await self.waiting
        if request == b"break":
            raise ZeroDivisionError
        self.transport.write(b'"' + request + b'"\n')

    def refuse(self, why: str) -> None:
        self.transport.write(b'"no: ' + why.encode() + b'"\n')


class RequestTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.echo = Echo()
        self.wire = Wire(self.echo)

    def test_cut_anywhere(self) -> None:
        """However the bytes are cut, the same requests come out."""
        said = b"one\ntwo\n"
        for cut in range(len(said) + 1):
            self.echo.dataReceived(said[:cut])
            self.echo.dataReceived(said[cut:])
            self.assertEqual(self.wire.heard(), ["one", "two"])

    def test_in_order(self) -> None:
        """A request waits until the one before it is answered."""
        self.assertEqual(self.wire.ask(b"one", b"wait"), ["one"])
        self.assertEqual(self.wire.ask(b"two"), [])
        assert self.echo.waiting is not None
        self.echo.waiting.callback(None)
        self.assertEqual(self.wire.heard(), ["wait", "two"])

    def test_very_many(self) -> None:
        """Thousands of requests in one piece are no more to us than thousands of requests."""
        self.assertEqual(len(self.wire.ask(*[b""] * MAX_REQUEST_BYTES)), MAX_REQUEST_BYTES)

    def test_size(self) -> None:
        """A request may have so many bytes and no more; nor may those that wait."""
        self.assertEqual(self.wire.ask(b"x" * (MAX_REQUEST_BYTES - 1)), ["x" * (MAX_REQUEST_BYTES - 1)])
        self.echo.dataReceived(b"x" * MAX_REQUEST_BYTES)
        self.assertIsNone(self.wire.lost)
        self.echo.dataReceived(b"x")
        self.assertEqual(
            (self.wire.heard(), self.wire.lost), ([f"no: a request has at most {MAX_REQUEST_BYTES} bytes"], "lose")
        )

    def test_mistake(self) -> None:
        """A mistake of ours is in the log, and whoever asked is not left waiting."""
        self.assertEqual(self.wire.ask(b"break", b"one"), ["no: the server made a mistake; its log has more", "one"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_gone(self) -> None:
        """Who is gone is not answered, and what it waited for is given up."""
        self.wire.ask(b"wait", b"one")
        self.wire.hang_up()
        self.assertEqual(self.wire.heard(), [])
        self.assertTrue(self.echo.over)
