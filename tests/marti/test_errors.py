from __future__ import annotations

import json

from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.marti.errors import (
    REVOKED_TEXT,
    BadRequest,
    MartiError,
    NoSuchThing,
    NotAllowed,
    NotIdentified,
    Revoked,
    TooLarge,
    TooMany,
    TooSlow,
    WrongMethod,
    error_reply,
    reply_of,
)


class ErrorTests(SynchronousTestCase):
    def test_body(self) -> None:
        """Every error has a JSON body with its name, TAK Server's code, and what was wrong."""
        for error, status, name, code in (
            (BadRequest("why"), 400, "BAD_REQUEST", 2),
            (NotIdentified("why"), 401, "UNAUTHORIZED", 9),
            (NotAllowed("why"), 403, "FORBIDDEN", 10),
            (NoSuchThing("why"), 404, "NOT_FOUND", 1),
            (TooSlow("why"), 408, "REQUEST_TIMEOUT", 2),
            (MartiError(413, "why"), 413, "REQUEST_ENTITY_TOO_LARGE", 2),
            (MartiError(414, "why"), 414, "REQUEST_URI_TOO_LONG", 2),
            (MartiError(416, "why"), 416, "REQUESTED_RANGE_NOT_SATISFIABLE", 2),
            (MartiError(422, "why"), 422, "UNPROCESSABLE_ENTITY", 2),
            (TooMany("why"), 429, "TOO_MANY_REQUESTS", 2),
            (MartiError(409, "why"), 409, "CONFLICT", 4),
            (MartiError(410, "why"), 410, "GONE", 8),
            (MartiError(500, "why"), 500, "INTERNAL_SERVER_ERROR", 6),
            (MartiError(501, "why"), 501, "NOT_IMPLEMENTED", 3),
            (MartiError(507, "why"), 507, "INSUFFICIENT_STORAGE", 6),
        ):
            reply = reply_of(error)
            self.assertEqual((reply.status, reply.content_type), (status, "application/json"))
            self.assertEqual(json.loads(reply.body), {"status": name, "code": code, "message": "why"})
            self.assertFalse(error.closes)

    def test_too_large(self) -> None:
        """Who sends too much hears how much is taken."""
        reply = reply_of(TooLarge(1000))
        self.assertEqual(reply.status, 413)
        self.assertIn(b"up to 1000 bytes", reply.body)

    def test_wrong_method(self) -> None:
        """Who uses the wrong method hears the right ones, in the header that HTTP has for it, too."""
        reply = reply_of(WrongMethod("PUT", {"POST", "GET"}))
        self.assertEqual((reply.status, reply.headers), (405, {"allow": "GET, POST"}))
        self.assertIn(b"PUT is not done here; allowed: GET, POST", reply.body)

    def test_revoked(self) -> None:
        """A revoked client reads by what, CloudTAK finds the text that it looks for, and the connection ends."""
        error = Revoked("the client's certificate is revoked in the certificate register")
        self.assertTrue(error.closes)
        self.assertEqual(error.status, 401)
        for words in (REVOKED_TEXT.encode(), b"revoked in the certificate register"):
            self.assertIn(words, reply_of(error).body)

    def test_plain(self) -> None:
        """A status alone can be spelled, too."""
        self.assertEqual(error_reply(426, "x").status, 426)
