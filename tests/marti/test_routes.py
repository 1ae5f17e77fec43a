from __future__ import annotations

import contextlib

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.marti.errors import NoSuchThing, WrongMethod
from taky_twisted.marti.replies import EMPTY, Reply
from taky_twisted.marti.request import InMemory, MartiRequest
from taky_twisted.marti.routes import SMALL_BODY, Access, Table, route, routes_of

HASH = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"


class Area:
    """Some routes."""

    @route("/Marti/one")
    @route("/Marti/two", "POST", "PUT", access=Access.ADMIN, body=10)
    def several(self, request: MartiRequest) -> Reply:
        """Answer two paths."""
        return EMPTY

    @route("/Marti/upload", "POST", body="receive")
    def upload(self, request: MartiRequest) -> Reply:
        """Take a large body."""
        return EMPTY

    @route("/Marti/file/<hash:hash>")
    def file(self, request: MartiRequest, hash: str) -> Reply:
        """Have a parameter in the path."""
        return EMPTY

    @route("/Marti/cot/<path:uid>")
    def cot(self, request: MartiRequest, uid: str) -> Reply:
        """Have one with slashes."""
        return EMPTY

    def receive(self, request: MartiRequest) -> InMemory:
        """Take the body."""
        return InMemory()

    def other(self) -> None:
        """Be no route."""


class TableTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.area = Area()
        self.table = Table([self.area])

    def test_marks(self) -> None:
        """A handler may answer several paths, each with its own methods, access and limit."""
        routes = {bound.route.path: bound for bound in routes_of([self.area])}
        self.assertEqual(len(routes), 5)
        one, two = routes["/Marti/one"].route, routes["/Marti/two"].route
        self.assertEqual((one.methods, one.access, one.body), (frozenset({"GET"}), Access.CALLER, SMALL_BODY))
        self.assertEqual((two.methods, two.access, two.body), (frozenset({"POST", "PUT"}), Access.ADMIN, 10))
        self.assertIsNone(routes["/Marti/one"].receiver)
        self.assertEqual(routes["/Marti/upload"].receiver, self.area.receive)

    def test_unbound_receiver(self) -> None:
        """A route whose receiver does not exist is found at start."""

        class Wrong:
            @route("/Marti/upload", "POST", body="no_such_method")
            def upload(self, request: MartiRequest) -> Reply:
                return EMPTY

        self.assertRaises(AttributeError, Table, [Wrong()])

    def test_found(self) -> None:
        """A method and a path lead to their handler; HEAD goes with GET."""
        self.assertEqual(self.table.find("GET", "/Marti/one").handler, self.area.several)
        self.assertEqual(self.table.find("HEAD", "/Marti/one").handler, self.area.several)
        self.assertEqual(self.table.find("PUT", "/Marti/two").handler, self.area.several)
        self.assertEqual(self.table.find("GET", f"/Marti/file/{HASH}").handler, self.area.file)
        self.assertEqual(self.table.find("GET", f"/Marti/file/{HASH.upper()}").handler, self.area.file)
        self.assertEqual(self.table.find("GET", "/Marti/cot/a/b").handler, self.area.cot)

    def test_nothing(self) -> None:
        """Elsewhere there is nothing."""
        for path in ("/", "/Marti", "/Marti/One", "/Marti/one/more", "/Marti/file/zz", "/Marti/cot", "/Marti/cot/"):
            self.assertRaises(NoSuchThing, self.table.find, "GET", path)

    def test_wrong_method(self) -> None:
        """A path with another method is told apart, with the methods that it has."""
        error = self.assertRaises(WrongMethod, self.table.find, "GET", "/Marti/two")
        self.assertEqual(error.headers, {"allow": "POST, PUT"})
        error = self.assertRaises(WrongMethod, self.table.find, "OPTIONS", "/Marti/one")
        self.assertEqual(error.headers, {"allow": "GET, HEAD"})

    @given(st.text(), st.text())
    def test_any(self, method: str, path: str) -> None:
        """Whatever is asked for, there is an answer."""
        with contextlib.suppress(NoSuchThing, WrongMethod):
            self.table.find(method, f"/Marti/{path}")
